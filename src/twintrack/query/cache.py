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


class _Running:
    def __init__(self, task: "asyncio.Task[Kept]") -> None:
        self.task, self.waiting = task, 0


class Cache:
    """Shape: `most` answers are kept; 0 keeps none, and each question is asked for itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[str, Kept]] = OrderedDict()
        self._cells = 0
        self._running: dict[Hashable, _Running] = {}

    async def get(self, key: Hashable, version: str, ask: Callable[[], Awaitable[Kept]]) -> tuple[Kept, bool]:
        """The answer, and whether it was there. Who asks what is being asked waits for that answer.

        Raises: what `ask` raises, to each who waits; nothing of a failure is kept.
        """
        if not self._most or not version:
            return await ask(), False
        found = self._kept.get(key)
        if found is not None and found[0] == version:
            self._kept.move_to_end(key)
            return found[1], True
        asked = (key, version)
        running = self._running.get(asked)
        if running is None:
            running = self._running[asked] = _Running(asyncio.ensure_future(self._ask(asked, ask)))
        running.waiting += 1
        try:
            return await asyncio.shield(running.task), False
        finally:
            running.waiting -= 1
            if not running.waiting:
                self._running.pop(asked, None)
                running.task.cancel()  # nobody waits any more; of one that is done it means nothing

    async def _ask(self, asked: tuple[Hashable, str], ask: Callable[[], Awaitable[Kept]]) -> Kept:
        answer = await ask()
        key, version = asked
        if answer.cells <= _MOST_CELLS_OF_ONE:
            self._drop(key)
            self._kept[key] = (version, answer)
            self._cells += answer.cells
            while len(self._kept) > self._most or self._cells > _MOST_CELLS:
                self._drop(next(iter(self._kept)))
        return answer

    def _drop(self, key: Hashable) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._cells -= gone[1].cells
