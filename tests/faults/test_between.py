"""kill -9 of service and engine between raw and rollup: the retry repairs the views that missed the rows, and no other."""

import os
import signal
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.test_engine import alive, engine_of
from tests.faults.test_kill import Sender, assert_each_once
from tests.faults.test_wire import until
from tests.server import Server
from twintrack.store.clickhouse import ClickHouse
from twintrack.testing import wire_event

ROWS = 20
# The engine bears 3 s of sleep from one function in a block.
SLOWLY = " AND ".join(f"sleepEachRow({seconds / ROWS}) = 0" for seconds in (2.7, 2.8))
COUNTS = {
    "events_hourly_feed": "SELECT sum(event_count) FROM analytics.events_hourly",
    "events_daily_feed": "SELECT sum(event_count) FROM analytics.events_daily",
    "identities_feed": "SELECT sum(links) FROM analytics.identities",
}


def count(store: ClickHouse, sql: str) -> int:
    return int(store.select(sql).rows[0][0])


def query_of(store: ClickHouse, view: str) -> str:
    answer = store.select(f"SELECT as_select FROM system.tables WHERE database = 'analytics' AND name = '{view}'")
    return str(answer.rows[0][0])


def slowed(query: str) -> str:
    return query.replace("FROM analytics.events", f"FROM (SELECT * FROM analytics.events WHERE {SLOWLY})")


@pytest.mark.parametrize("slow", [["events_daily_feed"], list(COUNTS)], ids=["one view", "every view"])
def test_service_and_engine_killed_between_raw_and_rollup_keep_each_event_once(tmp_path: Path, slow: list[str]) -> None:
    data, sender = tmp_path / "data", Sender(7)
    engine = Server(data / "store")
    engine.migrate()
    queries = {view: query_of(engine.store, view) for view in slow}
    for view, query in queries.items():
        engine.store.command(f"ALTER TABLE analytics.{view} MODIFY QUERY {slowed(query)}")
    engine.close()
    kill_inside_the_insert(start(data), sender)
    engine = Server(data / "store")
    assert count(engine.store, "SELECT count() FROM analytics.events") == ROWS
    for view, query in queries.items():
        assert count(engine.store, COUNTS[view]) == 0, "the view had run: nothing was killed in between"
        engine.store.command(f"ALTER TABLE analytics.{view} MODIFY QUERY {query}")
    engine.close()
    running = start(data)
    try:
        assert_each_once(running, sender)  # doctor compares every rollup with raw
    finally:
        assert running.stop() == 0


def kill_inside_the_insert(running: Running, sender: Sender) -> None:
    """Sends a batch and kills both processes as soon as raw has its rows."""
    inside = engine_of(running.process.pid)
    write, owner = (running.command("keys", "create", "--role", role).strip() for role in ("write", "owner"))
    batch = [wire_event(user_id="ann", anonymous_id="a1") for _ in range(ROWS)]
    sender.sent |= {str(event["event_id"]) for event in batch}
    question = {"sql": "SELECT count() FROM events"}
    with httpx.Client(base_url=running.address, timeout=30) as client:
        answer = client.post("/api/analytics/events", json=batch, headers={"X-Write-Key": write})
        assert answer.status_code == 200
        sender.acknowledged |= {str(event["event_id"]) for event in batch}

        def raw_is_written() -> bool:
            asked = client.post("/api/analytics/sql", json=question, headers={"Authorization": f"Bearer {owner}"})
            return bool(asked.json()["rows"] == [[len(sender.sent)]])

        until(raw_is_written)
    for process in (running.process.pid, inside):
        os.kill(process, signal.SIGKILL)
    running.process.wait(30)
    until(lambda: not alive(inside))
