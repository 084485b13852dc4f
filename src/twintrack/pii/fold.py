"""The form of a text that the rules read: one alphabet, no hidden characters, no escapes; and the way back.

Digits of every script and full-width forms become ASCII, odd spaces a tab, dashes `-`; zero-width characters vanish;
escapes of JSON, URLs and HTML (`\\u0040`, `\\n`, `%40`, `&#64;`) and `[.]` become what they stand for. Flat passes only.
"""

import re
import unicodedata
from functools import cache
from typing import NamedTuple

# Bounded repetitions only, so that `re` is linear here. A row holds each backslash of its texts twice.
_HIDDEN = (
    "\u00ad\u034f\u061c\u115f\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f"
)
_TEXT_ESCAPES = re.compile(
    rf"[{_HIDDEN}]+|\\{{1,4}}(?:u[0-9a-fA-F]{{4}}|[nrtbf\"'/])|%[2-7][0-9a-fA-F]|&(?:#\d{{2,3}}|#[xX][0-9a-fA-F]{{2}}|[a-z]{{2,6}});|\[(?:\.|@|:)\]"
)
_HIDDEN_CHARACTER = re.compile(f"[{_HIDDEN}]")
_ROW_ESCAPES = re.compile(_TEXT_ESCAPES.pattern.replace("{1,4}", "{1,9}"))
_LETTERS = {"n": "\n", "r": "\n", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "/": "/"}
_ENTITIES = {
    "nbsp": "\t",
    "commat": "@",
    "period": ".",
    "colon": ":",
    "lowbar": "_",
    "plus": "+",
    "equals": "=",
    "num": "#",
}
_ENTITIES |= {
    "amp": "&",
    "quot": '"',
    "apos": "'",
    "lt": "<",
    "gt": ">",
    "sol": "/",
    "hyphen": "-",
    "dash": "-",
    "shy": "",
}
_LAST = 0x1FC00  # digits and full-width forms end below
_SPECIAL = {
    "。": ".",
    "｡": ".",
    "․": ".",
    "“": '"',
    "”": '"',
    "„": '"',
    "«": '"',
    "»": '"',
    "‘": "'",
    "’": "'",
    "−": "-",
    "⁃": "-",
    "「": '"',
    "」": '"',
    "『": '"',
    "』": '"',
    "【": "[",
    "】": "]",
    "〔": "[",
    "〕": "]",
    "\r": "\n",
}


class Folded(NamedTuple):
    """`data` is the folded text in UTF-8; `origin[i]` is where folded character i stood, None where nothing moved."""

    data: bytes
    origin: list[int] | None


@cache
def _table() -> str:
    """Character to character, as a string that `str.translate` indexes."""
    return "".join(_folded(chr(point)) for point in range(_LAST))


def _folded(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character < "\x80":
        return character
    number = unicodedata.decimal(character, None)
    if number is not None:
        return str(number)
    category = unicodedata.category(character)
    if category == "Zs":
        return "\t"
    if category == "Pd":
        return "-"
    parts = unicodedata.decomposition(character).split()
    if len(parts) == 2 and parts[0] in ("<wide>", "<narrow>", "<font>", "<small>") and int(parts[1], 16) < 0x80:
        return chr(int(parts[1], 16))
    return character


@cache
def foldable() -> str:
    """An RE2 pattern of what `fold` changes, other than what is in ASCII already."""
    points = [point for point, character in enumerate(_table()) if point >= 0x80 and ord(character) != point]
    ranges, at = [], 0
    while at < len(points):
        end = at
        while end + 1 < len(points) and points[end + 1] == points[end] + 1:
            end += 1
        ranges.append(rf"\x{{{points[at]:x}}}-\x{{{points[end]:x}}}")
        at = end + 1
    return "[" + "".join(ranges) + _HIDDEN + "]"


def fold(text: str) -> Folded:
    return _fold(text, _TEXT_ESCAPES)


def fold_row(line: bytes) -> bytes:
    """An encoded row, folded so that every string inside reads as `fold` makes it read."""
    return _fold(line.decode("utf-8", "replace"), _ROW_ESCAPES).data


def _fold(text: str, escapes: "re.Pattern[str]") -> Folded:
    plain = text if text.isascii() else text.translate(_table())
    if "\r" in plain:
        plain = plain.replace("\r", "\n")
    if plain.isascii() and "\\" not in plain and "%" not in plain and "&" not in plain and "[" not in plain:
        return Folded(plain.encode(), None)
    parts: list[str] = []
    origin: list[int] = []
    at = 0
    for match in escapes.finditer(plain):
        start, end = match.span()
        parts.append(plain[at:start])
        origin.extend(range(at, start))
        stands_for = _meaning(match.group())
        if stands_for:
            parts.append(stands_for)
            origin.extend(range(start, start + len(stands_for)))
        at = end
    if not at:
        return Folded(plain.encode("utf-8", "replace"), None)
    parts.append(plain[at:])
    origin.extend(range(at, len(plain) + 1))
    return Folded("".join(parts).encode("utf-8", "replace"), origin)


def _meaning(escape: str) -> str:
    if escape[0] == "\\":
        tail = escape.lstrip("\\")
        return _character(int(tail[1:], 16)) if tail[0] == "u" else _LETTERS[tail]
    if escape[0] == "%":
        return _character(int(escape[1:], 16))
    if escape[0] == "[":
        return escape[1]  # written so that no link is made of it
    if escape[:2] == "&#":
        return _character(int(escape[3:-1], 16) if escape[2] in "xX" else int(escape[2:-1]))
    if escape[0] == "&":
        return _ENTITIES.get(escape[1:-1], escape)
    return ""  # a hidden character


def _character(point: int) -> str:
    """The folded form of an escaped character."""
    if point < 0x20 or point == 0x7F or 0xD800 <= point < 0xE000:
        return " "
    character = chr(point)
    return "" if _HIDDEN_CHARACTER.match(character) else _table()[point]


def spans_in_text(folded: Folded, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where byte spans of the folded form, in order and apart, stood in the text, in characters."""
    out = []
    byte = character = 0
    ascii_only = folded.data.isascii()
    for start, end in spans:
        if ascii_only:
            first, last = start, end
        else:
            first = character + len(folded.data[byte:start].decode("utf-8", "ignore"))
            last = first + len(folded.data[start:end].decode("utf-8", "ignore"))
            byte, character = end, last
        if folded.origin is not None:
            first, last = folded.origin[first], folded.origin[last]
        out.append((first, last))
    return out
