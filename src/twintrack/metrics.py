"""Every metric, declared once: name, unit, labels. Labels never hold ids of people or events."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One registry per application, so that two applications in a process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "twintrack_ingest_events",
            "Events answered at the door, by status and reason.",
            ["status", "reason"],
            registry=self.registry,
        )
        self.unknown_fields = Counter(
            "twintrack_ingest_unknown_fields",
            "Event fields that the contract does not know; they are ignored.",
            registry=self.registry,
        )
        self.acknowledge_seconds = Histogram(
            "twintrack_ingest_acknowledge_seconds",
            "From the last byte of a request to its durable answer.",
            buckets=_LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.group_events = Histogram(
            "twintrack_spool_group_events",
            "Events that shared one sync of the log.",
            buckets=(1, 10, 100, 1000, 10_000),
            registry=self.registry,
        )
        self.in_spool = Gauge(
            "twintrack_spool_events", "Accepted events that are not in the store yet.", registry=self.registry
        )
        self.lag_seconds = Gauge(
            "twintrack_load_lag_seconds",
            "Age of the oldest accepted event that cannot be queried yet.",
            registry=self.registry,
        )
        self.loaded = Counter(
            "twintrack_load_rows", "Rows inserted into the store, by table.", ["table"], registry=self.registry
        )
        self.breaker_open = Gauge(
            "twintrack_load_breaker_open",
            "1 while the store is left alone after a failure, 0 while chunks are loaded.",
            registry=self.registry,
        )
        self.load_errors = Counter(
            "twintrack_load_errors", "Inserts that failed, by kind.", ["kind"], registry=self.registry
        )
