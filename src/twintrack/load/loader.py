"""Spool to store, in order, once each: freeze, insert with the chunk's token, look up what must be looked up, settle.

The only retrying code of the server. A failed insert is tried again with the same rows and the same token, so
that the engine drops what it already has and repairs a rollup that missed it. What a failure means decides what
follows: a store that is away, full or locked opens the breaker (`load/retry.py`) and is left alone; rows that it
refuses are bisected until the guilty ones stand in quarantine; an answer that nobody foresaw holds one chunk back
and, where others pass meanwhile, is taken as a refusal of that chunk's rows.
"""

import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from twintrack.clock import Clock
from twintrack.control.retention import NONE, Policies
from twintrack.errors import ChunkDamaged, StoreBusy, StoreDenied, StoreError, StoreRefusedData, StoreUnclear
from twintrack.load.company import Company
from twintrack.load.deadlines import columns
from twintrack.load.expiry import Expiry
from twintrack.load.held import UNCLEAR_TRIES, HeldChunks
from twintrack.load.lookup import found
from twintrack.load.retry import Breaker, Pace, State, paces
from twintrack.load.told import told
from twintrack.load.trouble import Trouble, Troubles
from twintrack.load.upkeep import Upkeep
from twintrack.metrics import Metrics
from twintrack.spans import Spans
from twintrack.spool.protocol import Chunk, Kind, Spool
from twintrack.store.migrate import missing
from twintrack.store.protocol import Store

log = structlog.get_logger()
_SWEEP_SECONDS = 5.0
_ASIDES = {
    "look-up": "ids cannot be looked up",
    "index": "the index of ids cannot be filled",
    "rollups": "rollups cannot be made again",
    "erasures": "a person cannot be erased yet",
    "expiry": "what has expired cannot be removed",
}
# A stop drains for this long at most: whoever asks for it kills after 30 s as a rule, and the rest is safe on disk.
_LAST_SECONDS = 15.0


def _nowhere(_: str) -> None:
    """The place is not a crash point of any test."""


def _nothing() -> bool:
    """Nobody is to be erased."""
    return False


