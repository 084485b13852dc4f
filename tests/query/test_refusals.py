"""What cannot be asked is refused with a hint, before the engine hears of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.conftest import Service
from tests.query.stage import SHOP
from twintrack.auth import Role
from twintrack.errors import RequestError
from twintrack.query.kinds import KINDS
from twintrack.query.scope import Scope

NOW = 1_700_000_000_000
DAY = {"range": {"last": 1}}
DEEP: Any = {"property": "event_name", "value": "x"}
for _ in range(20):
    DEEP = {"not": DEEP}

REFUSED = [
    ("trends", {"range": {"from": "2014-01-01", "to": "2023-11-01"}, "interval": "hour"}, "too_many_buckets"),
    ("trends", {"range": {"last": 10_000, "unit": "month"}}, "bad_range"),
    ("trends", {"range": {"from": "2023-02-01", "to": "2023-01-01"}}, "bad_range"),
    ("trends", {"range": {"from": "1969-01-01", "to": "1970-01-01"}}, "bad_range"),
    ("trends", {"range": {"from": "2023-01-01", "to": "2999-01-01"}}, "bad_range"),
    ("trends", {"range": {"from": "yesterday"}}, "bad_range"),
    ("trends", {"range": {"last": 1, "from": "2023-01-01"}}, "bad_range"),
    ("trends", {"range": {"last": 30, "to": "2023-01-31"}}, "bad_range"),
    ("trends", {"range": {"from": "2023-01-01", "complete": True}}, "bad_range"),
    ("trends", {"range": {"from": "2023-01-01", "unit": "week"}}, "bad_range"),
    ("trends", {**DAY, "zone": "Mars/Olympus"}, "bad_question"),
    ("trends", {**DAY, "zone": "localtime"}, "bad_question"),
    ("trends", {**DAY, "zone": "Factory"}, "bad_question"),
    ("trends", {**DAY, "zone": "right/UTC"}, "bad_question"),
    ("trends", {**DAY, "zone": "posix/Europe/Berlin"}, "bad_question"),
    ("trends", {**DAY, "zone": "../etc/passwd"}, "bad_question"),
    ("trends", {**DAY, "breakdown": ["no_such_column"]}, "unknown_property"),
    ("trends", {**DAY, "breakdown": ["event_metadata.a..b"]}, "unknown_property"),
    ("trends", {**DAY, "breakdown": ["event_metadata.\x00"]}, "unknown_property"),
    ("trends", {**DAY, "series": [{"measure": "sum"}]}, "bad_trend"),
    ("trends", {**DAY, "series": [{"measure": "count", "property": "event_value"}]}, "bad_trend"),
    ("trends", {**DAY, "cumulative": True, "rolling": 2}, "bad_trend"),
    ("trends", {**DAY, "formulas": [{"formula": "A / C"}]}, "bad_formula"),
    ("trends", {**DAY, "formulas": [{"formula": "__import__('os')"}]}, "bad_formula"),
    ("trends", {**DAY, "formulas": [{"formula": "A ** 9"}]}, "bad_formula"),
    ("trends", {**DAY, "filter": DEEP}, "bad_filter"),
    ("trends", {**DAY, "filter": {"cohort": "nobody"}}, "unknown_cohort"),
    ("trends", {**DAY, "filter": {"property": "event_name", "operator": "in", "value": "x"}}, "bad_filter"),
    ("trends", {**DAY, "filter": {"property": "event_name", "operator": "between", "value": [1]}}, "bad_filter"),
    ("trends", {**DAY, "filter": {"property": "event_name", "operator": "matches", "value": "("}}, "bad_pattern"),
    ("trends", {**DAY, "filter": {"property": "event_name", "operator": "matches", "value": "(?=x)"}}, "bad_pattern"),
    ("trends", {**DAY, "filter": {"property": "event_name", "operator": "matches", "value": "a" * 201}}, "bad_pattern"),
    (
        "trends",
        {**DAY, "filter": {"property": "event_name", "operator": "matches", "value": "((a{100}){100}){100}"}},
        "bad_pattern",
    ),
    ("trends", {**DAY, "filter": {"property": "event_name", "operator": "is set", "value": 1}}, "bad_filter"),
    ("trends", {**DAY, "filter": {"property": "event_timestamp", "operator": ">", "value": "noon"}}, "bad_filter"),
    ("trends", {**DAY, "series": [{"event": ""}]}, "bad_event"),
    ("events", {**DAY, "columns": ["chunk_id"]}, "unknown_property"),
    ("events", {**DAY, "after": "nonsense"}, "bad_cursor"),
    ("users", {**DAY, "after": "WzFd"}, "bad_cursor"),
    ("actors", {"of": {"kind": "nothing"}}, "unknown_kind"),
    ("actors", {"of": {"kind": "actors", "of": {"kind": "trends"}}}, "unknown_kind"),
    ("actors", {"of": {"kind": "properties"}}, "no_actors"),
    ("actors", {"of": {"kind": "trends"}, "point": {"series": "Z"}}, "no_actors"),
    ("actors", {"of": {"kind": "trends", "no_such_field": 1}}, "invalid"),
]


@pytest.mark.parametrize("kind,question,code", REFUSED, ids=[f"{n}-{c}" for n, (_, _, c) in enumerate(REFUSED)])
def test_question_that_cannot_be_answered_is_refused_with_a_hint(kind: str, question: Any, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        KINDS[kind].model_validate(question).plan(Scope(SHOP, Role.OWNER, NOW, 0))
    assert refused.value.code == code and 400 <= refused.value.status < 500
    assert refused.value.hint


@pytest.mark.parametrize(
    "kind,question",
    [
        ("trends", {"no_such_field": 1}),
        ("trends", {"series": []}),
        ("trends", {"series": [{}] * 11}),
        ("trends", {"breakdown": ["event_name"] * 4}),
        ("trends", {"filter": {"property": "event_name", "operator": "like", "value": "x"}}),
        ("trends", {"filter": {"all": [{"property": "event_name", "value": "x"}] * 101}}),
        ("trends", {"filter": {"property": "event_value", "value": float("nan")}}),
        ("trends", {"top": 0}),
        ("trends", {"range": {"last": 0}}),
        ("events", {"limit": 10_000}),
    ],
)
def test_question_of_another_shape_is_no_question(kind: str, question: Any) -> None:
    with pytest.raises(ValidationError):
        KINDS[kind].model_validate(question)


def test_http_answers_each_refusal_with_a_status_a_code_and_a_hint(service: Service) -> None:
    def post(kind: str, body: Any, key: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or service.owner_key}"}
        answer = service.request("POST", f"/api/analytics/query/{kind}", json=body, headers=headers)
        return answer.status_code, answer.json()

    status, body = post("trends", {})
    assert status == 200 and body["series"][0]["total"] == 0
    assert {"definition", "statements", "as_of", "rows_read", "milliseconds", "source", "cached"} <= set(body)
    status, body = post("no-such-kind", {})
    assert (status, body["error"]["code"]) == (404, "unknown_kind") and "trends" in body["error"]["hint"]
    status, body = post("trends", {"zone": "Mars/Olympus"})
    assert (status, body["error"]["code"]) == (400, "bad_question") and body["error"]["hint"]
    status, body = post("trends", {"nothing": 1})
    assert (status, body["error"]["code"]) == (422, "invalid")
    assert post("trends", {}, service.write_key)[0] == 403
    assert post("trends", {}, "nobody")[0] == 401
    assert post("trends", {}, service.read_key)[0] == 200
