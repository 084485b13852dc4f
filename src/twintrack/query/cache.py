"""Answers that are still true, and questions that are being answered: each is asked of the engine once.

An answer is kept with the version of the data it was read from (`Store.version`: the parts that hold it, so inserts,
erasure and retention all change it) and given only while that version stands. The key holds the whole statement with its
values, in which tenancy and hidden columns are written out, and the role beside it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, NamedTuple

_MOST_CELLS_OF_ONE = 200_000
_MOST_CELLS = 4_000_000


class Kept(NamedTuple):
    rows: list[Any]
    rows_read: int

    @property
    def cells(self) -> int:
        return sum(map(len, self.rows)) + 1


class _Reading:
    """One reading that askers share: it has begun, or waits for the one before it."""

    def __init__(self, version: str) -> None:
        self.version, self.begun, self.waiting = version, False, 0
        self.task: asyncio.Task[Kept]


class Cache:
    """Shape: `most` answers are kept; 0 keeps none, and each question is asked for itself.

    A question is read by at most one reading at a time. Who asks while it is read from older data waits for the next one,
    with all others who came meanwhile: so an answer is never older than its question, and however many ask the same, each
    waits for two readings at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[str, Kept]] = OrderedDict()
        self._cells = 0
        self._readings: dict[Hashable, list[_Reading]] = {}

    async def get(self, key: Hashable, version: str, ask: Callable[[], Awaitable[Kept]]) -> tuple[Kept, bool]:
        """The answer, and whether it was there. Without a version nothing is kept, but readings are shared.

        Raises: what `ask` raises, to each who waits; nothing of a failure is kept.
        """
        if not self._most:
            return await ask(), False
        found = self._kept.get(key)
        if version and found is not None and found[0] == version:
            self._kept.move_to_end(key)
            return found[1], True
        line = self._readings.setdefault(key, [])
        joined = next((r for r in line if not r.begun or (version and r.version == version)), None)
        if joined is None:
            joined = _Reading(version)
            joined.task = asyncio.ensure_future(self._read(key, joined, line[-1].task if line else None, ask))
            line.append(joined)
        elif not joined.begun:
            joined.version = version  # what it will read is at least as new
        joined.waiting += 1
        try:
            return await asyncio.shield(joined.task), False
        finally:
            joined.waiting -= 1
            if not joined.waiting:
                self._leave(key, joined)
                joined.task.cancel()  # nobody waits any more; of one that is done it means nothing

    async def _read(
        self,
        key: Hashable,
        reading: _Reading,
        before: "asyncio.Task[Kept] | None",
        ask: Callable[[], Awaitable[Kept]],
    ) -> Kept:
        if before is not None:
            await asyncio.wait([before])
        reading.begun = True
        try:
            answer = await ask()
        finally:
            self._leave(key, reading)
        if reading.version and answer.cells <= _MOST_CELLS_OF_ONE:
            self._drop(key)
            self._kept[key] = (reading.version, answer)
            self._cells += answer.cells
            while len(self._kept) > self._most or self._cells > _MOST_CELLS:
                self._drop(next(iter(self._kept)))
        return answer

    def _leave(self, key: Hashable, reading: _Reading) -> None:
        line = self._readings.get(key, [])
        if reading in line:
            line.remove(reading)
            if not line:
                del self._readings[key]

    def _drop(self, key: Hashable) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._cells -= gone[1].cells