class Loader:
    def __init__(
        self,
        spool: Spool,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        *,
        age_milliseconds: int,
        chunk_rows: int = 50_000,
        backoff_seconds: float = 30.0,
        jitter: Callable[[], float] = random.random,
        reached: Callable[[str], None] = _nowhere,
        spans: Spans | None = None,
        policies: Callable[[], Policies] = lambda: NONE,
        erase: Callable[[], bool] | None = None,
    ) -> None:
        self._spans, self._policies, self._erase = spans, policies, erase or _nothing
        self._spool, self._store, self._clock, self._metrics = spool, store, clock, metrics
        self._chunk_rows = chunk_rows
        self._paces, self._jitter, self._reached = paces(backoff_seconds), jitter, reached
        self._upkeep = Upkeep(spool, store, Expiry(spool, store, clock, policies))
        self._swept_at = clock.monotonic_seconds()
        self._stopping = threading.Event()
        self._until = math.inf  # monotonic seconds; then a stop waits no longer
        self._thread: threading.Thread | None = None
        self._at_work = threading.RLock()
        self._company = Company(spool, clock, age_milliseconds / 1000, chunk_rows)
        self._held, self._troubles = HeldChunks(), Troubles()
        self.breaker = Breaker()
        # Each of these may fail alone: inserts go on meanwhile.
        self.asides = {what: Breaker(State.CLOSED) for what in _ASIDES}

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Loads what is accepted, as far as the store takes it within seconds, then ends. The rest is safe on disk."""
        if not self._stopping.is_set():
            self._until = self._clock.monotonic_seconds() + _LAST_SECONDS  # also for the pass that is under way
        self._stopping.set()
        self._spool.last_call()
        if self._thread is not None:
            self._thread.join()

    @property
    def last_error(self) -> str:
        """Why something waits; empty where nothing does."""
        return self._troubles.first().message

    @property
    def expired(self) -> bool:
        """Whether everything that is past its deadline now is gone."""
        return self._upkeep.expired

    def condition(self) -> dict[str, Any]:
        """What a person asks of the store's side: `loading` or `waiting`, why, what to do, and for how long still."""
        breaker = self.breaker
        waiting = breaker.failures > 0
        trouble = self._troubles.first()
        return {
            "state": "waiting" if waiting else "loading",
            "error": trouble.message or None,
            "hint": trouble.hint or None,
            "failures": breaker.failures,
            "retry_in_seconds": round(max(0.0, breaker.until - self._clock.monotonic_seconds()), 1) if waiting else 0.0,
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turns()
            self._sweep()
        self._turns(last=True)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Holds the loader between two of its steps: what is in the store and in the spool changes only at the door."""
        with self._at_work:
            yield

    def _sweep(self) -> None:
        """Also under constant load, else nothing would ever be forgotten then."""
        with self._at_work:
            self._swept()

    def _swept(self) -> None:
        if self._clock.monotonic_seconds() - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = self._clock.monotonic_seconds()
            try:
                self._spool.sweep()
            except Exception as error:
                log.error("sweep_failed", kind=type(error).__name__, exc_info=True)

    def _await_work(self) -> None:
        if self.breaker.state is State.OPEN:
            self._stopping.wait(min(1.0, max(0.01, self.breaker.until - self._clock.monotonic_seconds())))
        elif self._spool.wait(1.0):
            self._company.wait(self._stopping)

    def _turns(self, *, last: bool = False) -> None:
        try:
            if not last:
                self._await_work()  # it asks the spool too, which may fail
            while self.step() and (last or not self._stopping.is_set()) and not self._overdue():
                self._company.wait(self._stopping)
        except Exception as error:
            log.error("load_failed", kind=type(error).__name__, exc_info=True)
            self._open(self._paces.away, Trouble(f"loading failed: {type(error).__name__}", "see the service's log"))

    def _overdue(self) -> bool:
        return self._clock.monotonic_seconds() > self._until

    def step(self) -> bool:
        """Freezes what the log holds and tries every chunk once; whether anything moved.

        Nothing of a failing store leaves this function: it opens the breaker, and `condition` tells.
        """
        with self._at_work:
            try:
                return self._step()
            finally:
                self._spool.release()

    def _step(self) -> bool:
        self._sweep()
        self.breaker = self.breaker.at(self._clock.monotonic_seconds())
        if self.breaker.state is State.OPEN:
            return self._freeze_whole_chunks()
        try:
            worked = self._probe() if self.breaker.state is State.HALF_OPEN else self._upkeep.before()
            worked |= self._aside("index", self._upkeep.fill_index)
            moved = self._settle()
            moved |= self._aside("rollups", self._upkeep.mend_rollups)
            # Behind everything else: then no insert is in doubt, and none runs while rows are taken out.
            moved |= self._aside("expiry", self._upkeep.expire)
            return self._aside("erasures", self._erase) or moved or worked
        except StoreError as error:
            self._failed(error)
            return False

    def _aside(self, what: str, work: Callable[[], bool]) -> bool:
        """Does what may wait: until the next start when stopping, and for a while where the store does not take it.

        Raises: StoreError where the store does not even answer a question of nothing.
        """
        breaker = self.asides[what].at(self._clock.monotonic_seconds())
        if breaker.state is State.OPEN or (self._stopping.is_set() and what != "look-up"):
            return False
        try:
            worked = work()
        except StoreError as error:
            self._note(error)
            self._troubles.note(what, Trouble.of(error, _ASIDES[what] + ": "))
            self.asides[what] = breaker.failed(self._paces.away, self._clock.monotonic_seconds(), self._jitter())
            self._store.probe()
            return False
        self._troubles.mended(what)
        self.asides[what] = breaker.succeeded()
        return worked

    def _freeze_whole_chunks(self) -> bool:
        """Freezes while the store is left alone, but only what fills a chunk: small ones would drain slowly."""
        frozen = sum(chunk.rows for chunk in self._spool.pending() if chunk.kind is Kind.EVENTS)
        return self._spool.depth().events - frozen >= self._chunk_rows and self._freeze()

    def _probe(self) -> bool:
        """A question of nothing, the schema, and the smallest insert that waits; then the breaker is closed.

        Nothing is inserted before chunks were compared with the store where that is due; whether it was.
        Raises: StoreError.
        """
        self._store.probe()
        if self._store.engine != "chdb":
            lacking = [migration.name for migration in missing(self._store)]
            if lacking:
                raise StoreDenied(
                    f"the store lacks migrations: {', '.join(lacking)}", hint="run `twintrack migrate` against it"
                )
        worked = self._upkeep.before()
        if self.breaker.failures:
            self._aside("look-up", self._look_up_next)
        waiting = [chunk for chunk in self._spool.pending() if not chunk.lookup]
        if self.breaker.failures and waiting:
            self._try(min(waiting, key=lambda chunk: (self._held.failures(chunk), chunk.rows)))
        if self.breaker.failures:
            log.info("store_back", failures=self.breaker.failures)
        self.breaker = self.breaker.succeeded()
        self._troubles.mended("store")
        return worked

    def _settle(self) -> bool:
        """One pass over the log and all chunks.

        A chunk that must be looked up waits until every other one is in the store, also the halves of a refused
        one; the others never wait for it.
        """
        moved = self._freeze()
        for chunk in self._spool.pending():
            if self._overdue():
                return False
            if not chunk.lookup and self._rested(chunk):
                moved |= self._try(chunk)
        while self._aside("look-up", self._look_up_next):
            moved = True
            for rest in self._spool.pending():
                if self._overdue():
                    return False
                if not rest.lookup and self._rested(rest):
                    self._try(rest)
        return moved

    def _freeze(self) -> bool:
        """A full disk stops freezing, not what is frozen already: that may be what frees the disk."""
        started = self._clock.monotonic_seconds()
        self._company.froze()
        try:
            moved = bool(self._spool.freeze())
        except Exception as error:  # also the ledger's
            log.error("freeze_failed", kind=type(error).__name__, exc_info=True)
            self._troubles.note("spool", Trouble("the disk takes no chunk files", "free space or mend the disk"))
            return False
        self._troubles.mended("spool")
        if moved:
            self._metrics.load_steps["freeze"].observe(self._clock.monotonic_seconds() - started)
        return moved

    def _look_up_next(self) -> bool:
        """Looks up the oldest chunk where no other kind waits; whether there was one. Raises: StoreError.

        A chunk whose answers nobody foresaw holds up only its own ids: where all ids are looked up, no other insert
        could pass otherwise, and it would wait for one for ever.
        """
        pending = self._spool.pending()
        others = [chunk for chunk in pending if not chunk.lookup]
        if (
            self._overdue()
            or len(others) == len(pending)
            or any(self._held.failures(o) < UNCLEAR_TRIES for o in others)
        ):
            return False
        chunk = next(chunk for chunk in pending if chunk.lookup)
        started = self._clock.monotonic_seconds()
        try:
            held = {identity for other in others for identity in self._spool.identities(other)}
        except ChunkDamaged:
            return False  # its own next try says so
        try:
            wanted = self._spool.identities(chunk)
            if not held.isdisjoint(wanted):
                return False
            self._spool.settle_lookup(chunk, found(self._store, chunk, wanted))
        except ChunkDamaged as error:
            self._upkeep.damaged(chunk, error)
        self._metrics.load_steps["lookup"].observe(self._clock.monotonic_seconds() - started)
        return True

    def _rested(self, chunk: Chunk) -> bool:
        return self._held.rested(chunk, self._clock.monotonic_seconds())

    def _try(self, chunk: Chunk) -> bool:
        """Loads a chunk, or does what its failure asks for; whether it moved.

        Raises: StoreUnavailable where the store is at fault, not the chunk.
        """
        try:
            self._load(chunk)
        except StoreRefusedData as error:
            self._refused(chunk, error.reason, error.message)
        except StoreUnclear as error:
            return self._hold(chunk, error)
        self._release(chunk)
        return True

    def _release(self, chunk: Chunk) -> None:
        self._held.release(chunk)
        self._troubles.mended(chunk.chunk_id)

    def _refused(self, chunk: Chunk, why: str, message: str) -> None:
        self._metrics.load_errors.labels(StoreRefusedData.code).inc()
        log.warning("chunk_refused", chunk=chunk.chunk_id, rows=chunk.rows, message=message)
        self._upkeep.refused(chunk)
        self._spool.bisect(chunk, why)
        self._upkeep.halved()

    def _hold(self, chunk: Chunk, error: StoreUnclear) -> bool:
        """An unforeseen answer: the chunk rests. In the end it is at fault if others passed meanwhile.

        Raises: StoreUnclear where none passes: then the store is.
        """
        if self._held.at_fault(chunk):
            known = {one.chunk_id for one in self._spool.pending()}
            self._refused(chunk, error.message.rpartition(": ")[2], error.message)
            self._held.inherit(chunk, (half for half in self._spool.pending() if half.chunk_id not in known))
            self._troubles.mended(chunk.chunk_id)
            return True
        pause = self._paces.away.pause(self._held.failures(chunk) + 1, self._jitter())
        store_is_at_fault = self._held.hold(chunk, self._clock.monotonic_seconds() + pause)
        self._troubles.note(chunk.chunk_id, Trouble(error.message, error.hint))
        if store_is_at_fault:
            raise error
        self._note(error)
        return False

    def _load(self, chunk: Chunk) -> None:
        try:
            rows = self._spool.content(chunk)
        except ChunkDamaged as error:
            self._upkeep.damaged(chunk, error)
            return
        self._reached("before_insert")
        with told(chunk, self._clock, self._metrics, self._spans) as step:
            computed = columns(self._policies()) if chunk.kind is Kind.EVENTS else {}
            self._store.insert(chunk.kind.value, chunk.chunk_id, rows, chunk.token, computed)
            step("insert")
            self._reached("after_insert")
            self._spool.loaded(chunk)
            step("settle")
        self._held.passed()
        self._company.loaded(chunk.rows)
        self._metrics.loaded.labels(chunk.kind.value).inc(chunk.rows)
        log.info("chunk_loaded", chunk=chunk.chunk_id, kind=chunk.kind.value, rows=chunk.rows)

    def _failed(self, error: StoreError) -> None:
        self._note(error)
        away, busy, denied = self._paces
        pace = denied if isinstance(error, StoreDenied) else busy if isinstance(error, StoreBusy) else away
        self._open(pace, Trouble.of(error))

    def _open(self, pace: Pace, trouble: Trouble) -> None:
        self._troubles.note_first("store", trouble)
        self.breaker = self.breaker.failed(pace, self._clock.monotonic_seconds(), self._jitter())

    def _note(self, error: StoreError) -> None:
        self._metrics.load_errors.labels(error.code).inc()
        log.warning("load_failed", code=error.code, message=Trouble.of(error).message)
