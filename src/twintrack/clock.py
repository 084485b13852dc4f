"""The only reader of the wall clock. All instants are aware UTC or whole milliseconds since 1970."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol
from uuid import uuid4

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    def milliseconds(self) -> int:
        """Wall clock, milliseconds since 1970-01-01 UTC. May jump."""
        ...

    def monotonic_seconds(self) -> float:
        """Never goes back; only differences mean something."""
        ...


class SystemClock:
    def milliseconds(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_seconds(self) -> float:
        return time.monotonic()


def boot_id() -> str:
    """Which run of the machine this is; another name each time where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid4())


def instant(milliseconds: int) -> datetime:
    """The aware UTC instant of milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def iso(milliseconds: int) -> str:
    """`2026-01-31T09:00:00.000Z`."""
    return instant(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_months: dict[int, int] = {}


def month_of(seconds: float) -> int:
    """202601 for an instant of January 2026, UTC, given in seconds since 1970."""
    day = int(seconds // 86_400)
    month = _months.get(day)
    if month is None:
        moment = instant(day * 86_400_000)
        if len(_months) > 10_000:
            _months.clear()
        month = _months[day] = moment.year * 100 + moment.month
    return month


def milliseconds_of(moment: datetime) -> int:
    """Whole milliseconds since 1970 of an aware instant."""
    return round(moment.timestamp() * 1000)
