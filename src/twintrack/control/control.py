"""Keys, projects and rollouts, with a cache that is at most one second old.

Promises: a key created or revoked, or a rollout changed, by any process takes effect here within 1 s. Only hashes of
secrets are stored.
"""

import contextlib
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Engine, create_engine, delete, event, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from twintrack.auth import Principal, Role, key_hash, new_key
from twintrack.bounds import UNBOUND, Bounds
from twintrack.clock import Clock, iso
from twintrack.control import audit_heads
from twintrack.control.access import key_bounds, key_uses, signins
from twintrack.control.accounts import People
from twintrack.control.cohorts import Cohorts
from twintrack.control.consents import Consents
from twintrack.control.data_keys import add, open_secret, seal_secrets, sealed_secret, unlock, wrappers
from twintrack.control.retention import Policies, RetentionRules
from twintrack.control.rollout import Rollout, changed
from twintrack.control.sessions import Sessions
from twintrack.control.tables import keys, projects, rollouts
from twintrack.control.tombstones import Marks, Tombstone, read, tombstones
from twintrack.control.upgrade import upgrade
from twintrack.errors import EncryptionKeyRefused, RequestError
from twintrack.event import Tenancy
from twintrack.seal import KeyRing

_CACHE_SECONDS = 1.0
_USE_SECONDS = 60.0
_MOST_TRIES = 10
_MOST_NAMED = 20
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
    def __init__(self, url: str, clock: Clock, ring: KeyRing | None = None) -> None:
        """Raises: EncryptionKeyRefused, before anything is changed."""
        # Values stay out of messages of errors, and so of logs: who is to be erased is among them.
        self._engine: Engine = create_engine(url, hide_parameters=True)
        self._clock = clock
        if self._engine.dialect.name == "sqlite":

            @event.listens_for(self._engine, "connect")
            def _durable(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA secure_delete=ON")  # what is deleted or blanked is overwritten

        self._ring = ring
        try:
            self.data_keys = unlock(self._engine, ring, clock.milliseconds())
        except EncryptionKeyRefused:
            self._engine.dispose()
            raise
        upgrade(self._engine, clock.milliseconds())
        self.retention = RetentionRules(self._engine, clock)
        if self.data_keys is not None:
            seal_secrets(self._engine, self.data_keys)
        self.consents = Consents(self._engine, clock)
        self.cohorts = Cohorts(self._engine, clock)
        self._principals: dict[str, Principal] = {}
        self._projects: dict[str, Project] = {}
        self._rollouts: dict[Tenancy, Rollout] = {}
        self._marks: dict[str, Marks] = {}
        self._tombstones = 0
        self._used: dict[str, int] = {}
        self._saved_at = clock.monotonic_seconds()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="control")
        self._read_at = -_CACHE_SECONDS
        self.people = People(self._engine, clock)
        self.sessions = Sessions(self._engine, clock)

    @property
    def engine(self) -> Engine:
        """For what keeps tables of its own beside these."""
        return self._engine

    def keep_audit_head(self, node: str, sequence: int, hash: str) -> None:
        audit_heads.keep(self._engine, node, sequence, hash, self._clock.milliseconds())

    def kept_audit_head(self, node: str) -> tuple[int, str] | None:
        """(sequence, hash) that a node's audit log had reached when it was last kept."""
        return audit_heads.kept(self._engine, node)

    def new_data_key(self) -> int:
        """What is sealed from now on is sealed by a new data key; its number. Raises: RequestError."""
        if self._ring is None or self.data_keys is None:
            raise RequestError(
                "nothing is sealed here", hint="set TWINTRACK_ENCRYPTION_KEY and start again", code="not_sealed"
            )
        number = add(self._engine, self._ring, self._clock.milliseconds())
        self.data_keys.reload()
        return number

    def sealing(self) -> dict[str, Any]:
        """By which keys, as names: none of them says anything about its key."""
        if self._ring is None or self.data_keys is None:
            return {"sealed": False}
        wrapped_by = wrappers(self._engine)
        return {"sealed": True, "key": self._ring.id, "wrapped_by": wrapped_by, "data_keys": self.data_keys.numbers()}

    def close(self) -> None:
        self._writer.shutdown(wait=True)
        self._save_uses(self._used)
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
            self._projects = {
                row.name: Project(row.name, open_secret(self.data_keys, row.name, row.secret))
                for row in db.execute(select(projects))
            }
            self._rollouts = {
                Tenancy(row.project, row.environment): msgspec.json.decode(row.document, type=Rollout)
                for row in db.execute(select(rollouts))
            }
            bounds = {row.key_id: _bounds(row.document) for row in db.execute(select(key_bounds))}
            self._principals = {
                row.hash: Principal(
                    row.id, Role(row.role), Tenancy(row.project, row.environment), bounds.get(row.id, UNBOUND)
                )
                for row in db.execute(select(keys).where(keys.c.revoked_at.is_(None)))
            }
            # Rows are only added, so their number says whether there is anything new.
            count = db.execute(select(func.count()).select_from(tombstones)).scalar_one()
            if count != self._tombstones:
                self._marks, self._tombstones = _marks(self._projects, read(db)), count
        self._read_at = self._clock.monotonic_seconds()

    def principal(self, key: str) -> Principal | None:
        """Who holds this key; None where it is unknown, revoked or expired."""
        self._refresh()
        principal = self._principals.get(key_hash(key))
        if principal is None:
            return None
        now = self._clock.milliseconds()
        if not principal.bounds.lives_at(now):
            return None
        self._used[principal.key_id] = now
        if self._clock.monotonic_seconds() - self._saved_at >= _USE_SECONDS:
            self._saved_at = self._clock.monotonic_seconds()
            used, self._used = self._used, {}
            self._writer.submit(self._save_uses, used)  # a sync of the disk holds up no event
        return principal

    def live_key(self, key_id: str) -> Principal | None:
        """The key of that id; None where it is unknown, revoked or expired."""
        self._refresh()
        found = next((p for p in self._principals.values() if p.key_id == key_id), None)
        return found if found is not None and found.bounds.lives_at(self._clock.milliseconds()) else None

    def _save_uses(self, used: dict[str, int]) -> None:
        if not used:
            return
        with contextlib.suppress(SQLAlchemyError), self._engine.begin() as db:
            for key_id, at in used.items():
                if not db.execute(update(key_uses).where(key_uses.c.key_id == key_id).values(used_at=at)).rowcount:
                    db.execute(insert(key_uses).values(key_id=key_id, used_at=at))

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

    def known_tombstones(self, *, now: bool = False) -> int:
        """By how many `tombstones` answers, at most a second old; read again first where asked. Raises: SQLAlchemyError."""
        self._refresh(now=now)
        return self._tombstones

    def policies(self) -> Policies:
        """The rules of retention that hold now."""
        return self.retention.policies()

    def list_projects(self) -> list[str]:
        self._refresh(now=True)
        return sorted(self._projects)

    def known_project(self, name: str) -> Project:
        """As `project`, for what somebody typed. Raises: RequestError that names those that are there."""
        with contextlib.suppress(KeyError):
            return self.project(name)
        there = self.list_projects()
        more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
        raise RequestError(
            f"there is no project {name!r}"[:200],
            hint=f"there are: {', '.join(there[:_MOST_NAMED])}{more}" if there else "there is no project yet",
            code="unknown_project",
            status=404,
        )

    def ensure_project(self, name: str) -> Project:
        """The project of that name, created where it is missing.

        Raises: RequestError where the name is not one.
        """
        _check_name(name)
        # Another process may make it between our look and our insert; then theirs is the one.
        with contextlib.suppress(IntegrityError), self._engine.begin() as db:
            if db.execute(select(projects.c.number).where(projects.c.name == name)).first() is None:
                secret = sealed_secret(self.data_keys, name, secrets.token_bytes(32))
                db.execute(insert(projects).values(name=name, secret=secret))
        self._refresh(now=True)
        return self._projects[name]

    def environments(self, project: str) -> list[str]:
        """Of a project, `production` first; never empty."""
        with self._engine.connect() as db:
            found = {row[0] for row in db.execute(select(keys.c.environment).where(keys.c.project == project))}
        return sorted(found, key=lambda name: (name != "production", name)) or ["production"]

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

    def create_key(self, role: Role, project: str, environment: str, bounds: Bounds = UNBOUND) -> str:
        """A new key, in full; it cannot be read again, except write keys, which are public."""
        _check_name(environment)
        self.ensure_project(project)
        with self._engine.begin() as db:
            key = self._insert_key(db, role, project, environment, bounds, None)
        self._refresh(now=True)
        return key

    def _insert_key(
        self, db: Connection, role: Role, project: str, environment: str, bounds: Bounds, replaces: str | None
    ) -> str:
        key, key_id = new_key(role), uuid4().hex[:26]
        db.execute(
            insert(keys).values(
                id=key_id,
                project=project,
                environment=environment,
                role=role.value,
                hash=key_hash(key),
                prefix=key[: len(role.value) + 9],
                public_value=key if role is Role.WRITE else None,
                created_at=self._clock.milliseconds(),
            )
        )
        if replaces is not None or bounds != UNBOUND:
            document = msgspec.json.encode(bounds).decode()
            db.execute(insert(key_bounds).values(key_id=key_id, document=document, replaces=replaces))
        return key

    def rotate_key(self, key_id: str, overlap_seconds: int) -> str:
        """A successor with the same role, place, origins and networks, which lives from now on for as long as the old key
        was made for; the old one ends after the overlap, or by its own end.

        Raises: RequestError where no live key has that id, or it has a successor already.
        """
        self._refresh(now=True)
        old = self.live_key(key_id)
        if old is None:
            raise _unknown_key()
        now = self._clock.milliseconds()
        ends = now + overlap_seconds * 1000
        with self._engine.begin() as db:
            # Its end is the overlap's since then, and no longer what it was made for.
            if (
                after := db.execute(select(key_bounds.c.key_id).where(key_bounds.c.replaces == key_id)).scalar()
            ) is not None:
                raise RequestError(
                    "this key has a successor already",
                    hint=f"rotate that one, {after}, or revoke this one",
                    code="rotated",
                    status=409,
                )
            made_at = db.execute(select(keys.c.created_at).where(keys.c.id == key_id)).scalar_one()
            lives = None if old.bounds.expires_milliseconds is None else old.bounds.expires_milliseconds - made_at
            lasting = msgspec.structs.replace(old.bounds, expires_milliseconds=None if lives is None else now + lives)
            key = self._insert_key(db, old.role, *old.tenancy, lasting, key_id)
            ending = msgspec.structs.replace(
                old.bounds, expires_milliseconds=min(ends, old.bounds.expires_milliseconds or ends)
            )
            document = msgspec.json.encode(ending).decode()
            if not db.execute(
                update(key_bounds).where(key_bounds.c.key_id == key_id).values(document=document)
            ).rowcount:
                db.execute(insert(key_bounds).values(key_id=key_id, document=document, replaces=None))
        self._refresh(now=True)
        return key

    def list_keys(self, project: str | None = None) -> list[dict[str, Any]]:
        query = (
            select(keys, key_bounds.c.document, key_bounds.c.replaces, key_uses.c.used_at)
            .outerjoin(key_bounds, key_bounds.c.key_id == keys.c.id)
            .outerjoin(key_uses, key_uses.c.key_id == keys.c.id)
            .order_by(keys.c.created_at)
        )
        if project is not None:
            query = query.where(keys.c.project == project)
        with self._engine.connect() as db:
            return [self._listed(row) for row in db.execute(query)]

    def _listed(self, row: Any) -> dict[str, Any]:
        bounds = UNBOUND if row.document is None else _bounds(row.document)
        used = max(row.used_at or 0, self._used.get(row.id, 0))
        return {
            "id": row.id,
            "role": row.role,
            "project": row.project,
            "environment": row.environment,
            "prefix": row.prefix,
            "created_at": iso(row.created_at),
            "revoked_at": None if row.revoked_at is None else iso(row.revoked_at),
            "expires_at": None if bounds.expires_milliseconds is None else iso(bounds.expires_milliseconds),
            "used_at": iso(used) if used else None,
            "origins": list(bounds.origins),
            "networks": list(bounds.networks),
            "replaces": row.replaces,
            "write_key": row.public_value,
        }

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
            db.execute(delete(signins).where(signins.c.key_id == key_id))
        if done.rowcount == 0:
            raise _unknown_key()
        self._refresh(now=True)

    def session(self, secret: str) -> Principal | None:
        """Who opened this session; None where it ended, or its key was revoked, or its person is no member any more."""
        found = self.sessions.read(secret)
        if found is None:
            return None
        if found.key_id:
            return self.live_key(found.key_id)
        return self.people.principal(found.person_id, found.tenancy)


def _marks(known: dict[str, Project], rows: list[Tombstone]) -> dict[str, Marks]:
    by_project: dict[str, list[Tombstone]] = {}
    for row in rows:
        by_project.setdefault(row.project, []).append(row)
    return {name: Marks(known[name].secret, found) for name, found in by_project.items() if name in known}


def _bounds(document: str) -> Bounds:
    return msgspec.json.decode(document, type=Bounds)


def _unknown_key() -> RequestError:
    return RequestError(
        "no live key has this id", hint="`twintrack keys list` shows the ids", code="unknown_key", status=404
    )
