"""The durable queue on one machine's disk, put together.

    accept.py   claims ids, appends to the log, syncs, answers           log.py, segment.py, known.py, claims.py
    freeze.py   makes chunk files of what the log holds                  chunks.py, ledger.py
    settle.py   says what became of a chunk                              balance.py counts all of it

Here is the start after a stop of any kind, and who may ask what. Only the log, chunk files and the ledger are synced.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from twintrack.clock import Clock
from twintrack.errors import ChunkDamaged, TwintrackError
from twintrack.metrics import Metrics
from twintrack.seal import DataKeys
from twintrack.spool import chunks, segment
from twintrack.spool.accept import Limits, Writer
from twintrack.spool.balance import Balance
from twintrack.spool.claims import Claims, claim_key, is_timed, project_tag
from twintrack.spool.erase import Erasing, MarksOf
from twintrack.spool.freeze import Freezer
from twintrack.spool.known import KnownIds
from twintrack.spool.ledger import STATES, SUSPECT, Ledger
from twintrack.spool.log import Log
from twintrack.spool.protocol import Chunk, Delivery, Depth, Kind, Sizes, TakenLink
from twintrack.spool.removals import Removals
from twintrack.spool.segment import Damage, Position
from twintrack.spool.settle import Settling

log = structlog.get_logger()


class SpoolSizes(NamedTuple):
    """How large and how old what it keeps may become."""

    index_bytes: int
    spool_bytes: int
    segment_bytes: int
    reserve_bytes: int
    chunk_rows: int
    grace_seconds: int
    grace_bytes: int
    window_days: int


def _nowhere(_: str) -> None:
    """The place is not a crash point of any test."""


def _nobody(_: str) -> None:
    """Nobody was erased."""


class LocalSpool:
    """Shape: `folder/log`, `folder/chunks`, `folder/claims`, `folder/ledger.db`. One process owns the folder."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        metrics: Metrics,
        sizes: SpoolSizes,
        *,
        boot: str,
        reached: Callable[[str], None] = _nowhere,
        marks_of: MarksOf = _nobody,
        keys: DataKeys | None = None,
    ) -> None:
        """`boot` names this run of the machine: what was not synced survives a killed process, not another boot. With
        `keys` all that holds what people sent is sealed, what is there already too.

        Raises: SpoolFormat, OSError.
        """
        self._clock, self._sizes = clock, sizes
        self._folder, self._chunk_folder = folder, chunks.Folder(folder / "chunks", keys)
        for place in (folder, folder / "log", self._chunk_folder.path):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.db")
        for place in (folder, folder.parent):
            segment.sync_folder(place)
        index_exists = (folder / "claims" / "data.mdb").exists()
        self.claims = Claims(folder / "claims", sizes.index_bytes)
        self.known = KnownIds(self.claims, self.ledger)
        self._boot = _number(boot)
        clean = bool(self.ledger.get("clean"))
        same_boot = self.ledger.get("boot") == self._boot
        self.ledger.put("clean", 0)
        chunks.settle_amendments(self._chunk_folder, self.ledger.chunks(*STATES))
        self._log = Log(folder / "log", self.ledger.cursor(), self.ledger.end() if clean else None, reached, keys)
        self.balance = Balance(self.ledger)
        self._settling = Settling(
            self._chunk_folder, self.ledger, self.balance, self.claims, self.known, clock, reached
        )
        self.removals = Removals(self._chunk_folder, self.ledger, self.balance, self.renew)
        lost = not index_exists or not (clean or same_boot)
        if lost:
            self.claims.discard()
            self.known.lose()
        if lost or not clean:
            # A crash between loading a chunk and telling the index leaves its ids late.
            self.known.settle_late()
            self._claim_chunks(lost=lost)
        self._recover(unclaimed=lost or not clean)
        # The new boot's number is kept only when the store has been compared with the chunks.
        self.reconciling = not same_boot and self.ledger.get("boot") != 0
        if not self.reconciling:
            self.ledger.put("boot", self._boot)
        self._writer = Writer(
            folder,
            self._log,
            self.known,
            self.balance,
            metrics,
            Limits(sizes.spool_bytes, sizes.segment_bytes, sizes.reserve_bytes),
            self._bytes,
            reached,
        )
        self._freezer = Freezer(
            self._chunk_folder, self._log, self.ledger, self.balance, sizes.chunk_rows, reached, marks_of
        )
        self._erasing = Erasing(self._chunk_folder, self.ledger, self.balance, reached)
        self._renewed = Position(0, 0)
        if keys is not None:
            self._seal_what_is_plain()
        if self.balance.oldest_in_log() is not None or self.reconciling or self.rebuilding:
            self._writer.appended.set()
        self._writer.start()

    # -- start and stop ------------------------------------------------------------------------------------------

    def _claim_chunks(self, *, lost: bool) -> None:
        """Claims the ids of chunks again: of all that wait where the index is lost, else of those on the late side."""
        for chunk in self.ledger.chunks("lookup", "frozen", "quarantined"):
            if chunk.kind is Kind.EVENTS and (lost or chunk.lookup):
                try:
                    ids = self._settling.identities(chunk)
                except ChunkDamaged:
                    continue  # the loader finds it and says so
                self.known.add((claim_key(i, p), chunk.lookup or not is_timed(i)) for p, i in ids)

    def _recover(self, *, unclaimed: bool) -> None:
        """Reads the log's tail, claims again what a crash may have left unclaimed, and opens a new epoch."""
        chunks.remove_unnamed(self._chunk_folder, self.ledger.named())
        cursor = self.ledger.cursor()
        last = cursor
        for epoch in sorted(self._log.ends):
            last = cursor if epoch == cursor.epoch else Position(epoch, 0)
            for place, found in self._log.read(last):
                last = place
                record, events = (found.record, found.events) if isinstance(found, Damage) else (found, found.events())
                self.balance.appended(place, [record], events)
                if unclaimed:
                    self.known.add_record(record, project_tag(record.project))
            last = self._log.ends[epoch] or last
        self._log.start(last)

    def _seal_what_is_plain(self) -> None:
        """Sealing was switched on since: chunk files are sealed, and the log is frozen up to its new, sealed segment."""
        sealed = chunks.seal_plain(self._chunk_folder)
        while self._log.has_plain():
            before = self.ledger.cursor()
            self._freezer.freeze(self._writer.readable)
            if self.ledger.cursor() == before:
                break
        if sealed:
            log.info("spool_sealed", chunks=sealed)

    def close(self) -> None:
        """Answers everything that waits, then marks the folder clean."""
        whole = self._writer.stop()
        self._log.close()
        self.claims.close()
        try:
            if whole:
                with self.ledger as ledger:
                    ledger.set_end(self._log.end)
                    ledger.put("clean", 1)
        except Exception as error:  # a full disk: the next start reads the log as after a kill
            log.error("spool_not_marked_clean", kind=type(error).__name__)
        finally:
            self.ledger.close()

    # -- accept --------------------------------------------------------------------------------------------------

    async def append(self, delivery: Delivery) -> list[bool]:
        return await self._writer.append(delivery)

    def why_not_ready(self) -> str:
        """Why no event can be accepted durably now; empty where it can."""
        return self._writer.why_not_ready()

    # -- freeze and settle ---------------------------------------------------------------------------------------

    def freeze(self) -> int:
        self._writer.appended.clear()
        records, more = self._freezer.freeze(self._writer.readable)
        if more:
            self._writer.appended.set()
        return records

    def wait(self, seconds: float) -> bool:
        return self._writer.appended.wait(seconds)

    def wake(self) -> None:
        self._writer.appended.set()

    def last_call(self) -> None:
        """Nobody else can load what is here: freezing goes on."""
        self._writer.appended.set()

    def pending(self) -> list[Chunk]:
        return self.ledger.chunks("lookup", "frozen")

    def content(self, chunk: Chunk) -> bytes:
        return chunks.content(self._chunk_folder, chunk)

    def identities(self, chunk: Chunk) -> list[tuple[str, bytes]]:
        return self._settling.identities(chunk)

    def settle_lookup(self, chunk: Chunk, found: set[tuple[str, bytes]]) -> None:
        self._settling.settle_lookup(chunk, found)

    def bisect(self, chunk: Chunk, why: str) -> None:
        self._settling.bisect(chunk, why)

    def damaged(self, chunk: Chunk) -> None:
        self._settling.damaged(chunk)

    def loaded(self, chunk: Chunk) -> None:
        self._settling.loaded(chunk)

    def sweep(self) -> None:
        sizes = self._sizes
        oldest = self.depth().oldest_milliseconds
        self._settling.sweep(sizes.grace_seconds, sizes.grace_bytes, sizes.window_days * 86_400_000, oldest)

    def replay(self, event_id: UUID | None = None) -> list[Chunk]:
        """Puts quarantined chunks back, or the one with an id; which."""
        back = [
            chunk
            for chunk in self.ledger.chunks("quarantined")
            if event_id is None or any(i == event_id.bytes for _, i in self.identities(chunk))
        ]
        for chunk in back:
            self._settling.replay(chunk)
        if back:
            self.wake()
        return back

    # -- repair --------------------------------------------------------------------------------------------------

    @property
    def rebuilding(self) -> bool:
        return self.known.rebuilding

    def begin_restore(self) -> int:
        since = max(0, self._clock.milliseconds() - self._sizes.window_days * 86_400_000)
        self.known.begin_restore(since)
        # What is not in the store yet may be there behind the reader's back, and nothing says that it is claimed: the
        # index may have had no room for it, or the store may have lost it.
        self._claim_chunks(lost=True)
        for record in self._freezer.tail(self._writer.readable):
            self.known.add_record(record, project_tag(record.project))
        return since

    def restore(self, ids: Iterable[tuple[str, bytes]]) -> None:
        self.known.restore(ids)

    def restored(self) -> None:
        self.known.restored()

    def in_grace(self) -> tuple[list[Chunk], list[Chunk]]:
        return self.ledger.chunks("frozen"), self.ledger.chunks("loaded")

    def reinsert(self, again: Iterable[Chunk], months: Iterable[int]) -> None:
        self._settling.reinsert(again, months)

    def copy_to(self, folder: Path) -> None:
        """What a backup keeps of the spool: the ledger, the chunks it names, and the log. Ids are found again from these.

        The loader stands still meanwhile; the log may grow, and what is cut off at its end was not answered yet.
        """
        (folder / "log").mkdir(parents=True)
        (folder / "chunks").mkdir()
        self.ledger.copy_to(folder / "ledger.db")
        for chunk in self.ledger.chunks(*STATES):
            found = chunks.path(self._chunk_folder, chunk.chunk_id)
            if found.exists():
                os.link(found, folder / "chunks" / found.name)
        for found in sorted(self._folder.glob("log/*.log")):
            shutil.copyfile(found, folder / "log" / found.name)

    def suspect(self) -> None:
        self.ledger.put("boot", SUSPECT)
        self.reconciling = True

    def reconciled(self) -> None:
        if not self.reconciling and self.ledger.get("boot") == self._boot:
            return
        self.ledger.put("boot", self._boot)
        self.reconciling = False

    def stale_months(self) -> list[int]:
        return self.ledger.stale_months()

    def leads(self) -> bool:
        return True

    def quiet(self) -> bool:
        return not self.ledger.chunks("frozen")

    def release(self) -> None:
        """There is nobody else."""

    def led(self) -> bool:
        return True

    def month_rebuilt(self, month: int) -> None:
        self.ledger.month_rebuilt(month)

    def complete_since(self) -> dict[str, int]:
        return self.ledger.complete_since()

    # -- erase ---------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Ends the open segment of the log: once `passed`, no byte of what was appended before is in it any more."""
        self._writer.renew()
        self._renewed = self._log.end

    def fence(self) -> Callable[[], bool]:
        since = self._clock.milliseconds()
        return lambda: (oldest := self.depth().oldest_milliseconds) is None or oldest > since

    def remains(self) -> dict[str, Any]:
        """Nothing: its files are ours."""
        return {}

    def passed(self) -> bool:
        """Whether all that was appended before the last `renew` is frozen, and its files are gone."""
        return self.balance.cursor.epoch >= self._renewed.epoch

    def rows(self, *states: str) -> Iterator[tuple[str, Kind, bytes]]:
        return self._erasing.rows(*states)

    def remove(self, gone: Callable[[Kind, bytes], bool], names: Iterable[str]) -> Counter[str]:
        return self._erasing.remove(gone, names)

    @property
    def erasing(self) -> bool:
        return self.ledger.erasing()

    def plan_erasure(self, request: str, events: dict[tuple[str, str], int]) -> None:
        self._erasing.plan(request, events)

    def settle_erasure(self, request: str, months: Iterable[int]) -> int:
        return self._erasing.settle(request, months)

    def erased_ids(self) -> list[tuple[str, bytes]]:
        return self.ledger.erased()

    def forget_erased(self, identities: Iterable[tuple[str, bytes]]) -> None:
        self.ledger.forget_erased(identities)

    def taken_links(self) -> list[TakenLink]:
        return self.ledger.links()

    def forget_links(self, links: Iterable[TakenLink]) -> None:
        self.ledger.forget_links(links)

    # -- look ----------------------------------------------------------------------------------------------------

    def _bytes(self) -> int:
        return self._log.bytes_behind(self.balance.cursor) + self.balance.chunk_bytes

    def depth(self) -> Depth:
        in_log = self.balance.oldest_in_log()
        waiting = [c.received_milliseconds for c in self.pending()]
        oldest = min([*waiting, *([in_log] if in_log is not None else [])], default=None)
        return Depth(self.balance.events, self._bytes(), oldest)

    def sizes(self) -> Sizes:
        in_log, in_chunks = self._log.bytes_behind(self.balance.cursor), self.balance.chunk_bytes
        return Sizes(in_log, in_chunks, self.ledger.quarantined_bytes(), *self.claims.size())

    def tallies(self) -> dict[tuple[str, str, str, str], int]:
        """Events by (project, environment, outcome, reason) since the data folder was made."""
        return self.balance.tallies()

    def holds(self, event_id: UUID, project: str) -> bool:
        """Whether the door has accepted this id and remembers it."""
        return self.claims.holds(event_id, project)

    def waiting_for(self, import_id: str) -> bool:
        """Whether anything of an import is not settled: in the log's tail, or in a chunk."""
        if self.balance.import_end(import_id) > self.balance.cursor:
            return True
        return any(chunk.import_id == import_id for chunk in self.pending())

    def quarantined(self, event_id: UUID, project: str) -> bool:
        wanted = (project, event_id.bytes)
        return any(wanted in self.identities(chunk) for chunk in self.ledger.chunks("quarantined"))

    def unreadable(self) -> dict[str, TwintrackError]:
        """Chunks whose file is gone or changed, among those that still matter."""
        faults: dict[str, TwintrackError] = {}
        for chunk in self.ledger.chunks("lookup", "frozen", "quarantined", "damaged"):
            try:
                chunks.content(self._chunk_folder, chunk)
            except ChunkDamaged as error:
                faults[chunk.chunk_id] = error
        return faults


def _number(boot: str) -> int:
    """A boot's name as the ledger keeps it; never 0, which stands for none."""
    return int.from_bytes(project_tag(boot), "big") >> 1 | 1
