"""Every stage and every limit moves its number; what people send never makes a new series."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Service, open_service
from twintrack.metrics import LIMITS, LOAD_STEPS, STAGES, TIMEOUTS, Metrics, Step
from twintrack.testing import uuid7, wire_event

PATH = "/api/analytics/events"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    limits = {"limit_person_per_minute": 6, "limit_person_burst": 5, "limit_key_per_minute": 60, "limit_key_burst": 50}
    addresses = {"limit_address_per_minute": 60, "limit_address_burst": 40, "trusted_proxies": "127.0.0.0/8"}
    opened = open_service(tmp_path / "data", ingest_buffer_bytes=1 << 20, body_bytes=64 << 10, inflated_bytes=256 << 10,
                          **limits, **addresses)  # fmt: skip
    yield opened
    opened.services.close()


def numbers(service: Service) -> dict[str, float]:
    """Every sample of /metrics by name and labels."""
    text = service.request("GET", "/metrics").text
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True) if sample.labels else ''}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_stage_of_a_request_and_step_of_a_chunk_is_timed_once(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    seen = numbers(service)
    for stage in STAGES:
        assert seen[f'twintrack_ingest_stage_seconds_count{{"stage": "{stage}"}}'] == 1, stage
    for step in ("freeze", "insert", "settle"):
        assert seen[f'twintrack_load_step_seconds_count{{"step": "{step}"}}'] == 1, step
    for name in ("twintrack_ingest_acknowledge_seconds_count", "twintrack_spool_sync_seconds_count"):
        assert seen[name] == 1, name
    assert seen["twintrack_spool_index_entries"] == 1 and seen["twintrack_spool_index_bytes"] > 0


def test_look_up_of_an_old_id_is_timed(service: Service) -> None:
    service.send([wire_event(event_id=uuid7(1_500_000_000_000))])
    service.settle()
    assert numbers(service)['twintrack_load_step_seconds_count{"step": "lookup"}'] == 1


def test_event_whose_texts_could_not_be_masked_is_counted(service: Service) -> None:
    name = "twintrack_ingest_unmasked_events_total"
    service.send([wire_event(event_metadata={"note": "ann@example.org"})])
    assert numbers(service)[name] == 0
    colliding = {"[EMAIL].q": 1, "a@b.co": {"q": 2}}
    assert service.send([wire_event(event_metadata=colliding), wire_event()])["accepted"] == 2
    assert numbers(service)[name] == 1


def test_stage_that_is_not_reached_is_not_timed(service: Service) -> None:
    service.request("POST", PATH, content=b"no events", headers={"X-Write-Key": service.write_key})
    seen = numbers(service)
    counts = [seen[f'twintrack_ingest_stage_seconds_count{{"stage": "{stage}"}}'] for stage in STAGES]
    assert counts == [1, 1, 0, 0, 0, 1]
    assert seen['twintrack_ingest_refused_requests_total{"code": "no_events"}'] == 1
    assert seen['twintrack_ingest_requests_total{"status": "400"}'] == 1


def test_every_limit_counts_what_it_turns_away(service: Service) -> None:
    def limited(name: str) -> float:
        return numbers(service)[f'twintrack_ingest_limited_total{{"limit": "{name}"}}']

    def post(events: int, address: str) -> int:
        body = json.dumps([wire_event(user_id=f"{uuid7()}") for _ in range(events)])
        headers = {"X-Write-Key": service.write_key, "X-Forwarded-For": address}
        return service.request("POST", PATH, content=body, headers=headers).status_code

    assert [limited(name) for name in LIMITS] == [0] * len(LIMITS)
    assert service.send([wire_event(user_id="ann") for _ in range(9)])["retry"] == 4
    assert limited("person") == 4
    assert [post(45, "203.0.113.1"), limited("key")] == [429, 1]
    assert [post(0, "203.0.113.2") for _ in range(41)][-1] == 429
    assert limited("address") == 1
    receiver = service.services.receiver
    receiver.waiting = service.services.settings.ingest_concurrency
    assert [post(1, "203.0.113.3"), limited("requests")] == [503, 1]
    receiver.waiting = 0
    receiver.buffer.held = 1 << 20
    assert [post(1, "203.0.113.3"), limited("buffer")] == [503, 1]


def test_limits_of_size_are_counted_by_the_code_of_the_refusal(service: Service) -> None:
    packed = gzip.compress(b" " * (300 << 10))
    large: list[tuple[bytes, dict[str, str], str]] = [
        (b" " * (65 << 10), {}, "(body_bytes)"),
        (packed, {"Content-Encoding": "gzip"}, "(inflated_bytes)"),
    ]
    for times, (body, more, limit) in enumerate(large, 1):
        answer = service.request("POST", PATH, content=body, headers={"X-Write-Key": service.write_key, **more})
        assert answer.status_code == 413 and limit in answer.json()["error"]["message"]
        assert numbers(service)['twintrack_ingest_refused_requests_total{"code": "body_too_large"}'] == times
    service.send([wire_event(thread_id="x" * 5000)])
    assert numbers(service)['twintrack_ingest_events_total{"reason": "too_long", "status": "rejected"}'] == 1


def test_nothing_that_is_sent_makes_a_new_series(service: Service) -> None:
    def odd(word: str) -> None:
        head = {"X-Write-Key": service.write_key, "User-Agent": word}
        service.send(
            [wire_event(event_name=word, user_id=word, **{word: word}), wire_event(event_name="", user_id=word)]
        )
        for more in ({"Content-Encoding": word}, {"Content-Type": word}, {"X-Write-Key": word}, {"Origin": word}):
            service.request("POST", f"{PATH}?{word}", content=word.encode(), headers={**head, **more})
        service.get(f"/api/analytics/{word}")
        service.sql(f"SELECT {word}")

    odd("first")
    service.settle()
    before = set(numbers(service))
    for index in range(4):
        odd(f"word{index}")
    service.settle()
    assert set(numbers(service)) == before


def test_pipeline_answers_p95_of_every_step(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    steps = service.get("/api/analytics/pipeline").json()["latency_seconds"]["steps"]
    assert {*STAGES, "freeze", "insert", "settle"} <= set(steps)
    assert all(step["p50"] <= step["p95"] <= step["p99"] for step in steps.values())


def test_names_carry_their_part_and_their_unit() -> None:
    metrics = Metrics()
    for metric in metrics.registry.collect():
        assert re.fullmatch(r"twintrack_(ingest|http|sdk|spool|load|store|query|audit|access)_[a-z_]+", metric.name), (
            metric.name
        )
        assert metric.type != "histogram" or metric.name.endswith(("_seconds", "_events"))
        assert metric.documentation.endswith(".")
    closed = {"stage": STAGES, "step": LOAD_STEPS, "limit": LIMITS, "kind": TIMEOUTS}
    assert all(len(set(values)) == len(values) for values in closed.values())


def test_step_counts_into_the_first_bucket_that_holds_it() -> None:
    step = Step((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        step.observe(seconds)
    assert step.buckets() == [(0.1, 2.0), (1.0, 3.0), (float("inf"), 4.0)]
    assert step.total == pytest.approx(7.65)
