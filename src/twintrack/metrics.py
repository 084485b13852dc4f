"""Every metric, declared once: name, unit, labels, help, and what to watch it for.

Labels come from closed lists (a stage, a status, a reason), never from what is sent: the number of series is fixed.
Children with labels are looked up once, here or by their user at its start, not for each request.
`docs/reference/metrics.md` is generated from this class.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from twintrack.outcomes import Reason, Status

_LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_STEP_BUCKETS_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_CALL_BUCKETS_SECONDS = (0.000025, 0.00005, 0.0001, 0.00015, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05)
_LONG_BUCKETS_SECONDS = (0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
# What can become of a receipt; `malformed` and `too_many` are told by the decoder, `killed` by the switch.
RECEIPTS = ("accepted", "killed", "malformed", "too_many", "unknown_vendor", "unknown_status", "impossible_time")
STAGES = ("body", "inflate", "decode", "prepare", "append", "answer")
# What a page counts of its events; `tracked` stands first, since the cost of an event is told by it.
SDK_STATES = (
    "tracked", "queued", "held", "sent", "retried", "rejected", "excluded", "refused", "dropped", "discarded",
    "recovered", "elsewhere",
)  # fmt: skip
SDK_STORAGES = ("disk", "memory", "unknown")
LOAD_STEPS = ("freeze", "lookup", "insert", "settle")
LIMITS = ("person", "key", "address", "requests", "buffer")
TIMEOUTS = ("head", "body", "idle", "write")


class Step:
    """A histogram for one thread: a tenth of the cost of a locked one, and it is asked several times a request."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = list(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[float, float]]:
        """(upper bound, observations up to it), the last one without a bound."""
        return list(zip([*self.bounds, float("inf")], accumulate(map(float, self.counts)), strict=True))


class _Steps(Collector):
    """The steps of one name as Prometheus reads them."""

    def __init__(self, name: str, help: str, steps: dict[str, Step], label: str | None) -> None:
        self._name, self._help, self._steps, self._label = name, help, steps, label

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label] if self._label else None)
        for name, step in self._steps.items():
            buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in step.buckets()]
            family.add_metric([name] if self._label else [], buckets, step.total)
        yield family


