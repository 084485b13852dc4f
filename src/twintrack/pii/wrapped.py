"""Keys that a line break or an odd space cut in two, as terminals and mails do: read again without the break."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twintrack.pii.bound import candidates
from twintrack.pii.value import made_of

Finder = Callable[[bytes], Iterator[tuple[int, int]]]

_BREAK = re.compile(rb"\\?[\n\t]{1,2}[ ]{0,4}")
_IN_KEY = re.compile(rb"[\w.+/=-]", re.ASCII)
_LEFT = re.compile(rb"""(^|[\s"'=:@,(\[{<>])([\w+/.~!@#$%^&*?-]{1,60})$""", re.ASCII)
_RIGHT = re.compile(rb"""([\w+/.~!@#$%^&*?-]{2,80})={0,2}(?![\w:=({\[])""", re.ASCII)
_PLAIN = re.compile(rb"[A-Za-z]?[a-z]*[.!?-]?|[A-Z]+|[0-9.]+")
_WORD = re.compile("[a-z]+[A-Z]?[a-z]*|[A-Z][a-z]+|[A-Z]+|[0-9]+")
_LEFT_BYTES = 64


class _Joined(NamedTuple):
    """A text without some of its breaks: where they were in it, and how much further the rest stands in the text."""

    data: bytes
    places: list[int]
    removed: list[int]

    def origin(self, place: int) -> int:
        """Where the text has what begins here."""
        behind = bisect_right(self.places, place)
        return place + (self.removed[behind - 1] if behind else 0)

    def breaks(self, start: int, end: int) -> list[int]:
        return self.places[bisect_right(self.places, start) : bisect_right(self.places, end - 1)]


def _joined(data: bytes, goes: Callable[[bytes, int, int], bool]) -> _Joined:
    parts, places, removed, at, length = [], [], [], 0, 0
    for gap in _BREAK.finditer(data):
        if goes(data, *gap.span()):
            parts.append(data[at : gap.start()])
            length += gap.start() - at
            at = gap.end()
            places.append(length)
            removed.append(at - length)
    parts.append(data[at:])
    return _Joined(b"".join(parts), places, removed)


def _inside_key(data: bytes, start: int, end: int) -> bool:
    return _IN_KEY.match(data, start - 1) is not None and _IN_KEY.match(data, end) is not None if start else False


def _inside_value(data: bytes, start: int, end: int) -> bool:
    """Whether what stands on both sides may be one value: random behind, and before no word of a sentence."""
    right = _RIGHT.match(data, end)
    if right is None or not _is_random(right.group(1)):
        return False
    left = _LEFT.search(data[max(0, start - _LEFT_BYTES) : start])
    return left is not None and (left.group(1)[:1] in b"\"'=:" or _PLAIN.fullmatch(left.group(2)) is None)


def over_breaks(find: Finder) -> Finder:
    """The same findings, and those that a break cut."""

    def found(data: bytes) -> Iterator[tuple[int, int]]:
        yield from find(data)
        if b"\n" in data or b"\t" in data:
            joined = _joined(data, _inside_value)
            if joined.places:
                for start, end in find(joined.data):
                    if joined.breaks(start, end):
                        yield joined.origin(start), joined.origin(end - 1) + 1

    return found


def wrapped(pattern: Any, data: bytes) -> Iterator[tuple[int, int]]:
    """What a pattern finds across breaks. Where it finds something without them, what goes on must look as random as
    a key does."""
    if b"\n" not in data and b"\t" not in data:
        return
    joined = _joined(data, _inside_key)
    if not joined.places:
        return
    whole = {match.start() for match in candidates(pattern, data)}
    for match in candidates(pattern, joined.data):
        start, end = match.span()
        cuts = [start, *joined.breaks(start, end), end]
        if len(cuts) == 2:
            continue
        begins = joined.origin(start)
        if begins in whole or not _is_random(joined.data[start : cuts[1]]):
            while len(cuts) > 2 and not _is_random(joined.data[cuts[-2] : cuts[-1]]):
                cuts.pop()
        if len(cuts) > 2 and pattern.fullmatch(joined.data[start : cuts[-1]]) is not None:
            yield begins, joined.origin(cuts[-1] - 1) + 1


def _is_random(part: bytes) -> bool:
    """Whether a part of a key: digits among letters, or letters of both cases in disorder."""
    text = part.decode("ascii", "ignore")
    made = made_of(text)
    if made.digit and (made.lower or made.upper):
        return len(text) >= 3 and not text[:-2].isalpha()
    return len(text) >= 4 and made.lower and made.upper and len(_WORD.findall(text)) >= 3
