"""The network's addresses, and what tells four numbers with dots from a version or a section of a document."""

import re
import tomllib
from collections.abc import Iterator
from enum import IntEnum
from importlib import resources
from ipaddress import IPv6Address

import re2

_DATA = tomllib.loads((resources.files("twintrack.pii") / "network.toml").read_text(encoding="utf-8"))
_BEFORE_BYTES, _BEHIND_BYTES = 100, 48
_LINK, _FROM, _TO = ("|".join(_DATA[name]) for name in ("link", "from", "to"))
# `Chrome/1.2.3.4`, `==1.2.3.4`, `v1.2.3.4`
_PRODUCT = re2.compile(r"""(?:(?:^|[\s("';,])[A-Za-z][\w.-]*/|==|[<>~^]=?|\bv|\bV)$""")
# What tells; the order of the groups is that of `_Kind`.
_TELLING = re2.compile(
    "(?i)"
    + "|".join(
        f"({'|'.join(words)})"
        for words in (
            _DATA["version"] + _DATA["section"],
            [rf"\b(?:{'|'.join(_DATA['product'])})"],
            _DATA["change"],
            _DATA["address"],
            [r"\d+(?:\.\d+)*"],
            _DATA["weak"],
        )
    )
)
_TOLD_GAP = re2.compile(
    r"""(?i)^[^\x00-@\[-`{-\x7f]{0,6}[\t "'#()*/:<=>\[{|}+-]{0,4}"""
    rf"""(?:(?:{_LINK})[ \t:"'(]{{1,2}}){{0,2}}v?$"""
)
_CHANGED_GAP = re2.compile(rf"(?i)(?:^|[ \t])(?:{_FROM}|{_TO})[ \t]v?$")
_SURELY_ADDRESS = re2.compile(r"^(?::\d{2,5}|/\d{1,2})\b")
_SURELY_BEFORE = re2.compile(r"(?i)(?:@|//|\[|\b(?:at|via|under|unter|bei) )$")
_SMALL = r"[1-9](?:\.\d{1,2}){3}"
_PAIR = re2.compile(rf"(?i)\b{_SMALL}(?: (?:to|vs\.?|statt|instead of|auf|vers|a|na|на) | ?(?:->|=>|→|>) ?){_SMALL}\b")
_V_BEFORE = re2.compile(r"(?:^|[^A-Za-z])[vV]$")
_LEAST_SURE, _MOST_SMALL = 64, 40  # versions begin with less than the first
_IP_WORD = re2.compile(r"(?i)(?:^|[^A-Za-z0-9])ip(?:v?[46])?$")
_NOT_DIGITS = re.compile("[^0-9]+")
_LOCAL = frozenset({"127.0.0.1", "0.0.0.0", "255.255.255.255"})  # noqa: S104
_LIKELY = re2.compile(r"(?i)^(?:[23][0-9a-f]{3}|f[cd][0-9a-f]{2}|fe[89ab][0-9a-f]|::ffff|64:ff9b)")
_WORD_BEHIND = re2.compile(r"^(?:[-_+]?[A-Za-z_]|\.\d|\d)")


