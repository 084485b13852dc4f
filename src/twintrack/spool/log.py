"""The log as the writer and the freezer see it: one open segment, and where the earlier ones end.

Promises: what `append` returns for is on disk. A write or sync that fails ends the segment where it was last synced;
nothing is appended again before the next segment's header, which says so, is on disk. That is tried again at each
append and each `mend`, so a disk that works again needs no restart.
Next: spool/accept.py.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from twintrack.seal import DataKeys
from twintrack.spool import segment
from twintrack.spool.segment import HEADER_BYTES, Binding, Damage, Position, Record

log = structlog.get_logger()


class Log:
    """Appended to by one thread, read by another up to places that it was told."""

    def __init__(
        self,
        folder: Path,
        cursor: Position,
        last: Position | None,
        reached: Callable[[str], None],
        keys: DataKeys | None = None,
    ) -> None:
        """Opens what is there; `cursor` is frozen before, `last` the end that a clean stop left behind.

        The first append follows `start`, which opens an epoch of its own.
        """
        self._folder, self._reached, self._keys = folder, reached, keys
        self._handle, self._binding = -1, Binding(b"")
        self.trouble = ""
        self.ends: dict[int, Position | None] = self._find_ends(cursor, last)
        self.end = Position(max([cursor.epoch, *self.ends], default=0), 0)

    def _find_ends(self, cursor: Position, last: Position | None) -> dict[int, Position | None]:
        """Epochs that may hold something unfrozen, and where each ends; None for the one that a crash left open."""
        ends: dict[int, Position | None] = {}
        keys = self._keys
        headers = {epoch: segment.read_header(self._folder, epoch, keys) for epoch in segment.epochs(self._folder)}
        told = {opened.before.epoch: opened.before for opened in headers.values() if opened is not None}
        if last is not None:
            told.setdefault(last.epoch, last)
        newest = max((epoch for epoch, opened in headers.items() if opened is not None), default=0)
        for epoch, opened in headers.items():
            if epoch < cursor.epoch:
                segment.remove_segment(self._folder, epoch)
            elif epoch in told or epoch == newest:
                ends[epoch] = told.get(epoch)
            elif opened is None:
                # Its making was cut short; nothing follows a header that is not on disk. It is no epoch: as the last
                # one its end would stand in the next header, and nobody would be told the end of the one before it.
                log.warning("spool_segment_unfinished", epoch=epoch)
            else:
                # It is not the last and nobody told its end, so it was never written to.
                ends[epoch] = Position(epoch, HEADER_BYTES)
        return ends

    def read(self, start: Position, stop: Position | None = None) -> Iterator[tuple[Position, Record | Damage]]:
        """What stands between two places of one epoch, without `stop` up to the epoch's end."""
        end = stop or self.ends.get(start.epoch)
        return segment.read_records(self._folder, start.epoch, start, end, self._keys)

    def has_plain(self) -> bool:
        """Whether a segment is not sealed."""
        headers = (segment.read_header(self._folder, epoch, self._keys) for epoch in self.ends)
        return any(opened is not None and opened.binding.cipher is None for opened in headers)

    def start(self, last: Position) -> None:
        """Opens a new epoch behind `last`, or leaves that to the first append."""
        self.end = last
        if last.epoch in self.ends:
            self.ends[last.epoch] = last
        self.mend()

    def _open(self) -> None:
        epoch = max([self.end.epoch, *segment.epochs(self._folder)]) + 1
        self._handle, self._binding = segment.create_segment(self._folder, epoch, self.end, self._keys)
        if self.end.epoch in self.ends:
            self.ends[self.end.epoch] = self.end
        self.end = self.ends[epoch] = Position(epoch, HEADER_BYTES)
        self.trouble = ""

    def append(self, records: list[Record]) -> Position:
        """Makes records durable; the place behind them. Raises: OSError when nothing of them was kept."""
        if self._handle < 0:
            self._open()
        data, end = segment.encode_records(records, self._binding, self.end)
        try:
            segment.write_all(self._handle, data)
            self._reached("after_write")
            self._reached("before_sync")
            os.fdatasync(self._handle)
            self._reached("after_sync")
        except BaseException as error:
            self.renew()
            log.error("spool_write_failed", error=type(error).__name__)
            raise
        self.end = self.ends[end.epoch] = end
        return end

    def renew(self) -> None:
        """Ends the segment at the last synced place and opens the next one, or leaves that to the next append."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = -1
        self.mend()

    def mend(self) -> None:
        """Opens the next segment where the last one has failed; says in `trouble` why it cannot."""
        if self._handle >= 0:
            return
        try:
            self._open()
        except OSError as error:
            self.trouble = f"the spool cannot be written: {error.strerror}"

    def bytes_behind(self, cursor: Position) -> int:
        """How much stands in the log behind a place."""
        ends = [end for epoch, end in list(self.ends.items()) if epoch >= cursor.epoch and end is not None]
        behind = sum(end.offset - HEADER_BYTES for end in ends)
        return max(0, behind - max(0, cursor.offset - HEADER_BYTES))

    def forget(self, epoch: int) -> None:
        """Deletes a segment that is frozen to its end."""
        segment.remove_segment(self._folder, epoch)
        self.ends.pop(epoch, None)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
