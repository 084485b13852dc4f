"""People: who was invited, who they are of a project, how they prove it. The last owner of a project stays.

Passwords are kept as argon2id; links and their secrets as SHA-256 of 256 random bits. A link is good once.
"""

import re
import secrets
from typing import Any
from uuid import uuid4

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from twintrack.auth import Principal, key_hash
from twintrack.clock import Clock, iso
from twintrack.control.access import links, members, people, signins
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.permissions import Permission, Role, may, roles_with

LEAST_PASSWORD, MOST_PASSWORD = 12, 200
_EMAIL = re.compile(r"[^@\s\x00-\x1f<>\"]{1,64}@[^@\s\x00-\x1f<>\"]{1,189}")
# RFC 9106, the second recommended choice: 64 MiB, three passes, four lanes.
_HASHER = PasswordHasher()
# Compared where there is no account, so that the time of an answer does not tell: a salt and a hash of zeros, which no
# password has. Made of the parameters, since hashing one here costs every command of the CLI a tenth of a second.
_NOBODY = f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}${'A' * 22}${'A' * 43}"


class People:
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def invite(self, email: str, project: str, role: Role, hours: int) -> tuple[str, int]:
        """The secret of an invitation, good once, and when it ends in milliseconds. An earlier one of theirs ends.

        Raises: RequestError for what is no address, for a role that no person has, for who is a member already.
        """
        email = _address(email)
        if not may(role, Permission.SIGN_IN):
            raise RequestError(
                f"{role} is a role of keys",
                hint="people are " + ", ".join(r for r in Role if r in roles_with(Permission.SIGN_IN)),
                code="bad_role",
            )
        if self.member_role(email, project) is not None:
            raise RequestError(
                "they are a member already",
                hint="give them another role, or a link that signs in",
                code="already_member",
                status=409,
            )
        with self._engine.begin() as db:
            db.execute(
                delete(links).where(links.c.email == email, links.c.project == project, links.c.kind == "invite")
            )
            return self._link(db, "invite", email, project, role, hours * 3_600_000)

    def sign_in_link(self, person_id: str, project: str, minutes: int) -> tuple[str, int]:
        """The secret of a link that signs a member in once, and when it ends in milliseconds.

        Raises: RequestError where there is no such member.
        """
        with self._engine.begin() as db:
            member = self._member(db, person_id, project)
            return self._link(db, "sign_in", member.email, project, Role(member.role), minutes * 60_000)

    def _link(
        self, db: Connection, kind: str, email: str, project: str, role: Role, milliseconds: int
    ) -> tuple[str, int]:
        secret, ends = secrets.token_urlsafe(32), self._clock.milliseconds() + milliseconds
        db.execute(delete(links).where(links.c.expires_at < self._clock.milliseconds()))
        db.execute(
            insert(links).values(
                id=uuid4().hex[:26],
                hash=key_hash(secret),
                kind=kind,
                email=email,
                project=project,
                role=role.value,
                expires_at=ends,
            )
        )
        return secret, ends

    def invitation(self, secret: str) -> dict[str, str]:
        """Whom a link is for, without using it. Raises: RequestError where it is used up, expired or unknown."""
        with self._engine.connect() as db:
            row = self._good_link(db, secret)
        return {"kind": row.kind, "email": row.email, "project": row.project, "role": row.role}

    def accept(self, secret: str, password: str) -> tuple[str, str]:
        """Uses a link up: an invitation makes its person a member. (person id, project).

        Shape: `password` may be empty: they come by link then. It counts only for somebody new: a link must not be a way
        into an account that is a member of other projects.

        Raises: RequestError where the link is used up, expired or unknown, or the password too short.
        """
        hashed = _hashed(password) if password else None
        now = self._clock.milliseconds()
        with self._engine.begin() as db:
            row = self._good_link(db, secret)
            used = db.execute(update(links).where(links.c.id == row.id, links.c.used_at.is_(None)).values(used_at=now))
            if used.rowcount == 0:
                raise _bad_link()
            person = db.execute(select(people).where(people.c.email == row.email)).first()
            if person is None:
                person_id = uuid4().hex[:26]
                db.execute(
                    insert(people).values(
                        id=person_id,
                        email=row.email,
                        password=hashed,
                        created_at=now,
                    )
                )
            else:
                person_id = person.id
            role = self._role(db, person_id, row.project)
            # A link leads to what its maker knew of: not into an account that has become more since it was made.
            if role != (None if row.kind == "invite" else row.role):
                raise _bad_link()
            if role is None:
                db.execute(insert(members).values(person_id=person_id, project=row.project, role=row.role, since=now))
        return person_id, row.project

    def check_password(self, email: str, password: str) -> str | None:
        """The id of the person; None where address or password is wrong. Takes as long either way.

        Costs some 50 ms of a core and 64 MiB: call it on a thread, a few at once.
        """
        with self._engine.connect() as db:
            row = db.execute(select(people).where(people.c.email == email.strip().lower())).first()
        stored = _NOBODY if row is None or row.password is None else row.password
        try:
            right = _HASHER.verify(stored, password[: MOST_PASSWORD + 1])
        except (Argon2Error, InvalidHashError):
            return None
        if row is None or row.password is None or not right:
            return None
        if _HASHER.check_needs_rehash(stored):
            with self._engine.begin() as db:
                db.execute(update(people).where(people.c.id == row.id).values(password=_HASHER.hash(password)))
        return str(row.id)

    def set_password(self, person_id: str, password: str) -> None:
        """Takes the place of the one before, and ends every session of theirs. Raises: RequestError, too short."""
        hashed = _hashed(password)
        with self._engine.begin() as db:
            db.execute(update(people).where(people.c.id == person_id).values(password=hashed))
            db.execute(delete(signins).where(signins.c.person_id == person_id))

    def projects(self, person_id: str) -> list[str]:
        """Of which they are a member, the oldest first."""
        with self._engine.connect() as db:
            rows = db.execute(select(members).where(members.c.person_id == person_id).order_by(members.c.since))
            return [row.project for row in rows]

    def principal(self, person_id: str, tenancy: Tenancy) -> Principal | None:
        """Who a session of theirs stands for, by the role they have now; None where they are no member any more."""
        with self._engine.connect() as db:
            row = db.execute(
                select(people.c.email, members.c.role)
                .join(members, members.c.person_id == people.c.id)
                .where(people.c.id == person_id, members.c.project == tenancy.project)
            ).first()
        return None if row is None else Principal(person_id, Role(row.role), tenancy, person=row.email)

    def find(self, email: str, project: str) -> str:
        """The id of a member. Raises: RequestError."""
        with self._engine.connect() as db:
            row = db.execute(
                select(people.c.id)
                .join(members, members.c.person_id == people.c.id)
                .where(people.c.email == email.strip().lower(), members.c.project == project)
            ).first()
        if row is None:
            raise _no_member()
        return str(row.id)

    def role_of(self, person_id: str, project: str) -> Role:
        """Raises: RequestError where there is no such member."""
        with self._engine.connect() as db:
            return Role(self._member(db, person_id, project).role)

    def list(self, project: str | None = None) -> list[dict[str, Any]]:
        """Members, then who is invited and has not come yet."""
        with self._engine.connect() as db:
            joined = select(people, members).join(members, members.c.person_id == people.c.id)
            seen: dict[str, int] = {
                row.person_id: row.at
                for row in db.execute(
                    select(signins.c.person_id, func.max(signins.c.seen_at).label("at")).group_by(signins.c.person_id)
                )
                if row.person_id is not None
            }
            found = [
                {
                    "id": row.id,
                    "email": row.email,
                    "project": row.project,
                    "role": row.role,
                    "state": "member",
                    "since": iso(row.since),
                    "expires_at": None,
                    "seen_at": iso(seen[row.id]) if row.id in seen else None,
                }
                for row in db.execute(joined.order_by(members.c.project, people.c.email))
            ]
            waiting = select(links).where(
                links.c.kind == "invite",
                links.c.used_at.is_(None),
                links.c.expires_at > self._clock.milliseconds(),
            )
            found += [
                {
                    "id": row.id,
                    "email": row.email,
                    "project": row.project,
                    "role": row.role,
                    "state": "invited",
                    "since": None,
                    "expires_at": iso(row.expires_at),
                    "seen_at": None,
                }
                for row in db.execute(waiting.order_by(links.c.project, links.c.email))
            ]
        return [each for each in found if project is None or each["project"] == project]

    def change_role(self, person_id: str, project: str, role: Role) -> None:
        """In force with their next request. Raises: RequestError for no member, for the last owner."""
        if not may(role, Permission.SIGN_IN):
            raise RequestError(f"{role} is a role of keys", hint="see docs/reference/permissions.md", code="bad_role")
        with self._engine.begin() as db:
            self._member(db, person_id, project)
            self._keep_an_owner(db, person_id, project, role)
            db.execute(
                update(members)
                .where(members.c.person_id == person_id, members.c.project == project)
                .values(role=role.value)
            )

    def remove(self, person_id: str, project: str) -> None:
        """Ends membership, sessions and links there; who is a member of nothing is forgotten. An invitation goes too.

        Raises: RequestError for no member, for the last owner.
        """
        with self._engine.begin() as db:
            if db.execute(delete(links).where(links.c.id == person_id, links.c.project == project)).rowcount:
                return
            member = self._member(db, person_id, project)
            self._keep_an_owner(db, person_id, project, None)
            db.execute(delete(members).where(members.c.person_id == person_id, members.c.project == project))
            db.execute(delete(signins).where(signins.c.person_id == person_id, signins.c.project == project))
            db.execute(delete(links).where(links.c.email == member.email, links.c.project == project))
            if db.execute(select(members).where(members.c.person_id == person_id)).first() is None:
                db.execute(delete(people).where(people.c.id == person_id))

    def member_role(self, email: str, project: str) -> Role | None:
        """None for who is no member."""
        with self._engine.connect() as db:
            row = db.execute(
                select(members.c.role)
                .join(people, people.c.id == members.c.person_id)
                .where(people.c.email == email.strip().lower(), members.c.project == project)
            ).first()
        return None if row is None else Role(row.role)

    def has_password(self, person_id: str) -> bool:
        with self._engine.connect() as db:
            row = db.execute(select(people.c.password).where(people.c.id == person_id)).first()
        return row is not None and row.password is not None

    def invited_role(self, link_id: str, project: str) -> Role | None:
        """The role of a waiting invitation."""
        with self._engine.connect() as db:
            row = db.execute(select(links.c.role).where(links.c.id == link_id, links.c.project == project)).first()
        return None if row is None else Role(row.role)

    def _member(self, db: Connection, person_id: str, project: str) -> Any:
        row = db.execute(
            select(people.c.email, members.c.role)
            .join(members, members.c.person_id == people.c.id)
            .where(people.c.id == person_id, members.c.project == project)
        ).first()
        if row is None:
            raise _no_member()
        return row

    def _role(self, db: Connection, person_id: str, project: str) -> str | None:
        here = (members.c.person_id == person_id) & (members.c.project == project)
        row = db.execute(select(members.c.role).where(here)).first()
        return None if row is None else str(row.role)

    def _keep_an_owner(self, db: Connection, person_id: str, project: str, role: Role | None) -> None:
        """Takes the write lock first, so that two who remove each other at once cannot both find the other there."""
        db.execute(update(members).where(members.c.project == project).values(project=members.c.project))
        if role is Role.OWNER or self._role(db, person_id, project) != Role.OWNER:
            return
        owners = db.execute(
            select(func.count()).where(members.c.project == project, members.c.role == Role.OWNER.value)
        ).scalar_one()
        if owners < 2:
            raise RequestError(
                "the last owner of a project stays its owner",
                hint="make somebody else owner first",
                code="last_owner",
                status=409,
            )

    def _good_link(self, db: Connection, secret: str) -> Any:
        row = db.execute(select(links).where(links.c.hash == key_hash(secret))).first()
        if row is None or row.used_at is not None or row.expires_at <= self._clock.milliseconds():
            raise _bad_link()
        return row


def _hashed(password: str) -> str:
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise RequestError(
            f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters",
            hint="a few words are easier than signs",
            code="bad_password",
        )
    return _HASHER.hash(password)


def _address(email: str) -> str:
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email):
        raise RequestError("this is no e-mail address", hint="such as ann@example.com", code="bad_email")
    return email


def _no_member() -> RequestError:
    return RequestError(
        "nobody here is a member by that name", hint="see who is: twintrack people list", code="no_member", status=404
    )


def _bad_link() -> RequestError:
    return RequestError(
        "this link was used, has expired or never was", hint="ask for a new one", code="bad_link", status=401
    )
