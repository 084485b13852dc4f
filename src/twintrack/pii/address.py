"""Addresses: mail addresses as people write them, and the network's."""

import unicodedata
from collections.abc import Iterator
from ipaddress import IPv6Address

import re2

_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]"
_CJK_START = re2.compile(rf"^{_CJK}+")
_WIDE_HEAD = re2.compile(r"^.*[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]")
_ASCII_TAIL = re2.compile(r"^((?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+\.[A-Za-z]{2,24})[^\x00-\x7f]")
_AT = re2.compile(r"(?i) @ |[\t\n]*@[\t\n]*|[ \t]?[\[({<][ \t]?(?:at|@)[ \t]?[\])}>][ \t]?| at ")
# Endings that look like a domain and are a file or a version.
_FILES = frozenset(
    b"png jpg jpeg gif svg webp avif ico css scss js mjs cjs jsx ts tsx json map html htm pdf txt csv tar gz zip "
    b"mp4 mp3 woff woff2 ttf dll exe lock toml yaml yml xml".split()
)
_LABEL = re2.compile(r"[\pL\pN\p{M}-]+$")
_SCALE = re2.compile(r"^[1-9](?:\.\d)?x\.")
_LIKE_A_NAME = re2.compile(r"[._\d]")
_MAIL = re2.compile(r"(?i)mail|correo|courriel|почт|адрес|メール|邮箱|郵箱|메일|بريد|ईमेल|posta|address|adresse")
_USER_IN_URL = re2.compile(r"""://[^\s/@"']*:$""")
_ROBOTS = frozenset({b"git"})


def email(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A mail address: its last label is no number, no file's ending; words of scripts without spaces are cut off."""
    match = _AT.search(data, start, end)
    if match is None:
        return
    local, domain_at = data[start : match.start()], match.end()
    if (
        match.group() == b" @ "
        and not _LIKE_A_NAME.search(local)
        and not _MAIL.search(data[max(0, start - 40) : start])
    ):
        return  # `lunch @ noma.example` is a place
    if local[-1:].isascii() and not local.isascii():
        wide = _WIDE_HEAD.search(local)
        if wide is not None:
            start += wide.end()
            local = local[wide.end() :]
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
    if not _is_top_level(label) or label.lower() in _FILES:
        return
    if stripped in _ROBOTS and data[end : end + 1] == b":":
        return
    yield start, end


def _is_top_level(label: bytes) -> bool:
    if label[:4].lower() == b"xn--":
        return True
    text = label.decode("utf-8", "ignore")
    return 2 <= len(text) <= 24 and all(c.isalpha() or unicodedata.category(c)[0] == "M" for c in text)


_PRODUCT = re2.compile(r"""(?:(?:^|[\s("';,])[A-Za-z][\w.-]*/|==|[<>~^]=?|\bv|\bV)$""")
_NO_ADDRESS = re2.compile(
    r"(?i)(?:version|versi[óo]n|vers[ãa]o|versione|versie|wersja|wersji|sürüm|верси[яиюей]|バージョン|"
    r"版本|버전|إصدار|الإصدار|release|build|update|upgrade(?: to)?|"
    r"firmware|driver|section|chapter|figure|table|kapitel|oid|ver\.?|§|to v)[ \t:#]{0,3}$"
)
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
            yield start, start + len(text)
        return
    parts = text.split(".")
    if any(int(p) > 255 or (len(p) > 1 and p[0] == "0") for p in parts) or text in _LOCAL:
        return
    if before[-1:].isalnum() and before[-1:] not in (b"v", b"V"):
        return
    glued = before[-1:] in (b".", b"_") or (before[-1:] == b"-" and not before[-2:-1].isdigit())
    if glued or _WORD_BEHIND.search(data[end : end + 3]):
        return
    if _PRODUCT.search(before) is not None or _NO_ADDRESS.search(data[max(0, start - 40) : start]) is not None:
        return
    yield start, end


def _is_ip6(text: str) -> bool:
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
