"""How long accepted events wait for others, so that they share an insert."""

from threading import Event

from twintrack.clock import Clock
from twintrack.spool.protocol import Spool

# An insert and the merges it causes cost some 50 ms of processor time whatever its size: where many events come, it
# waits for more of them, for so many ages at most, or for this share of a chunk.
_BUSY_ROWS = 500
_BUSY_PATIENCE = 3
_ENOUGH_OF_A_CHUNK = 0.4
_LOOKS_PER_AGE = 4


class Company:
    def __init__(self, spool: Spool, clock: Clock, age_seconds: float, chunk_rows: int) -> None:
        self._spool, self._clock, self._age_seconds, self._chunk_rows = spool, clock, age_seconds, chunk_rows
        self._busy = False
        self._froze_at = 0.0

    def froze(self) -> None:
        """Whatever waits from now on came after this."""
        self._froze_at = self._clock.monotonic_seconds()

    def loaded(self, rows: int) -> None:
        """How many came is the best guess of how many will come."""
        self._busy = rows >= _BUSY_ROWS

    def wait(self, stopping: Event) -> None:
        """Gives an accepted event its age to be joined by others; under load longer, as long as others come."""
        least, most, look = self._age_seconds, self._age_seconds, self._age_seconds / _LOOKS_PER_AGE
        waited, before = 0.0, -1
        if self._busy:  # those that came during the last insert have waited for it
            most, waited = least * _BUSY_PATIENCE, self._clock.monotonic_seconds() - self._froze_at
        while waited < most and not stopping.is_set():
            waiting, _, oldest = self._spool.depth()
            nothing = not waiting and oldest is None
            enough = waiting >= self._chunk_rows * _ENOUGH_OF_A_CHUNK
            if nothing or enough or (waited >= least and waiting == before):
                return
            before = waiting
            stopping.wait(look)
            waited += look
