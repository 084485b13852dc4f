"""Spool to store, in order, once each: freeze, look up what must be looked up, insert with the chunk's token, settle.

The only retrying code of the server. A failed insert is tried again with the same rows and the same token, so
that the engine drops what it already has and repairs a rollup that missed it.
"""

import random
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from twintrack.clock import Clock
from twintrack.errors import StoreError, StoreRefusedData, StoreUnavailable
from twintrack.load.retry import backoff_seconds
from twintrack.load.rows import columns, insert_block
from twintrack.metrics import Metrics
from twintrack.spans import Loaded, Spans
from twintrack.spool.protocol import Chunk, Spool
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

log = structlog.get_logger()
_LOOKUP_IDS = 20_000
_RESTORE_IDS = 50_000
_SWEEP_SECONDS = 60.0
# An insert costs some 90 ms whatever its size, so under load it pays to wait for more rows.
_BUSY_ROWS = 500
_BUSY_PATIENCE = 3


class Loader:
    def __init__(
        self,
        spool: Spool,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        *,
        age_milliseconds: int,
        grace_seconds: int,
        window_days: int,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._spool, self._store, self._clock, self._metrics = spool, store, clock, metrics
        self._age_seconds = age_milliseconds / 1000
        self._grace_seconds, self._window_days = grace_seconds, window_days
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy = False
        self.last_error = ""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Loads what is accepted, as far as the store takes it at once, then ends."""
        self._stopping.set()
        self._spool.wake()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        failures, swept_at = 0, self._clock.monotonic_seconds()
        while not self._stopping.is_set():
            # A short wait gives company to the first event: inserts cost the same whatever their size.
            if self._spool.wait(1.0):
                self._stopping.wait(self._age_seconds * (_BUSY_PATIENCE if self._busy else 1))
            try:
                if self._spool.rebuilding:
                    self._restore()
                while self.step() and not self._stopping.is_set():
                    pass
                failures, self.last_error = 0, ""
            except StoreError as error:
                failures += 1
                self._note(error)
                self._stopping.wait(backoff_seconds(failures, random.random()))  # noqa: S311
            except Exception as error:
                failures += 1
                self.last_error = f"loading failed: {type(error).__name__}"
                log.error("load_failed", kind=type(error).__name__, exc_info=True)
                self._stopping.wait(backoff_seconds(failures, random.random()))  # noqa: S311
            if self._clock.monotonic_seconds() - swept_at > _SWEEP_SECONDS:
                self._spool.sweep(self._grace_seconds, self._window_days)
                swept_at = self._clock.monotonic_seconds()
        try:
            while self.step():
                pass
        except StoreError as error:
            self._note(error)

    def _note(self, error: StoreError) -> None:
        self.last_error = error.message
        self._metrics.load_errors.labels(error.code).inc()
        log.warning("load_failed", code=error.code, message=error.message)

    def step(self) -> bool:
        """Freezes what the log holds and settles every chunk once; whether there was anything to do.

        A chunk that must be looked up waits for all earlier ones; the others do not wait for it.
        Raises: StoreUnavailable; what was settled before it stays settled.
        """
        now, steps = self._clock.monotonic_seconds, self._metrics.load_steps
        started = now()
        frozen = self._spool.freeze()
        if frozen:
            steps["freeze"].observe(now() - started)
        pending = self._spool.pending()
        unavailable: StoreUnavailable | None = None
        waiting = False
        for chunk in pending:
            if chunk.lookup:
                if waiting:
                    continue
                started = now()
                self._spool.settle_lookup(chunk, self._found(chunk))
                steps["lookup"].observe(now() - started)
                continue
            try:
                self._load(chunk)
            except StoreUnavailable as error:
                unavailable, waiting = error, True
                break
            except StoreRefusedData as error:
                self._note(error)
                self._spool.bisect(chunk)
                waiting = True
        if unavailable is not None:
            raise unavailable
        return bool(frozen or pending)

    def _load(self, chunk: Chunk) -> None:
        now = self._clock.monotonic_seconds
        times, failed = [now()], ""
        try:
            block = insert_block(chunk.chunk_id, self._spool.content(chunk))
            self._store.insert(chunk.kind.value, columns(chunk.kind.value), block, chunk.token)
            times.append(now())
            self._spool.loaded(chunk)
        except StoreError as error:
            failed = error.code
            raise
        finally:
            times.append(now())
            told = list(zip(("insert", "settle"), times, times[1:], strict=False))
            for step, start, end in told:
                self._metrics.load_steps[step].observe(end - start)
            if self._spans is not None:
                self._spans.chunk(Loaded(chunk.chunk_id, chunk.kind.value, chunk.rows, failed), told)
        self._busy = chunk.rows >= _BUSY_ROWS
        self._metrics.loaded.labels(chunk.kind.value).inc(chunk.rows)
        log.info("chunk_loaded", chunk=chunk.chunk_id, kind=chunk.kind.value, rows=chunk.rows)

    def _found(self, chunk: Chunk) -> set[tuple[str, bytes]]:
        """Which (project, id) of a chunk the store has already.

        A copy may stand in any month (a client's clock may have been corrected in between), except for imported
        rows: their time is part of their id.
        """
        wanted = self._spool.identities(chunk)
        projects = ", ".join(f"'{_escaped(project)}'" for project in sorted({project for project, _ in wanted}))
        month = f" AND toYYYYMM(date) = {chunk.month}" if chunk.import_id else ""
        found: set[tuple[str, bytes]] = set()
        for start in range(0, len(wanted), _LOOKUP_IDS):
            ids = ",".join(f"'{UUID(bytes=i)}'" for _, i in wanted[start : start + _LOOKUP_IDS])
            answer = self._store.select(
                f"SELECT project, event_id FROM {DATABASE}.events"
                f" WHERE project IN ({projects}){month} AND event_id IN ({ids})",
                settings={"max_query_size": _LOOKUP_IDS * 64},
            )
            found.update((project, event_id.bytes) for project, event_id in answer.rows)
        return found & set(wanted)

    def _restore(self) -> None:
        """Fills the index from the store after an unclean boot; until then every id is looked up.

        Pages by id, so that no read stays open while inserts go on.
        """
        after = UUID(int=0)
        while not self._stopping.is_set():
            page = self._page(after)
            self._spool.restore((project, event_id.bytes) for project, event_id in page)
            if len(page) < _RESTORE_IDS:
                self._spool.restored()
                log.info("index_restored")
                return
            after = page[-1][1]

    def _page(self, after: UUID) -> Sequence[Sequence[Any]]:
        """(project, event id) of recent ids in the store behind one, in the engine's own order of ids."""
        days = self._window_days + 1
        return self._store.select(
            f"SELECT project, event_id FROM {DATABASE}.events WHERE event_id > toUUID('{after}')"
            f" AND UUIDv7ToDateTime(event_id) > now() - INTERVAL {days} DAY ORDER BY event_id LIMIT {_RESTORE_IDS}"
        ).rows


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
