"""Slows those who guess: after a few failures each further try must wait, for an account and for an address.

A try counts before it is judged, so that many at once are no way around. Memory is bounded; what was longest quiet goes
first. An account waits a minute at most: whoever wants to lock somebody out can only slow them.
"""

import math
import threading
from collections import OrderedDict
from typing import NamedTuple

from twintrack.clock import Clock
from twintrack.errors import TooMany

_MOST_NAMES = 10_000
_FORGOTTEN_SECONDS = 3600.0


class _Kind(NamedTuple):
    free: int
    most_seconds: float


KINDS = {"account": _Kind(5, 60.0), "address": _Kind(20, 900.0)}


class Guesses:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # kind and name to (failures, when the next try may come)
        self._tries: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def count(self, **names: str) -> None:
        """One try under each of the names, which are `account` and `address`.

        Raises: TooMany where one of them must wait; then none is counted.
        """
        now = self._clock.monotonic_seconds()
        with self._lock:
            wait = max((self._tries.get(item, (0, 0.0))[1] - now for item in names.items()), default=0.0)
            if wait > 0:
                raise TooMany(
                    "too many wrong tries",
                    hint="wait, then try again; a link from an admin also signs in",
                    code="slow_down",
                    retry_after_seconds=math.ceil(wait),
                )
            for item in names.items():
                kind = KINDS[item[0]]
                failures, until = self._tries.pop(item, (0, 0.0))
                failures = 1 if until < now - _FORGOTTEN_SECONDS else failures + 1
                over = failures - kind.free
                pause = 0.0 if over < 0 else min(kind.most_seconds, 2.0 ** min(over + 1, 20))
                self._tries[item] = (failures, now + pause)
            while len(self._tries) > _MOST_NAMES:
                self._tries.popitem(last=False)

    def right(self, **names: str) -> None:
        """The try was right: an account starts anew; an address gets this one try back."""
        with self._lock:
            for item in names.items():
                failures, _ = self._tries.pop(item, (0, 0.0))
                if item[0] == "address" and failures > 1:
                    self._tries[item] = (failures - 1, self._clock.monotonic_seconds())

    @property
    def remembered(self) -> int:
        return len(self._tries)
