"""Keys that a line break or an odd space cut in two, as terminals and mails do: read again without the break."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import re2

from twintrack.pii.bound import candidates
from twintrack.pii.value import made_of

_BREAK = re.compile(rb"(?<=[\w.+/=-])\\?[\n\t]{1,2}[ ]{0,4}(?=[\w.+/=-])", re.ASCII)
_TOKEN = re2.compile(r"^[\w+/=.-]*")
_WORD = re.compile("[a-z]+[A-Z]?[a-z]*|[A-Z][a-z]+|[A-Z]+|[0-9]+")


def wrapped(pattern: Any, data: bytes) -> Iterator[tuple[int, int]]:
    """What a pattern finds across breaks, where the part behind each break looks as random as a key does."""
    if b"\n" not in data and b"\t" not in data:
        return
    parts, places, removed, at, length = [], [], [], 0, 0
    for gap in _BREAK.finditer(data):
        part = data[at : gap.start()]
        parts.append(part)
        length += len(part)
        at = gap.end()
        places.append(length)  # in the joined text, where a break was
        removed.append(at - length)  # how much further the rest stands in the text
    if not places:
        return
    parts.append(data[at:])
    joined = b"".join(parts)
    for match in candidates(pattern, joined):
        start, end = match.span()
        first, last = bisect_right(places, start), bisect_right(places, end - 1)
        cuts = [start, *places[first:last], end]
        while len(cuts) > 2 and not _is_random(joined[cuts[-2] : cuts[-1]]):
            cuts.pop()
        if len(cuts) > 2 and pattern.fullmatch(joined[start : cuts[-1]]) is not None:
            before, behind = bisect_right(places, start), bisect_right(places, cuts[-1] - 1)
            yield start + (removed[before - 1] if before else 0), cuts[-1] + (removed[behind - 1] if behind else 0)


def _is_random(part: bytes) -> bool:
    """Whether a part of a key: digits among letters, or letters of both cases in disorder."""
    text = part.decode("ascii", "ignore")
    made = made_of(text)
    if made.digit and (made.lower or made.upper):
        return len(text) >= 3 and not text[:-2].isalpha()
    return len(text) >= 4 and made.lower and made.upper and len(_WORD.findall(text)) >= 3
