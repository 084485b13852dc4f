"""The loader step by step, its clock in the test's hand: what it does when the store says no, and what it does not."""

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Service, open_service
from tests.faults.proxy import Fault, FaultProxy, engine_error
from tests.faults.test_wire import until
from tests.server import Server
from twintrack.clock import month_of
from twintrack.event import Tenancy
from twintrack.load.loader import Loader
from twintrack.load.retry import State
from twintrack.load.rollup import compare
from twintrack.spool.protocol import Delivery, Slab
from twintrack.testing import ManualClock, uuid7, wire_event

BUSY = engine_error(252, "TOO_MANY_PARTS")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    opened = Server(tmp_path_factory.mktemp("server") / "engine")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    server.empty()
    opened = FaultProxy(("127.0.0.1", server.port))
    yield opened
    opened.close()


class Bench:
    """A service whose own loader has ended, and another one that moves only when told."""

    def __init__(self, folder: Path, url: str) -> None:
        self.service: Service = open_service(folder, store=url, store_compression="none", chunk_rows=100)
        services = self.service.services
        end = time.monotonic() + 30
        while services.spool.rebuilding:
            assert time.monotonic() < end, "the index was not filled"
            time.sleep(0.01)
        services.loader.stop()
        self.spool, self.store = services.spool, services.store
        self.clock = ManualClock()
        self.loader = Loader(
            self.spool,
            self.store,
            self.clock,
            services.metrics,
            age_milliseconds=0,
            chunk_rows=100,
            backoff_seconds=30.0,
            jitter=lambda: 0.5,
        )

    def send(self, count: int, **fields: Any) -> None:
        self.service.send([wire_event(**fields) for _ in range(count)])

    def poison(self, neighbours: int, poisoned: dict[int, bytes]) -> None:
        """Appends rows that passed the door, some of whose metadata the engine will not take."""
        self.send(1)
        self.spool.freeze()
        pattern = self.spool.content(self.spool.pending()[-1])
        old_id = self.spool.identities(self.spool.pending()[-1])[0][1]
        from uuid import UUID

        lines, ids = [], []
        for number in range(neighbours):
            new = UUID(uuid7())
            ids.append(new.bytes)
            line = pattern.replace(str(UUID(bytes=old_id)).encode(), str(new).encode())
            lines.append(line.replace(b'{"feature":"chat"}', poisoned.get(number, b'{"feature":"chat"}')))
        month = month_of(self.service.services.clock.milliseconds() / 1000)
        slab = Slab(month, True, ids, b"\n".join(lines))
        asyncio.run(self.spool.append(Delivery(Tenancy("demo", "local"), 0, [slab], [], [])))

    def stored(self) -> int:
        return int(self.store.select("SELECT count() FROM analytics.events").rows[0][0])

    def run(self, seconds: float) -> None:
        """Lets time pass, a step after each tenth of a second, until nothing moves."""
        for _ in range(int(seconds * 10)):
            while self.loader.step():
                pass
            if not self.spool.pending():
                return
            self.clock.advance(0.1)


@pytest.fixture
def bench(tmp_path: Path, server: Server, proxy: FaultProxy) -> Iterator[Bench]:
    opened = Bench(tmp_path / "data", server.url(proxy.port))
    yield opened
    opened.service.services.close()


def test_open_breaker_asks_nothing_and_goes_on_freezing_whole_chunks(bench: Bench, proxy: FaultProxy) -> None:
    proxy.inserts = BUSY
    bench.send(10)
    assert bench.loader.step() is False
    assert bench.loader.breaker.state is State.OPEN
    asked = sum(proxy.met.values())
    bench.send(90)
    assert bench.loader.step() is False
    assert len(bench.spool.pending()) == 1  # 90 rows are no whole chunk
    bench.send(10)
    bench.loader.step()
    assert [chunk.rows for chunk in bench.spool.pending()] == [10, 100]
    assert sum(proxy.met.values()) == asked
    assert bench.loader.condition()["state"] == "waiting"


def test_half_open_lets_the_smallest_insert_through_and_closes_on_it(bench: Bench, proxy: FaultProxy) -> None:
    proxy.inserts = BUSY
    bench.send(100)
    bench.loader.step()
    bench.send(100)
    bench.loader.step()
    bench.clock.advance(60)
    met = proxy.met["252"]
    bench.loader.step()
    assert proxy.met["252"] == met + 1
    assert (bench.loader.breaker.state, bench.loader.breaker.failures) == (State.OPEN, 2)
    proxy.mend()
    bench.clock.advance(120)
    bench.loader.step()
    assert bench.loader.breaker == bench.loader.breaker.succeeded()
    assert bench.stored() == 200


