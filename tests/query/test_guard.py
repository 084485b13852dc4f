"""Foreign SQL: what is refused, and that no clause widens the scope."""

import pytest

from tests.conftest import Service
from twintrack.auth import Role
from twintrack.query.guard import scope
from twintrack.testing import wire_event

HOSTILE = [
    "SELECT 1; SELECT 2",
    "INSERT INTO analytics.events (event_name) VALUES ('x')",
    "DROP TABLE analytics.events",
    "ALTER TABLE analytics.events DELETE WHERE 1",
    "SELECT * FROM file('/etc/passwd')",
    "SELECT file('/etc/passwd')",
    "SELECT * FROM url('http://127.0.0.1/', CSV)",
    "SELECT * FROM remote('127.0.0.1', analytics.events)",
    "SELECT * FROM numbers(10)",
    "SELECT * FROM merge('analytics', '.*')",
    "SELECT * FROM executable('x', CSV, 'a String')",
    "SELECT * FROM system.tables",
    "SELECT * FROM analytics.migrations",
    "SELECT * FROM INFORMATION_SCHEMA.tables",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT dictGet('d', 'a', 1)",
    "SELECT getSetting('readonly')",
    "SELECT * FROM (SELECT * FROM file('/etc/passwd'))",
    "SELECT (SELECT file('/etc/passwd'))",
    "WITH events AS (SELECT 1) SELECT * FROM events",
    "WITH x AS (SELECT * FROM system.users) SELECT * FROM x",
    "SELECT * FROM events WHERE event_name IN (SELECT name FROM system.tables)",
    "SELECT 0 IN system.one",
    "SELECT 0 IN (system.one)",
    "SELECT 0 NOT IN ((system.one))",
    "SELECT 0 GLOBAL IN system.one",
    "SELECT notIn(0, system.one)",
    "WITH one AS (SELECT 1) SELECT 0 IN system.one",
    "WITH system.one AS x SELECT 0 IN x",
    "WITH system.one AS x SELECT * FROM x",
    "SELECT (system.one AS x), 0 IN x",
    "SELECT 0 IN {x:Identifier}",
    "SELECT (project, environment, date, user_id, event_name, session_id, event_count) IN events_daily FROM events_daily",
    "SELECT * FROM events FORMAT CSV",
    "SHOW TABLES",
    "EXPLAIN SELECT 1",
    "SELECT sleep(3)",
    "SELECT (((",
    "",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_statement_that_reaches_beyond_is_refused(service: Service, sql: str) -> None:
    answer = service.sql(sql)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "sql_refused"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM analytics.events",
        "SELECT count() FROM events AS e WHERE e.event_name = 'click_send'",
        "WITH x AS (SELECT event_id FROM events) SELECT count() FROM x",
        "SELECT count() FROM events a JOIN events b ON a.event_id = b.event_id",
        "SELECT count() FROM events WHERE 1 OR project = 'other'",
        "SELECT sum(n) FROM (SELECT count() AS n FROM events UNION ALL SELECT 0)",
        "SELECT uniqExact(event_metadata.feature) FROM events",
        "WITH x AS (SELECT event_id FROM events) SELECT count() FROM events WHERE event_id IN x",
        "SELECT count() FROM events WHERE event_name IN ('click_send') AND user_id NOT IN ('a', 'b')",
    ],
)
def test_key_sees_only_its_own_project_and_environment(service: Service, sql: str) -> None:
    other = service.services.control.create_key(Role.WRITE, "other", "local")
    elsewhere = service.services.control.create_key(Role.WRITE, "demo", "production")
    service.send([wire_event()])
    service.send([wire_event()], key=other)
    service.send([wire_event()], key=elsewhere)
    service.settle()
    answer = service.sql(sql)
    assert answer.json().get("rows") == [[1]], answer.text


def test_write_key_cannot_ask_and_read_key_sees_no_text(service: Service) -> None:
    assert service.sql("SELECT 1", key=service.write_key).status_code == 403
    service.send([wire_event(message_content="hello")])
    service.settle()
    sql = "SELECT message_content, toString(ip_address) FROM events"
    assert service.sql(sql, key=service.read_key).json()["rows"] == [["[MESSAGE]", "::"]]
    assert service.sql(sql).json()["rows"][0][0] == "hello"


def test_parameters_are_values_and_never_sql(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    sql = "SELECT count() FROM events WHERE event_name = {n:String}"
    assert service.sql(sql, n="click_send").json()["rows"] == [[1]]
    assert service.sql(sql, n="' OR 1 = 1 --").json()["rows"] == [[0]]


def test_limit_that_was_met_is_named(tmp_path: object) -> None:
    from pathlib import Path

    from tests.conftest import open_service

    service = open_service(Path(str(tmp_path)) / "data", query_result_rows=1)
    try:
        service.send([wire_event(), wire_event()])
        service.settle()
        answer = service.sql("SELECT event_id FROM events")
        assert answer.status_code == 400
        assert "rows" in answer.json()["error"]["message"].lower()
    finally:
        service.services.close()


def test_operator_reads_the_tables_themselves_with_what_only_they_have() -> None:
    asked = "SELECT DISTINCT _part FROM events PREWHERE event_name = 'x'"
    assert scope(asked, None) == asked.replace("events", "analytics.events")
