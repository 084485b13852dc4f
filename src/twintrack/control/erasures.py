"""Requests to erase a person, durable and in order. Each says how far it is, so that it goes on after any kind of stop.

The subject is kept only while the request is open; then what is left is its keyed hash, and the certificate.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, insert, select, text, update

from twintrack.clock import iso
from twintrack.control.tables import metadata
from twintrack.control.tombstones import Tombstone, write
from twintrack.errors import RequestError

erasures = Table(
    "erasures",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("requested_at", BigInteger, nullable=False),  # milliseconds; what is older goes
    Column("changed_at", BigInteger, nullable=False),  # milliseconds
    Column("subject", Text, nullable=False),  # a `Subject` as JSON; empty once the request is done
    Column("progress", Text, nullable=False),  # a `Progress` as JSON
    Column("certificate", Text, nullable=False),  # empty until the request is done
)


class State(StrEnum):
    """In this order; each names what is finished."""

    REQUESTED = "requested"  # tombstones of the subject are written
    FENCED = "fenced"  # and those of the anonymous ids it owns; no older event can come in any more
    SPOOL_DONE = "spool_done"
    STORE_DONE = "store_done"
    ROLLUPS_DONE = "rollups_done"  # and every old file of the store is gone
    VENDORS = "vendors"  # only a vendor's answer is missing
    DONE = "done"
    FAILED = "failed"  # something that nobody foresaw; `resume` goes on where it stopped


OPEN = (State.REQUESTED, State.FENCED, State.SPOOL_DONE, State.STORE_DONE, State.ROLLUPS_DONE, State.VENDORS)


_LONG = 6  # characters


class Subject(msgspec.Struct, frozen=True):
    """Who is erased. Shape: `users` and `anonymous` hold stored forms, raw ones among them."""

    kind: str  # user, anonymous
    typed: str  # as the request had it; vendors know this one
    users: list[str] = []
    anonymous: list[tuple[str, str]] = []  # (environment, anonymous id)

    @property
    def ids(self) -> list[str]:
        return [*self.users, *(anonymous_id for _, anonymous_id in self.anonymous)]

    def named_in(self, text: str) -> bool:
        """Whether somebody's text names this person. A short identifier stands in many words, so it counts only as a whole
        text of SQL."""
        return any((form if len(one) >= _LONG else f"'{form}'") in text for one in self.ids for form in _written(one))


def _written(identifier: str) -> set[str]:
    """As it is, and as text of SQL."""
    bare = identifier.replace("\\", "\\\\")
    return {identifier, bare.replace("'", "''"), bare.replace("'", "\\'")}


class Progress(msgspec.Struct):
    """What was done so far; counts and names only."""

    hash: str
    removed: dict[str, int] = {}  # place to rows
    months: list[int] = []  # whose rollups are made again
    copied: list[int] = []  # whose raw is made again, for keys that nobody else has
    vendors: dict[str, dict[str, str]] = {}
    failed_in: str = ""
    error: str = ""
    notes: list[str] = []
    topic: dict[str, Any] = {}  # what a spool that cannot be rewritten still has

    def add(self, place: str, rows: int) -> None:
        self.removed[place] = self.removed.get(place, 0) + rows

    @property
    def nothing_found(self) -> bool:
        """Nothing of this person was held by this project, as far as it is done."""
        return not any(self.removed.values())

    def most(self, place: str, rows: int) -> None:
        """What is counted again after a stop may be gone in part."""
        self.removed[place] = max(rows, self.removed.get(place, 0))


class Request(msgspec.Struct):
    id: str
    project: str
    state: State
    requested_at: int
    changed_at: int
    subject: Subject | None
    progress: Progress
    certificate: dict[str, Any] | None

    def told(self) -> dict[str, Any]:
        """The request as anybody may see it who may erase: never the subject."""
        return {
            "id": self.id,
            "project": self.project,
            "state": self.state.value,
            "requested_at": iso(self.requested_at),
            "changed_at": iso(self.changed_at),
            "subject_hmac": self.progress.hash,
            "removed": self.progress.removed,
            "vendors": self.progress.vendors,
            "error": self.progress.error or None,
            "certificate": self.certificate,
        }


class MovedOn(Exception):
    """Another process goes on with this request; nothing was written."""


class Erasures:
    """Over the control database. Raises: SQLAlchemyError where that is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        project: str,
        subject: Subject,
        hash: str,
        marks: Iterable[Tombstone],
        now: int,
        vendors: dict[str, dict[str, str]] | None = None,
        fenced_at: int | None = None,
    ) -> Request:
        """A new request of that time and its tombstones, in one transaction.

        Shape: `vendors` have been told already; `fenced_at`: its anonymous ids are known, and it goes on from there.
        """
        progress = Progress(hash, vendors=vendors or {})
        state, changed_at = (State.REQUESTED, now) if fenced_at is None else (State.FENCED, fenced_at)
        request = Request(uuid4().hex, project, state, now, changed_at, subject, progress, None)
        with self._engine.begin() as db:
            write(db, marks)
            db.execute(insert(erasures).values(id=request.id, **_columns(request)))
        return request

    def keep(self, request: Request, now: int, marks: Iterable[Tombstone] = ()) -> None:
        """Writes down how far a request is, and tombstones that come with it.

        Raises: MovedOn where somebody else has written since it was read.
        """
        before, request.changed_at = request.changed_at, max(now, request.changed_at + 1)
        with self._engine.begin() as db:
            same = (erasures.c.id == request.id) & (erasures.c.changed_at == before)
            if db.execute(update(erasures).where(same).values(**_columns(request))).rowcount != 1:
                raise MovedOn
            write(db, marks)

    def open(self) -> list[Request]:
        """Requests that are not done, oldest first."""
        wanted = select(erasures).where(erasures.c.state.in_([state.value for state in OPEN]))
        with self._engine.connect() as db:
            return [_request(row) for row in db.execute(wanted.order_by(erasures.c.requested_at, erasures.c.id))]

    def unfinished(self) -> bool:
        """Whether a request is under way or has stopped."""
        return bool(self.open() or self.failed())

    def failed(self) -> list[str]:
        """Ids of requests that somebody must look at."""
        wanted = select(erasures.c.id).where(erasures.c.state == State.FAILED.value)
        with self._engine.connect() as db:
            return [row.id for row in db.execute(wanted.order_by(erasures.c.requested_at))]

    def get(self, request_id: str, project: str | None = None) -> Request:
        """Raises: RequestError 404 where there is none, in that project."""
        with self._engine.connect() as db:
            row = db.execute(select(erasures).where(erasures.c.id == request_id)).first()
        if row is None or project not in (None, row.project):
            raise RequestError(
                "there is no erasure with this id",
                hint="the answer to the request named it",
                code="unknown",
                status=404,
            )
        return _request(row)

    def forget_bytes(self) -> bool:
        """Subjects of finished requests leave the files of SQLite; whether they have. PostgreSQL does that by VACUUM."""
        if self._engine.dialect.name != "sqlite":
            return True
        with self._engine.connect() as db:
            busy, *_ = db.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        return not busy


def _columns(request: Request) -> dict[str, Any]:
    return {
        "project": request.project,
        "state": request.state.value,
        "requested_at": request.requested_at,
        "changed_at": request.changed_at,
        "subject": msgspec.json.encode(request.subject).decode() if request.subject else "",
        "progress": msgspec.json.encode(request.progress).decode(),
        "certificate": msgspec.json.encode(request.certificate).decode() if request.certificate else "",
    }


def _request(row: Any) -> Request:
    return Request(
        row.id,
        row.project,
        State(row.state),
        row.requested_at,
        row.changed_at,
        msgspec.json.decode(row.subject, type=Subject) if row.subject else None,
        msgspec.json.decode(row.progress, type=Progress),
        msgspec.json.decode(row.certificate) if row.certificate else None,
    )
