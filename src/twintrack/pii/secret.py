"""Secrets that only a word beside them gives away: which values stand behind one, or before it.

A value is judged by how it is made and by how close it stands to its word. Each word looks at most 160 bytes ahead.
"""

import re
from collections.abc import Iterator

import re2

from twintrack.pii.bound import Crowded, candidates, most_candidates
from twintrack.pii.reference import is_hash, is_label, value_at
from twintrack.pii.value import (
    DATA,
    HEX,
    KEY_GROUPS,
    PLACEHOLDER,
    STATUSES,
    Place,
    app_password,
    digits_end,
    has_digit,
    holds,
    is_key,
    is_told,
    made_of,
    several_words,
)

_AHEAD_BYTES = 160
_MOST_TOKENS = 8
_STEPS_OF_A_WORD = 6  # on average, before a text counts as crowded
_JUDGED_BYTES = 160  # of a value; one that is longer is no word either way

_KINDS = ("phrase", "code", "password", "pin", "key", "plain_key", "plain_code")
_WORDS = re2.compile("(?i)" + "|".join(f"(?:{'|'.join(DATA[kind])})" for kind in _KINDS))
# Which list a word is of: asked about the word alone, since groups in the large pattern would cost more.
_KIND = re2.Set.FullMatchSet()
for _kind in _KINDS:
    _KIND.Add(f"(?i)(?:{'|'.join(DATA[_kind])})")
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
    + "|".join(word for kind in _KINDS for word in DATA[kind])
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
_UNLESS = re2.compile(DATA["unless"])
_ASSIGNED = frozenset(DATA["assigned"])
_TOKEN_BEFORE, _TOKEN_BEHIND = re2.compile(r"\[(?:[A-Z][A-Z0-9_]*)?$"), re2.compile(r"^[A-Z0-9_]*\]")
_FOR_WHAT, _WHOSE = frozenset(DATA["for_what"]), frozenset(DATA["whose"])
_TAGS = frozenset(DATA["tags"])
_ONTO = frozenset(DATA["onto"])
_TYPES, _IS_SET = frozenset(DATA["types"]), re2.compile(r"[ \t]?=[ \t]?[\"'`]")
_BECAME = frozenset(DATA["became"])
_POSTAL = re2.compile(DATA["postal"])
_UNLESS_CODE = re2.compile(DATA["unless_code"])
_CODE_FIRST_PATTERN = re2.compile(_CODE_FIRST)
_VALUE_FIRST_PATTERN = re2.compile(_VALUE_FIRST)
_TO_VERIFY_PATTERN, _PAIR_PATTERN = re2.compile(_TO_VERIFY), re2.compile(_PAIR)
_ENDS = re2.compile(r"""^["'`)\]}»]*[ \t]*(?:$|[\n,;|&/。，、)]|[.!?](?:\s|$))""")
_TRIM = b".,:;)]}>"


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
        made = made_of(match.group(1).decode("utf-8", "ignore"))
        if made.digit and made.kinds >= 3:
            yield match.span(1)
    for match in candidates(_VALUE_FIRST_PATTERN, data):
        made = made_of(match.group(1).decode("utf-8", "ignore"))
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


