"""The public test kit: a clock that moves when told, and wire events as the SDK makes them."""

import random
import time
from typing import Any
from uuid import UUID

from twintrack.clock import iso


class ManualClock:
    """Stands still until `advance`."""

    def __init__(self, milliseconds: int = 1_767_225_600_000) -> None:
        self._milliseconds = milliseconds
        self._monotonic = 0.0

    def milliseconds(self) -> int:
        return self._milliseconds

    def monotonic_seconds(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._milliseconds += round(seconds * 1000)
        self._monotonic += seconds


def uuid7(milliseconds: int | None = None, source: random.Random | None = None) -> str:
    """A UUIDv7. Source: RFC 9562 section 5.7."""
    born = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    bits = (source or random.SystemRandom()).getrandbits(80)
    number = born << 80 | bits
    number = number & ~(0xF << 76) | 7 << 76
    return str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


def wire_event(milliseconds: int | None = None, **fields: Any) -> dict[str, Any]:
    """An event as the contract has it, born now unless told otherwise."""
    now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    return {
        "event_id": uuid7(now),
        "event_name": "click_send",
        "anonymous_id": "anon-1",
        "session_id": "session-1",
        "sequence": 0,
        "client_timestamp": iso(now),
        "event_metadata": {"feature": "chat"},
        "source": "sdk",
        **fields,
    }
