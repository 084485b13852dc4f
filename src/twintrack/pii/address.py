"""Mail addresses as people write them."""

import unicodedata
from collections.abc import Iterator

import re2

from twintrack.pii.bound import candidates

_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]"
_CJK_START = re2.compile(rf"^{_CJK}+")
_WIDE_HEAD = re2.compile(r"^.*[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]")
_ASCII_TAIL = re2.compile(r"^((?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+\.[A-Za-z]{2,24})[^\x00-\x7f]")
# How `@` and `.` are spelled. A strong word stands for `@` alone; a weak one is a word of its language, and needs a spelled
# dot of that language behind it and an ending that exists.
_STRONG = (
    "arroba|arobase|chiocciola(?:tta)?|ma[łl]p[aąy]|собак[аи]|собачка|klammeraffe|at-zeichen|apenstaartje|zavin[áa][čc]|kukac|"
    "snabel-?a|kr[øo]llalfa|arond[ăa]?|aron|miukumauku|アットマーク|アット|艾特|골뱅이|앳|שטרודל|παπάκι|آت|एट"
)
_STRONG_CJK = "アットマーク|アット|艾特|골뱅이|앳|＠"
_DOT = (
    "dot|punkt|punktum|point|punto|ponto|kropka|точка|nokta|punt|te[čc]ka|pont|punct|piste|ドット|点|點|점|닷|נקודה|τελεία|"
    "نقطة|دوت|डॉट|बिंदु"
)
_WEAK = (("at", "dot"), ("at|bei|ät", "punkt"), ("at|chez", "point"), ("et", "nokta"))
_JOIN = "underscore|dash|hyphen|minus|unterstrich|bindestrich|tiret|guion|gui[óo]n bajo|tra[çc]o|trattino"
_OPEN, _CLOSE = r"[ \t]?[\[({<*|~-]{1,2}[ \t]?", r"[ \t]?[\])}>*|~-]{1,2}[ \t]?"
_BRACKETED_AT = rf"{_OPEN}(?i:at|@|ät|bei|et|{_STRONG}){_CLOSE}"
_BRACKETED_DOT = rf"{_OPEN}(?i:\.|{_DOT}){_CLOSE}"
_AT_MARK = rf"[\t\n]{{1,2}}@[\t\n]{{0,2}}|@[\t\n]{{0,2}}|{_BRACKETED_AT}| @ ?|@ "
_DOTS = rf"\.|[\t\n]\.|\.[\t\n]| \. |{_BRACKETED_DOT}|[ \t](?i:{_DOT})[ \t]"
# Letters and digits as ranges: classes such as \pL make automata that do not fit into memory.
_LETTERS = (
    r"A-Za-z0-9\x{c0}-\x{60b}\x{610}-\x{61a}\x{620}-\x{963}\x{966}-\x{1fff}\x{2c00}-\x{2dff}\x{3040}-\x{d7ff}"
    r"\x{f900}-\x{fdff}\x{fe70}-\x{fefe}\x{20000}-\x{2ffff}"
)
_HOST, _NAME = f"[{_LETTERS}-]+", f"[{_LETTERS}._%+'-]+"
_LOCAL_PART = rf"{_NAME}(?:(?:{_BRACKETED_DOT}|[ \t_](?i:{_DOT}|{_JOIN})[ \t_])[\w._%+'-]+){{0,3}}"
_WEAK_AT = "|".join(rf"[ _](?i:{at})[ _]{_HOST}(?:[ _](?i:{dot})[ _]{_HOST})+" for at, dot in _WEAK)
_WIDE_AT = rf"[ \t]?(?:{_STRONG_CJK})[ \t]?[A-Za-z0-9-]+(?:(?:\.|[ \t]?(?i:{_DOT})[ \t]?)[A-Za-z0-9-]+)+"
_PATTERN = re2.compile(
    rf"[\w.+-]+{_WIDE_AT}|{_LOCAL_PART}(?:(?:{_AT_MARK}|[ \t](?i:{_STRONG})[ \t]){_HOST}(?:(?:{_DOTS}){_HOST})+|{_WEAK_AT})|"
    rf'"[{_LETTERS}][{_LETTERS} .+_-]{{0,62}}"@{_HOST}(?:\.{_HOST})+'
)
NEEDS = (
    rf"@|(?i:[\[({{<*|~-][ \t]?(?:at|ät|bei|et)[ \t]?[\])}}>*|~-]|{_STRONG_CJK}|[ \t\[({{<*|~-](?:{_STRONG})[ \t\])}}>*|~-]|"
    r"[ _](?:dot|punkt|nokta)[ _]| (?:at|chez) [^ ]{1,30} point )"
)
_AT = re2.compile(
    rf"(?i){_BRACKETED_AT}| @ ?|@ |[\t\n]*@[\t\n]*|[ \t](?:{_STRONG})[ \t]|[ \t]?(?:{_STRONG_CJK})[ \t]?|"
    r"[ _](?:at|bei|ät|chez|et)[ _]"
)
_FRENCH = frozenset(b"fr be ch ca eu".split())
_ENDINGS = frozenset(
    b"com net org edu gov int mil info biz name dev app shop store online site xyz cloud tech email blog wiki example test "
    b"invalid local internal company agency studio design live world news club".split()
)
# Endings that look like a domain and are a file or a version.
_FILES = frozenset(
    b"png jpg jpeg gif svg webp avif ico css scss js mjs cjs jsx ts tsx json map html htm pdf txt csv tar gz zip "
    b"mp4 mp3 woff woff2 ttf dll exe lock toml yaml yml xml java cpp vue php ini cfg conf log bak apk deb rpm dmg "
    b"iso docx xlsx service socket timer target mount slice scope".split()
)
_NO_LABELS = frozenset(_DOT.encode().split(b"|"))
_NO_HOSTS = frozenset({b"the", b"this", b"that", b"a", b"an", b"my", b"your", b"our", b"all", b"every"})
_WEAK_WORDS = frozenset("at bei ät chez et".encode().split())
_FIRST_LABEL = re2.compile(r"^[\pL\pN\p{M}-]*")
_LABEL = re2.compile(r"[\pL\pN\p{M}-]+$")
_SCALE = re2.compile(r"^[1-9](?:\.\d)?x\.")
_LIKE_A_NAME = re2.compile(r"[._\d]")
_MAIL = re2.compile(r"(?i)mail|correo|courriel|почт|адрес|メール|邮箱|郵箱|메일|بريد|ईमेल|posta|address|adresse")
_USER_IN_URL = re2.compile(r"""://[^\s/@"']*:$""")
_ROBOTS = frozenset({b"git"})
_LABELS_OF_CODE = frozenset({b"this", b"super", b"return"})  # `this@MainActivity.finish()`


