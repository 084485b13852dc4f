"""What a newcomer gets wrong over HTTP: a 4xx each time, words that say what is wrong, and a hint what to send instead."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Service, running
from twintrack.testing import wire_event

DAY = {"range": {"last": 1}}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("bad") / "data", query_result_rows=50, query_seconds=5) as service:
        service.send([*(wire_event() for _ in range(60)), wire_event(event_name="a" * 40 + "!")])
        service.settle()
        yield service


def one(**condition: Any) -> dict[str, Any]:
    return {**DAY, "filter": {"property": "event_name", **condition}}


QUESTIONS: list[tuple[str, Any, int, str, str]] = [
    ("trends", {"breakdown": ["colour"]}, 400, "unknown_property", "event_metadata."),
    ("trends", {"range": {"last": 30, "unit": "year"}}, 422, "invalid", "range.unit must be one of 'minute'"),
    ("trends", {"range": {"last": -5}}, 422, "invalid", "range.last must be at least 1"),
    ("trends", {"range": {"last": 99_999_999}}, 422, "invalid", "range.last must be at most 10000"),
    ("trends", {"range": "last week"}, 422, "invalid", "range must be an object"),
    ("trends", {"range": {"from": "2026-02-30"}}, 400, "bad_range", "days or instants that there are"),
    ("trends", {"range": {"from": "0001-01-01", "to": "9999-12-31"}}, 400, "bad_range", "beyond the years"),
    ("trends", {"range": {"from": "1999-01-01", "to": "2026-01-01"}}, 400, "bad_range", "longer than 20 years"),
    ("trends", {"range": {"last": 3660}, "interval": "hour"}, 400, "too_many_buckets", "longer interval"),
    ("trends", [], 422, "invalid", "the body must be an object"),
    ("trends", {"serie": []}, 422, "invalid", "there is no field serie"),
    ("trends", {"series": [{"measure": "p42"}]}, 422, "invalid", "series.0.measure must be one of"),
    ("trends", {"format": "excel"}, 422, "invalid", "'parquet'"),
    ("trends", one(operator="~", value="x"), 422, "invalid", "filter.operator must be one of '='"),
    ("trends", one(), 400, "bad_filter", "one value"),
    ("trends", {"filter": {"propert": "x", "value": "y"}}, 422, "invalid", "filter.property is missing"),
    ("trends", {"filter": {"all": [{"cohort": 5}]}}, 422, "invalid", "filter.all.0.cohort must be a text"),
    ("trends", {"filter": []}, 422, "invalid", "filter must be an object"),
    ("trends", one(operator="matches", value="[unclosed"), 400, "bad_pattern", "missing ]"),
    ("trends", one(operator="matches", value="((a{99}){99}){99}"), 400, "bad_pattern", "RE2"),
    ("trends", one(operator="matches", value="(?=x)"), 400, "bad_pattern", "look-around"),
    ("funnel", {}, 422, "invalid", "steps is missing"),
    ("funnel", {"steps": ["a", "b"]}, 422, "invalid", "steps.0 must be an object"),
    ("funnel", {"steps": [{"event": "a"}]}, 400, "bad_funnel", "one step is a trend"),
    ("funnel", {"steps": [{}, {}], "window_seconds": "7d"}, 422, "invalid", "window_seconds must be a whole number"),
    ("retention", {"periods": 1_000}, 400, "bad_retention", "1 to 366"),
    ("paths", {"steps": 99}, 400, "bad_paths", "2 to 10"),
    ("users", {"limit": 100_000}, 422, "invalid", "limit must be at most 1000"),
    ("actors", {}, 422, "invalid", "of is missing"),
    ("trend", {}, 404, "unknown_kind", "trends"),
]


def told(answer: Any) -> tuple[str, str, str]:
    error = answer.json()["error"]
    assert error["message"] and error["hint"]
    return error["code"], error["message"], error["hint"]


@pytest.mark.parametrize(
    "kind,question,status,code,words", QUESTIONS, ids=[f"{n}-{kind}" for n, (kind, *_) in enumerate(QUESTIONS)]
)
def test_question_that_is_wrong_says_where_and_what_to_send(
    filled: Service, kind: str, question: Any, status: int, code: str, words: str
) -> None:
    headers = {"Authorization": f"Bearer {filled.owner_key}"}
    answer = filled.request("POST", f"/api/analytics/query/{kind}", json=question, headers=headers)
    found, message, hint = told(answer)
    assert (answer.status_code, found) == (status, code), answer.text
    assert words in f"{message} | {hint}" and "Extra inputs" not in message and "body." not in message


def test_pattern_that_would_explode_elsewhere_takes_linear_time_here(filled: Service) -> None:
    headers = {"Authorization": f"Bearer {filled.owner_key}"}
    # An event's name is of forty `a` and a mark: an engine that goes back would try 2 to the 40th ways through it.
    pattern = {"property": "event_name", "operator": "matches", "value": "^(a|a|aa)+(a+)+$"}
    question = {"range": {"last": 2}, "filter": pattern}
    answer = filled.request("POST", "/api/analytics/query/trends", json=question, headers=headers)
    assert answer.status_code == 200 and answer.json()["series"][0]["total"] == 0


STATEMENTS = [
    ("SELECT * FROM file('/etc/passwd')", "sql_refused", "table functions are not allowed"),
    ("SELECT * FROM events INTO OUTFILE '/tmp/x'", "sql_refused", "INTO OUTFILE is not allowed"),
    ("SELECT 1; SELECT 2", "sql_refused", "there are 2 statements"),
    ("SELECT count() FROM events SETTINGS readonly=0", "sql_refused", "SETTINGS are ours"),
    ("INSERT INTO events SELECT * FROM events", "sql_refused", "only SELECT is allowed"),
    ("SELECT * FROM system.tables", "sql_refused", "only the analytics database"),
    ("SELECT * FROM url('http://169.254.169.254/')", "sql_refused", "table functions are not allowed"),
    ("SELECT no_such FROM events", "sql_refused", "no_such"),
    ("SELECT sleep(3)", "sql_refused", "sleep"),
    ("", "sql_refused", "0 statements"),
    ("SELECT {x:String} FROM events", "query_failed", "`parameters`"),
    ("SELECT event_id FROM events", "query_limit", "50 rows (query_result_rows)"),
    ("SELECT countIf(match(event_name, '(')) FROM events", "query_failed", "RE2"),
]


@pytest.mark.parametrize("sql,code,words", STATEMENTS, ids=range(len(STATEMENTS)))
def test_statement_that_is_refused_or_meets_a_limit_says_which(
    filled: Service, sql: str, code: str, words: str
) -> None:
    answer = filled.sql(sql)
    found, message, hint = told(answer)
    assert (answer.status_code, found) == (400, code) and words in f"{message} | {hint}", answer.text


def test_body_that_is_no_json_and_a_method_that_is_none_say_so(filled: Service) -> None:
    headers = {"Authorization": f"Bearer {filled.owner_key}", "Content-Type": "application/json"}
    path = "/api/analytics/query/trends"
    answer = filled.request("POST", path, content=b"{range: 7}", headers=headers)
    assert (answer.status_code, told(answer)[1]) == (422, "the body is not JSON")
    assert "the body is missing" in told(filled.request("POST", path, headers=headers))[1]
    got = filled.request("GET", path, headers=headers)
    assert (got.status_code, told(got)[0]) == (405, "method_not_allowed") and "POST" in told(got)[1]
