"""Telephone numbers: international ones by country and length, national ones by form, others by the words beside them."""

import tomllib
from collections.abc import Iterator
from importlib import resources

import re2

_LOOK_BYTES = 72
_DATA = tomllib.loads((resources.files("twintrack.pii") / "phones.toml").read_text(encoding="utf-8"))
_NATIONAL_FORMS = "|".join(form.replace("([ .", "(?:[ .") for form in _DATA["national"])
_BEFORE, _AFTER, _UNLESS = ("(?i)(?:" + "|".join(_DATA[kind]) + ")" for kind in ("before", "after", "unless"))
_SEPARATED = r"(?:[ .\-/()\t\n]{0,3}\d)"
_ABROAD = r"(?:\+|\b00)[ (\t]?[1-9](?:[ .\-/()\t\n]{0,3}\d){6,}"
_ANY = r"\(?\d" + _SEPARATED + "{6,}"

NEEDS = "|".join((*_DATA["needs"], _BEFORE, _AFTER))
_ABROAD_PATTERN = re2.compile(_ABROAD)
_NATIONAL = re2.compile(_NATIONAL_FORMS)
_ANY_PATTERN = re2.compile(_ANY)
_BEFORE_PATTERN = re2.compile(_BEFORE)
_AFTER_PATTERN = re2.compile(_AFTER)
_UNLESS_PATTERN = re2.compile(_UNLESS)
_DIGIT = re2.compile(r"\d+")
_DATE = re2.compile(
    r"^\(?(?:(?:19|20)\d{2}[./ -]\d{1,2}[./ -]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d{2})(?:[ \t]|$)"
)
_STAMP = re2.compile(r"^(?:1\d{12}|1[5-9]\d{8}|(?:19|20)\d{12})$")
_LENGTHS: dict[str, list[int]] = _DATA["lengths"]


def phones(data: bytes) -> Iterator[tuple[int, int]]:
    yield from _abroad(data)
    words = _BEFORE_PATTERN.search(data) is not None or _AFTER_PATTERN.search(data) is not None
    for match in _NATIONAL.finditer(data):
        start, end = match.span()
        if _stands_alone(data, start, end) and not _unlike(data[start:end]) and not _is_else(data, start):
            yield start, end
    if words:
        for match in _ANY_PATTERN.finditer(data):
            start, end = _shortened(data, *match.span())
            if _has_word(data, start, end) and not _unlike(data[start:end]):
                yield start, end


def _abroad(data: bytes) -> Iterator[tuple[int, int]]:
    for match in _ABROAD_PATTERN.finditer(data):
        start, end = match.span()
        if start and (data[start - 1 : start].isalnum() or data[start - 1] in b"+-._/"):
            continue
        prefix = 1 if data[start : start + 1] == b"+" else 2
        if prefix == 2 and start > 1 and data[start - 1] in b" \t-" and data[start - 2 : start - 1].isdigit():
            continue  # the middle of a longer number
        most, least = 0, 0
        digits, reached = 0, start
        number = b""
        for group in _DIGIT.finditer(data, start + prefix, end):
            if most and digits + len(group.group()) > most:
                break
            number += group.group()
            digits, reached = len(number), group.end()
            if not most and digits >= 1:
                least, most = _bounds(number.decode())
        bare = prefix == 2 and reached - start == 13 and _is_article(data[start:reached])
        if least <= digits <= most and not bare:
            yield start, reached


def _bounds(number: str) -> tuple[int, int]:
    """Fewest and most digits, country code and a trunk `(0)` included."""
    for code in (number[:1], number[:2]):
        if code in _LENGTHS:
            least, most = _LENGTHS[code]
            return len(code) + least, len(code) + most + 1 * (code not in ("1", "7"))
    least, most = _LENGTHS["other"]
    return 2 + least, min(15, 3 + most)


def _is_article(part: bytes) -> bool:
    """Whether 13 digits are an article's number (EAN-13), by their check digit. Source: GS1 General Specifications."""
    return part.isdigit() and sum((c - 48) * (3 if place % 2 else 1) for place, c in enumerate(part)) % 10 == 0


def _digits(part: bytes) -> bytes:
    return b"".join(_DIGIT.findall(part))


def _unlike(part: bytes) -> bool:
    """Whether it is a date, an instant, or of a length that no number has."""
    digits = _digits(part)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 2:
        return True
    if part.lstrip(b"(")[:1] == b"0" and len(digits) < 9:
        return True
    return _DATE.search(part) is not None or _STAMP.search(part) is not None


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    before, behind = data[max(0, start - 1) : start], data[end : end + 2]
    if before and (before.isalnum() or before in b"_.-/#=+@$"):
        return False
    return not (
        behind[:1].isdigit()
        or behind[:1].isalpha()
        or (behind[:1] in (b"-", b".", b"/", b"_", b",") and behind[1:2].isdigit())
    )


def _is_else(data: bytes, start: int) -> bool:
    window = data[max(0, start - 36) : start]
    return _UNLESS_PATTERN.search(window) is not None and _BEFORE_PATTERN.search(window) is None


def _has_word(data: bytes, start: int, end: int) -> bool:
    if start and data[start - 1 : start].isalnum():
        return False
    window = data[max(0, start - _LOOK_BYTES) : start]
    if b"[PHONE" in window:  # a token of ours is no word beside a number
        window = window[window.rindex(b"[PHONE") + len(b"[PHONE") :]
    last = None
    for match in _BEFORE_PATTERN.finditer(window):
        last = match
    if last is not None and _UNLESS_PATTERN.search(window, last.end()) is None:
        gap = window[last.end() :]
        return not any(c in gap for c in b"0123456789") and gap.count(b" ") <= 6
    return _AFTER_PATTERN.search(data, end, min(len(data), end + 40)) is not None


def _shortened(data: bytes, start: int, end: int) -> tuple[int, int]:
    """A run of digits cut where it has more than a number can have."""
    digits, reached = 0, end
    for group in _DIGIT.finditer(data, start, end):
        if digits >= 7 and digits + len(group.group()) > 13:
            break
        digits, reached = digits + len(group.group()), group.end()
    return start, reached
