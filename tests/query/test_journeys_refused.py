"""What cannot be asked of funnels, retention, life cycles, paths, threads and cohorts is refused with a hint."""

from typing import Any

import pytest

from tests.conftest import Service
from tests.query.stage import SHOP
from twintrack.auth import Role
from twintrack.errors import RequestError
from twintrack.query.compile.statement import Parameters
from twintrack.query.kinds import KINDS
from twintrack.query.scope import Scope
from twintrack.testing import wire_event

NOW = 1_700_000_000_000
TWO: Any = [{"event": "a"}, {"event": "b"}]
DEEP: Any = {"did": {}}
for _ in range(8):
    DEEP = {"not": DEEP}

REFUSED: list[tuple[str, Any, str]] = [
    ("funnel", {"steps": TWO[:1]}, "bad_funnel"),
    ("funnel", {"steps": []}, "bad_funnel"),
    ("funnel", {"steps": TWO[:1] * 21}, "bad_funnel"),
    ("funnel", {"steps": TWO, "window_seconds": 0}, "bad_funnel"),
    ("funnel", {"steps": TWO, "window_seconds": -5}, "bad_funnel"),
    ("funnel", {"steps": TWO, "window_seconds": 10**12}, "bad_funnel"),
    ("funnel", {"steps": TWO, "breakdown": ["event_name"] * 2}, "bad_breakdown"),
    ("funnel", {"steps": TWO, "breakdown": ["no_such_column"]}, "unknown_property"),
    ("funnel", {"steps": TWO, "per": "session", "floor": 5}, "bad_floor"),
    (
        "funnel",
        {"steps": TWO, "range": {"from": "2014-01-01", "to": "2023-11-01"}, "interval": "hour"},
        "too_many_buckets",
    ),
    ("funnel", {"steps": TWO, "filter": {"cohort": "nobody's"}}, "unknown_cohort"),
    ("funnel", {"steps": [{"event": ""}, {"event": "b"}]}, "bad_event"),
    ("retention", {"periods": 0}, "bad_retention"),
    ("retention", {"periods": 5_000}, "bad_retention"),
    ("retention", {"periods": 366, "interval": "day", "range": {"last": 365}}, "bad_retention"),
    ("lifecycle", {"interval": "day", "range": {"from": "2005-01-01", "to": "2023-11-01"}}, "too_many_buckets"),
    ("stickiness", {"interval": "hour", "range": {"last": 60}}, "too_many_buckets"),
    ("paths", {"steps": 50}, "bad_paths"),
    ("paths", {"steps": 1}, "bad_paths"),
    ("paths", {"top": 0}, "bad_paths"),
    ("paths", {"from": "a", "to": "b"}, "bad_paths"),
    ("threads", {"idle_seconds": 0}, "bad_threads"),
    ("threads", {"idle_seconds": 10**12}, "bad_threads"),
    ("cohorts", {}, "bad_question"),
    ("cohorts", {"cohort": "a", "definition": {"persons": []}}, "bad_question"),
    ("cohorts", {"cohort": "a"}, "unknown_cohort"),
    ("cohorts", {"definition": DEEP}, "bad_cohort"),
    ("cohorts", {"definition": {"funnel": {"steps": TWO, "per": "session"}, "step": 1}}, "bad_cohort"),
    ("cohorts", {"definition": {"funnel": {"steps": TWO}, "step": 3}}, "bad_funnel"),
    ("cohorts", {"definition": {"has": {"property": "nothing"}}}, "unknown_property"),
]


