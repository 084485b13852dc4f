"""Secrets that only what stands beside them gives away: values behind words, headers, parameters and connections.

A value is judged by how it is made and by how close it stands to its word. Each word looks at most 160 bytes ahead.
"""

import base64
import binascii
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

import re2

from twintrack.pii.bound import Crowded, candidates, most_candidates

_DATA = tomllib.loads((resources.files("twintrack.pii") / "secrets.toml").read_text(encoding="utf-8"))
_AHEAD_BYTES = 160
_MOST_TOKENS = 8
_STEPS_OF_A_WORD = 6  # on average, before a text counts as crowded
_JUDGED_BYTES = 160  # of a value; one that is longer is no word either way

_KINDS = ("phrase", "code", "password", "pin", "key", "plain_key", "plain_code")
_WORDS = re2.compile("(?i)" + "|".join(f"(?:{'|'.join(_DATA[kind])})" for kind in _KINDS))
# Which list a word is of: asked about the word alone, since groups in the large pattern would cost more.
_KIND = re2.Set.FullMatchSet()
for _kind in _KINDS:
    _KIND.Add(f"(?i)(?:{'|'.join(_DATA[_kind])})")
_KIND.Compile()
# `482913 is your code`
_YOURS = (
    r"\d (?i:is|ist|est|es|é|è|to|jest|as|als|comme|como|come|jako|—|-)"
    r" (?i:your|my|ihr|dein|votre|ton|tu|su|seu|il tuo|twój|ваш)\b"
)
_CODE_FIRST = (
    rf"(?:^|[^\w.,-])((?:[A-Z]-)?\d{{2}}[ \t-]?\d{{0,5}}{_YOURS[:2]}){_YOURS[2:]}"
    r"[^\n0-9]{0,40}?(?i:codes?\b|otp|pin\b|password|passcode|código|codice|kod\b)"
)
# `hunter22! is the password`
_VALUE_FIRST = (
    r"""([^\s"'`<>:/]{6,64})["'`]? (?i:is|ist|est|es|è|é|jest) """
    r"(?i:the|my|our|your|das|mein|unser|le|mon|la|mi|su|il|a|minha|het|mijn)\b"
    r"[^\n]{0,30}?(?i:password|passwort|passphrase|passwd|mot de passe|contraseña|clave|senha|wachtwoord)"
)
# `use 482913 to verify`
_VERIFYING = (
    r"(?i:verif|confirm|log ?in|sign ?in|reset|complete|activate|authenticat|bestätig|anmeld|vérifi|iniciar|acced|"
    r"вход|подтвер)"
)
_IN_ORDER_TO = r" (?i:to|as|for|um|zum|zur|pour|para|per|чтобы|для) (?:[^ \n]{1,24} )?" + _VERIFYING
_TO_VERIFY = r"\b(\d{3}[ \t-]?\d{1,5})" + _IN_ORDER_TO
# `login: root / Pa55-w0rd!`
_PAIR = (
    r"(?i:\blog ?in|\bsign ?in|\bcreds?|credentials?|zugangsdaten|anmeldedaten|identifiants?|credenci[ae]\w{0,3}|"
    r"credenziali|логин|账号|アカウント)[:= \t]{1,3}[\w.@+-]{2,40}[ \t]{0,2}[/:|][ \t]{0,2}([^\s\"'<>,;/]{5,40})"
)
_NEEDS_PAIR = (
    r"(?i:\blog ?in|\bsign ?in|\bcreds?|identifiants?|credenci|credenzial|логин|账号|アカウント)[:= \t]{1,3}[\w.@+-]"
)
NEEDS = (
    "(?i:"
    + "|".join(word for kind in _KINDS for word in _DATA[kind])
    + ")|"
    + "|".join((_YOURS, r"\d" + _IN_ORDER_TO, _NEEDS_PAIR))
)
# One step behind a word: an assignment, a quote, a word of a script without spaces, or what may be the value. They are
# told apart by their first byte.
_STEP = re2.compile(
    r"""(?:=>|->|:=|[:=：]|-{1,2}[ \t]|—)+|["'`<>(\[{«]+|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]+"""
    r"""|[^\s"'`<>,;\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー，。、「」]+"""
)
_MARKS = frozenset(b"=>-: \t") | frozenset("—：".encode())
_QUOTES = frozenset(b"\"'`<>([{") | frozenset("«".encode()[:1])
_MARKS_OF_SPEECH = frozenset(b"\"'") | frozenset("«".encode()[-1:])
_FIRST_OF_RUN = (
    0xE3  # Han, kana and Hangul begin with this byte or a later one in UTF-8, letters of other scripts do not
)
_SUFFIX = re2.compile(r"(?i)[_-]?(?:hash|value|string|text|plain|live|test|prod|production|dev|\d)?\b")
_UNLESS = re2.compile(_DATA["unless"])
_ASSIGNED = frozenset(_DATA["assigned"])
_COMMON = frozenset(_DATA["common"])
_PLACEHOLDER = re2.compile(_DATA["placeholders"])
_TOKEN_BEFORE, _TOKEN_BEHIND = re2.compile(r"\[(?:[A-Z][A-Z0-9_]*)?$"), re2.compile(r"^[A-Z0-9_]*\]")
_UUID = re2.compile(r"(?i)^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_HEX = re2.compile(r"(?i)^(?:0x)?[0-9a-f]{16,}$")
_NUMBER_LIKE = re2.compile(r"^[\d.,:/%+-]+$")
_FOR_WHAT, _WHOSE = frozenset(_DATA["for_what"]), frozenset(_DATA["whose"])
_BECAME = frozenset(_DATA["became"])
_STATUSES, _STOPS = frozenset(_DATA["statuses"]), frozenset(_DATA["stops"])
_UNLESS_CODE = re2.compile(_DATA["unless_code"])
_CODE_FIRST_PATTERN = re2.compile(_CODE_FIRST)
_VALUE_FIRST_PATTERN = re2.compile(_VALUE_FIRST)
_TO_VERIFY_PATTERN, _PAIR_PATTERN = re2.compile(_TO_VERIFY), re2.compile(_PAIR)
_KEY_GROUPS = re2.compile(r"^[A-Z0-9]{4,6}(?:-[A-Z0-9]{4,6}){2,}$")
_DIGIT_GROUPS = re2.compile(r"(?:[A-Z]-)?\d{1,8}(?:[ \t-]\d{2,6}){0,5}")
_FOUR_DIGITS = re2.compile(r"(?:\d[ \t-]?){4,8}(?:[^\d]|$)")
_SAID = re2.compile(
    r"(?i)^(?:[\s]*$|[.,;!?)]|[ \t]"
    r"(?:to|for|at|on|when|and|um|zum|für|pour|para|per|om|aby|чтобы|для|expires?|will|valid)\b)"
)
_SIX_DIGITS = re2.compile(r"\d{3}[ \t-]?\d{3}\b")
_LETTER_GROUPS = re2.compile(r"^[A-Z0-9]{3,10}(?:-[A-Z0-9]{3,10}){0,7}$")
_QUOTED = re2.compile(r"""[^"'`<>\n«»]{4,160}""")
_WORDS_ON = re2.compile(r"[a-zA-Z\x{c0}-\x{1fff}]+(?:[ \t\n,]{1,2}[a-zA-Z\x{c0}-\x{1fff}]+)+")
_COMPOUND = re2.compile(r"^\pL+(?:[-_.+]\pL+)+$")
_ENDS = re2.compile(r"""^["'`)\]}»]*[ \t]*(?:$|[\n,;|&/。，、)]|[.!?](?:\s|$))""")
_NAMED = re2.compile(r"^(?i:v?\d+(?:[._-]\d+)*[a-z]?|[a-z]{3,}[-_]?\d{1,3})$")
_HAS_DIGIT, _HAS_SYMBOL = re.compile("[0-9]"), re.compile(r"[!@#$%^&*+=?~|]")
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
        value.upper() != value,
        value.lower() != value,
        _HAS_DIGIT.search(value) is not None,
        _HAS_SYMBOL.search(value) is not None,
    )


