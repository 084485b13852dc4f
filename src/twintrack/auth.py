"""Who is asking: keys, roles and user tokens, without any storage.

Keys are 256-bit random and stored as SHA-256 (a slow hash guards guessable secrets; these are not).
"""

import hashlib
import secrets
from enum import StrEnum
from typing import NamedTuple

import jwt
import msgspec

from twintrack.event import Tenancy, limits

# Clocks of the application that signs and of this service may differ by this much.
_LEEWAY_SECONDS = 30
_TOKEN_CHARACTERS = 8_192


class Role(StrEnum):
    WRITE = "write"
    SERVER = "server"
    READ = "read"
    VIEWER = "viewer"
    ANALYST = "analyst"
    PRIVACY = "privacy"
    ADMIN = "admin"
    OWNER = "owner"


MAY_SEND = frozenset({Role.WRITE, Role.SERVER})
MAY_QUERY = frozenset({Role.READ, Role.ADMIN, Role.OWNER})
MAY_LOOK = frozenset({Role.READ, Role.VIEWER, Role.ANALYST, Role.PRIVACY, Role.ADMIN, Role.OWNER})
MAY_SIGN_IN = MAY_LOOK - {Role.READ}
MAY_GUARD = frozenset({Role.PRIVACY, Role.ADMIN, Role.OWNER})  # consent, retention, and who was asked about whom
MAY_ERASE = MAY_GUARD
MAY_SEE_KEYS = frozenset({Role.ADMIN, Role.OWNER})


class Principal(NamedTuple):
    """A key that was found valid: its public id, what it may do, and where."""

    key_id: str
    role: Role
    tenancy: Tenancy


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