_PLAIN = frozenset(b"is as the my our your a for".split())
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
    made = made_of(value)
    if kind == "password":
        good = made.digit and made.symbol and (made.lower or made.upper) and last + 1 == start and "@" not in value[1:]
    elif HEX.search(value):  # `commit 0a1b... fixes the token refresh`
        plain = len(value) != 40 or set(data[last:start].strip(b"\"'`)").split()) <= _PLAIN
        good = plain and len(value) >= 32 and not is_hash(data, first)
    else:
        good = is_key(value, near=False, composite=True) or (
            KEY_GROUPS.search(value) is not None and made.digit and last + 1 == start
        )
    return (first, last) if good and not _in_token(data, first, first) and PLACEHOLDER.search(value) is None else None


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
    end = value_at(data, start, end)
    if end < 0:
        return None
    below = _BELOW.match(data, end) if b"\n" in data[end : end + 4] else None
    if below is not None:
        return below.span(1) if _stands_below(below.group(1).decode("utf-8", "ignore"), kind) else None
    near, steps, at = True, 0, end
    assigned = marked = stopped = False
    quote = -1
    between: list[str] = []
    limit = min(len(data), end + _AHEAD_BYTES)
    for step in _STEP.finditer(data, end, limit):
        if steps == _MOST_TOKENS:
            return None
        first, last = step.span()
        if not assigned and b"\n" in data[at:first]:
            return None
        stopped = stopped or (not assigned and first > at + 1 and _CLAUSE.search(data[at:first]) is not None)
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
        small = value.casefold()
        if (value == "?" and first == end) or small in _TAGS:
            continue  # `the password? hunter22`, `password: !!str hunter22`
        if small in _TYPES and _IS_SET.match(data, last):
            continue  # `password: string = "hunter22"`
        if value[:1] == "@" and first == end:
            return None  # a host behind what was a password in a URL
        if small in _ASSIGNED or (assigned and quote != first and small in _ONTO and kind in ("key", "plain_key")):
            assigned = near = True
            continue
        if small in _BECAME:
            near = False
            continue
        quoted = quote == first
        if quoted and kind in ("phrase", "password") and is_label(_quotation(data, first)):
            return None
        if kind in ("phrase", "password") and (assigned or (quoted and kind == "phrase")):
            several = several_words(data, first, kind, quoted=quoted) or app_password(data, first)
            if several:
                return first, several
        if not value or PLACEHOLDER.search(raw) is not None:
            if assigned or not value:
                return None
            near = False
            continue
        if near and (
            kind in ("pin", "code")
            or (kind == "plain_code" and is_told(data, first, assigned=assigned and not between))
        ):
            groups = digits_end(data, first)
            if groups and (kind != "pin" or groups - first <= 12):
                around = data[max(0, start - 40) : groups + 32]
                return None if groups - first in (6, 7) and _POSTAL.search(around) else (first, groups)
        place = Place(near, assigned, marked, quoted and assigned, _ENDS.search(data[last : last + 8]) is not None)
        if kind == "password" and _tells_what_for(between) and place.ends and has_digit(value):
            place = place._replace(near=True, assigned=True)
        if stopped and not has_digit(value):
            place = place._replace(near=False)
        hexadecimal = len(raw) >= 32 and (HEX.search(raw) is not None or raw[:3].lower() in (b"sha", b"md5"))
        if hexadecimal and not (assigned and not between) and is_hash(data, first):
            return None
        if hexadecimal and not assigned and len(between) > 2:
            return None
        if holds(value, kind, place) and not (between and assigned and value.isdigit()):
            return first, last
        if assigned or (kind == "plain_code" and not told):
            return None
        if data[last : last + 1] in (b".", b";"):
            return None  # the sentence ends
        near = told and kind in ("password", "code", "key", "plain_code") and small not in STATUSES
        assigned = near
        stopped = stopped or small in STATUSES
        between.append(small)
    return None


_BELOW = re.compile(rb"[ \t]{0,4}\n{1,2}[ \t]{0,8}([\w+/=!@#$%^&*?~-]{8,100})[ \t]{0,4}(?:\n|$)", re.ASCII)
_COMMIT, _UNBROKEN = re.compile("[0-9a-f]{40}"), re.compile("[A-Za-z0-9+=]{16}")


def _stands_below(value: str, kind: str) -> bool:
    """Whether this, alone on the line below its word, is a value: no word of a text is so random."""
    if kind == "password":
        made = made_of(value)
        random = made.digit and made.kinds >= 3
    elif kind in ("key", "plain_key"):
        random = is_key(value, near=True, composite=kind == "key") and _UNBROKEN.search(value) is not None
    else:
        random = False
    return random and _COMMIT.fullmatch(value) is None and PLACEHOLDER.search(value) is None


def _quotation(data: bytes, first: int) -> str:
    """What stands in the quotes that were opened right before, as far as it is read."""
    match = _QUOTATION.match(data, first, min(len(data), first + _JUDGED_BYTES))
    return match.group().decode("utf-8", "ignore") if match else ""


def _tells_what_for(between: list[str]) -> bool:
    """Whether the words since the word are such as `for the wifi`."""
    return 2 <= len(between) <= 3 and between[0] in _FOR_WHAT and _WHOSE.isdisjoint(between)


_CLAUSE = re.compile(b"[,;?]")
_QUOTATION = re2.compile(r"[^\"'`«»<>\n]*")
_UNLESS_BEFORE = {"plain_key": _UNLESS, "plain_code": _UNLESS_CODE}


def _in_token(data: bytes, start: int, end: int) -> bool:
    """Whether this stands in a token such as `[API_KEY]`: what is masked is not read again."""
    if data.rfind(b"[", max(0, start - 32), start) < 0 or (end > start and not data[start:end].isupper()):
        return False
    before, behind = data[max(0, start - 32) : start], data[end : end + 48]
    if before[-1:] == b"[" and behind[:1].isdigit():
        return False
    return _TOKEN_BEFORE.search(before) is not None and _TOKEN_BEHIND.search(behind) is not None


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