def test_ten_minutes_without_a_store_cost_few_questions_and_no_event(bench: Bench, proxy: FaultProxy) -> None:
    bench.send(1)
    bench.loader.step()
    proxy.refuse()
    for _ in range(600):
        bench.send(2)
        bench.loader.step()
        bench.clock.advance(1.0)
    assert 15 < bench.loader.breaker.failures < 60  # half of 30 s on average, with this jitter
    assert len(bench.spool.pending()) <= 13
    proxy.listen()
    bench.run(60)
    assert bench.stored() == 1201
    assert bench.loader.condition()["error"] is None


def test_locked_door_is_tried_slowly_and_says_what_to_do(bench: Bench, proxy: FaultProxy) -> None:
    proxy.inserts = engine_error(497, "ACCESS_DENIED")
    bench.send(1)
    bench.loader.step()
    condition = bench.loader.condition()
    assert condition["retry_in_seconds"] >= 7.5
    assert "ACCESS_DENIED (497)" in condition["error"]
    assert "grants" in condition["hint"]


@pytest.mark.parametrize("poisoned", [{0}, {37}, {99}, {3, 4, 80}])
def test_poison_row_is_quarantined_and_its_neighbours_are_stored(bench: Bench, poisoned: set[int]) -> None:
    bench.poison(100, {number: b'{"a.b":1,"a":{"b":"secret of ann"}}' for number in poisoned})
    bench.run(5)
    assert bench.stored() == 101 - len(poisoned)
    ledger = bench.spool.ledger
    assert len(ledger.chunks("quarantined")) == len(poisoned)
    reasons = {row[0] for row in ledger._db.execute("SELECT reason FROM chunks WHERE state = 'quarantined'")}
    assert reasons == {"INCORRECT_DATA (117)"}
    assert bench.spool.depth().events == 0
    state = bench.service.get("/api/analytics/pipeline").json()
    assert (state["quarantined"], state["balance"]["holds"]) == (len(poisoned), True)
    assert bench.loader.condition()["error"] is None


@pytest.mark.parametrize("answer", [(9999, "SOMETHING_NEW"), (241, "MEMORY_LIMIT_EXCEEDED")])
def test_row_with_an_unforeseen_answer_is_found_while_others_pass(
    bench: Bench, proxy: FaultProxy, answer: tuple[int, str]
) -> None:
    """Also a chunk that is too much for the store's memory is halved until what is left fits."""
    proxy.poison, proxy.poisoned = b"guilty", engine_error(*answer)
    bench.poison(16, {5: b'{"feature":"guilty"}'})
    for _ in range(400):
        while bench.loader.step():
            pass
        if not bench.spool.pending():
            break
        bench.clock.advance(1.0)
        bench.send(1)
    ledger = bench.spool.ledger
    [[reason]] = ledger._db.execute("SELECT reason FROM chunks WHERE state = 'quarantined'").fetchall()
    assert reason == f"{answer[1]} ({answer[0]})"
    found = bench.store.select("SELECT count(), uniqExact(event_id) FROM analytics.events").rows[0]
    assert found[0] == found[1] >= 16
    assert bench.spool.depth().events == 0


def test_row_with_an_unforeseen_answer_is_found_where_all_ids_are_looked_up(bench: Bench, proxy: FaultProxy) -> None:
    """Each look-up waits for the chunk before it, and that one for another insert that passes."""
    proxy.poison, proxy.poisoned = b"guilty", engine_error(9999, "SOMETHING_NEW")
    bench.service.send([wire_event(event_id=str(uuid4()), event_metadata={"feature": "guilty"})])
    sent = 0
    for _ in range(200):
        while bench.loader.step():
            pass
        if not bench.spool.pending():
            break
        bench.clock.advance(5.0)
        bench.service.send([wire_event(event_id=str(uuid4()))])
        sent += 1
    assert len(bench.spool.ledger.chunks("quarantined")) == 1
    assert bench.stored() == sent
    assert bench.spool.depth().events == 0


def test_unforeseen_answer_to_every_insert_quarantines_nothing(bench: Bench, proxy: FaultProxy) -> None:
    bench.send(5)
    bench.loader.step()
    proxy.inserts = engine_error(9999, "SOMETHING_NEW")
    bench.send(20)
    for _ in range(100):
        bench.loader.step()
        bench.clock.advance(5.0)
    assert bench.spool.ledger.chunks("quarantined") == []
    assert bench.loader.breaker.failures > 5
    proxy.mend()
    bench.clock.advance(60)
    bench.run(60)
    assert bench.stored() == 25


