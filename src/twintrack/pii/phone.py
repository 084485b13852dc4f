"""Telephone numbers: international ones by country and length, national ones by form, others by the words beside them."""

import re
import tomllib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from importlib import resources

import re2

from twintrack.pii.bound import CHEAP_BYTES, candidates
from twintrack.pii.numbers import is_article

_GAP_BYTES = 60  # between a word and its number
_AFTER_BYTES = 40
_MOST_SPACES = 6
_DATA = tomllib.loads((resources.files("twintrack.pii") / "phones.toml").read_text(encoding="utf-8"))
_NATIONAL_FORMS = "|".join(form.replace("([ .", "(?:[ .") for form in _DATA["national"])
_BEFORE, _AFTER, _UNLESS = ("(?i)(?:" + "|".join(_DATA[kind]) + ")" for kind in ("before", "after", "unless"))
_SEPARATED = r"(?:[ .\-/()\t\n]{0,3}\d)"
_ABROAD = r"(?:\+|\b00)[ (\t]?[1-9](?:[ .\-/()\t\n]{0,3}\d){6,}"
_ANY = r"\(?\d" + _SEPARATED + "{6,}"

NEEDS = "|".join((*_DATA["needs"], _BEFORE, _AFTER))
_MINE = r"(?:(?:is|ist|est|es|è|é|to|это)[ \t](?:my|meine?|mon|mi|il mio|o meu|meu|mój|мой)[ \t])?"
_BEHIND = re2.compile(rf"(?i)^[ \t]{{0,2}}[,(:-]?[ \t]?{_MINE}(?:" + "|".join(_DATA["behind"]) + ")")
_ABROAD_PATTERN = re2.compile(_ABROAD)
_NATIONAL = re2.compile(_NATIONAL_FORMS)
_ANY_PATTERN = re2.compile(_ANY)
_BEFORE_PATTERN = re2.compile(_BEFORE)
_AFTER_PATTERN = re2.compile(_AFTER)
_UNLESS_PATTERN = re2.compile(_UNLESS)
_UNLESS_WORD = re2.compile("(?i)(?:" + "|".join(_DATA["unless_word"]) + ")")
_DIRECT = re2.compile(
    r"(?i)^[^\pL\pN]{0,6}$|[:=#]|\b(?:at|on|is|me|us|under|unter|ist|lautet|au|est|al|es|en|a|op|pod|na|to|é|è|em|su|по|на|numero|number|no)\b"
    r"|[^\x00-\x{24f}]"
)
_GENERIC = re2.compile(r"(?i)(?:num[a-zéе]*|nr|no|nummer|n[úu]mero|номер|号码?|번호|رقمي|नंबर पर)$")
_POSTAL = re2.compile(r"^\d{5}-\d{3,4}$")
_PAIRS_BEFORE, _PAIRS_BEHIND = re2.compile(r"\b\d\d[ .\t-]$"), re2.compile(r"^[ .\t-]\d\d\b")
_PAIRS = re2.compile(r"^\d\d(?:[ .\t-]\d\d){4}$")
_FOURS, _FOUR_BEFORE = re.compile(rb"^\d{4}(?:[ \t-]\d{4})+(?:[ \t-]\d{1,3})?$"), re.compile(rb"\d{4}[ \t-]$")
_DIGIT = re.compile(rb"[0-9]+")
_NOT_BETWEEN = re.compile(rb"[0-9]")
_DATE = re2.compile(
    r"^\(?(?:(?:19|20)\d{2}[./ -]\d{1,2}[./ -]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d{2}|"
    r"(?:19|20)\d{2}-(?:19|20)\d{2})(?:[ \t]|$)"
)
_LIST = re2.compile(r"^(?:[1-9]\d(?:[ \t]\d\d){4,}|(?:19|20)\d\d(?:[ \t](?:19|20)\d\d)+)$")  # sizes, years
_WIDTHS = frozenset(str(width).encode() for width in _DATA["widths"])
_APART = re2.compile(r"^\d+(?:[ \t]\d+){2,}$")
_PART_BEHIND = re2.compile(r"^-[A-Za-z](?:[^A-Za-z]|$)")  # `04.72.118.06-B`
_SHARE = re2.compile(r"^([1-9]\d{3,})/([1-9]\d{3,})$")
_STAMP = re2.compile(r"^(?:1\d{12}|1[5-9]\d{8}|(?:19|20)\d{12})$")
_LENGTHS = {str(code): (least, most) for least, most, codes in _DATA["lengths"] for code in codes}


_EXTENSION = re2.compile(
    r"(?i)[ \t,(]{0,2}(?:ext(?:ension|\.)?|x|extn\.?|durchwahl|dw|poste|anexo|ramal|int\.|wew\.|доб\.?|내선|内线|転|分机)"
    r"[ \t.:#]{0,2}\d{1,6}\b"
)


def phones(data: bytes) -> Iterator[tuple[int, int]]:
    """Each with the extension behind it."""
    for start, end in _numbers(data):
        extension = _EXTENSION.match(data, end, min(len(data), end + 32))
        yield start, int(extension.end()) if extension else end


