"""The durable queue on one machine's disk.

Append: one writer thread claims the ids of every waiting batch, appends the batches to the log, syncs it once,
keeps the claims and answers. Freeze: what the log holds becomes chunk files, and the ledger moves the cursor,
names the chunks and counts the fates in one transaction. Only the log, chunk files and the ledger are synced.
Next: load/loader.py.
"""

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog

from twintrack.clock import Clock
from twintrack.errors import DataFolderInUse, Unavailable
from twintrack.metrics import Metrics
from twintrack.spool import chunks, segment
from twintrack.spool.chunks import Gathered, Group
from twintrack.spool.claims import Claims, claim_key, project_tag
from twintrack.spool.ledger import FORMAT, Ledger
from twintrack.spool.protocol import Chunk, Delivery, Depth, Kind, Sizes
from twintrack.spool.segment import Part, Position, Record

log = structlog.get_logger()
_REFUSED_DAYS = 7


class _Waiting(NamedTuple):
    delivery: Delivery
    future: "asyncio.Future[list[bool]]"
    loop: asyncio.AbstractEventLoop


class _Tail(NamedTuple):
    """A synced group that is not frozen yet."""

    end: Position
    received_milliseconds: int


def _split_ids(ids: bytes) -> Iterable[bytes]:
    return (ids[i : i + 16] for i in range(0, len(ids), 16))