def test_failing_look_up_holds_back_only_what_needs_it(bench: Bench, proxy: FaultProxy) -> None:
    bench.send(3)
    bench.loader.step()
    proxy.questions = Fault("answer", 500, 159, "Code: 159. DB::Exception: Timeout exceeded. (TIMEOUT_EXCEEDED)")
    old = "0190a1b2-0000-4000-8000-000000000001"  # no UUIDv7: always looked up
    bench.service.send([wire_event(event_id=old)])
    bench.send(4)
    bench.loader.step()
    assert [chunk.lookup for chunk in bench.spool.pending()] == [True]
    assert bench.loader.breaker.state is State.CLOSED
    assert "looked up" in str(bench.loader.condition()["error"])
    bench.send(5)
    bench.loader.step()
    assert [chunk.rows for chunk in bench.spool.pending()] == [1]
    proxy.mend()
    bench.clock.advance(60)
    bench.run(5)
    assert bench.stored() == 13
    assert bench.loader.condition()["error"] is None


def test_look_up_waits_for_every_other_chunk_and_for_halves(bench: Bench, proxy: FaultProxy) -> None:
    old = "0190a1b2-0000-4000-8000-000000000002"
    bench.service.send([wire_event(event_id=old)])
    proxy.inserts = BUSY
    bench.poison(8, {2: b'{"a.b":1,"a":{"b":2}}'})
    bench.loader.step()
    assert any(chunk.lookup for chunk in bench.spool.pending())
    proxy.mend()
    bench.clock.advance(60)
    bench.run(10)
    assert bench.stored() == 9
    assert bench.spool.pending() == []


def test_rollup_that_cannot_be_made_again_holds_up_no_insert(bench: Bench, proxy: FaultProxy) -> None:
    bench.send(3)
    bench.loader.step()
    month = month_of(bench.service.services.clock.milliseconds() / 1000)
    bench.spool.reinsert((), (month, 0))
    proxy.questions = engine_error(241, "MEMORY_LIMIT_EXCEEDED")
    for _ in range(30):
        bench.send(2)
        bench.loader.step()
        bench.clock.advance(1.0)
    assert bench.loader.breaker.state is State.CLOSED
    assert bench.loader.asides["rollups"].failures < 15
    said = str(bench.loader.condition())
    assert "rollups" in said and "MEMORY_LIMIT_EXCEEDED (241)" in said and "ann@example.com" not in said
    assert bench.spool.stale_months() == [0, month]
    proxy.mend()
    assert bench.stored() == 63
    bench.clock.advance(60)
    bench.run(1)
    assert bench.spool.stale_months() == []
    assert bench.loader.condition()["error"] is None


def test_rollups_below_the_watermark_are_not_made_again_from_what_is_left_of_raw(bench: Bench) -> None:
    bench.send(3, user_id="ann")
    bench.loader.step()
    month = month_of(bench.service.services.clock.milliseconds() / 1000)
    store = bench.service.services.store
    with bench.spool.ledger as ledger:
        ledger.set_complete_since("demo", bench.service.services.clock.milliseconds() + 1)
    store.command("TRUNCATE TABLE analytics.events")
    bench.spool.reinsert((), (month, 0))
    bench.run(3)
    assert bench.spool.stale_months() == [0, month]
    assert store.select("SELECT sum(event_count) FROM analytics.events_daily").rows == [(3,)]
    assert store.select("SELECT sum(links) FROM analytics.identities").rows == [(3,)]


def test_stop_leaves_to_the_next_start_what_may_wait(bench: Bench) -> None:
    bench.send(3)
    bench.spool.reinsert((), (0,))
    bench.loader.stop()
    bench.loader.step()
    assert bench.stored() == 3
    assert bench.spool.stale_months() == [0]


def test_stop_with_a_slow_store_ends_within_seconds_and_keeps_the_rest(bench: Bench, proxy: FaultProxy) -> None:
    """Each insert takes six seconds of the clock: the third is the last that starts within fifteen."""
    bench.loader.step()
    proxy.inserts = BUSY
    for _ in range(5):
        bench.send(100)
        bench.loader.step()
    proxy.mend()
    bench.clock.advance(600)
    slow = Loader(
        bench.spool,
        bench.store,
        bench.clock,
        bench.service.services.metrics,
        age_milliseconds=0,
        chunk_rows=100,
        reached=lambda place: bench.clock.advance(6.0) if place == "before_insert" else None,
    )
    slow.stop()
    slow.start()
    slow.stop()
    assert bench.stored() == 300
    assert [chunk.rows for chunk in bench.spool.pending()] == [100, 100]
    bench.run(5)
    assert bench.stored() == 500


def test_events_that_are_a_fair_part_of_a_chunk_wait_for_no_company(bench: Bench) -> None:
    patient = Loader(
        bench.spool, bench.store, bench.clock, bench.service.services.metrics, age_milliseconds=600_000, chunk_rows=100
    )
    bench.send(40)
    patient.start()
    try:
        end = time.monotonic() + 30
        while bench.stored() < 40:
            assert time.monotonic() < end, "they waited for their age"
            time.sleep(0.01)
    finally:
        patient.stop()


