"""Who is asking: keys, roles and user tokens, without any storage.

Keys are 256-bit random and stored as SHA-256 (a slow hash guards guessable secrets; these are not).
"""

import hashlib
import secrets
from enum import StrEnum
from typing import NamedTuple

import jwt

from twintrack.event import Tenancy


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


def subject_of(token: str, secret: str) -> str | None:
    """The verified subject of a user token; None where it is expired, foreign or malformed.

    A bad token never costs an event: the user stays claimed.
    """
    if not secret or not token:
        return None
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    except (jwt.PyJWTError, ValueError):
        return None
    subject = claims.get("sub")
    return subject if isinstance(subject, str) and subject else None
