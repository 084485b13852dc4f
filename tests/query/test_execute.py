"""Questions run read-only and bounded, and every cell comes out as JSON has it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Service, running
from tests.store.test_encrypted_disk import spilt
from twintrack.errors import RequestError, StoreError
from twintrack.event import Tenancy
from twintrack.metrics import Metrics
from twintrack.query.execute import Executor, plain
from twintrack.settings import load_settings
from twintrack.testing import wire_event

EVENTS = 300


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("execute") / "data"
    with running(folder, query_seconds=2.0, query_result_rows=1_000, query_memory_bytes=200 << 20) as service:
        service.send([wire_event(event_metadata={"n": n, "deep": {"list": [n, "x", None]}}) for n in range(EVENTS)])
        service.settle()
        yield service


def ask(service: Service, sql: str, **parameters: Any) -> dict[str, Any]:
    return asyncio.run(service.services.executor.sql(sql, parameters, Tenancy("demo", "local")))


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (datetime(2026, 1, 5, 12, 0, 0, 123_456), "2026-01-05T12:00:00.123Z"),
        (datetime(2026, 1, 5, 12, 0, tzinfo=timezone(timedelta(hours=2))), "2026-01-05T10:00:00.000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (date(2026, 1, 5), "2026-01-05"),
        (float("nan"), None),
        (float("-inf"), None),
        (1.5, 1.5),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("1.10"), "1.10"),
        (IPv4Address("10.0.0.1"), "10.0.0.1"),
        (IPv6Address("::1"), "::1"),
        (b"\xff", "/w=="),
        (True, True),
        (None, None),
        ({1: [datetime(2026, 1, 5)], "n": {"x": float("nan")}}, {"1": ["2026-01-05T00:00:00.000Z"], "n": {"x": None}}),
        ((1, {2}), [1, [2]]),
    ],
)
def test_cell_comes_out_as_json_has_it(cell: Any, shown: Any) -> None:
    assert plain(cell) == shown
    json.dumps(plain(cell), allow_nan=False)


def test_answer_names_columns_with_their_types_and_what_it_read(filled: Service) -> None:
    answer = ask(filled, "SELECT event_name, count() AS events FROM events GROUP BY event_name")
    assert answer["columns"] == [
        {"name": "event_name", "type": "LowCardinality(String)"},
        {"name": "events", "type": "UInt64"},
    ]
    assert answer["rows"] == [["click_send", EVENTS]]
    assert answer["rows_read"] >= 0 and answer["milliseconds"] > 0


def test_whole_rows_are_json(filled: Service) -> None:
    answer = ask(filled, "SELECT * FROM events WHERE event_metadata.n = {n:Int64}", n=7)
    (row,) = answer["rows"]
    names = [column["name"] for column in answer["columns"]]
    assert row[names.index("event_metadata")] == {"n": 7, "deep": {"list": [7, "x", None]}}
    json.dumps(row, allow_nan=False)


def test_parameters_are_values_never_sql(filled: Service) -> None:
    answer = ask(filled, "SELECT count() FROM events WHERE event_name = {name:String}", name="x' OR 1 = 1 --")
    assert answer["rows"] == [[0]]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT a.event_id FROM events AS a CROSS JOIN events AS b", "rows"),
        (
            "SELECT count() FROM events AS a CROSS JOIN events AS b CROSS JOIN events AS c CROSS JOIN events AS d",
            "query_seconds",
        ),
        ("SELECT groupArray(arrayMap(x -> toString(x), range(1000000))) FROM events", "query_memory_bytes"),
    ],
    ids=["rows", "time", "memory"],
)
def test_question_beyond_a_bound_fails_and_the_next_one_runs(filled: Service, sql: str, said: str) -> None:
    with pytest.raises(StoreError) as refused:
        ask(filled, sql)
    assert said in refused.value.message and refused.value.hint
    assert (refused.value.code, refused.value.status) == ("query_limit", 400)
    assert ask(filled, "SELECT count() FROM events")["rows"] == [[EVENTS]]


_GATHERED = (
    "SELECT count(), sum(length(every)) FROM (SELECT cityHash64(event_id, n) AS k, groupArray(n) AS every"
    " FROM analytics.events ARRAY JOIN range(5000) AS n GROUP BY k)"
)


def test_question_that_gathers_more_than_its_memory_goes_by_the_disk_and_leaves_nothing_there(filled: Service) -> None:
    settings = load_settings(query_memory_bytes=100 << 20, query_seconds=120)
    executor = Executor(filled.services.store, settings, Metrics())
    store = filled.services.settings.data / "store"
    try:
        with spilt(store) as seen:
            assert asyncio.run(executor.run(_GATHERED))["rows"] == [[EVENTS * 5_000, EVENTS * 5_000]]
    finally:
        executor.close()
    assert seen and not list((store / "tmp").iterdir())


def test_question_that_goes_by_the_disk_leaves_events_the_room_they_need(filled: Service) -> None:
    settings = load_settings(query_memory_bytes=100 << 20, query_seconds=120, disk_reserve_bytes=1 << 60)
    executor = Executor(filled.services.store, settings, Metrics())
    try:
        with pytest.raises(StoreError) as refused:
            asyncio.run(executor.run(_GATHERED))
    finally:
        executor.close()
    assert "disk_reserve_bytes" in refused.value.message and refused.value.code == "query_limit"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO analytics.events (event_name) VALUES ('x')",
        "ALTER TABLE analytics.events DELETE WHERE 1",
        "TRUNCATE TABLE analytics.events",
        "SELECT 1; TRUNCATE TABLE analytics.events",
        "SELECT * FROM events SETTINGS readonly = 0",
    ],
)
def test_question_that_writes_never_reaches_the_engine(filled: Service, sql: str) -> None:
    with pytest.raises(RequestError):
        ask(filled, sql)
    assert ask(filled, "SELECT count() FROM events")["rows"] == [[EVENTS]]


def test_no_more_than_two_questions_run_at_once(filled: Service) -> None:
    """Counted by a store that holds each question until a third would have had its chance."""
    running, most = 0, 0
    lock, third = threading.Lock(), threading.Event()

    class Counting:
        engine, spills = "counting", True

        def cancel(self) -> None:
            """Nothing it runs can be ended early."""

        def select(self, *_: Any) -> Any:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                if running > 2:
                    third.set()
            third.wait(0.1)
            with lock:
                running -= 1
            return filled.services.store.select("SELECT 1")

    executor = Executor(Counting(), load_settings(), Metrics())  # type: ignore[arg-type]

    async def many() -> None:
        await asyncio.gather(*(executor.run("SELECT 1") for _ in range(6)))

    asyncio.run(many())
    executor.close()
    assert most == 2


def test_closing_waits_for_what_runs(filled: Service) -> None:
    """An engine that ends inside a query crashes the process."""
    started, release, closed = threading.Event(), threading.Event(), threading.Event()

    class Held:
        engine, spills = "held", True

        def cancel(self) -> None:
            """Nothing it runs can be ended early."""

        def select(self, *_: Any) -> Any:
            started.set()
            release.wait(10)
            return filled.services.store.select("SELECT 1")

    executor = Executor(Held(), load_settings(), Metrics())  # type: ignore[arg-type]

    def close() -> None:
        executor.close()
        closed.set()

    async def ask_and_close() -> None:
        question = asyncio.ensure_future(executor.run("SELECT 1"))
        assert await asyncio.to_thread(started.wait, 10)
        closing = asyncio.ensure_future(asyncio.to_thread(close))
        assert not await asyncio.to_thread(closed.wait, 0.1)
        release.set()
        assert (await question)["rows"] == [[1]]
        await closing

    asyncio.run(ask_and_close())