def test_ledger_that_cannot_be_read_while_events_wait_for_company_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    patient = Loader(bench.spool, bench.store, bench.clock, bench.service.services.metrics, age_milliseconds=20)
    bench.send(1)
    with closing(sqlite3.connect(next(tmp_path.rglob("ledger.db")))) as ledger:
        ledger.execute("ALTER TABLE chunks RENAME TO away")
        patient.start()
        try:
            until(lambda: patient.condition()["state"] == "waiting")
            ledger.execute("ALTER TABLE away RENAME TO chunks")
            bench.clock.advance(3600)
            until(lambda: bench.stored() == 1)
        finally:
            patient.stop()


def test_stop_ends_the_pass_that_is_under_way(bench: Bench, proxy: FaultProxy) -> None:
    """A backlog of hours is one pass: asked to stop at its first insert, the loader starts no insert after 15 s."""
    bench.loader.step()
    proxy.inserts = BUSY
    for _ in range(5):
        bench.send(100)
        bench.loader.step()
    proxy.mend()
    begun, asked = threading.Event(), threading.Event()

    def reached(place: str) -> None:
        if place == "before_insert":
            begun.set()
            assert asked.wait(30)
            bench.clock.advance(6.0)

    metrics = bench.service.services.metrics
    slow = Loader(bench.spool, bench.store, bench.clock, metrics, age_milliseconds=0, chunk_rows=100, reached=reached)
    slow.start()
    assert begun.wait(30)
    stop = threading.Thread(target=slow.stop)
    stop.start()
    end = time.monotonic() + 30
    while not slow._stopping.is_set():
        assert time.monotonic() < end
        time.sleep(0.01)
    asked.set()
    stop.join(30)
    assert bench.stored() == 300
    bench.clock.advance(600)
    bench.run(5)
    assert bench.stored() == 500


def test_nothing_is_inserted_before_chunks_are_compared_after_the_machine_went_down(
    bench: Bench, proxy: FaultProxy
) -> None:
    """Also where the store is away at first, so that the smallest insert is a probe; here one that is refused."""
    bench.send(3)
    bench.loader.step()
    proxy.poison, proxy.poisoned = b'"a.b"', BUSY
    bench.poison(1, {0: b'{"a.b":1,"a":{"b":2}}'})
    bench.loader.step()
    assert (bench.stored(), bench.loader.breaker.state) == (4, State.OPEN)
    bench.store.command("ALTER TABLE analytics.events DELETE WHERE 1 SETTINGS mutations_sync = 2")
    bench.spool.suspect()  # as a start of another boot does
    bench.spool.reconciling = True
    proxy.mend()
    bench.clock.advance(600)
    bench.run(5)
    assert bench.stored() == 4
    assert len(bench.spool.ledger.chunks("quarantined")) == 1


@pytest.mark.parametrize("lost", [Fault("cut_answer"), Fault("answer_after"), Fault("cut_request")], ids=str)
def test_lost_answer_to_the_deletion_of_refused_rows_loses_and_doubles_none(
    bench: Bench, proxy: FaultProxy, lost: Fault
) -> None:
    """A view refuses rows that raw has taken already; it is mended before the chunk is tried again."""
    bench.store.command("CREATE TABLE analytics.numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
    bench.store.command(
        "CREATE MATERIALIZED VIEW analytics.numbers_feed TO analytics.numbers AS"
        " SELECT toUInt64(assumeNotNull(event_value)) AS n FROM analytics.events"
    )
    try:
        proxy.deletions = lost
        bench.send(2, event_value="no number")
        bench.loader.step()
        assert bench.loader.breaker.state is State.OPEN
    finally:
        bench.store.command("DROP TABLE analytics.numbers_feed SYNC")
        bench.store.command("DROP TABLE analytics.numbers SYNC")
    proxy.mend()
    bench.clock.advance(600)
    bench.run(5)
    assert bench.spool.pending() == []
    assert bench.stored() == 2
    assert compare(bench.store) == []


def test_disk_that_takes_no_chunk_file_stops_no_insert_of_a_frozen_one(bench: Bench) -> None:
    """A limit on the size of files stands for the disk: the large chunk does not fit, the ledger's pages do."""
    bench.send(4)
    bench.spool.freeze()
    bench.send(500, message_content="x" * 3000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        bench.loader.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert bench.stored() == 4
    assert "chunk files" in str(bench.loader.condition()["error"])
    bench.run(5)
    assert bench.stored() == 504
    assert bench.loader.condition()["error"] is None
