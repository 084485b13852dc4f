"""Who may do what: one table of roles and permissions. Everything that is refused or hidden is decided by it.

`docs/reference/permissions.md` is generated from here. Nobody gives a role that `GIVES` does not name for theirs.
"""

from enum import StrEnum


class Role(StrEnum):
    WRITE = "write"
    SERVER = "server"
    READ = "read"
    VIEWER = "viewer"
    ANALYST = "analyst"
    PRIVACY = "privacy"
    ADMIN = "admin"
    OWNER = "owner"


class Permission(StrEnum):
    SEND = "send"
    VOUCH = "vouch"
    SIGN_IN = "sign_in"
    LOOK = "look"
    QUERY = "query"
    SQL = "sql"
    EXPORT = "export"
    TEXT = "text"
    CLAIMS = "claims"
    PRIVACY = "privacy"
    GUARD = "guard"
    STATE = "state"
    KEEP = "keep"
    ACCESS = "access"
    AUDIT = "audit"


MEANING = {
    Permission.SEND: "send events and receipts",
    Permission.VOUCH: "name any user of an event without a token",
    Permission.SIGN_IN: "open a dashboard session",
    Permission.LOOK: "see live events, the pipeline and what became of one event",
    Permission.QUERY: "ask questions such as trends and funnels",
    Permission.SQL: "write SQL",
    Permission.EXPORT: "take answers out as files",
    Permission.TEXT: "see message text and client addresses",
    Permission.CLAIMS: "see user ids that nobody verified; others see a name that holds within one answer",
    Permission.PRIVACY: "export what is held about a person",
    Permission.GUARD: "erase a person, set retention",
    Permission.STATE: "record what people agreed to",
    Permission.KEEP: "keep cohorts under a name, for everybody of the environment",
    Permission.ACCESS: "invite and remove people, make and revoke keys",
    Permission.AUDIT: "read the audit log",
}

_P = Permission
_SEES = frozenset({_P.LOOK, _P.QUERY})
_SIGNS_IN = _SEES | {_P.SIGN_IN}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.WRITE: frozenset({_P.SEND}),
    Role.SERVER: frozenset({_P.SEND, _P.VOUCH, _P.STATE}),
    Role.READ: _SEES | {_P.SQL},
    Role.VIEWER: _SIGNS_IN,
    Role.ANALYST: _SIGNS_IN | {_P.SQL, _P.EXPORT, _P.KEEP},
    Role.PRIVACY: _SIGNS_IN | {_P.SQL, _P.EXPORT, _P.TEXT, _P.CLAIMS, _P.PRIVACY, _P.GUARD, _P.STATE, _P.AUDIT},
    Role.ADMIN: _SIGNS_IN | {_P.SQL, _P.EXPORT, _P.KEEP, _P.GUARD, _P.STATE, _P.ACCESS, _P.AUDIT},
    Role.OWNER: frozenset(_P) - {_P.SEND, _P.VOUCH},
}

# An admin runs the project and sees no text; so an admin makes nobody who does.
GIVES: dict[Role, frozenset[Role]] = {
    Role.ADMIN: frozenset({Role.WRITE, Role.SERVER, Role.READ, Role.VIEWER, Role.ANALYST, Role.ADMIN}),
    Role.OWNER: frozenset(Role),
}


def may(role: Role, permission: Permission) -> bool:
    return permission in PERMISSIONS[role]


def roles_with(permission: Permission) -> frozenset[Role]:
    return frozenset(role for role in Role if permission in PERMISSIONS[role])


def hidden_from(role: Role) -> frozenset[Permission]:
    """The permissions whose lack hides columns. An operator at the machine's own socket lacks none."""
    return frozenset({Permission.TEXT, Permission.CLAIMS}) - PERMISSIONS[role]


def gives(role: Role) -> frozenset[Role]:
    """The roles that somebody of this role may give, take and make keys of."""
    return GIVES.get(role, frozenset())
