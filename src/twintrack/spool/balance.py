"""What is where, in memory: each event's fate in numbers, the unfrozen tail of the log, how much waits.

The ledger has the durable part of it; here is that part plus what the log's tail holds. Writer and loader both change it.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from twintrack.spool.ledger import Ledger
from twintrack.spool.segment import Position, Record

Place = tuple[str, str]  # (project, environment)


class _Tail(NamedTuple):
    """A synced group that is not frozen yet."""

    end: Position
    received_milliseconds: int


class Balance:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._tail: deque[_Tail] = deque()
        self._tallies: Counter[tuple[str, str, str, str]] = Counter(ledger.tallies())
        self._imports: dict[str, Position] = {}  # import id to the end of what it appended
        self.cursor = ledger.cursor()
        self.events = ledger.waiting_events()  # accepted, not in the store
        self.chunk_bytes = ledger.waiting_bytes()

    def appended(self, end: Position, records: list[Record], events: int) -> None:
        """A group of records stands in the log."""
        with self._lock:
            self.events += events
            self._tail.append(_Tail(end, min(record.received for record in records)))
            for record in records:
                if record.import_id:
                    self._imports[record.import_id] = end
                self._count(record)

    def _count(self, record: Record) -> None:
        for fate, events in record.counts.items():
            outcome, _, reason = fate.partition("|")
            self._tallies[(record.project, record.environment, outcome, reason)] += events

    def frozen(self, cursor: Position) -> bool:
        """Everything before the cursor is in chunks; whether anything stands behind it."""
        with self._lock:
            while self._tail and self._tail[0].end <= cursor:
                self._tail.popleft()
            self.cursor = cursor
            self.chunk_bytes = self._ledger.waiting_bytes()
            return bool(self._tail)

    def moved(self, fates: Iterable[tuple[Place, str, str, int]]) -> None:
        """Events left the spool: (place, outcome, reason, events)."""
        with self._lock:
            for place, outcome, reason, events in fates:
                self._tallies[(*place, outcome, reason)] += events
                self.events -= events
            self.chunk_bytes = self._ledger.waiting_bytes()

    def counted(self, fates: Iterable[tuple[Place, str, str, int]]) -> None:
        """Events that had left the spool before: only what became of them is another thing now."""
        with self._lock:
            for place, outcome, reason, events in fates:
                self._tallies[(*place, outcome, reason)] += events
            self.chunk_bytes = self._ledger.waiting_bytes()

    def returned(self, place: Place, outcome: str, reason: str, events: int) -> None:
        """Events that had left the spool are in it again."""
        self.moved([(place, outcome, reason, -events)])

    def count_again(self, tail: Iterable[Record]) -> None:
        """Counts from the ledger and the log's tail: of a record that was lost whose it was is not known any more."""
        with self._lock:
            self._tallies = Counter(self._ledger.tallies())
            for record in tail:
                self._count(record)

    def oldest_in_log(self) -> int | None:
        with self._lock:
            return min((tail.received_milliseconds for tail in self._tail), default=None)

    def tallies(self) -> dict[tuple[str, str, str, str], int]:
        with self._lock:
            return dict(self._tallies)

    def import_end(self, import_id: str) -> Position:
        with self._lock:
            return self._imports.get(import_id, Position(0, 0))
