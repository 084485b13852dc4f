"""Secrets that only what stands beside them gives away: values behind words, headers, parameters and connections.

A value is judged by how it is made and by how close it stands to its word. Each word looks at most 160 bytes ahead.
"""

import base64
import binascii
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

import re2

_DATA = tomllib.loads((resources.files("twintrack.pii") / "secrets.toml").read_text(encoding="utf-8"))
_AHEAD_BYTES = 160
_MOST_TOKENS = 8
_JUDGED_BYTES = 512  # of a value; one that is longer is no word either way

_KINDS = ("password", "pin", "key", "plain_key")
_WORDS = re2.compile("(?i)" + "|".join(f"(?:{'|'.join(_DATA[kind])})" for kind in _KINDS))
# Which list a word is of: asked about the word alone, since groups in the large pattern would cost more.
_KIND = re2.Set.FullMatchSet()
for _kind in _KINDS:
    _KIND.Add(f"(?i)(?:{'|'.join(_DATA[_kind])})")
_KIND.Compile()
NEEDS = "(?i)(?:" + "|".join(_DATA["password"] + _DATA["pin"] + _DATA["key"] + _DATA["plain_key"]) + ")"
# One step behind a word: an assignment, a quote, a word of a script without spaces, or what may be the value. They are
# told apart by their first byte.
_STEP = re2.compile(
    r"""(?:=>|->|:=|[:=：]|-{1,2}[ \t]|—)+|["'`<>(\[{«]+|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]+"""
    r"""|[^\s"'`<>,;\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー，。、「」]+"""
)
_MARKS = frozenset(b"=>-: \t") | frozenset("—：".encode())
_QUOTES = frozenset(b"\"'`<>([{") | frozenset("«".encode()[:1])
_FIRST_OF_RUN = (
    0xE3  # Han, kana and Hangul begin with this byte or a later one in UTF-8, letters of other scripts do not
)
_SUFFIX = re2.compile(r"(?i)[_-]?(?:hash|value|string|text|plain|live|test|prod|production|dev|\d)?\b")
_UNLESS = re2.compile(_DATA["unless"])
_ASSIGNED = frozenset(_DATA["assigned"])
_COMMON = frozenset(_DATA["common"])
_PLACEHOLDER = re2.compile(_DATA["placeholders"])
_TOKEN_BEFORE, _TOKEN_BEHIND = re2.compile(r"\[[A-Z0-9_]*$"), re2.compile(r"^[A-Z0-9_]*\]")
_UUID = re2.compile(r"(?i)^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_HEX = re2.compile(r"(?i)^(?:0x)?[0-9a-f]{16,}$")
_NUMBER_LIKE = re2.compile(r"^[\d.,:/%+-]+$")
_END = b".,:;)]}>!?"
_TRIM = b".,:;)]}>"


class _Made(NamedTuple):
    """What a value is made of."""

    lower: bool
    upper: bool
    digit: bool
    symbol: bool

    @property
    def kinds(self) -> int:
        return sum(self)


def _made(value: str) -> _Made:
    return _Made(
        any(c.islower() for c in value),
        any(c.isupper() for c in value),
        any(c.isdigit() for c in value),
        any(c in "!@#$%^&*+=?~|" for c in value),
    )


def _is_password(value: str, *, near: bool) -> bool:
    """`near`: told by an assignment or standing right behind the word."""
    made = _made(value)
    letter = made.lower or made.upper or any(c.isalpha() for c in value)
    if not near:
        return len(value) >= 10 and made.kinds >= 3 and made.digit and "://" not in value
    if len(value) < 4 or "://" in value or _NUMBER_LIKE.search(value):
        return value.isdigit() and len(value) >= 4
    if letter and (made.digit or made.symbol):
        return len(value) >= 5
    if value.casefold().rstrip("!") in _COMMON or (len(value) >= 18 and value.isalpha()):
        return True
    inner_upper = any(c.isupper() for c in value[1:]) and made.lower
    return len(value) >= 8 and inner_upper and value.isalpha()


def _is_key(value: str, *, near: bool, composite: bool) -> bool:
    made = _made(value)
    if len(value) < (16 if near else 20) or "://" in value or value.startswith("/"):
        return False
    if not made.digit or not (made.lower or made.upper) or value.count("/") > 4 or _NUMBER_LIKE.search(value):
        return False
    if _UUID.search(value):
        return composite and near
    if _HEX.search(value):
        return len(value) >= 32 and near if not composite else near or len(value) >= 32
    if not near and not (made.lower and made.upper):
        return False
    words = value.replace("_", "-").replace(".", "-").split("-")
    return made.upper or max(len(word) for word in words) >= 12


def secrets(data: bytes) -> Iterator[tuple[int, int]]:
    """Values beside words like password, token, key, in many languages."""
    run = [0, 0]
    reached = 0
    for match in _WORDS.finditer(data):
        if match.start() < reached:
            continue  # inside a secret that was found
        kind = _KINDS[min(_KIND.Match(match.group()) or (len(_KINDS) - 1,))]
        found = _behind(data, match.start(), match.end(), kind, run)
        if found is not None:
            reached = found[1]
            yield found


def _behind(data: bytes, start: int, end: int, kind: str, run: list[int]) -> tuple[int, int] | None:
    following = data[end : end + 1]
    if data[end - 1] < 0x80 and (following.isalnum() or following in (b"_", b"-")):
        suffix = _SUFFIX.match(data, end)
        if suffix is None or suffix.end() == end:
            return None
        end = suffix.end()
    if _in_token(data, start, end) or (kind == "plain_key" and _UNLESS.search(data[max(0, start - 16) : start])):
        return None
    near, steps, at = True, 0, end
    assigned = False
    limit = min(len(data), end + _AHEAD_BYTES)
    while steps < _MOST_TOKENS:
        step = _STEP.search(data, at, limit)
        if step is None:
            return None
        if b"\n" in data[at : step.start()] and not assigned:
            return None
        first, last = step.span()
        at, head = last, data[first]
        if head in _QUOTES:
            continue
        steps += 1
        if head in _MARKS and _MARKS.issuperset(data[first:last]):
            assigned = near = True
            continue
        if _FIRST_OF_RUN <= head < 0xEE:
            near = last - first <= 9 and (near or assigned)
            assigned = assigned or near
            continue
        if last == limit and limit < len(data):
            if not run[0] <= last <= run[1]:
                run[:] = [last, _run_on(data, last)]  # looked at once, however many words stand in it
            last = run[1]
        if _in_token(data, first, first):
            return None  # masked already
        last = _trimmed(data, first, last)
        value = data[first : min(last, first + _JUDGED_BYTES)].decode("utf-8", "ignore")
        if value.casefold() in _ASSIGNED:
            assigned = near = True
            continue
        if not value or _PLACEHOLDER.search(value):
            if assigned or not value:
                return None
            near = False
            continue
        if _holds(value, kind, near, assigned):
            return first, last
        if assigned:
            return None
        near = False
    return None


def _in_token(data: bytes, start: int, end: int) -> bool:
    """Whether this stands in a token such as `[API_KEY]`: what is masked is not read again."""
    before, behind = data[max(0, start - 32) : start], data[end : end + 48]
    return _TOKEN_BEFORE.search(before) is not None and _TOKEN_BEHIND.search(behind) is not None


def _holds(value: str, kind: str, near: bool, assigned: bool) -> bool:
    if kind == "pin":
        return near and value.isdigit() and 3 <= len(value) <= 8
    if kind == "password":
        # Right behind the word without a mark: `password hunter22`, but not `password reset`.
        sure = assigned or (len(value) >= 6 and any(c.isdigit() for c in value))
        return _is_password(value, near=near and sure)
    if kind == "plain_key":
        return _is_key(value, near=near, composite=False)
    return _is_key(value, near=near, composite=True)


_RUN_ON = re2.compile(r"""[^\s"'`<>,;]*""")


def _run_on(data: bytes, at: int) -> int:
    """Where a value that reaches beyond what was looked at ends."""
    match = _RUN_ON.match(data, at)
    return int(match.end()) if match else at


def _trimmed(data: bytes, start: int, end: int) -> int:
    """The value without the sentence's marks behind it and without the next parameter of a URL."""
    near = min(end, start + _JUDGED_BYTES)
    parameter = data.find(b"&", start, near)
    while parameter >= 0:
        if b"=" in data[parameter : parameter + 30]:
            end = parameter
            break
        parameter = data.find(b"&", parameter + 1, near)
    while end > start and data[end - 1] in _TRIM:
        end -= 1
    return end


_HEADER = re2.compile(r"(?i)\b(bearer|basic|token|digest|apikey)[ \t]{1,4}([\w+/.~=:-]{8,})")
_IN_URL = re2.compile(r"""://(?:[^\s/@:"'<>]*):([^\s/@"'<>]+)@|://[^\s/@:"'<>]*:([^\s"'<>]{1,80})@[\w.-]+[:/]""")
_PARAMETER = re2.compile(
    r"(?i)(?:^|[?&;#\n ])([\w.-]*(?:key|token|secret|passw(?:or)?d|pwd|sig|signature|"
    r"credential|auth|session|code|jwt|otp|pass)[\w.-]*)=([^\s&;\"'<>#]{4,})"
)
_CURL = re2.compile(r"""\bcurl\b[^\n]{0,200}?(?:-u|--user)[ \t=]{0,3}["']?[^\s:"']+:([^\s"']+)""")
_OPTION = re2.compile(
    r"""\b(?:mysql|mysqldump|sshpass|redis-cli)\b[^\n]{0,80}? (?:-p[ ]?|-a |--password[= ])["']?([^\s"']{4,})"""
)
_COOKIE = re2.compile(
    r"(?i)\b(?:sessionid|session|sid|csrftoken|auth|connect\.sid|jsessionid|phpsessid)=([\w%.-]{16,})"
)


def credentials(data: bytes) -> Iterator[tuple[int, int]]:
    """Authorization headers, passwords in addresses, secret parameters, `curl -u`, session cookies."""
    for match in _HEADER.finditer(data):
        value = match.group(2).decode("ascii", "ignore")
        if _is_header(match.group(1).lower(), value):
            yield match.span(2)
    for match in _IN_URL.finditer(data):
        span = match.span(1) if match.span(1)[0] >= 0 else match.span(2)
        if not _PLACEHOLDER.search(data[slice(*span)]):
            yield span
    for match in _PARAMETER.finditer(data):
        first, last = match.span(2)
        value = data[first:last].decode("utf-8", "ignore")
        name = match.group(1).lower()
        if _PLACEHOLDER.search(value):
            continue
        password = b"pass" in name or b"pwd" in name
        if _is_password(value, near=True) if password else _is_parameter(value):
            yield first, last
    for pattern in (_CURL, _COOKIE, _OPTION):
        for match in pattern.finditer(data):
            yield match.span(1)


def _is_parameter(value: str) -> bool:
    made = _made(value)
    return len(value) >= 12 and made.digit and (made.lower or made.upper) and not _NUMBER_LIKE.search(value)


def _is_header(kind: bytes, value: str) -> bool:
    if kind == b"basic":
        try:
            return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            return False
    made = _made(value)
    return len(value) >= 16 and made.digit and (made.lower or made.upper)


def mixed(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A key of known form has a digit, or letters of both cases, behind its prefix."""
    made = _made(data[start:end].decode("ascii", "ignore")[3:])
    if made.digit or (made.lower and made.upper):
        yield start, end
