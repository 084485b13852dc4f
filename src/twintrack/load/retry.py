"""When the store may be asked again: a circuit breaker with a half-open probe, as a value. Pure.

    closed ──failed──> open ──its time has come──> half open ──succeeded──> closed
                         ^──────────failed────────────┘

While it is open nothing is asked; half open lets one probe and one small insert through. Clock and random number are
the caller's. Full jitter keeps many loaders from coming back to a store at the same moment.
Source: AWS Architecture Blog, "Exponential Backoff And Jitter"; Nygard, "Release It!", Circuit Breaker.
"""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Pace(NamedTuple):
    """How fast a kind of failure is tried again: never sooner than `least`, never later than `most`, seconds."""

    least: float
    first: float
    most: float

    def pause(self, failures: int, random: float) -> float:
        """Full jitter below a ceiling that doubles with each failure in a row.

        Shape: failures >= 1, random in [0, 1).
        """
        ceiling = min(self.most, self.first * 2.0 ** min(failures - 1, 20))
        return max(min(self.least, self.most), random * ceiling)


class Paces(NamedTuple):
    away: Pace
    busy: Pace
    denied: Pace


def paces(most_seconds: float) -> Paces:
    """The paces of one longest pause: a full store is left alone four times as long, a locked door is not rattled."""
    return Paces(
        away=Pace(0.0, min(0.2, most_seconds), most_seconds),
        busy=Pace(min(1.0, most_seconds / 2), min(4.0, most_seconds), most_seconds * 4),
        denied=Pace(most_seconds / 4, most_seconds, most_seconds),
    )


class Breaker(NamedTuple):
    """Starts half open: nothing is known of the store yet."""

    state: State = State.HALF_OPEN
    failures: int = 0
    until: float = 0.0  # monotonic seconds

    def at(self, now: float) -> "Breaker":
        """The same, half open where its pause is over."""
        if self.state is State.OPEN and now >= self.until:
            return self._replace(state=State.HALF_OPEN)
        return self

    def failed(self, pace: Pace, now: float, random: float) -> "Breaker":
        failures = self.failures + 1
        return Breaker(State.OPEN, failures, now + pace.pause(failures, random))

    def succeeded(self) -> "Breaker":
        return Breaker(State.CLOSED)