class LocalSpool:
    """Shape: `folder/log`, `folder/chunks`, `folder/claims`, `folder/ledger.db`. One process owns the folder."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        metrics: Metrics,
        *,
        index_bytes: int,
        most_bytes: int,
        segment_bytes: int,
        chunk_rows: int,
    ) -> None:
        self._clock, self._metrics = clock, metrics
        self._most_bytes, self._segment_bytes, self._chunk_rows = most_bytes, segment_bytes, chunk_rows
        self._log_folder, self._chunk_folder = folder / "log", folder / "chunks"
        for place in (folder, self._log_folder, self._chunk_folder):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.db")
        found = self.ledger.get("format", FORMAT)
        if found != FORMAT:
            self.ledger.close()
            raise DataFolderInUse(
                f"the spool has format {found}; this version reads {FORMAT}", hint="use the version that wrote it"
            )
        self.ledger.put("format", FORMAT)
        self._claims = Claims(folder / "claims", index_bytes)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._waiting: deque[_Waiting] = deque()
        self._tail: deque[_Tail] = deque()
        self._tail_bytes = 0
        self._chunk_bytes = self.ledger.waiting_bytes()
        self._events = 0  # accepted, not in the store
        self._imports: dict[str, Position] = {}  # import id to the end of what it appended
        self._stopping = False
        self._broken = ""
        self._appended = threading.Event()  # set when there is something to freeze
        self._tallies: Counter[tuple[str, str, str, str]] = Counter(self.ledger.tallies())
        self.rebuilding = False
        self._recover()
        self._thread = threading.Thread(target=self._write_forever, name="spool-writer", daemon=True)
        self._thread.start()

    # -- start and stop ------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        clean = bool(self.ledger.get("clean", 1 if not segment.epochs(self._log_folder) else 0))
        self.ledger.put("clean", 0)
        named = {c.chunk_id for c in self.ledger.chunks("lookup", "frozen", "loaded", "quarantined")}
        chunks.remove_unnamed(self._chunk_folder, named)
        waiting = self.ledger.chunks("lookup", "frozen")
        self._events = sum(c.rows for c in waiting if c.kind is Kind.EVENTS)
        if not clean:
            self._claims.discard()
            self.rebuilding = True
            for chunk in self.ledger.chunks("lookup", "frozen", "quarantined"):
                if chunk.kind is Kind.EVENTS:
                    self._claims.add((claim_key(i, p), chunk.lookup) for p, i in self.identities(chunk))
        cursor = self.ledger.cursor()
        known = segment.epochs(self._log_folder)
        for epoch in known:
            if epoch < cursor.epoch:
                segment.remove_segment(self._log_folder, epoch)
                continue
            end = start = cursor.offset if epoch == cursor.epoch else 0
            for end, record in segment.read_records(
                self._log_folder, epoch, start, segment.marked_end(self._log_folder, epoch)
            ):
                self._count(record)
                self._events += record.events()
                self._tail.append(_Tail(Position(epoch, end), record.received))
                if not clean:
                    tag = project_tag(record.project)
                    self._claims.add((i + tag, part.late) for part in record.parts for i in _split_ids(part.ids))
            if segment.marked_end(self._log_folder, epoch) is None:
                segment.mark_end(self._log_folder, epoch, end)
            self._tail_bytes += max(0, end - start)
        self._open_epoch(max([cursor.epoch, *known]) + 1)
        if self._tail:
            self._appended.set()

    def _open_epoch(self, epoch: int) -> None:
        self._handle = segment.create_segment(self._log_folder, epoch)
        self._synced = Position(epoch, len(segment.MAGIC))

    def restore(self, ids: Iterable[tuple[str, bytes]]) -> None:
        """Claims (project, id) pairs that the store holds, after an unclean boot."""
        self._claims.add((claim_key(event_id, project), event_id[6] >> 4 != 7) for project, event_id in ids)

    def restored(self) -> None:
        """The index is whole again; ids take the fast path from now on."""
        self.rebuilding = False

    def close(self) -> None:
        """Answers everything that waits, then marks the folder clean."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        os.close(self._handle)
        segment.mark_end(self._log_folder, self._synced.epoch, self._synced.offset)
        self._claims.close()
        if not self._broken and not self.rebuilding:
            self.ledger.put("clean", 1)
        self.ledger.close()

    # -- accept --------------------------------------------------------------------------------------------------

    async def append(self, delivery: Delivery) -> list[bool]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[bool]] = loop.create_future()
        with self._wake:
            reason = self.why_not_ready()
            if reason:
                raise Unavailable(reason, hint="nothing was kept; send again after Retry-After")
            self._waiting.append(_Waiting(delivery, future, loop))
            self._wake.notify()
        return await future

    def why_not_ready(self) -> str:
        """Why no event can be accepted durably now; empty where it can."""
        if self._stopping:
            return "the service is stopping"
        if self._broken:
            return self._broken
        if self._tail_bytes + self._chunk_bytes > self._most_bytes:
            return f"the spool holds more than {self._most_bytes} bytes (TWINTRACK_SPOOL_BYTES): the store is behind"
        return ""

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                group = list(self._waiting)
                self._waiting.clear()
                if not group:
                    return
            self._write(group)

    def _write(self, group: list[_Waiting]) -> None:
        """One transaction of claims and one sync for every batch that waits."""
        all_late = self.rebuilding
        transaction = None
        try:
            transaction, taken = self._claims.claim([w for one in group for w in self._wanted(one.delivery, all_late)])
            verdicts = iter(taken)
            answers = [list(islice(verdicts, len(one.delivery.slabs))) for one in group]
            records = [self._record(one.delivery, a, all_late) for one, a in zip(group, answers, strict=True)]
            data = b"".join(map(segment.encode_record, records))
            segment.write_all(self._handle, data)
            started = self._clock.monotonic_seconds()
            os.fdatasync(self._handle)
            self._metrics.sync_seconds.observe(self._clock.monotonic_seconds() - started)
        except BaseException as error:
            if transaction is not None:
                transaction.abort()
            self._end_segment(error)
            failure = (
                error
                if isinstance(error, Unavailable)
                else Unavailable(
                    "the disk did not take the batch", hint="free space or mend the disk; nothing was kept, send again"
                )
            )
            self._answer(group, [failure] * len(group))
            return
        try:
            transaction.commit()
        except Exception:
            # The log has the events but the index does not: only a rebuild at the next start can tell copies apart.
            self._broken = "the index of event ids could not be written"
            log.error("spool_index_failed")
        end = Position(self._synced.epoch, self._synced.offset + len(data))
        fresh = sum(record.events() for record in records)
        with self._lock:
            self._imports.update((r.import_id, end) for r in records if r.import_id)
            self._synced = end
            self._tail_bytes += len(data)
            self._events += fresh
            self._tail.append(_Tail(end, records[0].received))
            for record in records:
                self._count(record)
        self._metrics.group_events.observe(fresh)
        self._answer(group, [list(chain.from_iterable(answer)) for answer in answers])
        self._appended.set()
        if end.offset >= self._segment_bytes:
            self._end_segment(None)

    @staticmethod
    def _wanted(delivery: Delivery, all_late: bool) -> list[tuple[list[bytes], bool]]:
        tag = project_tag(delivery.tenancy.project)
        return [([i + tag for i in slab.ids], all_late or not slab.recent) for slab in delivery.slabs]

    @staticmethod
    def _record(delivery: Delivery, verdicts: list[list[bool]], all_late: bool) -> Record:
        parts, accepted, duplicates = [], 0, 0
        for slab, verdict in zip(delivery.slabs, verdicts, strict=True):
            ids, lines = slab.ids, slab.lines
            if not all(verdict):
                ids = [i for i, fresh in zip(ids, verdict, strict=True) if fresh]
                lines = b"\n".join(line for line, fresh in zip(lines.split(b"\n"), verdict, strict=True) if fresh)
            accepted += len(ids)
            duplicates += len(verdict) - len(ids)
            if ids:
                late = all_late or not slab.recent
                parts.append(Part(Kind.EVENTS.value, slab.month, late, len(ids), b"".join(ids), lines))
        parts += [Part(Kind.RECEIPTS.value, month, False, 1, b"", row) for month, row in delivery.receipts]
        counts = Counter(f"{refused.status}|{refused.reason}" for refused in delivery.refused)
        if accepted:
            counts["accepted|"] = accepted
        if duplicates:
            counts["duplicate|already_accepted"] = duplicates
        return Record(
            delivery.tenancy.project,
            delivery.tenancy.environment,
            delivery.received_milliseconds,
            delivery.import_id,
            dict(counts),
            parts,
            [(r.event_id, r.status, r.reason) for r in delivery.refused if r.event_id],
        )

    def _end_segment(self, error: BaseException | None) -> None:
        """Ends the segment where it was last synced; readers skip what a failed write left behind that."""
        if error is not None:
            log.error("spool_write_failed", error=type(error).__name__)
        try:
            os.close(self._handle)
            segment.mark_end(self._log_folder, self._synced.epoch, self._synced.offset)
            self._open_epoch(self._synced.epoch + 1)
        except OSError as failure:
            self._broken = f"the spool cannot be written: {failure.strerror}"
            self._handle = os.open(os.devnull, os.O_WRONLY)

    @staticmethod
    def _answer(group: list[_Waiting], answers: Iterable[list[bool] | BaseException]) -> None:
        def settle(pairs: "list[tuple[asyncio.Future[list[bool]], list[bool] | BaseException]]") -> None:
            for future, answer in pairs:
                if future.cancelled():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        # One call for the whole group: each of them wakes the loop.
        pairs = [(waiting.future, answer) for waiting, answer in zip(group, answers, strict=True)]
        for loop in {waiting.loop for waiting in group}:
            loop.call_soon_threadsafe(settle, [pair for pair in pairs if pair[0].get_loop() is loop])

    def _count(self, record: Record) -> None:
        place = (record.project, record.environment)
        for fate, events in record.counts.items():
            outcome, _, reason = fate.partition("|")
            self._tallies[(*place, outcome, reason)] += events

    # -- freeze and settle ---------------------------------------------------------------------------------------

    def freeze(self) -> int:
        """Freezes up to a chunk's worth of rows for each group; how many records it read."""
        self._appended.clear()
        cursor, end = self.ledger.cursor(), self._synced
        groups: dict[Group, Gathered] = {}
        records: list[Record] = []
        rows = 0
        passed: list[int] = []
        for epoch in [e for e in segment.epochs(self._log_folder) if e >= cursor.epoch]:
            if epoch > end.epoch or rows >= self._chunk_rows:
                break
            stop = end.offset if epoch == end.epoch else segment.marked_end(self._log_folder, epoch)
            start = cursor.offset if epoch == cursor.epoch else 0
            cursor = Position(epoch, start)
            for offset, record in segment.read_records(self._log_folder, epoch, start, stop):
                chunks.gather(record, groups)
                records.append(record)
                rows += sum(part.rows for part in record.parts)
                cursor = Position(epoch, offset)
                if rows >= self._chunk_rows:
                    break
            if epoch < end.epoch and rows < self._chunk_rows:
                passed.append(epoch)
                cursor = Position(epoch + 1, 0)
        if cursor == self.ledger.cursor():
            return 0
        written = [chunks.write(self._chunk_folder, group, gathered) for group, gathered in groups.items()]
        if written:
            segment.sync_folder(self._chunk_folder)
        with self.ledger as ledger:
            for frozen in written:
                ledger.add_chunk(frozen)
            for record in records:
                for fate, events in record.counts.items():
                    outcome, _, reason = fate.partition("|")
                    ledger.tally(record.project, record.environment, outcome, reason, events)
                if record.refused:
                    ledger.refuse(record.project, record.received, record.refused)
            ledger.set_cursor(cursor)
        for epoch in passed:
            segment.remove_segment(self._log_folder, epoch)
        with self._lock:
            while self._tail and self._tail[0].end <= cursor:
                self._tail.popleft()
            waiting = self._synced.offset - max(cursor.offset, len(segment.MAGIC))
            self._tail_bytes = max(0, waiting) if cursor.epoch == self._synced.epoch else 0
            self._chunk_bytes = self.ledger.waiting_bytes()
            if self._tail:
                self._appended.set()
        return len(records)

    def pending(self) -> list[Chunk]:
        return self.ledger.chunks("lookup", "frozen")

    def content(self, chunk: Chunk) -> bytes:
        return chunks.content(self._chunk_folder, chunk.chunk_id)

    def identities(self, chunk: Chunk) -> list[tuple[str, bytes]]:
        return [chunks.identity_of(row) for row in chunks.read(self._chunk_folder, chunk.chunk_id)]

    def wait(self, seconds: float) -> bool:
        return self._appended.wait(seconds)

    def wake(self) -> None:
        self._appended.set()

    def settle_lookup(self, chunk: Chunk, found: set[tuple[str, bytes]]) -> None:
        kept, gone = Gathered(), Counter[tuple[str, str]]()
        for row in chunks.read(self._chunk_folder, chunk.chunk_id):
            place = chunks.place_of(row)
            if chunks.identity_of(row) in found:
                gone[place] += 1
            else:
                kept.add(row, 1, place, chunk.received_milliseconds)
        group = Group(chunk.kind, chunk.month, False, chunk.import_id)
        written = [chunks.write(self._chunk_folder, group, kept)] if kept.rows else []
        segment.sync_folder(self._chunk_folder)
        with self.ledger as ledger:
            ledger.remove_chunk(chunk.chunk_id)
            for frozen in written:
                ledger.add_chunk(frozen)
            for (project, environment), events in gone.items():
                ledger.tally(project, environment, "duplicate", "found_in_store", events)
            if chunk.import_id and gone:
                ledger.count_import(chunk.import_id, found=gone.total())
        self._claims.loaded(claim_key(event_id, project) for project, event_id in found)
        chunks.path(self._chunk_folder, chunk.chunk_id).unlink(missing_ok=True)
        with self._lock:
            self._events -= gone.total()
            for (project, environment), events in gone.items():
                self._tallies[(project, environment, "duplicate", "found_in_store")] += events

    def bisect(self, chunk: Chunk) -> None:
        rows = chunks.read(self._chunk_folder, chunk.chunk_id)
        if len(rows) == 1:
            self._quarantine(chunk, chunks.place_of(rows[0]))
            return
        group = Group(chunk.kind, chunk.month, False, chunk.import_id)
        halves = []
        for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            half = Gathered()
            for row in part:
                half.add(row, 1, chunks.place_of(row), chunk.received_milliseconds)
            halves.append(chunks.write(self._chunk_folder, group, half))
        segment.sync_folder(self._chunk_folder)
        with self.ledger as ledger:
            ledger.remove_chunk(chunk.chunk_id)
            for frozen in halves:
                ledger.add_chunk(frozen)
        chunks.path(self._chunk_folder, chunk.chunk_id).unlink(missing_ok=True)

    def _quarantine(self, chunk: Chunk, place: tuple[str, str]) -> None:
        fate = ("quarantined", "store_refused_data")
        with self.ledger as ledger:
            ledger.settle(chunk.chunk_id, *fate, self._clock.milliseconds())
            if chunk.kind is Kind.EVENTS:
                ledger.tally(*place, *fate, 1)
        if chunk.kind is Kind.EVENTS:
            with self._lock:
                self._events -= 1
                self._tallies[(*place, *fate)] += 1

    def loaded(self, chunk: Chunk) -> None:
        places = self.ledger.places(chunk.chunk_id) if chunk.kind is Kind.EVENTS else {}
        with self.ledger as ledger:
            ledger.settle(chunk.chunk_id, "loaded", "", self._clock.milliseconds())
            for place, events in places.items():
                ledger.tally(*place, "stored", "", events)
            if chunk.import_id:
                ledger.count_import(chunk.import_id, loaded=chunk.rows)
        with self._lock:
            for place, events in places.items():
                self._tallies[(*place, "stored", "")] += events
            self._events -= sum(places.values())
            self._chunk_bytes = self.ledger.waiting_bytes()
        if chunk.kind is Kind.EVENTS and (chunk.import_id or self._claims.has_late()):
            self._claims.loaded(claim_key(event_id, project) for project, event_id in self.identities(chunk))

    def sweep(self, grace_seconds: int, window_days: int) -> None:
        """Deletes what has outlived its use: loaded chunks, old refusals, ids behind the window."""
        now = self._clock.milliseconds()
        gone = self.ledger.settled_before(now - grace_seconds * 1000)
        for chunk_id in gone:
            chunks.path(self._chunk_folder, chunk_id).unlink(missing_ok=True)
        with self.ledger as ledger:
            for chunk_id in gone:
                ledger.remove_chunk(chunk_id)
            ledger.forget_refused(now - _REFUSED_DAYS * 86_400_000)
        if self._events == 0:
            self._claims.forget_older(now - window_days * 86_400_000)

    # -- look ----------------------------------------------------------------------------------------------------

    def depth(self) -> Depth:
        with self._lock:
            tail = self._tail[0].received_milliseconds if self._tail else None
            events, size = self._events, self._tail_bytes + self._chunk_bytes
        waiting = [c.received_milliseconds for c in self.pending()]
        oldest = min([*waiting, *([tail] if tail is not None else [])], default=None)
        return Depth(events, size, oldest)

    def sizes(self) -> Sizes:
        return Sizes(self._tail_bytes, self._chunk_bytes, self.ledger.quarantined_bytes(), *self._claims.size())

    def tallies(self) -> dict[tuple[str, str, str, str], int]:
        """Events by (project, environment, outcome, reason) since the data folder was made."""
        with self._lock:
            return dict(self._tallies)

    def holds(self, event_id: UUID, project: str) -> bool:
        """Whether the door has accepted this id and remembers it."""
        return self._claims.holds(event_id, project)

    def waiting_for(self, import_id: str) -> bool:
        """Whether anything of an import is not settled: in the log's tail, or in a chunk."""
        if self._imports.get(import_id, Position(0, 0)) > self.ledger.cursor():
            return True
        return any(chunk.import_id == import_id for chunk in self.pending())

    def quarantined(self, event_id: UUID, project: str) -> bool:
        wanted = (project, event_id.bytes)
        return any(wanted in self.identities(chunk) for chunk in self.ledger.chunks("quarantined"))
