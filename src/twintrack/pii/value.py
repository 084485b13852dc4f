"""How a value is made: whether it reads like a password, a key or a code, given how it stands to its word."""

import re
import tomllib
from importlib import resources
from typing import NamedTuple

import re2

DATA = tomllib.loads((resources.files("twintrack.pii") / "secrets.toml").read_text(encoding="utf-8"))
_COMMON = frozenset(DATA["common"])
PLACEHOLDER = re2.compile(DATA["placeholders"])
_UUID = re.compile(r"(?i)^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
HEX = re2.compile(r"(?i)^(?:0x)?[0-9a-f]{16,}$")
NUMBER_LIKE = re.compile(r"^[\d.,:/%+-]+$", re.ASCII)
STATUSES, _STOPS, _PARTS = (frozenset(DATA[name]) for name in ("statuses", "stops", "parts"))
# `order-1234567`, `user:1234:session`: a name with a number
NUMBERED = re2.compile(r"^[a-z]{3,}(?:[-_:]\d{1,12}|(?::(?:[a-z_-]+|\d+))+)[,;]?$")
_MEASURE = re2.compile(r"^\d{1,2}-\pL{4,12}$")  # `6-digit`, `8-stellig`
KEY_GROUPS = re2.compile(r"^[A-Z0-9]{4,6}(?:-[A-Z0-9]{4,6}){2,}$")
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
_NAMED = re2.compile(r"^(?i:v?\d+(?:[._-]\d+)*[a-z]?|[a-z]{3,}[-_]?\d{1,3})$")
_CAMEL, _CAMEL_PART = re.compile("^[A-Za-z]+[a-z][A-Z][a-z]+[A-Za-z]*$"), re.compile("[A-Z]?[a-z]+")
_HAS_DIGIT, _HAS_SYMBOL = re.compile("[0-9]"), re.compile(r"[!@#$%^&*+=?~|]")


def has_digit(value: str) -> bool:
    return _HAS_DIGIT.search(value) is not None


class _Made(NamedTuple):
    """What a value is made of."""

    lower: bool
    upper: bool
    digit: bool
    symbol: bool

    @property
    def kinds(self) -> int:
        return sum(self)


def made_of(value: str) -> _Made:
    return _Made(
        value.upper() != value,
        value.lower() != value,
        has_digit(value),
        _HAS_SYMBOL.search(value) is not None,
    )


def _is_identifier(value: str) -> bool:
    """Whether a program names something like this: `confirmPassword`."""
    if not _CAMEL.search(value):
        return False
    return any(part.casefold() in _PARTS for part in _CAMEL_PART.findall(value))


class Place(NamedTuple):
    """How a value stands to its word."""

    near: bool  # told by an assignment or right behind the word
    assigned: bool
    marked: bool  # by `:`, `=` or an arrow right behind the word
    quoted: bool
    ends: bool  # nothing of the sentence follows


def is_password(value: str, place: Place) -> bool:
    if not place.near and len(value) < 10:
        return False
    made = made_of(value)
    letter = made.lower or made.upper or any(c.isalpha() for c in value)
    if not place.near:
        return made.kinds >= 3 and made.digit and "://" not in value
    if len(value) < 4 or "://" in value or NUMBER_LIKE.search(value):
        return value.isdigit() and len(value) >= 4
    plain = value.rstrip("!?.…")
    if plain.casefold() in STATUSES or _is_identifier(plain) or _MEASURE.search(plain):
        return False
    if made.symbol and plain.isalpha():  # `the password is wrong!` has no sign in it
        sign = "!" in value and (place.marked or place.quoted or (place.assigned and value[:1].isupper()))
        made = made._replace(symbol=sign)
    if letter and (made.digit or made.symbol):
        return len(value) >= 5
    if value.casefold().rstrip("!") in _COMMON or (len(value) >= 18 and value.isalpha()):
        return True
    if value.casefold() in STATUSES or value.casefold() in _STOPS:
        return False
    if _COMPOUND.search(value):
        parts = re.split("[-_.+]", value)
        if any(part.casefold() in _PARTS for part in parts) or all(part.casefold() in STATUSES for part in parts):
            return False
        return place.marked or place.quoted or (place.assigned and len(parts) >= 3 and len(value) >= 14)
    if value.isalpha() and len(value) >= 4 and (place.quoted or (place.marked and place.ends and len(value) >= 5)):
        return True
    inner_upper = any(c.isupper() for c in value[1:]) and made.lower
    return len(value) >= 8 and inner_upper and value.isalpha()


def is_key(value: str, *, near: bool, composite: bool) -> bool:
    if len(value) < (16 if near else 20) or "://" in value or value.startswith("/"):
        return False
    made = made_of(value)
    if not made.digit or not (made.lower or made.upper) or value.count("/") > 4 or NUMBER_LIKE.search(value):
        return False
    if NUMBERED.search(value):
        return False
    if _UUID.search(value):
        return composite and near
    if HEX.search(value):
        return len(value) >= 32 and near if not composite else near or len(value) >= 32
    if not near and not (made.lower and made.upper):
        return False
    words = re.split("[-_.]", value)
    return made.upper or max(len(word) for word in words) >= 12


def holds(value: str, kind: str, place: Place) -> bool:
    if kind in ("pin", "plain_code"):
        return False  # digits alone
    if kind == "code" and place.near and _LETTER_GROUPS.search(value) and has_digit(value):
        return len(value) >= 4
    if kind in ("password", "phrase", "code"):
        # Right behind the word without a mark: `password hunter22`, but not `password reset`.
        sure = place.assigned or (len(value) >= 6 and has_digit(value))
        if kind == "code" and not has_digit(value):
            return False
        return is_password(value, place._replace(near=place.near and sure))
    if kind == "plain_key":
        return is_key(value, near=place.near, composite=False)
    return is_key(value, near=place.near, composite=True) or (place.marked and _is_short_key(value))


def _is_short_key(value: str) -> bool:
    """A value right behind `token:` that is no name, version or path."""
    if len(value) < 8:
        return False
    made = made_of(value)
    if not made.digit or not (made.lower or made.upper) or "/" in value or "://" in value:
        return False
    return (
        not _NAMED.search(value)
        and not NUMBERED.search(value)
        and not NUMBER_LIKE.search(value)
        and "." not in value
        and "(" not in value
    )


def is_told(data: bytes, first: int, *, assigned: bool) -> bool:
    """Whether a bare `code` has a value: told by a mark or a verb, or six digits that end what is said of it."""
    if assigned:
        return _FOUR_DIGITS.match(data, first) is not None
    match = _SIX_DIGITS.match(data, first)
    return match is not None and _SAID.search(data[match.end() : match.end() + 12]) is not None


def digits_end(data: bytes, first: int) -> int:
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


def app_password(data: bytes, first: int) -> int:
    """Where four groups of four letters end, as Google makes them; 0 where they are none."""
    return first + 19 if _APP_PASSWORD.match(data, first, min(len(data), first + 24)) else 0


def several_words(data: bytes, first: int, kind: str, *, quoted: bool) -> int:
    """Where a secret of several words ends; 0 where none begins here."""
    match = (_QUOTED if quoted else _WORDS_ON).match(data, first, min(len(data), first + 240))
    if match is None or (kind == "password" and not quoted):
        return 0
    words = match.group().decode("utf-8", "ignore").casefold().replace(",", " ").split()
    if not (2 if quoted else 4) <= len(words) <= (24 if kind == "phrase" else 5):
        return 0
    bare = [word.strip(".!?") for word in words]
    told = [word in STATUSES for word in bare]
    if not _STOPS.isdisjoint(bare) or told[0] or told[-1] or sum(told) > (len(words) >= 4):
        return 0  # a sentence, or what a page says
    return int(match.end()) if all(PLACEHOLDER.search(word) is None for word in words) else 0
