"""Keys, projects, rollouts and sessions, with a cache that is at most one second old.

Promises: a key created or revoked, or a rollout changed, by any process takes effect here within 1 s. Only hashes of
secrets are stored.
"""

import contextlib
import re
import secrets
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from sqlalchemy import Engine, create_engine, delete, event, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from twintrack.auth import Principal, Role, key_hash, new_key
from twintrack.clock import Clock, iso
from twintrack.control.consents import Consents
from twintrack.control.retention import RetentionRules
from twintrack.control.rollout import Rollout, changed
from twintrack.control.tables import keys, projects, rollouts, sessions
from twintrack.control.tombstones import Marks, Tombstone, read, tombstones
from twintrack.control.upgrade import upgrade
from twintrack.errors import RequestError
from twintrack.event import Tenancy

_CACHE_SECONDS = 1.0
_MOST_TRIES = 10
_AS_MADE = Rollout()


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,62}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RequestError(
            "a project or environment name has 1 to 63 letters, digits, - or _", hint="such as `shop` or `production`"
        )


class Project(NamedTuple):
    name: str
    secret: bytes


class Control:
    def __init__(self, url: str, clock: Clock) -> None:
        self._engine: Engine = create_engine(url)
        self._clock = clock
        if self._engine.dialect.name == "sqlite":

            @event.listens_for(self._engine, "connect")
            def _durable(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA secure_delete=ON")  # what is deleted or blanked is overwritten

        upgrade(self._engine, clock.milliseconds())
        self.retention = RetentionRules(self._engine, clock)
        self.consents = Consents(self._engine, clock)
        self._principals: dict[str, Principal] = {}
        self._projects: dict[str, Project] = {}
        self._rollouts: dict[Tenancy, Rollout] = {}
        self._marks: dict[str, Marks] = {}
        self._tombstones = 0
        self._read_at = -_CACHE_SECONDS

    @property
    def engine(self) -> Engine:
        """The control database, for the nouns that have a file of their own."""
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    def copy_to(self, path: Path) -> bool:
        """A consistent copy of SQLite's file; whether it is one. Another database has a backup of its own."""
        if self._engine.dialect.name != "sqlite":
            return False
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(text("VACUUM INTO :path"), {"path": str(path)})
        return True

    def _refresh(self, *, now: bool = False) -> None:
        if not now and self._clock.monotonic_seconds() - self._read_at < _CACHE_SECONDS:
            return
        with self._engine.connect() as db:
            self._projects = {row.name: Project(row.name, row.secret) for row in db.execute(select(projects))}
            self._rollouts = {
                Tenancy(row.project, row.environment): msgspec.json.decode(row.document, type=Rollout)
                for row in db.execute(select(rollouts))
            }
            self._principals = {
                row.hash: Principal(
                    row.id,
                    Role(row.role),
                    Tenancy(row.project, row.environment),
                )
                for row in db.execute(select(keys).where(keys.c.revoked_at.is_(None)))
            }
            # Rows are only added, so their number says whether there is anything new.
            count = db.execute(select(func.count()).select_from(tombstones)).scalar_one()
            if count != self._tombstones:
                self._marks, self._tombstones = _marks(self._projects, read(db)), count
        self._read_at = self._clock.monotonic_seconds()

    def principal(self, key: str) -> Principal | None:
        """Who holds this key; None where it is unknown or revoked."""
        self._refresh()
        return self._principals.get(key_hash(key))

    def project(self, name: str) -> Project:
        self._refresh()
        if name not in self._projects:
            self._refresh(now=True)
        return self._projects[name]

    def tombstones(self, project: str) -> Marks | None:
        """Who was erased in a project, at most a second old; None where nobody was.

        Where the database is away, what was known of it last: the loader goes on then.
        """
        with contextlib.suppress(SQLAlchemyError):
            self._refresh()
        return self._marks.get(project)

    def list_projects(self) -> list[str]:
        self._refresh(now=True)
        return sorted(self._projects)

    def ensure_project(self, name: str) -> Project:
        """The project of that name, created where it is missing.

        Raises: RequestError where the name is not one.
        """
        _check_name(name)
        # Another process may make it between our look and our insert; then theirs is the one.
        with contextlib.suppress(IntegrityError), self._engine.begin() as db:
            if db.execute(select(projects.c.number).where(projects.c.name == name)).first() is None:
                db.execute(insert(projects).values(name=name, secret=secrets.token_bytes(32)))
        self._refresh(now=True)
        return self._projects[name]

    def rollout(self, tenancy: Tenancy) -> Rollout:
        """What holds in an environment; everything for everyone where nothing was ever set."""
        self._refresh()
        return self._rollouts.get(tenancy, _AS_MADE)

    def list_rollouts(self) -> list[tuple[Tenancy, Rollout]]:
        """Every environment that has a key or a rollout, and what holds there."""
        self._refresh(now=True)
        with self._engine.connect() as db:
            known = {Tenancy(*row) for row in db.execute(select(keys.c.project, keys.c.environment).distinct())}
        return [(tenancy, self.rollout(tenancy)) for tenancy in sorted(known | self._rollouts.keys())]

    def change_rollout(self, tenancy: Tenancy, changes: dict[str, Any]) -> Rollout:
        """Changes some fields of one environment, and the version with them; two changes at once both hold.

        Raises: RequestError where the environment is unknown or a value is out of its limits.
        """
        known = [tenancy for tenancy, _ in self.list_rollouts()]
        if tenancy not in known:
            raise RequestError(
                f"there is no key of project {tenancy.project} in environment {tenancy.environment}",
                hint=f"name one that is there: {', '.join(f'{p}/{e}' for p, e in known[:10]) or 'none yet'};"
                " or make a key first: twintrack keys create",
                code="unknown_environment",
                status=404,
            )
        for _ in range(_MOST_TRIES):
            self._refresh(now=True)
            before = self._rollouts.get(tenancy)
            after = changed(before or _AS_MADE, changes)
            if self._store(tenancy, before, after):
                self._refresh(now=True)
                return after
        raise RequestError("others change this rollout all the time", hint="try again", code="busy", status=503)

    def _store(self, tenancy: Tenancy, before: Rollout | None, after: Rollout) -> bool:
        """Whether nobody was faster."""
        new = {
            "version": after.version,
            "document": msgspec.json.encode(after).decode(),
            "changed_at": self._clock.milliseconds(),
        }
        with contextlib.suppress(IntegrityError), self._engine.begin() as db:
            if before is None:
                db.execute(insert(rollouts).values(**tenancy._asdict(), **new))
                return True
            here = (rollouts.c.project == tenancy.project) & (rollouts.c.environment == tenancy.environment)
            done = db.execute(update(rollouts).where(here, rollouts.c.version == before.version).values(**new))
            return done.rowcount == 1
        return False

    def create_key(self, role: Role, project: str, environment: str) -> str:
        """A new key, in full; it cannot be read again, except write keys, which are public."""
        _check_name(environment)
        self.ensure_project(project)
        key = new_key(role)
        with self._engine.begin() as db:
            db.execute(
                insert(keys).values(
                    id=uuid4().hex[:26],
                    project=project,
                    environment=environment,
                    role=role.value,
                    hash=key_hash(key),
                    prefix=key[: len(role.value) + 9],
                    public_value=key if role is Role.WRITE else None,
                    created_at=self._clock.milliseconds(),
                )
            )
        self._refresh(now=True)
        return key

    def list_keys(self, project: str | None = None) -> list[dict[str, Any]]:
        query = select(keys).order_by(keys.c.created_at)
        if project is not None:
            query = query.where(keys.c.project == project)
        with self._engine.connect() as db:
            return [
                {
                    "id": row.id,
                    "role": row.role,
                    "project": row.project,
                    "environment": row.environment,
                    "prefix": row.prefix,
                    "created_at": iso(row.created_at),
                    "revoked_at": None if row.revoked_at is None else iso(row.revoked_at),
                    "write_key": row.public_value,
                }
                for row in db.execute(query)
            ]

    def revoke_key(self, key_id: str) -> None:
        """Ends a key and every session it opened.

        Raises: RequestError where no live key has that id.
        """
        with self._engine.begin() as db:
            done = db.execute(
                update(keys)
                .where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
                .values(revoked_at=self._clock.milliseconds())
            )
            db.execute(delete(sessions).where(sessions.c.key_id == key_id))
        if done.rowcount == 0:
            raise RequestError(
                "no live key has this id", hint="`twintrack keys list` shows the ids", code="unknown_key", status=404
            )
        self._refresh(now=True)

    def open_session(self, key_id: str, days: int) -> str:
        """The secret of a new dashboard session of that key."""
        secret = secrets.token_urlsafe(32)
        with self._engine.begin() as db:
            db.execute(delete(sessions).where(sessions.c.expires_at < self._clock.milliseconds()))
            db.execute(
                insert(sessions).values(
                    hash=key_hash(secret),
                    key_id=key_id,
                    expires_at=self._clock.milliseconds() + days * 86_400_000,
                )
            )
        return secret

    def session(self, secret: str) -> Principal | None:
        """Who opened this session; None where it ended or its key was revoked."""
        self._refresh()
        with self._engine.connect() as db:
            row = db.execute(
                select(sessions.c.key_id).where(
                    sessions.c.hash == key_hash(secret), sessions.c.expires_at > self._clock.milliseconds()
                )
            ).first()
        if row is None:
            return None
        return next((p for p in self._principals.values() if p.key_id == row.key_id), None)

    def close_session(self, secret: str) -> None:
        with self._engine.begin() as db:
            db.execute(delete(sessions).where(sessions.c.hash == key_hash(secret)))


def _marks(known: dict[str, Project], rows: list[Tombstone]) -> dict[str, Marks]:
    by_project: dict[str, list[Tombstone]] = {}
    for row in rows:
        by_project.setdefault(row.project, []).append(row)
    return {name: Marks(known[name].secret, found) for name, found in by_project.items() if name in known}