def ip(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """An address of a machine. Loopback, `0.0.0.0` and versions are none."""
    text = data[start:end].decode()
    before = data[max(0, start - 24) : start]
    if ":" in text:
        if before[-1:].isalnum() or before[-1:] in (b":", b"_", b"."):
            return
        while text.endswith(":") and not text.endswith("::"):
            text = text[:-1]
        if _is_ip6(text) and not data[start + len(text) : start + len(text) + 1].isalnum():
            yield start, _network_end(data, start + len(text), 128)
        return
    parts = _NOT_DIGITS.split(text)
    if any(int(p) > 255 or (len(p) > 1 and p[0] == "0") for p in parts) or ".".join(parts) in _LOCAL:
        return
    breaks = text.count("\n") + text.count("\t")
    if breaks and (breaks > 1 or int(parts[0]) < 10 or data[end : end + 1] in (b".", b")")):
        return  # `1.2.3.` and the `4.` of a list
    if before[-1:].isalnum() and before[-1:] not in (b"v", b"V") and _IP_WORD.search(before) is None:
        return
    glued = before[-1:] in (b".", b"_") or (before[-1:] == b"-" and not before[-2:-1].isdigit())
    if glued or _WORD_BEHIND.search(data[end : end + 3]):
        return
    if _PRODUCT.search(before) is not None or _is_version(data, start, end, parts):
        return
    yield start, _network_end(data, end, 32)


class _Kind(IntEnum):
    VERSION = 1
    PRODUCT = 2
    CHANGE = 3
    ADDRESS = 4
    NUMBER = 5
    WEAK = 6


def _said(text: bytes) -> list[tuple[_Kind, int, int]]:
    return [(_Kind(match.lastindex), *match.span()) for match in _TELLING.finditer(text)]


def _is_version(data: bytes, start: int, end: int, parts: list[str]) -> bool:
    """What is said around four numbers decides: the word right before them, else the nearest word that tells."""
    before, behind = data[max(0, start - _BEFORE_BYTES) : start], data[end : end + _BEHIND_BYTES]
    first, said = int(parts[0]), _said(before)
    if said and said[-1][0] <= _Kind.CHANGE and _TOLD_GAP.search(before[said[-1][2] :]):
        return True
    if first >= _LEAST_SURE or _SURELY_ADDRESS.search(behind) or _SURELY_BEFORE.search(before[-8:]):
        return False
    told = _told_before(before, said, first)
    if told is None:
        told = _told_behind(behind, first)
    if told is not None:
        return told
    if first >= 10 or any(int(part) > _MOST_SMALL for part in parts) or (parts[-1] != "0" and len(set(parts)) < 3):
        return False
    # Small numbers that nothing calls an address: a word that hints, two of them, or the end of a version.
    others = (*said, *_said(behind))
    return (
        parts[-1] == "0"
        or any(kind in (_Kind.PRODUCT, _Kind.CHANGE, _Kind.WEAK) for kind, _, _ in others)
        or _PAIR.search(data[max(0, start - 24) : end + 28]) is not None
    )


def _told_before(before: bytes, said: list[tuple[_Kind, int, int]], first: int) -> bool | None:
    """None where nothing tells."""
    number, number_at = b"", 0  # the one that stands next behind
    for kind, at, last in reversed(said):
        if kind is _Kind.ADDRESS:
            return False
        if kind is _Kind.NUMBER:
            number, number_at = before[at:last], at
            if (_over(number) or _V_BEFORE.search(before[:at])) and _alike(number, first):
                return True
        elif kind is _Kind.CHANGE:
            if _CHANGED_GAP.search(before[last:number_at] if _alike(number, first) else before):
                return True
        elif kind is _Kind.VERSION and (
            not number or _alike(number, first) or _TOLD_GAP.search(before[last:number_at]) is None
        ):
            return True
    return None


def _told_behind(behind: bytes, first: int) -> bool | None:
    told = False
    for kind, at, last in _said(behind):
        if kind is _Kind.ADDRESS:
            return False
        if kind is _Kind.VERSION:
            if first != 10:
                return True
            told = True
        if kind is _Kind.NUMBER and _alike(behind[at:last], first) and (told or _over(behind[at:last])):
            return True
    return None


def _alike(other: bytes, first: int) -> bool:
    """Whether these are four, and begin about the same."""
    return other.count(b".") == 3 and abs(int(other.split(b".", 1)[0]) - first) <= 2


def _over(quad: bytes) -> bool:
    """Whether they are too large for an address."""
    return any(len(part) > 3 or int(part) > 255 for part in quad.split(b"."))


_ZONE_OR_PREFIX = re2.compile(r"(?:%[\w.-]{1,15})?(?:/(\d{1,3})\b)?")


def _network_end(data: bytes, end: int, most_bits: int) -> int:
    """With its zone (`%eth0`) and the length of its prefix (`/16`)."""
    match = _ZONE_OR_PREFIX.match(data, end)
    return int(match.end()) if not match.group(1) or int(match.group(1)) <= most_bits else end


def _is_ip6(text: str) -> bool:
    if "::" not in text and text.count(":") < 6:
        return False  # an hour of the day, most often
    try:
        address = IPv6Address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    groups = [g for g in text.split(":") if g]
    if len(groups) >= 8 or (len(groups) >= 4 and any(c.isalpha() for c in text)):
        return True
    return _LIKELY.search(text) is not None and any(c.isdigit() for c in text)
