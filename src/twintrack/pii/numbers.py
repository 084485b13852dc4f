"""Numbers that carry their own proof: cards, bank accounts, and those that were issued by a known plan.

Each check takes the folded text and a candidate's place, and gives back the places of what is real in it.
"""

import re
import tomllib
from collections.abc import Iterator
from importlib import resources

import re2

_GROUP = re.compile(rb"[0-9]+")  # a call of `re` costs a third of one of RE2
# Length by first digits. Source: ISO/IEC 7812 issuer ranges as the networks publish them; compared with
# credit-card-type 10.3.0 (npm), all of whose ranges and lengths lie in these.
_NETWORKS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (1800, 1800, frozenset({15, 16})),  # JCB, as 2131
    (2131, 2131, frozenset({15, 16})),
    (2200, 2204, frozenset(range(16, 20))),  # Mir
    (2221, 2720, frozenset({16})),  # Mastercard
    (3000, 3059, frozenset(range(14, 20))),  # Diners Club
    (3095, 3095, frozenset(range(14, 20))),
    (3400, 3499, frozenset({15})),  # American Express
    (3528, 3589, frozenset(range(16, 20))),  # JCB
    (3600, 3699, frozenset(range(14, 20))),
    (3700, 3799, frozenset({15})),
    (3800, 3999, frozenset(range(14, 20))),
    (4000, 4999, frozenset({13, 16, 18, 19})),  # Visa
    (5000, 5099, frozenset(range(12, 20))),  # Maestro
    (5100, 5599, frozenset({16})),
    (5600, 5899, frozenset(range(12, 20))),
    (6000, 6999, frozenset(range(12, 20))),  # Discover, UnionPay, Maestro, RuPay
    (8100, 8299, frozenset(range(16, 20))),  # UnionPay, RuPay
    (9792, 9792, frozenset({16})),  # Troy
)
_LENGTHS_BY_FIRST = {first: lengths for low, high, lengths in _NETWORKS for first in range(low, high + 1)}
_MOST_DIGITS = 19
_CARD_BYTES = 60
_CARD_WORD = re2.compile(
    r"(?i)(?:\b(?:credit|debit|bank|kredit|giro)?[ -]?(?:card|karten?|carte|carta|tarjeta|cart[ãa]o|kart[aęyu]?|kaart|kort)"
    r"(?:nummer|n[úu]mero|number|no|nr|s)?\b|карт[аыеуой]|visa\b|mastercard|maestro|\bjcb\b|\bpan\b|kart(?:ı|\b)|カード|信用卡|銀行卡|银行卡|卡号|卡號|"
    r"카드|بطاق|कार्ड)"
)
_ELSE_CARD = re2.compile(
    r"(?i)(?:\be?sim\b|iccid|imei|gift|loyalty|member|library|geschenk|kunden|cadeau|regalo|симк|сим-)"
)
_SHAPES = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (4, 4, 4, 6), (4, 4, 4, 1), (6, 13), (8, 8)}
)

_ORDER = [3, 7, 7]  # as Amazon numbers orders
_MOST_GROUPS = max(map(len, _SHAPES))
_FIRST_GROUPS = frozenset(shape[0] for shape in _SHAPES) | frozenset(range(12, _MOST_DIGITS + 1))
_GLUED = frozenset({b"cvv", b"cvc", b"exp"})
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the check digit holds. Source: ISO/IEC 7812-1 annex B."""
    plain, doubled = map(int, digits[-1::-2]), map(int, digits[-2::-2])
    return (sum(plain) + sum(map(_DOUBLED.__getitem__, doubled))) % 10 == 0


def is_article(part: bytes) -> bool:
    """Whether 13 digits are an article's number (EAN-13), by their check digit. Source: GS1 General Specifications."""
    return part.isdigit() and sum((c - 48) * (3 if place % 2 else 1) for place, c in enumerate(part)) % 10 == 0


def _is_card(digits: str, data: bytes, at: int) -> bool:
    """Whether the check digit holds, and a network has such numbers or a word beside them says that they are one."""
    if len(set(digits)) == 1 or not luhn(digits):
        return False
    said = _GROUP.split(data[max(0, at - _CARD_BYTES) : at])[-1]
    if len(digits) in _LENGTHS_BY_FIRST.get(int(digits[:4]), ()):
        return len(digits) != 13 or not is_article(digits.encode()) or _CARD_WORD.search(said) is not None
    return len(digits) >= 14 and _CARD_WORD.search(said) is not None and _ELSE_CARD.search(said) is None


