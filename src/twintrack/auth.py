"""Who is asking: keys and roles, without any storage. User tokens: tokens.py.

Keys are 256-bit random and stored as SHA-256 (a slow hash guards guessable secrets; these are not).
"""

import hashlib
import secrets
from typing import NamedTuple

from twintrack.bounds import UNBOUND, Bounds
from twintrack.event import Tenancy
from twintrack.permissions import PERMISSIONS, Permission
from twintrack.permissions import Role as Role


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
