"""Credentials that their place gives away: headers, URLs, connections, parameters, options of commands, cookies."""

import base64
import binascii
import re
from collections.abc import Iterator

import re2

from twintrack.pii.bound import candidates
from twintrack.pii.value import NUMBER_LIKE, NUMBERED, PLACEHOLDER, Place, is_password, made_of

_HEADER = re2.compile(r"(?i)\b(bearer|basic|token|digest|apikey|ssws)[ \t]{1,4}([\w+/.~=:-]{8,})")
# The same, folded onto the next line as headers may be.
_FOLDED = re2.compile(
    r"(?i)authorization[ \t]?:[ \t\n]{0,6}(bearer|basic|token|digest|apikey|ssws)[ \t]{0,2}\n{1,2}[ \t]{0,8}"
    r"([\w+/.~=:-]{8,})"
)
_IN_URL = re2.compile(r"""://(?:[^\s/@:"'<>]*):([^\s/"'<>]+)@|://[^\s/@:"'<>]*:([^\s"'<>]{1,80})@[\w.-]+[:/]""")
_PARAMETER = re2.compile(
    r"(?i)(?:^|[^\w.-])([\w.-]*(?:key|token|secret|passw(?:or)?d|pwd|sig|signature|"
    r"credential|auth|session|code|jwt|otp|pass)[\w.-]*)=([^\s&;\"'<>#]{4,})"
)
_CURL = re2.compile(r"""\bcurl\b[^\n]{0,200}?(?:-u|--user)[ \t=]{0,3}["']?[^\s:"']+:([^\s"']+)""")
_OPTION = re2.compile(
    r"""\b(?:mysql|mysqldump|sshpass|redis-cli|(?:docker|podman|helm registry|oras) login|az login|ldapsearch|sqlcmd)\b"""
    r"""[^\n]{0,80}? (?:-p[ ]?|-a |-[wP] |--password[= ])["']?([^\s"']{4,})"""
)
_COOKIE = re2.compile(
    r"(?i)\b(?:sessionid|session|sid|csrftoken|auth|connect\.sid|jsessionid|phpsessid)=([\w%.-]{16,})"
)


_WORDS = re.compile(r"[a-z]{2,12}(?:[-_](?:[a-z]{1,16}|v?[0-9]{1,3})){3,}")  # `sk-learn-pipeline-for-beginners-v2`
_AWS_LETTERS = re.compile(r"A(?:KIA|SIA|BIA|CCA|ROA)[A-Z]{16}")
_PARAMETERS_PLACE = Place(near=True, assigned=True, marked=True, quoted=False, ends=True)


def credentials(data: bytes) -> Iterator[tuple[int, int]]:
    """Authorization headers, passwords in addresses, secret parameters, `curl -u`, session cookies."""
    for pattern in (_HEADER, _FOLDED):
        for match in candidates(pattern, data):
            value = match.group(2).decode("ascii", "ignore")
            if _is_header(match.group(1).lower(), value):
                yield match.span(2)
    for match in candidates(_IN_URL, data):
        span = match.span(1) if match.span(1)[0] >= 0 else match.span(2)
        if not PLACEHOLDER.search(data[slice(*span)]):
            yield span
    for match in candidates(_PARAMETER, data):
        first, last = match.span(2)
        value = data[first:last].decode("utf-8", "ignore")
        name = match.group(1).lower()
        if PLACEHOLDER.search(value):
            continue
        password = b"pass" in name or b"pwd" in name
        if is_password(value, _PARAMETERS_PLACE) if password else _is_parameter(value):
            yield first, last
    for pattern in (_CURL, _COOKIE, _OPTION):
        for match in candidates(pattern, data):
            value = match.group(1)
            if value.isdigit() and len(value) <= 5 and data[match.start(1) - 1 : match.start(1)] == b" ":
                continue  # `-p 6379`: a port
            if PLACEHOLDER.search(value) is None and (
                pattern is not _COOKIE or any(48 <= byte <= 57 for byte in value)
            ):
                yield match.span(1)


def _is_parameter(value: str) -> bool:
    made = made_of(value)
    if len(value) < 12 or not made.digit or not (made.lower or made.upper):
        return False
    return NUMBER_LIKE.search(value) is None and NUMBERED.search(value) is None


def _is_header(kind: bytes, value: str) -> bool:
    if kind == b"basic":
        try:
            return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            return False
    made = made_of(value)
    if kind == b"digest" or value[:3].casefold() in ("sha", "md5"):
        return "=" in value and ":" not in value  # `image digest sha256:...`
    return len(value) >= 16 and made.digit and (made.lower or made.upper)


def mixed(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A key of known form has a digit, or letters of both cases, behind its prefix, and is no row of words."""
    value = data[start:end].decode("ascii", "ignore")
    made = made_of(value[3:])
    if (made.digit or (made.lower and made.upper)) and not _WORDS.fullmatch(value):
        yield start, end
    elif _AWS_LETTERS.fullmatch(value) and len(set(value)) > 8 and not data[end : end + 1].isalnum():
        yield start, end  # one in thirty has no digit
