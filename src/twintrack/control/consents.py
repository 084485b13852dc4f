"""What a person agreed to, by purpose, with its history: who said so, when, and by which way it came.

A person is a keyed hash of the stored form of an identifier, so the history tells nothing of whom it is about without
the project's secret. Statements are only added. Of the purpose `analytics` the latest one is honoured at the door
within a second: `denied` keeps a person's events out.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Engine, Index, Integer, String, Table, delete, insert, select

from twintrack.clock import Clock
from twintrack.control.tables import metadata
from twintrack.control.tombstones import subject_hash as subject_hash
from twintrack.event import Tenancy

ANALYTICS = "analytics"
GRANTED, DENIED = "granted", "denied"

consents = Table(
    "consents",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(100), nullable=False),
    Column("environment", String(100), nullable=False),
    Column("kind", String(10), nullable=False),  # user, anonymous
    Column("hash", String(64), nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("state", String(10), nullable=False),  # granted, denied
    Column("at", BigInteger, nullable=False),  # milliseconds; when the person said so
    Column("source", String(40), nullable=False),  # by which way it came, such as api or import
    Column("recorded_by", String(40), nullable=False),  # id of the key
    Column("recorded_at", BigInteger, nullable=False),  # milliseconds
    Index("consents_by_person", "project", "environment", "hash", "purpose"),
)

# The latest statement of each person and purpose, and when that changed: what the door asks for.
latest = Table(
    "consents_latest",
    metadata,
    Column("project", String(100), primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("kind", String(10), primary_key=True),
    Column("hash", String(64), primary_key=True),
    Column("purpose", String(40), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False, index=True),  # milliseconds
)

_CACHE_SECONDS = 1.0
# Transactions end out of order, and clocks of nodes differ: what changed so long before the last look is read again.
_OVERLAP_MILLISECONDS = 60_000
# Persons who deny that are held in memory; beyond it each unknown one is asked for, and these answers are held.
MOST_HELD = 200_000  # some 70 MB
_MOST_ANSWERS = 50_000


class Statement(NamedTuple):
    """One row of the history, without its number."""

    project: str
    environment: str
    kind: str
    hash: str
    purpose: str
    state: str
    at: int
    source: str
    recorded_by: str
    recorded_at: int


class Consents:
    """Statements of all projects, with a cache of denials that is at most one second old and bounded."""

    def __init__(self, engine: Engine, clock: Clock, most_held: int = MOST_HELD) -> None:
        self._engine, self._clock, self._most_held = engine, clock, most_held
        self._denied: dict[tuple[str, str, str, str], int] = {}  # (project, environment, kind, hash) to when
        self._places: set[Tenancy] = set()  # where anybody denies
        self._answers: OrderedDict[tuple[str, str, str, str], int] = OrderedDict()
        self._complete = True  # whether every denial is held
        self._changed_at = -1
        self._read_at: float | None = None

    # -- at the door ---------------------------------------------------------------------------------------------

    def asks(self, tenancy: Tenancy) -> bool:
        """Whether anybody of this environment denies, so that persons must be looked at."""
        now = self._clock.monotonic_seconds()
        if self._read_at is None or now - self._read_at >= _CACHE_SECONDS:
            self._read()
        return tenancy in self._places

    def denied_at(self, tenancy: Tenancy, kind: str, hash: str) -> int | None:
        """When a person denied analytics, milliseconds; None where the latest word is another, or there is none."""
        key = (*tenancy, kind, hash)
        found = self._denied.get(key)
        if found is not None or self._complete:
            return found
        if key not in self._answers:
            here = [getattr(latest.c, name) == value for name, value in zip(_KEY, key, strict=True)]
            with self._engine.connect() as db:
                row = db.execute(select(latest.c.at).where(*here, *_DENIALS)).first()
            self._answers[key] = -1 if row is None else row.at
            if len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        at = self._answers[key]
        return None if at < 0 else at

    def _read(self) -> None:
        """Denials that are new or gone since the last look; all of them at the first."""
        since = self._changed_at - _OVERLAP_MILLISECONDS
        columns = [latest.c[name] for name in (*_KEY, "state", "at", "changed_at")]
        wanted = select(*columns).where(latest.c.purpose == ANALYTICS, latest.c.changed_at >= since)
        if self._read_at is None:
            wanted = select(*columns).where(*_DENIALS).limit(self._most_held + 1)
        with self._engine.connect() as db:
            for project, environment, kind, hash, state, at, changed_at in db.execute(wanted):
                key = (project, environment, kind, hash)
                self._changed_at = max(self._changed_at, changed_at)
                self._answers.pop(key, None)
                if state != DENIED:
                    self._denied.pop(key, None)
                    continue
                self._places.add(Tenancy(project, environment))
                if key in self._denied or len(self._denied) < self._most_held:
                    self._denied[key] = at
                else:
                    self._complete = False
            if not self._complete and self._read_at is None:
                places = select(latest.c.project, latest.c.environment).where(*_DENIALS).distinct()
                self._places = {Tenancy(*row) for row in db.execute(places)}
        self._read_at = self._clock.monotonic_seconds()

    # -- history -------------------------------------------------------------------------------------------------

    def record(self, statements: Iterable[Statement]) -> int:
        """Adds statements that are not there yet, each of them durable when this returns; how many were new."""
        new = 0
        with self._engine.begin() as db:
            new = sum(add(db, statement) for statement in statements)
        self._read()
        return new

    def history(self, project: str, persons: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
        """Everything that (environment, kind, hash) ever said, oldest first."""
        found: list[dict[str, Any]] = []
        with self._engine.connect() as db:
            for environment, kind, hash in persons:
                here = [
                    consents.c.project == project,
                    consents.c.environment == environment,
                    consents.c.kind == kind,
                    consents.c.hash == hash,
                ]
                found += [row._asdict() for row in db.execute(select(consents).where(*here))]
        return sorted(found, key=lambda row: (row["at"], row["number"]))


_KEY = ("project", "environment", "kind", "hash")
_DENIALS = (latest.c.purpose == ANALYTICS, latest.c.state == DENIED)


def add(db: Connection, statement: Statement) -> bool:
    """Adds one statement and keeps the latest one; whether it was new. Of two of one moment the later recorded counts."""
    values = statement._asdict()
    told = {n: v for n, v in values.items() if n not in ("recorded_by", "recorded_at")}
    if db.execute(select(consents.c.number).where(*[consents.c[n] == v for n, v in told.items()])).first() is not None:
        return False
    db.execute(insert(consents).values(**values))
    person = {name: values[name] for name in (*_KEY, "purpose")}
    here = [latest.c[name] == value for name, value in person.items()]
    before = db.execute(select(latest.c.at).where(*here)).first()
    if before is None or before.at <= statement.at:
        db.execute(delete(latest).where(*here))
        state = {"state": statement.state, "at": statement.at, "changed_at": statement.recorded_at}
        db.execute(insert(latest).values(**person, **state))
    return True