class _Place(NamedTuple):
    """How a value stands to its word."""

    near: bool  # told by an assignment or right behind the word
    assigned: bool
    marked: bool  # by `:`, `=` or an arrow right behind the word
    quoted: bool
    ends: bool  # nothing of the sentence follows


def _is_password(value: str, place: _Place) -> bool:
    made = _made(value)
    letter = made.lower or made.upper or any(c.isalpha() for c in value)
    if not place.near:
        return len(value) >= 10 and made.kinds >= 3 and made.digit and "://" not in value
    if len(value) < 4 or "://" in value or _NUMBER_LIKE.search(value):
        return value.isdigit() and len(value) >= 4
    if letter and (made.digit or made.symbol):
        return len(value) >= 5
    if value.casefold().rstrip("!") in _COMMON or (len(value) >= 18 and value.isalpha()):
        return True
    if value.casefold() in _STATUSES or value.casefold() in _STOPS:
        return False
    if _COMPOUND.search(value):
        parts = re.split("[-_.+]", value)
        return place.marked or place.quoted or (place.assigned and len(parts) >= 3 and len(value) >= 14)
    if value.isalpha() and len(value) >= 4 and (place.quoted or (place.marked and place.ends and len(value) >= 5)):
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
    words = re.split("[-_.]", value)
    return made.upper or max(len(word) for word in words) >= 12


