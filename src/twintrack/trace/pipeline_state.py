"""The state of the pipeline in numbers that add up: what came, what became of it, what is on its way."""

from typing import Any

from twintrack.clock import Clock, iso
from twintrack.event import Tenancy
from twintrack.load.loader import Loader
from twintrack.metrics import Metrics, Step
from twintrack.outcomes import Status
from twintrack.query.execute import Executor
from twintrack.spool.protocol import WholeSpool
from twintrack.store.schema import DATABASE

_GONE = ("expired", "erased", "quarantined", "damaged")
_MOST_IN_DOUBT = 1_000  # chunks; one that failed stands among the oldest
_ENDED = ("expired", "erased", "quarantined", "damaged")


def fates(spool: WholeSpool, tenancy: Tenancy | None) -> dict[tuple[str, str], int]:
    """Events by (outcome, reason), of one tenancy or of all."""
    found: dict[tuple[str, str], int] = {}
    for (project, environment, outcome, reason), events in spool.tallies().items():
        if tenancy is None or (project, environment) == tuple(tenancy):
            found[outcome, reason] = found.get((outcome, reason), 0) + events
    return found


def summarise(found: dict[tuple[str, str], int], stored_in_engine: int, in_spool: int) -> dict[str, Any]:
    """The terms of the balance. `difference` is what no term explains: 0, or something is wrong."""

    def total(outcome: str) -> int:
        return sum(events for (o, _), events in found.items() if o == outcome)

    looked_up = found.get(("duplicate", "found_in_store"), 0)
    at_door = {s.value: total(s.value) for s in Status}
    at_door["duplicate"] -= looked_up
    quarantined, damaged, erased, expired = (total(o) for o in ("quarantined", "damaged", "erased", "expired"))
    gone = looked_up + quarantined + damaged + erased + expired
    difference = at_door["accepted"] - gone - in_spool - stored_in_engine
    return {
        "received": sum(at_door.values()),
        **at_door,
        "accepted": at_door["accepted"] - looked_up,
        "duplicate": at_door["duplicate"] + looked_up,
        "reasons": [
            {"outcome": outcome, "reason": reason, "count": events}
            for (outcome, reason), events in sorted(found.items())
            if reason and events
        ],
        "in_spool": in_spool,
        "stored": stored_in_engine,
        "expired": expired,
        "quarantined": quarantined,
        "damaged": damaged,
        "erased": erased,
        "balance": {"holds": difference == 0, "difference": difference},
    }


async def pipeline_state(
    spool: WholeSpool,
    loader: Loader,
    executor: Executor,
    clock: Clock,
    metrics: Metrics,
    engine: str,
    tenancy: Tenancy | None,
    started_milliseconds: int,
) -> dict[str, Any]:
    """One consistent picture: where the loader moved rows while we counted, we count again."""
    where = "" if tenancy is None else " WHERE project = {project:String} AND environment = {environment:String}"
    parameters = {} if tenancy is None else tenancy._asdict()
    error = loader.last_error or None
    state: dict[str, Any] = {}
    for _ in range(5):
        before = fates(spool, tenancy)
        try:
            answer = await executor.run(f"SELECT count() FROM {DATABASE}.events{where}", parameters)
            stored = answer["rows"][0][0]
        except Exception as failure:
            error = error or str(failure)  # what the loader says names the cause and what to do
            state = summarise(before, before.get(("stored", ""), 0), _waiting(before))
            break
        state = summarise(before, stored, _waiting(before))
        for question in (in_doubt(spool, where), leaving(spool, where)):
            if question and not state["balance"]["holds"]:
                stored -= (await executor.run(question, parameters))["rows"][0][0]
                state = summarise(before, stored, _waiting(before))
        if not state["balance"]["holds"] and spool.erasing:
            # Rows go one part after another, and are counted at the end.
            state = summarise(before, before.get(("stored", ""), 0), _waiting(before))
        if state["balance"]["holds"]:
            break
    depth = spool.depth()
    now = clock.milliseconds()
    lag = 0.0 if depth.oldest_milliseconds is None else max(0.0, (now - depth.oldest_milliseconds) / 1000)
    metrics.in_spool.set(depth.events)
    metrics.lag_seconds.set(lag)
    return {
        "as_of": iso(now),
        **state,
        "erasing": spool.erasing,  # then rows leave the store that are counted as stored until all of them have
        "lag_seconds": round(lag, 3),
        "spool_bytes": depth.bytes,
        "store": {"engine": engine, "ok": error is None, **loader.condition(), "error": error},
        "latency_seconds": _latency(metrics),
        "started_at": iso(started_milliseconds),
    }


def in_doubt(spool: WholeSpool, where: str = "") -> str | None:
    """The question how many rows the store has and has not acknowledged; None where no chunk is in flight.

    An insert of theirs runs, or their chunk waits to be sent again after a failure or a kill. They are in the spool, and
    rollups may lack them."""
    ids = ", ".join(f"'{chunk.chunk_id}'" for chunk in spool.pending()[:_MOST_IN_DOUBT])
    clause = f"{where} AND" if where else " WHERE"
    return f"SELECT count() FROM {DATABASE}.events{clause} chunk_id IN ({ids})" if ids else None


def leaving(spool: WholeSpool, where: str = "") -> str | None:
    """The question how many rows the store still has that are counted as expired; None where there are none."""
    months = [
        f"(toYYYYMM(date) = {month} AND expires_at <= toDateTime({until}, 'UTC'))"
        for month, until in spool.removals.pending().items()
    ]
    clause = f"{where} AND" if where else " WHERE"
    return f"SELECT count() FROM {DATABASE}.events{clause} ({' OR '.join(months)})" if months else None


def _waiting(found: dict[tuple[str, str], int]) -> int:
    """Accepted and not settled, from the same counts as the rest."""
    return (
        found.get(("accepted", ""), 0)
        - found.get(("duplicate", "found_in_store"), 0)
        - found.get(("stored", ""), 0)
        - sum(events for (outcome, _), events in found.items() if outcome in _ENDED)
    )


def _latency(metrics: Metrics) -> dict[str, Any] | None:
    """To the durable answer, and of every step on the way to the store, where it was taken at all."""
    whole = quantiles(metrics.acknowledge_seconds)
    if whole is None:
        return None
    steps = [*metrics.stages.items(), *metrics.load_steps.items()]
    return {**whole, "steps": {name: found for name, step in steps if (found := quantiles(step)) is not None}}


def quantiles(step: Step) -> dict[str, float] | None:
    """Upper bounds of p50, p95 and p99 from the buckets, seconds; None before the first request."""
    buckets = step.buckets()
    total = buckets[-1][1]
    if total == 0:
        return None
    last = step.bounds[-1]
    return {
        name: min(last, next(bound for bound, count in buckets if count >= total * share))
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
