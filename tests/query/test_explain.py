"""A statement that is explained reads no event, whatever subqueries stand in it; the engine's own EXPLAIN would."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Service
from tests.query.conftest import GENERATED_NOW
from tests.query.oracle.rows import generated
from tests.query.stage import SHOP, Stage, staged
from twintrack.query.guard import explained, locks, scope

RUN_BY_THE_ENGINE = {
    "compared": "SELECT count() FROM events WHERE sequence < (SELECT max(sequence) FROM events)",
    "shown": "SELECT ((SELECT max(sequence) FROM events)) + 1 AS x FROM events",
    "of WITH": "WITH (SELECT max(sequence) FROM events) AS x SELECT x FROM events WHERE sequence = x",
    "behind IN": "SELECT count() FROM events WHERE event_name IN (SELECT event_name FROM events)",
    "several columns": "SELECT 1 FROM events WHERE (event_name, user_id) IN (SELECT event_name, user_id FROM events)",
    "not in a union": "SELECT 1 FROM events WHERE event_name NOT IN"
    " (SELECT event_name FROM events UNION ALL SELECT event_name FROM events LIMIT 7)",
    "a name": "WITH q AS (SELECT event_name FROM events) SELECT count() FROM events WHERE event_name IN q",
    "a name in parentheses": "WITH q AS (SELECT event_name FROM events) SELECT 1 FROM events WHERE event_name IN (q)",
    "left of IN": "SELECT 1 FROM events WHERE (SELECT max(sequence) FROM events) IN (1, 2)",
    "on both sides of IN": "SELECT 1 FROM events WHERE (SELECT max(sequence) FROM events) IN (SELECT sequence FROM events)",
    "exists": "SELECT count() FROM events WHERE EXISTS(SELECT 1 FROM events WHERE sequence = 3)",
    "of an array": "SELECT 1 FROM events WHERE has((SELECT groupArray(event_name) FROM events), event_name)",
    "nested": "SELECT count() FROM events WHERE event_timestamp > (SELECT max(event_timestamp) FROM events"
    " WHERE event_name IN (SELECT event_name FROM events))",
    "in a join": "SELECT 1 FROM events AS a JOIN (SELECT sequence FROM events WHERE sequence IN"
    " (SELECT max(sequence) FROM events)) AS b ON a.sequence = b.sequence",
    "passed for one of outside": "SELECT 1 FROM events AS event_metadata WHERE sequence ="
    " (SELECT max(length(toString(event_metadata.plan))) FROM events)",
}
NOT_RUN = {
    "plain": "SELECT count() FROM events WHERE event_name = 'buy'",
    "of outside": "SELECT 1 FROM events AS a WHERE sequence ="
    " (SELECT max(b.sequence) FROM events AS b WHERE b.user_id = a.user_id)",
}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("few") / "store", GENERATED_NOW, generated(count=20)) as stage:
        yield stage


def events_read(of: Stage, asked: str) -> int:
    answer = of.store.select(asked, {}, {**of.executor.bounds(), **locks(SHOP)})
    assert any("analytics.events" in row[0] for row in answer.rows), answer.rows
    return answer.rows_read - len(answer.rows)  # the lines themselves count as read


@pytest.mark.parametrize("name", RUN_BY_THE_ENGINE)
def test_explained_statement_reads_no_event_where_the_engines_own_explain_does(few: Stage, name: str) -> None:
    sql = RUN_BY_THE_ENGINE[name]
    assert events_read(few, f"EXPLAIN indexes = 1 {scope(sql, SHOP)}") > 0
    asked, judged, unknown = explained(sql, SHOP)
    assert judged == scope(sql, SHOP)
    assert events_read(few, asked) == 0 and unknown > 0


@pytest.mark.parametrize("name", NOT_RUN)
def test_statement_of_which_nothing_is_run_is_explained_as_it_is(few: Stage, name: str) -> None:
    asked, _, unknown = explained(NOT_RUN[name], SHOP)
    assert (asked, unknown) == (f"EXPLAIN indexes = 1 {scope(NOT_RUN[name], SHOP)}", 0)
    assert events_read(few, asked) == 0


def test_plan_shows_which_keys_are_used_and_says_that_subqueries_were_not_run(few: Stage) -> None:
    def plan(name: str) -> dict[str, Any]:
        sql = {**RUN_BY_THE_ENGINE, **NOT_RUN}[name]
        return asyncio.run(few.executor.explain(sql, {}, SHOP))

    for name in ("plain", "compared"):
        assert any("PrimaryKey" in line for line in plan(name)["plan"]), name
    assert plan("plain")["notes"] == []
    (note,) = plan("nested")["notes"]
    assert note.startswith("2 subqueries") and "not run" in note
    assert plan("nested")["sql"] == scope(RUN_BY_THE_ENGINE["nested"], SHOP)  # what would run, as it would run


def test_explained_statement_is_audited_by_its_shape(service: Service) -> None:
    sql = "SELECT count() FROM events WHERE user_id = 'ada'"
    answer = service.request(
        "POST",
        "/api/analytics/sql/explain",
        json={"sql": sql},
        headers={"Authorization": f"Bearer {service.owner_key}"},
    )
    assert answer.status_code == 200, answer.text
    records = service.get("/api/analytics/audit?what=sql.explain").json()["records"]
    assert [record["outcome"] for record in records] == ["done"]
    assert "FROM events WHERE user_id" in records[0]["detail"]["sql"] and "ada" not in str(records[0])
