"""OpenTelemetry spans: one for each request of ingest with a child for each stage, one for each chunk that is loaded.

Needs `twintrack[otel]` and an endpoint in the standard `OTEL_*` variables, which the SDK reads by itself. Spans are
made after the fact from the times that are taken anyway, so a service without them pays nothing. Attributes are
counts, bytes and ids of our own: no contents, no keys, no addresses.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twintrack import __version__
from twintrack.clock import Clock
from twintrack.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from twintrack.ingest.visit import Visit

Step = tuple[str, float, float]  # name, start and end in monotonic seconds


class Loaded(NamedTuple):
    """A chunk that was loaded, or was not."""

    chunk_id: str
    table: str
    rows: int
    failed: str  # code of the error, empty where it went well


class Spans:
    def __init__(self, provider: "TracerProvider", clock: Clock) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._clock = provider, clock
        self._tracer = provider.get_tracer("twintrack", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def request(self, visit: "Visit", status: int, stages: Sequence[Step], ended: float) -> None:
        """One request, under the caller's span where it sent a `traceparent`."""
        carrier = {name: visit.header(name.encode()) for name in ("traceparent", "tracestate")}
        attributes: dict[str, Any] = {
            "http.request.method": "POST",
            "http.route": "/api/analytics/events",
            "http.response.status_code": status,
            "twintrack.request": visit.request_id,
            "twintrack.body_bytes": visit.body_bytes,
            "twintrack.inflated_bytes": visit.inflated_bytes,
            **{f"twintrack.{name}": number for name, number in visit.counts.items()},
        }
        if visit.tenancy is not None:
            attributes |= {
                "twintrack.project": visit.tenancy.project,
                "twintrack.environment": visit.tenancy.environment,
            }
        if visit.code:
            attributes["error.type"] = visit.code
        parent = self._propagator.extract(carrier) if carrier["traceparent"] else None
        self._tell("ingest", visit.started, ended, stages, attributes, failed=status >= 500, parent=parent, server=True)

    def chunk(self, loaded: Loaded, steps: Sequence[Step]) -> None:
        attributes: dict[str, Any] = {
            "twintrack.chunk": loaded.chunk_id,
            "twintrack.table": loaded.table,
            "twintrack.rows": loaded.rows,
        }
        if loaded.failed:
            attributes["error.type"] = loaded.failed
        self._tell("load", steps[0][1], steps[-1][2], steps, attributes, failed=bool(loaded.failed))

    def close(self) -> None:
        """Sends what waits."""
        self._provider.shutdown()

    def _tell(
        self,
        name: str,
        started: float,
        ended: float,
        steps: Sequence[Step],
        attributes: dict[str, Any],
        *,
        failed: bool,
        parent: Any = None,
        server: bool = False,
    ) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        # Monotonic seconds have no meaning outside; what happened is placed by how long ago it was.
        epoch = self._clock.milliseconds() * 1_000_000 - int(self._clock.monotonic_seconds() * 1e9)

        def nanoseconds(moment: float) -> int:
            return epoch + int(moment * 1e9)

        kind = SpanKind.SERVER if server else SpanKind.INTERNAL
        span: Span = self._tracer.start_span(name, parent, kind, attributes, start_time=nanoseconds(started))
        if span.is_recording():
            if failed:
                span.set_status(StatusCode.ERROR)
            inside = set_span_in_context(span)
            for step, start, end in steps:
                self._tracer.start_span(f"{name}.{step}", inside, start_time=nanoseconds(start)).end(nanoseconds(end))
        span.end(nanoseconds(ended))


def exported_spans(clock: Clock) -> Spans:
    """Spans that go out by OTLP, to where the `OTEL_*` variables say.

    Raises: SettingsError without `twintrack[otel]`.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "TWINTRACK_SPANS needs OpenTelemetry's SDK", hint="install `twintrack[otel]`, or leave the setting out"
        ) from error
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "twintrack"}))  # OTEL_SERVICE_NAME goes first
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider, clock)
