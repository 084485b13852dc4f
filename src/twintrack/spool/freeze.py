"""From log to chunks: what the log holds behind the cursor becomes chunk files, and one transaction of the ledger moves
the cursor, names the chunks and counts the fates.

A crash in between leaves files that nothing names and a cursor that has not moved: the same records are frozen again.
Next: load/loader.py, which settles chunks through spool/settle.py.
"""

from collections.abc import Callable, Iterator

import structlog

from twintrack.spool import chunks, segment
from twintrack.spool.balance import Balance
from twintrack.spool.chunks import Folder, Frozen, Gathered, Group
from twintrack.spool.erase import Filtered, MarksOf, without_erased
from twintrack.spool.ledger import Ledger
from twintrack.spool.log import Log
from twintrack.spool.segment import Damage, Position, Record

log = structlog.get_logger()
# One insert is one block, and the engine and both its ends hold it in memory.
_MOST_BYTES = 64 << 20


class Freezer:
    def __init__(
        self,
        folder: Folder,
        spool_log: Log,
        ledger: Ledger,
        balance: Balance,
        chunk_rows: int,
        reached: Callable[[str], None],
        marks_of: MarksOf,
    ) -> None:
        self._marks_of = marks_of
        self._folder, self._log, self._ledger, self._balance = folder, spool_log, ledger, balance
        self._chunk_rows, self._reached = chunk_rows, reached

    def freeze(self, end: Position) -> tuple[int, bool]:
        """Freezes up to a chunk's worth of rows; how many records it read, and whether more stand before `end`."""
        if self._ledger.settle_doubt():
            chunks.remove_unnamed(self._folder, self._ledger.named())
        start = cursor = self._ledger.cursor()
        groups: dict[Group, Gathered] = {}
        read: list[tuple[Record, int]] = []  # with events that are lost
        erased: list[Filtered] = []
        rows = size = 0
        passed: list[int] = []
        for epoch in sorted(e for e in list(self._log.ends) if e >= cursor.epoch):
            if epoch > end.epoch or rows >= self._chunk_rows or size >= _MOST_BYTES:
                break
            if epoch > cursor.epoch:
                cursor = Position(epoch, 0)
            whole = True
            for place, found in self._log.read(cursor, end if epoch == end.epoch else None):
                record, lost = (found.record, found.events) if isinstance(found, Damage) else (found, 0)
                filtered = without_erased(record, self._marks_of(record.project))
                if filtered.ids:
                    erased.append(filtered)
                    record = filtered.record
                chunks.gather(record, groups)
                read.append((record, lost))
                rows += sum(part.rows for part in record.parts)
                size += sum(len(part.lines) for part in record.parts)
                cursor = place
                if rows >= self._chunk_rows or size >= _MOST_BYTES:
                    whole = False
                    break
            if epoch < end.epoch and whole:
                passed.append(epoch)
                cursor = Position(epoch + 1, 0)
        if cursor == start:
            return 0, False
        self._name(self._write(groups), read, erased, cursor)
        for epoch in passed:
            self._log.forget(epoch)
        more = self._balance.frozen(cursor)
        if any(lost and not record.project for record, lost in read):
            self._balance.count_again(self.tail(end))
        return len(read), more

    def _write(self, groups: dict[Group, Gathered]) -> list[Frozen]:
        written: list[Frozen] = []
        try:
            for group, gathered in groups.items():
                written.append(chunks.write(self._folder, group, gathered))
            if written:
                segment.sync_folder(self._folder.path)
        except BaseException:
            self._discard(written)
            raise
        self._reached("after_chunk_write")
        return written

    def _name(
        self, written: list[Frozen], read: list[tuple[Record, int]], erased: list[Filtered], cursor: Position
    ) -> None:
        lost_fates = []
        gone = [((record.project, record.environment), "erased", "log", len(ids)) for record, ids, _ in erased]
        try:
            with self._ledger as ledger:
                for frozen in written:
                    ledger.add_chunk(frozen)
                for record, lost in read:
                    for fate, events in record.counts.items():
                        outcome, _, reason = fate.partition("|")
                        ledger.tally(record.project, record.environment, outcome, reason, events)
                    if record.refused:
                        ledger.refuse(record.project, record.received, record.refused)
                    if lost:
                        ledger.tally(record.project, record.environment, "damaged", "log_record", lost)
                        lost_fates.append(((record.project, record.environment), "damaged", "log_record", lost))
                for record, ids, links in erased:
                    ledger.note_erased([(record.project, event_id) for event_id in ids])
                    ledger.note_links(links)
                for place, outcome, reason, events in gone:
                    ledger.tally(*place, outcome, reason, events)
                ledger.set_cursor(cursor)
        except BaseException:
            self._discard(written)
            raise
        if gone:
            self._balance.moved(gone)
        if lost_fates:
            log.error("spool_records_damaged", events=sum(fate[3] for fate in lost_fates))
            self._balance.moved(lost_fates)

    def _discard(self, written: list[Frozen]) -> None:
        """Deletes files that no ledger row names; what the ledger may yet name stays until that is settled."""
        if not self._ledger.in_doubt:
            for frozen in written:
                chunks.path(self._folder, frozen.chunk.chunk_id).unlink(missing_ok=True)

    def tail(self, end: Position) -> Iterator[Record]:
        """What the log holds between the cursor and a place."""
        cursor = self._ledger.cursor()
        for epoch in sorted(e for e in list(self._log.ends) if cursor.epoch <= e <= end.epoch):
            start = cursor if epoch == cursor.epoch else Position(epoch, 0)
            for _, found in self._log.read(start, end if epoch == end.epoch else None):
                yield found.record if isinstance(found, Damage) else found
