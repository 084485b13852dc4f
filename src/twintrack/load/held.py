"""Chunks that met an answer which nobody foresaw: each rests for a while, and is at fault where others pass meanwhile."""

from collections.abc import Iterable
from typing import NamedTuple

from twintrack.spool.protocol import Chunk

# So often an answer that nobody foresaw may come while other inserts pass, before it counts as a refusal.
UNCLEAR_TRIES = 5


class _Held(NamedTuple):
    """How often it failed, until when it rests, how many inserts had passed when it first failed."""

    failures: int
    until: float
    passed: int


class HeldChunks:
    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._passed = 0  # inserts since the start
        self._unclear = 0  # unforeseen answers since the last insert that passed

    def passed(self) -> None:
        """An insert went through."""
        self._passed, self._unclear = self._passed + 1, 0

    def rested(self, chunk: Chunk, now: float) -> bool:
        held = self._held.get(chunk.chunk_id)
        return held is None or now >= held.until

    def failures(self, chunk: Chunk) -> int:
        held = self._held.get(chunk.chunk_id)
        return held.failures if held else 0

    def at_fault(self, chunk: Chunk) -> bool:
        """Whether one failure more is the chunk's own."""
        held = self._held.get(chunk.chunk_id)
        return held is not None and held.failures + 1 >= UNCLEAR_TRIES and self._passed > held.passed

    def hold(self, chunk: Chunk, until: float) -> bool:
        """The chunk failed and rests; whether nothing has passed since another did, so that the store is at fault."""
        held = self._held.get(chunk.chunk_id, _Held(0, 0.0, self._passed))
        self._held[chunk.chunk_id] = _Held(held.failures + 1, until, held.passed)
        self._unclear += 1
        return self._unclear > 1

    def inherit(self, chunk: Chunk, halves: Iterable[Chunk]) -> None:
        """The halves stand in the chunk's place: what passed since it first failed speaks against them too."""
        held = self._held.pop(chunk.chunk_id)
        for half in halves:
            self._held[half.chunk_id] = _Held(0, 0.0, held.passed)

    def release(self, chunk: Chunk) -> None:
        self._held.pop(chunk.chunk_id, None)
