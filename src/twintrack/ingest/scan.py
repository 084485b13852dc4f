"""Raw JSON text, cut and mended without decoding it: what the tolerant second try of decode.py stands on.

Strings and brackets are all that is looked at, in one flat pass: no recursion, so depth cannot hurt; possessive
patterns that look at no sign twice, so length cannot either. Bad values stay where they are, for their event alone.
"""

import re

from twintrack.errors import RequestError

# Arrays and objects of one body, at a microsecond and some seventy bytes each: five million fit in 16 MiB, and ten
# thousand events of the SDK have some fifty thousand.
_MOST_CONTAINERS = 250_000

# A string, closed or not: one that is not takes the rest, so that no later quote starts another try.
_STRING = rb'"(?:[^"\\]++|\\.)*+"?'
_WHOLE_STRING = re.compile(_STRING, re.DOTALL)
_MARK = re.compile(_STRING + rb"|[\[\]{},:]", re.DOTALL)
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb"|\[\]|\{\})*+[\[\]{}]", re.DOTALL)
_CLOSING = {b"["[0]: b"]"[0], b"{"[0]: b"}"[0]}


def split(text: bytes, most: int) -> list[bytes] | dict[bytes, bytes] | None:
    """The elements of a JSON array, or the raw values of an object by raw key; None where brackets do not match.

    Stops behind the first element beyond `most`.
    """
    if text[:1] not in (b"[", b"{"):
        return None
    is_object = text[:1] == b"{"
    end = b"}" if is_object else b"]"
    pieces: list[tuple[bytes, bytes]] = []
    at = start = 1
    key_end = -1
    while len(pieces) <= most:
        found = _MARK.search(text, at)
        if found is None:
            return None
        mark, at = found.group(), found.end()
        if mark in (b",", end):
            key = text[start:key_end].strip() if key_end >= 0 else b""
            value = text[max(start, key_end + 1) : found.start()].strip()
            if key or value:
                pieces.append((key, value))
            if mark == end:
                if text[at:].strip():
                    return None  # a second array would be left out without a word
                break
            start, key_end = at, -1
        elif mark == b":" and is_object and key_end < 0:
            key_end = found.start()
        elif mark in (b"[", b"{"):
            at = _behind(text, found.start())
            if at < 0:
                return None
        elif mark in (b"]", b"}"):
            return None
    return dict(pieces) if is_object else [value for _, value in pieces]


def _behind(text: bytes, at: int) -> int:
    """The place behind the array or object that opens at `at`, -1 where it never closes."""
    closing = bytearray()
    while True:
        mark = text[at]
        at += 1
        if mark in _CLOSING:
            closing.append(_CLOSING[mark])
        elif closing.pop() != mark:
            return -1
        if not closing:
            return at
        found = _BRACKET.match(text, at)
        if found is None:
            return -1
        at = found.end() - 1


def check_containers(text: bytes) -> None:
    """Raises: RequestError 413 for more arrays and objects than a batch of events can need."""
    if _opened(text) > _MOST_CONTAINERS and _opened(_WHOLE_STRING.sub(b"", text)) > _MOST_CONTAINERS:
        raise RequestError(
            f"the body holds more than {_MOST_CONTAINERS} arrays and objects",
            hint="send smaller batches; nothing of this one was kept",
            code="batch_too_large",
            status=413,
        )


def _opened(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{") if len(text) > _MOST_CONTAINERS else 0


# Every escape is matched, so that the backslash of one is never taken for the start of the next.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def mend(text: bytes) -> bytes:
    """The text with U+FFFD for each lone surrogate and for each byte that is not UTF-8."""
    if not text.isascii():
        text = text.decode("utf-8", "replace").encode()
    if b"\\u" in text:
        text = _ESCAPE.sub(lambda found: rb"\ufffd" if found["lone"] else found.group(), text)
    return text
