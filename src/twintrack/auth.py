"""Who is asking: keys, roles and user tokens, without any storage.

Keys are 256-bit random and stored as SHA-256 (a slow hash guards guessable secrets; these are not).
"""

import hashlib
import secrets
from typing import NamedTuple

import jwt
import msgspec

from twintrack.bounds import UNBOUND, Bounds
from twintrack.event import Tenancy, limits
from twintrack.permissions import PERMISSIONS, Permission, roles_with
from twintrack.permissions import Role as Role

# Clocks of the application that signs and of this service may differ by this much.
_LEEWAY_SECONDS = 30
_TOKEN_CHARACTERS = 8_192


MAY_SEND = roles_with(Permission.SEND)


class Principal(NamedTuple):
    """Who was found to ask: a key's public id or a person's, what they may do, where, and the bounds of the key."""

    key_id: str
    role: Role
    tenancy: Tenancy
    bounds: Bounds = UNBOUND
    person: str = ""  # the e-mail address of a person who signed in

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.role]


def permission_key(principal: Principal) -> str:
    """What a kept answer is filed under: who asked, where, and everything they may. Another role is another key."""
    parts = (principal.key_id, *principal.tenancy, *sorted(PERMISSIONS[principal.role]))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def new_key(role: Role) -> str:
    """A fresh key; the prefix tells a person (and a secret scanner) what it is."""
    return f"tt_{role.value}_{secrets.token_urlsafe(32)}"


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class _Claims(msgspec.Struct):
    """What a user token must and may say. Source: RFC 7519 section 4.1; times are seconds since 1970."""

    sub: str
    exp: float
    nbf: float | None = None
    aud: str | list[str] | None = None


_SIGNATURES = jwt.PyJWS(algorithms=["HS256"])
_CLAIMS = msgspec.json.Decoder(_Claims)


def subject_of(token: str, secret: str, now_milliseconds: int) -> str | None:
    """The verified subject of a user token; None where it is expired, not yet valid, foreign, malformed, meant for
    another audience, or names a user that no event could name.

    A bad token never costs an event: the user stays claimed. The signature is PyJWT's to judge, the time is ours,
    since only clock.py reads the wall clock.
    """
    if not secret or not 0 < len(token) <= _TOKEN_CHARACTERS:
        return None
    try:
        claims = _CLAIMS.decode(_SIGNATURES.decode(token, secret, algorithms=["HS256"]))
    except (jwt.PyJWTError, msgspec.DecodeError, ValueError, RecursionError):
        return None
    now = now_milliseconds / 1000
    if claims.exp <= now - _LEEWAY_SECONDS or claims.aud is not None:
        return None
    if claims.nbf is not None and claims.nbf > now + _LEEWAY_SECONDS:
        return None
    return claims.sub if 0 < len(claims.sub) <= limits().identifier_characters else None
