"""How many candidates of one text are judged, so that no text can stall us: what lies behind the last is masked unread.

A candidate costs microseconds, and garbage can hold one every few letters. No text that means something comes near.
"""

from collections.abc import Iterator
from typing import Any

_LEAST = 32
EVERY_BYTES = 16
CHEAP_BYTES = 8  # where a candidate is judged by a glance: numbers and addresses may stand close in a table


class Crowded(Exception):
    """The text holds more candidates of a rule than are judged; `start` is where the first unjudged one stands."""

    def __init__(self, start: int) -> None:
        super().__init__("too many candidates")
        self.start = start


def most_candidates(length_bytes: int, every_bytes: int = EVERY_BYTES) -> int:
    """Of one pattern in a text of this length."""
    return _LEAST + length_bytes // every_bytes


def candidates(pattern: Any, data: bytes, every_bytes: int = EVERY_BYTES) -> Iterator[Any]:
    """The matches of a pattern, as many as are judged.

    Raises: Crowded where there are more.
    """
    left = most_candidates(len(data), every_bytes)
    for match in pattern.finditer(data):
        if not left:
            raise Crowded(match.start())
        left -= 1
        yield match