class _Reader:
    """What the words of one text share: the value that runs on beyond what they look at, and the steps left."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.run = (0, 0)


def secrets(data: bytes) -> Iterator[tuple[int, int]]:
    """Values beside words like password, token, key, in many languages."""
    reader = _Reader(_STEPS_OF_A_WORD * most_candidates(len(data)))
    reached = 0
    for pattern in (_CODE_FIRST_PATTERN, _TO_VERIFY_PATTERN):
        for match in candidates(pattern, data):
            yield match.span(1)
    for match in candidates(_PAIR_PATTERN, data):
        made = _made(match.group(1).decode("utf-8", "ignore"))
        if made.digit and made.kinds >= 3:
            yield match.span(1)
    for match in candidates(_VALUE_FIRST_PATTERN, data):
        made = _made(match.group(1).decode("utf-8", "ignore"))
        if made.digit and (made.lower or made.upper):
            yield match.span(1)
    for match in candidates(_WORDS, data):
        if match.start() < reached:
            continue  # inside a secret that was found
        kind = _KINDS[min(_KIND.Match(match.group()) or (len(_KINDS) - 1,))]
        found = _behind(data, match.start(), match.end(), kind, reader) or _before(data, match.start(), kind)
        if found is not None:
            reached = max(reached, found[1])
            yield found


_VALUE_BEFORE = re2.compile(r"([\w+/=.!@#$%^&*?~-]{8,100})[\"'`)]{0,2}[ \t](?:[a-z]{2,12}[ \t]){0,2}$")


def _before(data: bytes, start: int, kind: str) -> tuple[int, int] | None:
    """A value right before its word: `... twilio auth token`, `Demo!2345 password`."""
    if kind not in ("key", "password"):
        return None
    since = max(0, start - _AHEAD_BYTES)
    match = _VALUE_BEFORE.search(data[since:start])
    if match is None:
        return None
    first, last = since + match.start(1), since + match.end(1)
    value = match.group(1).decode("utf-8", "ignore")
    made = _made(value)
    if kind == "password":
        good = made.digit and made.symbol and (made.lower or made.upper) and last + 1 == start and "@" not in value[1:]
    else:
        good = _is_key(value, near=False, composite=True) or (
            _KEY_GROUPS.search(value) is not None and made.digit and last + 1 == start
        )
    return (first, last) if good and not _in_token(data, first, first) and _PLACEHOLDER.search(value) is None else None


def _behind(data: bytes, start: int, end: int, kind: str, reader: _Reader) -> tuple[int, int] | None:
    following = data[end : end + 1]
    if data[end - 1] < 0x80 and (following.isalnum() or following in (b"_", b"-")):
        suffix = _SUFFIX.match(data, end)
        if suffix is None or suffix.end() == end:
            return None
        end = suffix.end()
    if _in_token(data, start, end):
        return None
    if kind in _UNLESS_BEFORE and _UNLESS_BEFORE[kind].search(data[max(0, start - 16) : start]):
        return None
    if data[end : end + 1] == b"." and data[end + 1 : end + 2].isalpha():
        return None  # a host's name, or a member's
    word = data[start:end].lower()
    near, steps, at = True, 0, end
    assigned = marked = False
    quote = -1
    between: list[str] = []
    limit = min(len(data), end + _AHEAD_BYTES)
    for step in _STEP.finditer(data, end, limit):
        if steps == _MOST_TOKENS:
            return None
        first, last = step.span()
        if not assigned and b"\n" in data[at:first]:
            return None
        at, head = last, data[first]
        told = data[last - 1] in b":="  # `wifi:` tells the next one
        reader.steps -= 1
        if reader.steps < 0:
            raise Crowded(start)
        if head in _QUOTES:
            if b"{" in data[first:last]:
                return None  # an object: its members have names of their own
            quote = last if data[last - 1] in _MARKS_OF_SPEECH else -1
            continue
        steps += 1
        if head in _MARKS and _MARKS.issuperset(data[first:last]):
            marked = marked or (not assigned and near)
            assigned = near = True
            continue
        if _FIRST_OF_RUN <= head < 0xEE:
            near = last - first <= 9 and (near or assigned)
            assigned = assigned or near
            continue
        if last == limit and limit < len(data):
            if not reader.run[0] <= last <= reader.run[1]:
                reader.run = (last, _run_on(data, last))  # looked at once, however many words stand in it
            last = reader.run[1]
        if _in_token(data, first, first):
            return None  # masked already
        last = _trimmed(data, first, last)
        raw = data[first : min(last, first + _JUDGED_BYTES)]
        if raw.lower() == word:
            return None  # it looks for itself
        value = raw.decode("utf-8", "ignore")
        if value[:1] == "@":
            return None  # a host behind what was a password in a URL
        if value.casefold() in _ASSIGNED:
            assigned = near = True
            continue
        if value.casefold() in _BECAME:
            near = False
            continue
        quoted = quote == first
        if kind in ("phrase", "password") and (assigned or (quoted and kind == "phrase")):
            several = _several(data, first, kind, quoted=quoted) or _app_password(data, first)
            if several:
                return first, several
        if not value or _PLACEHOLDER.search(raw) is not None:
            if assigned or not value:
                return None
            near = False
            continue
        if near and (
            kind in ("pin", "code")
            or (kind == "plain_code" and _is_told(data, first, assigned=assigned and not between))
        ):
            groups = _digits_end(data, first)
            if groups and (kind != "pin" or groups - first <= 12):
                return first, groups
        place = _Place(near, assigned, marked, quoted and assigned, _ENDS.search(data[last : last + 8]) is not None)
        if kind == "password" and _tells_what_for(between) and place.ends and any(c.isdigit() for c in value):
            place = place._replace(near=True, assigned=True)
        if _holds(value, kind, place) and not (between and assigned and value.isdigit()):
            return first, last
        if assigned or (kind == "plain_code" and not told):
            return None
        if data[last : last + 1] in (b".", b";"):
            return None  # the sentence ends
        near = told and kind in ("password", "code", "key", "plain_code") and value.casefold() not in _STATUSES
        assigned = near
        between.append(value.casefold())
    return None


def _tells_what_for(between: list[str]) -> bool:
    """Whether the words since the word are such as `for the wifi`."""
    return 2 <= len(between) <= 3 and between[0] in _FOR_WHAT and _WHOSE.isdisjoint(between)


_UNLESS_BEFORE = {"plain_key": _UNLESS, "plain_code": _UNLESS_CODE}


def _is_told(data: bytes, first: int, *, assigned: bool) -> bool:
    """Whether a bare `code` has a value: told by a mark or a verb, or six digits that end what is said of it."""
    if assigned:
        return _FOUR_DIGITS.match(data, first) is not None
    match = _SIX_DIGITS.match(data, first)
    return match is not None and _SAID.search(data[match.end() : match.end() + 12]) is not None


def _digits_end(data: bytes, first: int) -> int:
    """Where a code of digits, alone or in groups, ends; 0 where none begins here."""
    match = _DIGIT_GROUPS.match(data, first, min(len(data), first + 48))
    if match is None:
        return 0
    end = int(match.end())
    behind = data[end : end + 2]
    if (
        behind[:1].isalnum()
        or (behind[:1] in (b".", b":", b"/", b"%", b",") and behind[1:].isdigit())
        or behind[:1] == b"%"
    ):
        return 0
    digits = sum(48 <= byte <= 57 for byte in match.group())
    return end if 3 <= digits <= 12 else 0


_APP_PASSWORD = re2.compile(r"[a-z]{4}(?:[ \t][a-z]{4}){3}(?:[^\w \t]|$)")


def _app_password(data: bytes, first: int) -> int:
    """Where four groups of four letters end, as Google makes them; 0 where they are none."""
    return first + 19 if _APP_PASSWORD.match(data, first, min(len(data), first + 24)) else 0


def _several(data: bytes, first: int, kind: str, *, quoted: bool) -> int:
    """Where a secret of several words ends; 0 where none begins here."""
    match = (_QUOTED if quoted else _WORDS_ON).match(data, first, min(len(data), first + 240))
    if match is None or (kind == "password" and not quoted):
        return 0
    words = match.group().decode("utf-8", "ignore").casefold().replace(",", " ").split()
    if not (2 if quoted else 4) <= len(words) <= (24 if kind == "phrase" else 5):
        return 0
    if any(word.strip(".!?") in _STOPS or word.strip(".!?") in _STATUSES for word in words):
        return 0
    return int(match.end()) if all(_PLACEHOLDER.search(word) is None for word in words) else 0


def _in_token(data: bytes, start: int, end: int) -> bool:
    """Whether this stands in a token such as `[API_KEY]`: what is masked is not read again."""
    if data.rfind(b"[", max(0, start - 32), start) < 0:
        return False
    before, behind = data[max(0, start - 32) : start], data[end : end + 48]
    if before[-1:] == b"[" and behind[:1].isdigit():
        return False
    return _TOKEN_BEFORE.search(before) is not None and _TOKEN_BEHIND.search(behind) is not None


def _holds(value: str, kind: str, place: _Place) -> bool:
    if kind in ("pin", "plain_code"):
        return False  # digits alone
    if kind == "code" and place.near and _LETTER_GROUPS.search(value) and any(c.isdigit() for c in value):
        return len(value) >= 4
    if kind in ("password", "phrase", "code"):
        # Right behind the word without a mark: `password hunter22`, but not `password reset`.
        sure = place.assigned or (len(value) >= 6 and any(c.isdigit() for c in value))
        if kind == "code" and not any(c.isdigit() for c in value):
            return False
        return _is_password(value, place._replace(near=place.near and sure))
    if kind == "plain_key":
        return _is_key(value, near=place.near, composite=False)
    return _is_key(value, near=place.near, composite=True) or (place.marked and _is_short_key(value))


def _is_short_key(value: str) -> bool:
    """A value right behind `token:` that is no name, version or path."""
    made = _made(value)
    if len(value) < 8 or not made.digit or not (made.lower or made.upper) or "/" in value or "://" in value:
        return False
    return not _NAMED.search(value) and not _NUMBER_LIKE.search(value) and "." not in value and "(" not in value


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


_HEADER = re2.compile(r"(?i)\b(bearer|basic|token|digest|apikey|ssws)[ \t]{1,4}([\w+/.~=:-]{8,})")
_IN_URL = re2.compile(r"""://(?:[^\s/@:"'<>]*):([^\s/"'<>]+)@|://[^\s/@:"'<>]*:([^\s"'<>]{1,80})@[\w.-]+[:/]""")
_PARAMETER = re2.compile(
    r"(?i)(?:^|[^\w.-])([\w.-]*(?:key|token|secret|passw(?:or)?d|pwd|sig|signature|"
    r"credential|auth|session|code|jwt|otp|pass)[\w.-]*)=([^\s&;\"'<>#]{4,})"
)
_CURL = re2.compile(r"""\bcurl\b[^\n]{0,200}?(?:-u|--user)[ \t=]{0,3}["']?[^\s:"']+:([^\s"']+)""")
_OPTION = re2.compile(
    r"""\b(?:mysql|mysqldump|sshpass|redis-cli)\b[^\n]{0,80}? (?:-p[ ]?|-a |--password[= ])["']?([^\s"']{4,})"""
)
_COOKIE = re2.compile(
    r"(?i)\b(?:sessionid|session|sid|csrftoken|auth|connect\.sid|jsessionid|phpsessid)=([\w%.-]{16,})"
)


_PARAMETERS_PLACE = _Place(near=True, assigned=True, marked=True, quoted=False, ends=True)


def credentials(data: bytes) -> Iterator[tuple[int, int]]:
    """Authorization headers, passwords in addresses, secret parameters, `curl -u`, session cookies."""
    for match in candidates(_HEADER, data):
        value = match.group(2).decode("ascii", "ignore")
        if _is_header(match.group(1).lower(), value):
            yield match.span(2)
    for match in candidates(_IN_URL, data):
        span = match.span(1) if match.span(1)[0] >= 0 else match.span(2)
        if not _PLACEHOLDER.search(data[slice(*span)]):
            yield span
    for match in candidates(_PARAMETER, data):
        first, last = match.span(2)
        value = data[first:last].decode("utf-8", "ignore")
        name = match.group(1).lower()
        if _PLACEHOLDER.search(value):
            continue
        password = b"pass" in name or b"pwd" in name
        if _is_password(value, _PARAMETERS_PLACE) if password else _is_parameter(value):
            yield first, last
    for pattern in (_CURL, _COOKIE, _OPTION):
        for match in candidates(pattern, data):
            if pattern is not _COOKIE or any(48 <= byte <= 57 for byte in match.group(1)):
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
