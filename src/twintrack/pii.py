"""Pure detectors on strings, and the stored form of identifiers.

First rule set: e-mail, US SSN, payment cards (Luhn), common API keys, tokens and private keys. One linear-time
engine (RE2) runs every pattern, so no input can stall it. `suspicious` is a cheap question over a whole encoded
row: when it says no, no rule can match any string inside (a property test holds this).
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, NamedTuple

import re2

RULES_VERSION = "1"

_EMAIL = r"[\pL\pN._%+\-]+@[\pL\pN\-]+(?:\.[\pL\pN\-]+)+"
_SSN = r"\d{3}[- ]\d{2}[- ]\d{4}"
_DIGITS = r"\d(?:[ -]?\d){12,}"
_KEYS = "|".join(
    (
        r"sk-[A-Za-z0-9_\-]{16,}",
        r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}",
        r"whsec_[A-Za-z0-9+/=]{16,}",
        r"(?:AKIA|ASIA)[A-Z0-9]{16}",
        r"gh[pousr]_[A-Za-z0-9]{20,}",
        r"github_pat_[A-Za-z0-9_]{20,}",
        r"glpat-[A-Za-z0-9_\-]{16,}",
        r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",
        r"AIza[A-Za-z0-9_\-]{30,}",
        r"npm_[A-Za-z0-9]{30,}",
        r"pypi-[A-Za-z0-9_\-]{30,}",
        r"hf_[A-Za-z0-9]{20,}",
        r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}",
        r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*PRIVATE KEY-----|[^-]*)",
    )
)


class Finding(NamedTuple):
    start: int
    end: int
    rule: str


def luhn(digits: str) -> bool:
    """Whether the check digit holds. Source: ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = ord(digit) - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


_GROUP = re2.compile(r"\d+")


def _cards(text: str, start: int, end: int) -> list[Finding]:
    """Cards in a run of digits: windows of whole groups, 13 to 19 digits, of a known network, with a true check
    digit. Groups keep `2 x 4111 ...` apart and order numbers whole."""
    groups = [m.span() for m in _GROUP.finditer(text[start:end])]
    found: list[Finding] = []
    at = 0
    while at < len(groups):
        digits = ""
        for last in range(at, len(groups)):
            digits += text[start + groups[last][0] : start + groups[last][1]]
            if len(digits) > 19:
                break
            if len(digits) >= 13 and digits[0] in "23456" and luhn(digits) and len(set(digits)) > 1:
                found.append(Finding(start + groups[at][0], start + groups[last][1], "card"))
                at = last
                break
        at += 1
    return found


def _is_ssn(text: str) -> bool:
    """Areas 000, 666 and 9xx, group 00 and serial 0000 were never issued. Source: SSA, randomisation of 2011."""
    area, group, serial = text[:3], text[4:6], text[7:]
    return text[3] == text[6] and area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _always(_: str) -> bool:
    return True


_RULES: tuple[tuple[str, Any, Callable[[str], bool]], ...] = (
    ("api_key", re2.compile(_KEYS), _always),
    ("email", re2.compile(_EMAIL), _always),
    ("ssn", re2.compile(_SSN), _is_ssn),
)
_RUN = re2.compile(_DIGITS)
_TOKENS = {"api_key": "[API_KEY]", "email": "[EMAIL]", "card": "[CARD]", "ssn": "[SSN]"}

# Everything a rule needs somewhere, on encoded bytes. A card's 13 digits start at [2-6], which keeps the three
# 13-digit millisecond instants of each row (they start with 1) from looking like one.
_SUSPICIOUS = re2.compile(
    rb"@|\d{3}[- ]\d{2}[- ]\d{4}|[2-6](?:[ -]?\d){12}"
    rb"|sk-|k_live_|k_test_|whsec_|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AIza|npm_|pypi-|hf_"
    rb"|SG\.|eyJ|-----BEGIN"
)


_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_UUID_TEXT, _UUID_BYTES = re2.compile(_UUID), re2.compile(_UUID.encode())
_UUID_CHARACTERS = 36


def suspicious(encoded: bytes) -> bool:
    """Whether any rule could match a string inside this encoded row. False is final, True is a maybe."""
    return _SUSPICIOUS.search(encoded) is not None


def suspects(lines: bytes) -> list[int]:
    """Which of these encoded rows, a line each, are suspicious; their numbers from 0."""
    found, at, counted, line = [], 0, 0, 0
    while (match := _SUSPICIOUS.search(lines, at)) is not None:
        start, end = match.span()
        uuid = _UUID_BYTES.search(lines, max(0, start - _UUID_CHARACTERS), end + _UUID_CHARACTERS)
        if uuid is not None and uuid.start() <= start and end <= uuid.end():
            at = uuid.end()  # every row holds some, and one in fifty has the digits of a card
            continue
        line += lines.count(b"\n", counted, start)
        counted = start
        found.append(line)
        at = lines.find(b"\n", end)
        if at < 0:
            break
    return found


def _digit_beside(text: str, start: int, end: int) -> bool:
    return (start > 0 and text[start - 1].isdigit()) or (end < len(text) and text[end].isdigit())


def find(text: str) -> list[Finding]:
    """Every finding, left to right, not overlapping; on a tie the rule listed first wins."""
    if not suspicious(text.encode("utf-8", "surrogatepass")):
        return []
    found: list[Finding] = []
    for rule, pattern, holds in _RULES:
        for match in pattern.finditer(text):
            start, end = match.span()
            if holds(text[start:end]) and not (rule == "ssn" and _digit_beside(text, start, end)):
                found.append(Finding(start, end, rule))
    for run in _RUN.finditer(text):
        found += _cards(text, *run.span())
    if found and "-" in text:
        uuids = [m.span() for m in _UUID_TEXT.finditer(text)]
        found = [f for f in found if not any(start <= f.start and f.end <= end for start, end in uuids)]
    kept: list[Finding] = []
    for finding in found:
        if all(finding.end <= other.start or finding.start >= other.end for other in kept):
            kept.append(finding)
    return sorted(kept)


def mask(text: str) -> tuple[str, list[str]]:
    """The text with each finding replaced by its typed token, and the rules that matched, in order."""
    found = find(text)
    if not found:
        return text, []
    parts, at = [], 0
    for start, end, rule in found:
        parts += [text[at:start], _TOKENS[rule]]
        at = end
    parts.append(text[at:])
    return "".join(parts), [f.rule for f in found]


def pseudonym(identifier: str, key: bytes) -> str:
    """The keyed stored form of an identifier that holds personal data.

    Promises: depends on the identifier and the key alone, never on the rule that matched or its version;
    letter case and outer white space make no difference.
    """
    digest = hmac.new(key, identifier.strip().casefold().encode(), hashlib.sha256).digest()
    return "p_" + base64.b32encode(digest[:20]).decode().lower()


def stored_identifier(identifier: str, key: bytes) -> tuple[str, list[str]]:
    """What is stored for an identifier: itself, or its pseudonym where a rule matches; and those rules."""
    rules = [f.rule for f in find(identifier)]
    return (pseudonym(identifier, key), rules) if rules else (identifier, [])
