"""Spans of a real pipeline, kept in memory by OpenTelemetry's own exporter."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.conftest import Service, _keys
from twintrack.app import build
from twintrack.clock import SystemClock
from twintrack.metrics import STAGES
from twintrack.settings import load_settings
from twintrack.spans import Loaded, Spans
from twintrack.testing import ManualClock, wire_event

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CANARY = "quetzal"


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(tmp_path: Path, kept: InMemorySpanExporter) -> Iterator[Service]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    clock = SystemClock()
    settings = load_settings(data=tmp_path / "data", chunk_age_milliseconds=20)
    services = build(settings, clock, Spans(provider, clock))
    try:
        yield Service(services, *_keys(services, "demo"))
    finally:
        services.close()


def named(kept: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in kept.get_finished_spans() if span.name == name]


def test_request_is_a_span_under_its_caller_with_a_child_for_each_stage(
    traced: Service, kept: InMemorySpanExporter
) -> None:
    traced.send([wire_event(), wire_event(event_name="")], traceparent=f"00-{TRACE}-{CALLER}-01")
    (request,) = named(kept, "ingest")
    assert request.kind is SpanKind.SERVER and request.attributes is not None
    assert request.context.trace_id == int(TRACE, 16)
    assert request.parent is not None and request.parent.span_id == int(CALLER, 16)
    assert request.attributes["http.response.status_code"] == 200
    assert (request.attributes["twintrack.accepted"], request.attributes["twintrack.rejected"]) == (1, 1)
    children = [
        s for s in kept.get_finished_spans() if s.parent is not None and s.parent.span_id == request.context.span_id
    ]
    assert [child.name for child in children] == [f"ingest.{stage}" for stage in STAGES]
    assert request.start_time is not None and request.end_time is not None
    ends = [request.start_time]
    for child in children:
        assert child.start_time is not None and child.end_time is not None
        assert abs(child.start_time - ends[-1]) < 1000 and child.end_time >= child.start_time
        ends.append(child.end_time)
    assert abs(ends[-1] - request.end_time) < 1000


def test_request_without_a_caller_begins_a_trace_and_a_refused_one_names_its_error(
    traced: Service, kept: InMemorySpanExporter
) -> None:
    traced.request("POST", "/api/analytics/events", content=b"[]", headers={"X-Write-Key": "nobody"})
    (request,) = named(kept, "ingest")
    assert request.parent is None and request.attributes is not None
    assert (request.attributes["http.response.status_code"], request.attributes["error.type"]) == (401, "unknown_key")
    assert request.status.status_code is StatusCode.UNSET  # the caller's fault is no error of ours


def test_chunk_is_a_span_with_its_steps(traced: Service, kept: InMemorySpanExporter) -> None:
    traced.send([wire_event() for _ in range(3)])
    traced.settle()
    traced.services.loader.stop()  # its last span ends behind what can be seen from outside
    (chunk,) = named(kept, "load")
    assert chunk.attributes is not None
    assert (chunk.attributes["twintrack.table"], chunk.attributes["twintrack.rows"]) == ("events", 3)
    assert [len(named(kept, f"load.{step}")) for step in ("insert", "settle")] == [1, 1]


def test_failed_chunk_is_an_error_with_its_code(kept: InMemorySpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    spans = Spans(provider, ManualClock())
    spans.chunk(Loaded("c", "events", 3, "store_unavailable"), [("insert", 1.0, 2.5)])
    (chunk,) = named(kept, "load")
    assert chunk.status.status_code is StatusCode.ERROR and chunk.attributes is not None
    assert chunk.attributes["error.type"] == "store_unavailable"
    assert chunk.end_time is not None and chunk.start_time is not None
    assert chunk.end_time - chunk.start_time == 1_500_000_000


def test_spans_hold_no_contents_no_keys_and_no_addresses(traced: Service, kept: InMemorySpanExporter) -> None:
    texts = ("event_name", "user_id", "anonymous_id", "session_id", "message_content", "thread_id")
    event = wire_event(**{name: f"{CANARY} {name}" for name in texts}, event_metadata={CANARY: CANARY})
    traced.send({"events": [event], "batch_id": CANARY}, **{"User-Agent": CANARY, "X-Forwarded-For": "203.0.113.77"})
    traced.settle()
    traced.services.loader.stop()  # its last span ends behind what can be seen from outside
    told = "\n".join(span.to_json() for span in kept.get_finished_spans())
    assert "twintrack.accepted" in told
    for secret in (CANARY, "203.0.113.77", traced.write_key):
        assert secret not in told