def cards(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Windows of whole groups that are a card by network, length and check digit, in the grouping of a card or
    filling the run: this keeps `2 x 4111 ...` apart and longer numbers whole."""
    groups = [m.span() for m in _GROUP.finditer(data, start, end)]
    at = 0
    while at < len(groups):
        many = _card_groups(data, groups, at)
        if many:
            yield groups[at][0], groups[at + many - 1][1]
        at += many or 1


def _card_groups(data: bytes, groups: list[tuple[int, int]], at: int) -> int:
    """How many groups from here on are a card together; 0 where none are."""
    sizes: list[int] = []
    if groups[at][1] - groups[at][0] in _FIRST_GROUPS:
        lengths = tuple(last - first for first, last in groups[at : at + _MOST_GROUPS])
        sizes = [n for n in range(1, len(lengths) + 1) if n == 1 or lengths[:n] in _SHAPES]
    if at == 0 and len(groups) <= _MOST_DIGITS and not _is_fraction(data, groups):
        sizes += [len(groups)] if [last - first for first, last in groups] != _ORDER else []
    for many in sizes:
        first, behind = groups[at][0], groups[at + many - 1][1]
        digits = b"".join([data[low:high] for low, high in groups[at : at + many]]).decode()
        if 12 <= len(digits) <= _MOST_DIGITS and _is_card(digits, data, first) and not _inside(data, first, behind):
            return many
    return 0


def _is_fraction(data: bytes, groups: list[tuple[int, int]]) -> bool:
    return len(groups) == 2 and data[groups[0][1] : groups[1][0]] == b"."


def _inside(data: bytes, start: int, end: int) -> bool:
    """Whether letters and digits go on around it, as in a hash or a fraction."""
    behind, before = data[end : end + 1], data[max(0, start - 2) : start]
    if (behind.isalpha() and data[end : end + 3].lower() not in _GLUED) or behind == b"_":
        return True
    return before[:1].isdigit() and (before[-1:].isalpha() or before[-1:] == b".")


_BEFORE_SSN = re2.compile(
    r"(?i)(?:\bssn|\bs\.s\.n\b|itin\b|\btin\b|\bsocial|\bsoc\.? ?sec|tax[ _-]?id|taxpayer|segur(?:o|idad)[ \t]?social|"
    r"seguran[çc]a social|sozialversicherung|s[ée]curit[ée] sociale|sicurezza sociale|ubezpiecze|социальн|"
    r"sosyal g[üu]venlik|社会保障|社会安全|社保|사회보장|"
    r"الضمان الاجتماعي|सामाजिक सुरक्षा)[^\d\n]{0,40}$"
)
_ELSE_SSN = re2.compile(
    r"(?i)(?:order|invoice|ticket|\bref(?:erence)?|part|article|sku|model|version|"
    r"\bid|tracking|isbn|phone|\btel|rows|case|vat)[ .:#]{0,3}(?:no|number|nr)?[ .:#]{0,3}$"
)
_ITIN_GROUPS = (
    frozenset(range(50, 66)) | frozenset(range(70, 89)) | frozenset(range(90, 93)) | frozenset(range(94, 100))
)


def ssn(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Numbers that could have been issued: areas 000, 666 and 9xx, group 00 and serial 0000 never were; 9xx with some
    groups are taxpayers' (ITIN). Sources: SSA, randomisation of 2011; IRS Publication 4757. Bare digits and dots need
    a word beside them."""
    part = data[start:end]
    told = _BEFORE_SSN.search(data[max(0, start - 80) : start]) is not None
    digits = bytes(c for c in part if 48 <= c <= 57)
    area, group, serial = digits[:3], int(digits[3:5]), digits[5:]
    if not told:
        marks = {c for c in part if not 48 <= c <= 57}
        if (
            not marks
            or marks & set(b"./")
            or part[6:7].isdigit()
            or len(part) < 11
            or (len({part[3:4], part[-5:-4]}) > 1 and not marks & set(b"\n\t"))
        ):
            return
        if _glued(data, start, end) or _ELSE_SSN.search(data[max(0, start - 40) : start]):
            return
    elif _digit_beside(data, start, end):
        return
    if area >= b"900":
        if group not in _ITIN_GROUPS:
            return
    elif area in (b"000", b"666") or group == 0:
        return
    if serial != b"0000":
        yield start, end


def _digit_beside(data: bytes, start: int, end: int) -> bool:
    return (start > 0 and data[start - 1 : start].isdigit()) or data[end : end + 1].isdigit()


def _glued(data: bytes, start: int, end: int) -> bool:
    """Whether it is a part of something longer: `ORD-123-45-6789`, `1.123-45-6789`."""
    before, behind = data[max(0, start - 1) : start], data[end : end + 2]
    if before.isalnum() or (before and before in b"_-.#/"):
        return True
    return behind[:1].isalnum() or (len(behind) == 2 and behind[:1] in (b"-", b"_", b"/") and behind[1:].isalnum())


_IBAN_LENGTHS: dict[str, int] = tomllib.loads(
    (resources.files("twintrack.pii") / "ibans.toml").read_text(encoding="utf-8")
)


_IBAN_START = re2.compile(r"(?i)\b(?:iban)?[A-Z]{2}[ \t]?\d\d")
_ACCOUNT = re2.compile(r"(?i)(?:iban)?([A-Z]{2}[ \t]?\d\d(?:[ \t\n./-]{0,2}[A-Z0-9]){11,30})")
_START_BYTES = 9  # of the next one, cut by the end of a candidate


def iban(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Accounts of a known country, of its length, whose remainder by 97 is 1. Source: ISO 13616. One may stand right
    behind another: `... or SE83 ...` reads on like a part of the first."""
    reached = start
    for match in _IBAN_START.finditer(data, start, min(len(data), end + _START_BYTES)):
        if match.start() >= reached and (found := _account(data, match.start())):
            yield found
            reached = found[1]


def _account(data: bytes, start: int) -> tuple[int, int] | None:
    match = _ACCOUNT.match(data, start)
    if match is None:
        return None
    start, end = match.span(1)
    length = _IBAN_LENGTHS.get(data[start : start + 2].decode().upper(), 99)
    compact = data[start:end].translate(None, b" \t\n./-")[:length].upper()
    if (
        len(compact) != length
        or compact[2:4] in (b"00", b"01", b"99")
        or int("".join(map(_BASE_36.__getitem__, compact[4:] + compact[:4]))) % 97 != 1
    ):
        return None
    at, left = start, length
    while left:
        left -= data[at : at + 1].isalnum()
        at += 1
    return None if data[at : at + 1].isalnum() else (start, at)


_BASE_36 = {ord(c): str(int(c, 36)) for c in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