@pytest.mark.parametrize("kind,question,code", REFUSED, ids=[f"{n}-{k}-{c}" for n, (k, _, c) in enumerate(REFUSED)])
def test_question_that_cannot_be_answered_is_refused_with_a_hint(kind: str, question: Any, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        KINDS[kind].model_validate(question).plan(Scope(SHOP, Role.OWNER, NOW, 0))
    assert refused.value.code == code and 400 <= refused.value.status < 500
    assert refused.value.hint


@pytest.mark.parametrize("role", [Role.READ, Role.VIEWER])
def test_cohort_by_a_text_that_the_role_may_not_see_is_refused(role: Role) -> None:
    asked = {"definition": {"has": {"property": "message_content", "operator": "contains", "value": "order"}}}
    with pytest.raises(RequestError) as refused:
        KINDS["cohorts"].model_validate(asked).plan(Scope(SHOP, role, NOW, 0))
    assert refused.value.code == "hidden_property"


def test_what_a_person_wrote_is_never_part_of_the_statement() -> None:
    odd = "'); DROP TABLE analytics.events; --"
    filtered = {"property": "event_metadata.plan", "value": odd}
    asked: list[tuple[str, Any]] = [
        ("funnel", {"steps": [{"event": odd}, {"event": odd, "filter": filtered}]}),
        ("retention", {"start": {"event": odd}, "filter": filtered}),
        ("lifecycle", {"selection": {"event": [odd, "b"]}}),
        ("stickiness", {"selection": {"event": odd}}),
        ("paths", {"from": odd, "exclude": [odd]}),
        ("threads", {"completed": {"event": odd}}),
        ("threads", {"thread": odd}),
        ("cohorts", {"definition": {"any": [{"persons": [odd]}, {"has": filtered}]}}),
    ]
    for kind, question in asked:
        plan = KINDS[kind].model_validate(question).plan(Scope(SHOP, Role.OWNER, NOW, 0))
        assert all("DROP TABLE" not in statement.sql for statement in plan.statements.values()), kind
    assert "DROP TABLE" not in KINDS["paths"].model_validate({"from": odd}).actors(
        Scope(SHOP, Role.OWNER, NOW, 0),
        Parameters(SHOP),
        type("Point", (), {"step": 0, "group": [odd]})(),
    )


class _Asking:
    def __init__(self, service: Service) -> None:
        self._service = service

    def __call__(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self._service.owner_key}"}
        answer = self._service.request(method, f"/api/analytics/{path}", json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else None


def test_cohort_is_kept_used_and_forgotten_over_http(service: Service) -> None:
    asks = _Asking(service)
    mail = "ada@example.com"
    for user in (mail, "grace", "alan"):
        service.send([wire_event(user_id=user, event_name="buy")], service.server_key)
    service.settle()
    # Typed as it was sent, kept in the form that the rows hold.
    status, kept = asks("PUT", "cohorts", {"name": "some", "definition": {"persons": [mail, "alan", "nobody"]}})
    assert (status, kept["name"]) == (200, "some") and kept["meaning"] == "3 named persons"
    status, listed = asks("GET", "cohorts")
    assert status == 200 and listed["cohorts"] == [kept]
    assert mail not in str(listed)
    assert asks("POST", "query/cohorts", {"cohort": "some"})[1]["persons"] == 2
    filtered = {"series": [{"measure": "persons"}], "filter": {"not": {"cohort": "some"}}}
    assert asks("POST", "query/trends", filtered)[1]["series"][0]["total"] == 1
    assert asks("DELETE", "cohorts", {"name": "some"})[0] == 204
    assert asks("DELETE", "cohorts", {"name": "some"})[0] == 404
    assert asks("POST", "query/trends", filtered)[1]["error"]["code"] == "unknown_cohort"


@pytest.mark.parametrize(
    "name,definition,code",
    [
        ("", {"persons": []}, "bad_name"),
        ("a/b", {"persons": []}, "bad_name"),
        ("a", {"persons": "ada"}, "bad_cohort"),
        ("a", {"nothing": 1}, "bad_cohort"),
        ("a", {"did": {"filter": {"cohort": "a"}}}, "unknown_cohort"),
        ("a", {"has": {"property": "nothing"}}, "unknown_property"),
    ],
)
def test_cohort_that_cannot_be_asked_is_not_kept(service: Service, name: str, definition: Any, code: str) -> None:
    asks = _Asking(service)
    status, body = asks("PUT", "cohorts", {"name": name, "definition": definition})
    assert (status, body["error"]["code"]) == (400, code) and body["error"]["hint"]
    assert asks("GET", "cohorts")[1] == {"cohorts": []}


def test_cohort_is_kept_only_by_who_may(service: Service) -> None:
    asks = _Asking(service)
    body = {"name": "a", "definition": {"persons": []}}
    assert asks("PUT", "cohorts", body, service.read_key)[0] == 403
    assert asks("GET", "cohorts", None, service.read_key)[0] == 200
    assert asks("GET", "cohorts", None, service.write_key)[0] == 403
