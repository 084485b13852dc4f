"""Private keys: in their armour, whole or cut off, and as age and PuTTY write them. A first line
alone, as an error quotes it, is none."""

from collections.abc import Iterator

import re2

from twintrack.pii.bound import candidates

_KIND = r"[ +\t\nA-Z0-9]{0,40}PRIVATE[ +\t\n]{1,2}KEY(?:[ +]BLOCK)?[ \t]?-{2,6}"
NEEDS = r"(?i)BEGIN[ +\t\nA-Z0-9]{0,40}PRIVATE[ +\t\n]{1,2}KEY|AGE-SECRET-KEY-1|PuTTY-User-Key-File"
_BEGIN, _END = re2.compile(rf"(?i)-{{2,6}}[ \t+]?BEGIN{_KIND}"), re2.compile(rf"(?i)-{{2,6}}[ \t+]?END{_KIND}")
_OTHERS = re2.compile(r"""AGE-SECRET-KEY-1[0-9A-Z]{50,}|PuTTY-User-Key-File-\d:[^"]*""")
_LOOK_BYTES = 400
# Lines of a header such as `Proc-Type: 4,ENCRYPTED`, then the key, each behind what quotes or joins lines.
_BODY = re2.compile(
    r"""^(?:[\s"'+,|>#*.\\]{0,24}(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash|MessageID)[^\n]{0,160})*"""
    r"""[^A-Za-z0-9]{0,24}[A-Za-z0-9+/=]{10,}(?:[\s"'+,|>#*\\]{1,12}[A-Za-z0-9+/=]{4,})*"""
)
_LONG = re2.compile(r"[A-Za-z0-9+/]{24,}")
_SHORT = re2.compile(r"""^[ \t"'\\+,]{0,8}\n[^A-Za-z0-9<{\[]{0,24}[A-Za-z0-9+/=]+|[A-Za-z0-9+/]{16,}""")
_PLACEHOLDER = re2.compile(
    r"(?i)\b(?:your|here|redacted|omitted|snip|removed|content|placeholder|private key|base64)\b"
)
_MARKS_OF_KEY = frozenset(b"0123456789+/=")


def private_keys(data: bytes) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in candidates(_OTHERS, data))
    ends = iter(candidates(_END, data))
    end = next(ends, None)
    begins = list(candidates(_BEGIN, data))
    for number, begin in enumerate(begins, 1):
        limit = begins[number].start() if number < len(begins) else len(data)
        while end is not None and end.start() < begin.end():
            end = next(ends, None)
        closed = end if end is not None and end.start() < limit else None
        body = data[begin.end() : min(closed.start() if closed else limit, begin.end() + _LOOK_BYTES)]
        if closed:
            good = _LONG.search(body) is not None or (_SHORT.search(body) is not None and not _PLACEHOLDER.search(body))
        else:  # letters alone are a sentence that goes on
            match = _BODY.match(body)
            good = match is not None and not _MARKS_OF_KEY.isdisjoint(match.group())
        if good:
            yield begin.start(), closed.end() if closed else _open_end(data, begin.end(), limit)


def _open_end(data: bytes, at: int, limit: int) -> int:
    """Where the lines of a key end whose last line is missing."""
    match = _BODY.match(data[at:limit])
    return at + int(match.end()) if match else limit