_AGAIN_BYTES = 80
_SPACED_AT = re2.compile(" @ ?|@ ")


def emails(data: bytes) -> Iterator[tuple[int, int]]:
    for match in candidates(_PATTERN, data):
        start, end = match.span()
        found = next(_email(data, start, end), None)
        if found is None and data[end : end + 1] == b"@" and (spaced := _SPACED_AT.search(data, start, end)):
            # `write me @ ada@example.com`: what was read as a host is the name of the next.
            again = _PATTERN.search(data, spaced.end(), min(len(data), end + _AGAIN_BYTES))
            found = next(_email(data, *again.span()), None) if again else None
        if found is not None:
            yield found


def _email(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A mail address: its last label is no number, no file's ending; words of scripts without spaces are cut off."""
    match = _AT.search(data, start, end)
    if match is None:
        return
    local, domain_at = data[start : match.start()], match.end()
    if (
        match.group() in (b" @ ", b" @", b"@ ")
        and not _LIKE_A_NAME.search(local)
        and not _MAIL.search(data[max(0, start - 40) : start])
        and not _MAIL.search(data[end : end + 20])
    ):
        return  # `lunch @ noma.example` is a place
    if local[-1:].isascii() and not local.isascii():
        wide = _WIDE_HEAD.search(local)
        if wide is not None:
            start += wide.end()
            local = local[wide.end() :]
    spelled = match.group().strip(b" \t")
    if spelled.strip(b"_").lower() in _WEAK_WORDS and match.group()[:1] in b" _":
        host = data[domain_at:end]
        if _FIRST_LABEL.search(host).group().lower() in _NO_HOSTS:
            return  # `look at the dot com years`
        label = _LABEL.search(host)
        ending = label.group().lower() if label else b""
        # `at some point in`, `at check point we` are no addresses.
        if ending not in _ENDINGS and (len(ending) != 2 or (b" point " in host and ending not in _FRENCH)):
            return
    stripped = local.lstrip(b"._%+'-")
    start += len(local) - len(stripped)
    domain = data[domain_at:end]
    tail = _ASCII_TAIL.search(domain)
    if tail is not None:
        wide_after = _CJK_START.search(domain[tail.end(1) :])
        if wide_after is not None:
            end = domain_at + tail.end(1)
            domain = data[domain_at:end]
    trimmed = domain.rstrip(b"-")
    end -= len(domain) - len(trimmed)
    last = _LABEL.search(trimmed)
    if not stripped or _SCALE.search(trimmed):
        return
    if data[max(0, start - 1) : start] == b":" and _USER_IN_URL.search(data[max(0, start - 80) : start]):
        return  # `//user:password@host`: the password is another rule's
    label = last.group() if last else b""
    if not _is_top_level(label) or label.lower() in _FILES or label.lower() in _NO_LABELS:
        return
    if stripped in _LABELS_OF_CODE or (stripped in _ROBOTS and data[end : end + 1] == b":"):
        return
    yield start, end


def _is_top_level(label: bytes) -> bool:
    if label[:4].lower() == b"xn--":
        return True
    text = label.decode("utf-8", "ignore")
    return 2 <= len(text) <= 24 and all(c.isalpha() or unicodedata.category(c)[0] == "M" for c in text)
