"""Faults on the wire between service and server: no event lost, none doubled, lag visible, recovery without restart."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service, open_service
from tests.faults.proxy import Fault, FaultProxy, engine_error
from tests.server import Server
from twintrack.load.retry import State
from twintrack.load.rollup import compare
from twintrack.testing import wire_event

PATIENCE_SECONDS = 60.0

PAGE = b"<html><title>Sign in</title></html>".decode()
INSERT_FAULTS = {
    "hang": Fault("hang"),
    "slow": Fault("slow", seconds=0.6),
    "500 after it committed": Fault("answer_after", 500),
    "garbage after it committed": Fault("answer_after", 200, words=PAGE),
    "502 in its place": Fault("answer", 502, words=PAGE),
    "garbage in its place": Fault("answer", 200, words=PAGE),
    "redirect in its place": Fault("answer", 302, words=PAGE),
    "413 in its place": Fault("answer", 413, words=PAGE),
    "cut inside the answer": Fault("cut_answer"),
    "cut inside the request": Fault("cut_request"),
    "too many parts": engine_error(252, "TOO_MANY_PARTS"),
    "memory limit": engine_error(241, "MEMORY_LIMIT_EXCEEDED"),
    "readonly": engine_error(164, "READONLY"),
    "table is read only": engine_error(242, "TABLE_IS_READ_ONLY"),
    "no space": engine_error(243, "NOT_ENOUGH_SPACE"),
    "timeout": engine_error(159, "TIMEOUT_EXCEEDED"),
    "no thread": engine_error(439, "CANNOT_SCHEDULE_TASK"),
    "no password": engine_error(516, "AUTHENTICATION_FAILED"),
    "no grant": engine_error(497, "ACCESS_DENIED"),
    "no table": engine_error(60, "UNKNOWN_TABLE"),
    "a new code": engine_error(9999, "SOMETHING_NEW"),
}


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


@pytest.fixture
def wired(tmp_path: Path, server: Server, proxy: FaultProxy) -> Iterator[Service]:
    opened = open_service(
        tmp_path / "data",
        store=server.url(proxy.port),
        store_backoff_seconds=0.1,
        store_answer_seconds=1,
        limit_person_per_minute=0,
    )
    yield opened
    proxy.mend()
    opened.services.close()


def until(what: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


def metric(service: Service, name: str) -> float:
    text = service.request("GET", "/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def events(count: int) -> list[dict[str, Any]]:
    return [wire_event(user_id=f"u{i % 5}", session_id=f"s{i % 3}") for i in range(count)]


def assert_exact(service: Service, count: int) -> None:
    assert service.rows("SELECT count(), uniqExact(project, event_id) FROM analytics.events") == [[count, count]]
    assert service.rows("SELECT sum(event_count) FROM analytics.events_hourly") == [[count]]
    assert service.rows("SELECT sum(event_count) FROM analytics.events_daily") == [[count]]
    assert service.rows("SELECT sum(links) FROM analytics.identities") == [[count]]
    assert compare(service.services.store) == []  # every rollup, cell by cell
    state = service.get("/api/analytics/pipeline").json()
    assert state["balance"]["holds"]
    assert (state["in_spool"], state["quarantined"], state["lag_seconds"]) == (0, 0, 0)


def assert_recovered(service: Service) -> None:
    loader = service.services.loader
    until(lambda: loader.breaker.state is State.CLOSED and not loader.last_error)
    assert service.get("/readyz").json()["store"]["state"] == "loading"
    assert metric(service, "twintrack_load_breaker_open ") == 0


@pytest.mark.parametrize("name", INSERT_FAULTS)
def test_fault_of_inserts_loses_and_doubles_nothing(wired: Service, proxy: FaultProxy, name: str) -> None:
    wired.send(events(20))
    wired.settle()
    fault = proxy.inserts = INSERT_FAULTS[name]
    wired.send(events(30))
    wired.send(events(1))
    wired.send(events(19))
    kind = fault.kind if fault.code is None else str(fault.code)
    until(lambda: proxy.met[kind] >= (1 if name == "slow" else 2))
    if name != "slow":
        until(lambda: metric(wired, "twintrack_load_lag_seconds ") > 0.05)
        assert metric(wired, "twintrack_spool_events ") >= 1
        state = wired.get("/api/analytics/pipeline").json()
        assert state["lag_seconds"] > 0
        assert not state["store"]["ok"]
        assert state["balance"]["holds"]
        said = str(state["store"])
        assert "ann@example.com" not in said and "127.0.0.1" not in said
        if fault.code is not None:
            assert f"({fault.code})" in state["store"]["error"]
    proxy.mend()
    assert_exact(wired, 70)
    assert_recovered(wired)


def test_store_that_refuses_connections_is_left_alone_and_caught_up_with(wired: Service, proxy: FaultProxy) -> None:
    wired.send(events(10))
    wired.settle()
    proxy.refuse()
    sent = 0
    for _ in range(40):
        wired.send(events(25))
        sent += 25
    loader = wired.services.loader
    until(lambda: loader.breaker.failures >= 3)
    assert "cannot be reached" in loader.last_error
    assert wired.get("/readyz").status_code == 200
    assert metric(wired, "twintrack_load_breaker_open ") == 1
    assert wired.sql("SELECT count() FROM events").status_code == 503
    # Nothing small is frozen meanwhile: the way back is a few large inserts, not one for each pause.
    waiting = len(wired.services.spool.pending())
    proxy.listen()
    before = proxy.met["pass"]
    assert_exact(wired, 10 + sent)
    assert_recovered(wired)
    assert waiting <= 2
    assert proxy.met["pass"] - before < 60


def test_hanging_store_at_the_start_delays_no_door(tmp_path: Path, server: Server, proxy: FaultProxy) -> None:
    proxy.inserts = proxy.others = Fault("hang")
    service = open_service(
        tmp_path / "data",
        store=server.url(proxy.port),
        store_backoff_seconds=0.1,
        store_answer_seconds=1,
        limit_person_per_minute=0,
    )
    try:
        started = time.monotonic()
        service.send(events(5))
        assert time.monotonic() - started < 0.9
        assert service.get("/readyz").status_code == 200
        proxy.mend()
        assert_exact(service, 5)
    finally:
        proxy.mend()
        service.services.close()


def test_full_spool_answers_503_with_retry_after_until_the_store_is_back(
    tmp_path: Path, server: Server, proxy: FaultProxy
) -> None:
    service = open_service(
        tmp_path / "data",
        store=server.url(proxy.port),
        store_backoff_seconds=0.1,
        spool_bytes=1 << 20,
        segment_bytes=1 << 18,
        chunk_rows=500,
    )
    try:
        proxy.inserts = engine_error(243, "NOT_ENOUGH_SPACE")
        kept = 0
        for _ in range(200):
            answer = service.request(
                "POST", "/api/analytics/events", json=events(100), headers={"X-Write-Key": service.write_key}
            )
            if answer.status_code == 503:
                break
            kept += answer.json()["accepted"]
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "TWINTRACK_SPOOL_BYTES" in answer.json()["error"]["message"]
        assert service.get("/readyz").status_code == 503
        assert service.services.spool.depth().bytes < 3 << 20
        proxy.mend()
        assert_exact(service, kept)
        service.send(events(1))
        assert_exact(service, kept + 1)
    finally:
        proxy.mend()
        service.services.close()


def test_wire_that_fails_at_random_under_load_keeps_each_event_once(wired: Service, proxy: FaultProxy) -> None:
    import random

    source, sent, stopping = random.Random(11), 0, False

    def spoil() -> None:
        while not stopping:
            proxy.inserts = source.choice([*INSERT_FAULTS.values()][2:])
            time.sleep(0.05)
            proxy.mend()
            time.sleep(0.05)

    def faults_met() -> int:
        return sum(proxy.met.values()) - proxy.met["pass"]

    with ThreadPoolExecutor(1) as one:
        spoiling = one.submit(spoil)
        end = time.monotonic() + PATIENCE_SECONDS
        while faults_met() <= 10 and time.monotonic() < end:
            wired.send(events(20))
            sent += 20
        stopping = True
        spoiling.result()
    proxy.mend()
    assert faults_met() > 10
    assert_exact(wired, sent)
    assert_recovered(wired)


@pytest.mark.parametrize("fault", [Fault("answer", 200, words=PAGE), Fault("cut_answer"), Fault("hang")], ids=str)
def test_question_over_a_broken_wire_answers_503_and_the_next_one_is_right(
    wired: Service, proxy: FaultProxy, fault: Fault
) -> None:
    wired.send(events(3))
    wired.settle()
    proxy.others = fault
    answer = wired.sql("SELECT count() FROM events")
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text and str(proxy.port) not in answer.text
    proxy.mend()
    assert wired.sql("SELECT count() FROM events").json()["rows"] == [[3]]