def _numbers(data: bytes) -> Iterator[tuple[int, int]]:
    yield from _abroad(data)
    for match in candidates(_NATIONAL, data):
        start, end = match.span()
        if _stands_alone(data, start, end) and not _unlike(data[start:end]) and not _is_else(data, start):
            yield start, end
    words = _Words(data)
    if words.ends or words.after:
        for match in candidates(_ANY_PATTERN, data, CHEAP_BYTES):
            first, last = match.span()
            if _is_share(match.group()):
                continue
            while first < last:
                start, end = _shortened(data, first, last)
                if words.beside(start, end) and not _unlike(data[start:end], 8):
                    yield start, end
                following = _DIGIT.search(data, end, last)
                first = following.start() if following else last  # a second number may stand right behind


class _Words:
    """Where words stand in a text beside which digits are a telephone number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        before = [match.span() for match in candidates(_BEFORE_PATTERN, data)]
        # A token of ours is no word beside a number.
        self.ends = [end for start, end in before if data[start - 1 : start] != b"["]
        self.after = [match.span() for match in candidates(_AFTER_PATTERN, data)]

    def beside(self, start: int, end: int) -> bool:
        data = self._data
        if start and data[start - 1 : start].isalnum():
            return False
        place = bisect_right(self.ends, start)
        if place and start - self.ends[place - 1] <= _GAP_BYTES:
            gap = data[self.ends[place - 1] : start]
            near = data[max(0, self.ends[place - 1] - 40) : self.ends[place - 1]]
            if _GENERIC.search(near) and _UNLESS_PATTERN.search(near):
                return False  # `order number`
            if b"[PHONE" not in gap and _UNLESS_PATTERN.search(gap) is None and _UNLESS_WORD.search(gap) is None:
                if end - start <= 8 and data[start:end].isdigit() and _DIRECT.search(gap) is None:
                    return False
                return _NOT_BETWEEN.search(gap) is None and gap.count(b" ") <= _MOST_SPACES
        if self.ends and data[start - 1 : start] != b"/" and _BEHIND.search(data[end : end + _AFTER_BYTES]):
            return True
        place = bisect_left(self.after, (end, end))
        return place < len(self.after) and self.after[place][1] <= end + _AFTER_BYTES


def _abroad(data: bytes) -> Iterator[tuple[int, int]]:
    for match in candidates(_ABROAD_PATTERN, data):
        start, end = match.span()
        if start and (data[start - 1 : start].isalnum() or data[start - 1] in b"+-._/"):
            continue
        prefix = 1 if data[start : start + 1] == b"+" else 2
        if prefix == 2 and start > 1 and data[start - 1] in b" \t-" and data[start - 2 : start - 1].isdigit():
            continue  # the middle of a longer number
        if prefix == 2 and _is_else(data, start):
            continue
        most, least = 0, 0
        digits, reached = 0, start
        number = b""
        for group in _DIGIT.finditer(data, start + prefix, end):
            if most > 0 and digits + len(group.group()) > most:
                break
            number += group.group()
            digits, reached = len(number), group.end()
            if most <= 0:
                least, most = _bounds(number.decode())
        bare = prefix == 2 and reached - start == 13 and is_article(data[start:reached])
        if least <= digits <= most and not bare:
            yield start, reached


def _bounds(number: str) -> tuple[int, int]:
    """Fewest and most digits, country code and a trunk `(0)` included."""
    for code in (number[:1], number[:2], number[:3]):
        if code in _LENGTHS:
            least, most = _LENGTHS[code]
            return len(code) + least, min(15, len(code) + most + (code not in ("1", "7")))
    return 0, -1


def _digits(part: bytes) -> bytes:
    return b"".join(_DIGIT.findall(part))


def _unlike(part: bytes, least_with_zero: int = 9) -> bool:
    """Whether it is a date, an instant, or of a length that no number has."""
    digits = _digits(part)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 2:
        return True
    if part.lstrip(b"(")[:1] == b"0" and len(digits) < least_with_zero:
        return True
    if _POSTAL.search(part) is not None:
        return True
    if _APART.search(part) and _WIDTHS.issuperset(part.split()):
        return True
    return _DATE.search(part) is not None or _LIST.search(part) is not None or _STAMP.search(part) is not None


def _is_share(run: bytes) -> bool:
    """Whether it is so much of so much, as games count: `843000/1250000`."""
    match = _SHARE.match(run)
    if match is None:
        return False
    part, whole = match.group(1), match.group(2)
    return part == whole or (part.endswith(b"00") and whole.endswith(b"00") and int(part) < int(whole))


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    before, behind = data[max(0, start - 1) : start], data[end : end + 2]
    if _PART_BEHIND.search(data[end : end + 3]):
        return False
    if _FOURS.search(data[start:end]) and _FOUR_BEFORE.search(data[max(0, start - 5) : start]):
        return False  # the rest of 16 digits
    if _PAIRS.search(data[start:end]) and (
        _PAIRS_BEFORE.search(data[max(0, start - 3) : start]) or _PAIRS_BEHIND.search(data[end : end + 4])
    ):
        return False  # a list: lotto, measures
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


def _shortened(data: bytes, start: int, end: int) -> tuple[int, int]:
    """A run of digits cut where it has more than a number can have."""
    digits, reached = 0, end
    for group in _DIGIT.finditer(data, start, end):
        if digits >= 7 and digits + len(group.group()) > 13:
            break
        digits, reached = digits + len(group.group()), group.end()
    return start, reached