class Metrics:
    """One registry per application, so that two applications in a process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.watch: dict[str, str] = {}  # metric name to what to be told about
        self.labels: dict[str, list[str]] = {}

        # -- the door
        self.requests = self._counter(
            "twintrack_ingest_requests",
            "Requests to POST /api/analytics/events, by the status they were answered with.",
            "a share of 5xx above 1 % for 5 minutes; any steady 401 (a revoked key is still in use)",
            ["status"],
        )
        self.refused_requests = self._counter(
            "twintrack_ingest_refused_requests",
            "Requests that were refused whole, by the code of the error.",
            "body_too_large or unknown_key rising: a client is set up wrongly",
            ["code"],
        )
        self.body_bytes = self._counter("twintrack_ingest_body_bytes", "Bytes of bodies as they were sent.")
        self.inflated_bytes = self._counter("twintrack_ingest_inflated_bytes", "Bytes of bodies after inflation.")
        self.stages = self._steps(
            "twintrack_ingest_stage_seconds",
            "Time of one request in one stage. body: until its last byte is here; prepare: validate, enrich and mask; "
            "append: until it is durable.",
            "p95 of append above 50 ms (the disk is slow); p95 of prepare above 20 ms (batches are huge)",
            _STEP_BUCKETS_SECONDS,
            "stage",
            STAGES,
        )
        self.acknowledge_seconds = self._steps(
            "twintrack_ingest_acknowledge_seconds",
            "From the last byte of a request to its durable answer.",
            "p95 above 50 ms or p99 above 250 ms for 10 minutes",
            _LATENCY_BUCKETS_SECONDS,
            None,
            ("",),
        )[""]
        self.events = self._counter(
            "twintrack_ingest_events",
            "Events answered at the door, by status and reason.",
            "rejected above 1 % of accepted (a release sends events the contract does not know)",
            ["status", "reason"],
        )
        self.unmasked = self._counter(
            "twintrack_ingest_unmasked_events",
            "Events that could not be masked: kept without any text or identifier, under the name masking_failed.",
            "at all: report it as a bug, or mend the custom rule that fails",
            [],
        )
        self.masking_reloads = self._counter(
            "twintrack_ingest_masking_rules_reloads",
            "Changes of the masking rules file that were seen, by what became of them: loaded or refused.",
            "refused at all: the file is broken or gone, and the rules from before it stay in force",
            ["result"],
        )
        self.person_key_changes = self._counter(
            "twintrack_ingest_person_keys",
            "Keys of people that were made for the first text that needs one, and destroyed by an erasure.",
            "made about as often as events: ids of people are not kept by their browsers",
            ["change"],
        )
        self.masking_rules_refused = self._gauge(
            "twintrack_ingest_masking_rules_refused",
            "1 while the masking rules file is not what is in force.",
            "1 for a minute: `twintrack doctor` says what is wrong with the file",
        )
        self.unknown_fields = self._counter(
            "twintrack_ingest_unknown_fields",
            "Event fields that the contract does not know; they are ignored.",
            "a sudden rise: a sender has a newer contract than this server",
        )
        self.received_receipts = self._counter(
            "twintrack_ingest_receipts",
            "What vendors did with events, as browsers told it, by whether it was taken or what was wrong with it.",
            "anything but accepted and killed (a sender has another contract than this server, or its clock is far off)",
            ["result"],
        )
        self.limited = self._counter(
            "twintrack_ingest_limited",
            "What a limit turned away: events for person, requests for key, address, requests and buffer.",
            "requests or buffer at all (overload: add capacity); person rising with one release (a loop sends events)",
            ["limit"],
        )
        self.limit_store_errors = self._counter(
            "twintrack_ingest_limit_store_errors",
            "Times the shared store of the limits did not answer; the request went on unlimited.",
            "any: Redis is away, and nobody is limited",
        )
        self.buffer_bytes = self._gauge(
            "twintrack_ingest_buffer_bytes",
            "Bytes of bodies held now, as they arrive and inflated.",
            "above 70 % of TWINTRACK_INGEST_BUFFER_BYTES for a minute",
        )
        self.waiting_requests = self._gauge(
            "twintrack_ingest_waiting_requests", "Requests whose bodies are here and which are not answered yet."
        )
        self.connections = self._gauge(
            "twintrack_http_connections",
            "Open connections.",
            "above 80 % of TWINTRACK_MOST_CONNECTIONS",
        )
        self.refused_connections = self._counter(
            "twintrack_http_refused_connections",
            "Connections answered 503 and closed because there were too many.",
            "any",
        )
        self.timeouts = self._counter(
            "twintrack_http_timeouts",
            "Connections ended because the other side was too slow, by what it was slow with.",
            "head or body rising: slow networks, or somebody holds connections open on purpose",
            ["kind"],
        )

        # -- browsers, as they tell it: anyone with a write key can say anything, so nothing is decided by it
        self.sdk_events = self._counter(
            "twintrack_sdk_events",
            "Events in browsers by what became of them, as their SDK tells in its batches. A page that another node, or "
            "this one before a restart, heard of counts from its start again.",
            "dropped or refused at all (a page's queue was full, or its storage); retried above 10 % of sent",
            ["state"],
        )
        self.sdk_pages = self._counter(
            "twintrack_sdk_pages",
            "Loads of pages heard of, by where their SDK keeps what waits.",
            "memory rising: storage is blocked, and events die with their page",
            ["storage"],
        )
        self.sdk_blocked_pages = self._counter(
            "twintrack_sdk_blocked_pages",
            "Loads of pages whose SDK got no answer of ours at its endpoint, heard of once something came through.",
            "rising: a content blocker knows the endpoint, or what stands before us does not pass it on; see "
            "docs/operations/rollout.md, sizes and places",
        )
        self.sdk_main_thread_seconds = self._histogram(
            "twintrack_sdk_main_thread_seconds",
            "Main thread time of one event in a page, its part of sending included, between two batches.",
            "p95 above 0.001 s: the SDK costs its pages too much",
            _CALL_BUCKETS_SECONDS,
        )

        # -- the spool
        self.group_events = self._histogram(
            "twintrack_spool_group_events",
            "Events that shared one sync of the log.",
            buckets=(1, 10, 100, 1000, 10_000),
        )
        self.sync_seconds = self._histogram(
            "twintrack_spool_sync_seconds",
            "Time to write one group to the log and sync it.",
            "p95 above 50 ms: the disk is slow or shared",
        )
        self.in_spool = self._gauge(
            "twintrack_spool_events",
            "Accepted events that are not in the store yet.",
            "rising for 10 minutes: the store takes less than comes in",
        )
        self.log_bytes = self._gauge("twintrack_spool_log_bytes", "Bytes of the log that are not frozen into chunks.")
        self.chunk_bytes = self._gauge(
            "twintrack_spool_chunk_bytes",
            "Bytes of chunks that wait for the store.",
            "log and chunks above 70 % of TWINTRACK_SPOOL_BYTES: at 100 % events are refused with 503",
        )
        self.quarantine_bytes = self._gauge(
            "twintrack_spool_quarantine_bytes",
            "Bytes of rows that the store refuses.",
            "above 0: see `twintrack doctor`, mend the cause, then `twintrack replay`",
        )
        self.index_entries = self._gauge("twintrack_spool_index_entries", "Event ids that the door remembers.")
        self.index_bytes = self._gauge(
            "twintrack_spool_index_bytes",
            "Bytes of the index of event ids.",
            "above 90 % of TWINTRACK_INDEX_BYTES: beyond it ids are looked up in the store, which is slower",
        )

        # -- the loader
        self.lag_seconds = self._gauge(
            "twintrack_load_lag_seconds",
            "Age of the oldest accepted event that cannot be queried yet.",
            "above 60 s: the store is away or behind",
        )
        self.loaded = self._counter(
            "twintrack_load_rows",
            "Rows inserted into the store, by table.",
            "0 for 10 minutes while events come",
            ["table"],
        )
        self.load_steps = self._steps(
            "twintrack_load_step_seconds",
            "Time of one step of one chunk. freeze: from log to chunk files; lookup: asking the store for old ids.",
            "p95 of insert above 5 s: the store is overloaded",
            _LONG_BUCKETS_SECONDS,
            "step",
            LOAD_STEPS,
        )
        self.load_errors = self._counter(
            "twintrack_load_errors",
            "Inserts that failed, by the code of the error.",
            "store_refused_data at all (rows go to quarantine); store_unavailable for 5 minutes",
            ["kind"],
        )
        self.breaker_open = self._gauge(
            "twintrack_load_breaker_open",
            "1 while the store is left alone after a failure, 0 while chunks are loaded.",
            "1 for 5 minutes",
        )
        self.engine_deaths = self._counter(
            "twintrack_store_engine_deaths",
            "Times the embedded engine's process ended by itself and was started again.",
            "any: see the log for `engine_died`",
        )

        # -- questions
        self.queries = self._counter(
            "twintrack_query_requests",
            "Questions to the store, by how they ended: ok, or the code of the error.",
            "store_unavailable at all",
            ["result"],
        )
        self.query_seconds = self._histogram(
            "twintrack_query_seconds",
            "Time of one question, waiting for its turn included.",
            "p95 above 5 s",
            _LONG_BUCKETS_SECONDS,
        )

        # -- the audit log
        self.audit_sequence = self._gauge(
            "twintrack_audit_sequence",
            "Sequence of the last audit record on disk: how many there are.",
            "keep it, with the next one, outside of this machine: `twintrack audit verify --head SEQUENCE:NUMBER`",
        )
        self.audit_head = self._gauge(
            "twintrack_audit_head_number",
            "The first 48 bits of that record's hash, as a number.",
            "a sequence that goes back, or another number at the same sequence",
        )
        self.audit_failures = self._gauge(
            "twintrack_audit_failed_records",
            "Audit records since the start that the disk did not take.",
            "any: reads of data and changes are refused meanwhile",
        )

        # -- access
        self.access_refused = self._counter(
            "twintrack_access_refused",
            "Requests of readers that were refused, by why. slowed: somebody guesses and must wait.",
            "slowed or wrong_password rising: somebody guesses; foreign_address at all: a key is used from elsewhere",
            ["reason"],
        )
        self.key_set_errors = self._counter(
            "twintrack_access_key_set_errors",
            "Times the key set of user tokens (TWINTRACK_JWT_KEYS) could not be read.",
            "rising for 10 minutes: after an hour its tokens verify nobody",
        )

        self.receipts = {result: self.received_receipts.labels(result) for result in RECEIPTS}
        self.sdk_events_by = {state: self.sdk_events.labels(state) for state in SDK_STATES}
        self.sdk_pages_by = {storage: self.sdk_pages.labels(storage) for storage in SDK_STORAGES}
        self.person_keys = {change: self.person_key_changes.labels(change) for change in ("made", "destroyed")}
        self.limits = {limit: self.limited.labels(limit) for limit in LIMITS}
        self.timed_out = {kind: self.timeouts.labels(kind) for kind in TIMEOUTS}
        self.by_verdict: dict[tuple[str, str], Counter] = {
            (Status.ACCEPTED, ""): self.events.labels(Status.ACCEPTED, "")
        }
        self._by_status: dict[int, Counter] = {}

    def answered(self, status: int) -> None:
        """Counts one request."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self.requests.labels(str(status))
        counter.inc()

    def verdict(self, status: Status, reason: Reason | str, events: int) -> None:
        """Counts events that were answered alike."""
        counter = self.by_verdict.get((status, reason))
        if counter is None:
            counter = self.by_verdict[status, reason] = self.events.labels(status, reason)
        counter.inc(events)

    def _steps(
        self, name: str, help: str, watch: str, buckets: Sequence[float], label: str | None, values: Sequence[str]
    ) -> dict[str, Step]:
        self.watch[name], self.labels[name] = watch, [label] if label else []
        steps = {value: Step(buckets) for value in values}
        self.registry.register(_Steps(name, help, steps, label))
        return steps

    def _counter(self, name: str, help: str, watch: str = "", labels: Sequence[str] = ()) -> Counter:
        self.watch[name], self.labels[name] = watch, list(labels)
        return Counter(name, help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, watch: str = "") -> Gauge:
        self.watch[name], self.labels[name] = watch, []
        return Gauge(name, help, registry=self.registry)

    def _histogram(
        self,
        name: str,
        help: str,
        watch: str = "",
        buckets: Sequence[float] = _LATENCY_BUCKETS_SECONDS,
        labels: Sequence[str] = (),
    ) -> Histogram:
        self.watch[name], self.labels[name] = watch, list(labels)
        return Histogram(name, help, labels, buckets=buckets, registry=self.registry)
