"""The keys of people, by which their texts are sealed: made before the first event that needs them is accepted, gone when
their person is erased. A database of its own, so that no backup of the control data holds one.

Promises: a key is on disk when `make` returns; one that `destroy` took is overwritten in the files of SQLite, and seals
nothing any more, on any node: tombstones say so, which are a second old at most.
"""

import asyncio
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from twintrack.clock import Clock
from twintrack.control.tombstones import ANONYMOUS, FENCE_MILLISECONDS, USER, Marks, Tombstone, subject_hash
from twintrack.control.upgrade import make_tables
from twintrack.errors import SealBroken, Unavailable
from twintrack.metrics import Metrics
from twintrack.seal import KEY_BYTES, DataKeys, is_sealed
from twintrack.sealed_text import ID_BYTES, NO_KEY, PersonKey, key_of, opened

log = structlog.get_logger()
_ALWAYS = 1 << 62
_MOST_KNOWN = 50_000  # of a project; 20 MB
_FORGOTTEN = 5_000  # of those, when it is full
_AT_ONCE = 500  # values of one statement
_AHEAD_MILLISECONDS = 60_000  # farther than clocks of nodes differ: made before the clock was set back
_tables = MetaData()

person_keys = Table(
    "person_keys",
    _tables,
    Column("id", LargeBinary(ID_BYTES), primary_key=True),
    Column("project", String(100), nullable=False, index=True),
    Column("environment", String(100), nullable=False),  # of an anonymous id; a user is one person in all of them
    Column("kind", String(10), nullable=False),  # user, anonymous
    Column("hash", String(64), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),  # by a data key
    Column("made_at", BigInteger, nullable=False),  # milliseconds
)

Person = tuple[str, str, str]  # kind, environment, stored form of the id


def person_of(environment: str, user_id: str, anonymous_id: str) -> Person:
    """Whose an event is: the user's, else its anonymous id's. Those of nobody share one key of their environment."""
    return (USER, "", user_id) if user_id else (ANONYMOUS, environment, anonymous_id)


class Known(NamedTuple):
    key: PersonKey
    until: int  # milliseconds; afterwards another key is needed


class Kept(NamedTuple):
    """A key as a backup has it."""

    id: bytes
    project: str
    environment: str
    kind: str
    hash: str
    secret: bytes
    made_at: int


class PersonKeys:
    def __init__(
        self,
        url: str,
        data_keys: DataKeys,
        clock: Clock,
        metrics: Metrics,
        secret_of: Callable[[str], bytes],
        marks_of: Callable[[str], Marks | None],
    ) -> None:
        self._engine = create_engine(url, hide_parameters=True)  # values stay out of logs
        if self._engine.dialect.name == "sqlite":

            @event.listens_for(self._engine, "connect")
            def _durable(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA secure_delete=ON")

        make_tables(self._engine, _tables)
        self._data_keys, self._clock, self._metrics = data_keys, clock, metrics
        self._secret_of, self._marks_of = secret_of, marks_of
        self._known: dict[str, dict[Person, Known]] = {}
        self._judged: dict[str, int] = {}  # by how many tombstones; one that comes later may be of an earlier time
        self._lock = threading.Lock()
        self._wanted: defaultdict[str, set[Person]] = defaultdict(set)
        self._maker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="person-keys")

    def close(self) -> None:
        self._maker.shutdown(wait=True)
        self._engine.dispose()

    # -- sealing -------------------------------------------------------------------------------------------------

    def known(self, project: str) -> Mapping[Person, Known]:
        """Keys that may seal now, as far as they are in memory."""
        tombstones = _count(self._marks_of(project))
        with self._lock:
            if self._judged.get(project, 0) != tombstones:  # somebody was erased: each key is judged anew
                self._known.pop(project, None)
                self._judged[project] = tombstones
            return self._known.setdefault(project, {})

    async def make(self, project: str, people: Iterable[Person]) -> None:
        """From now on `known` has a key for each of these. Those who wait share one transaction.

        Raises: Unavailable where the database is away.
        """
        with self._lock:
            self._wanted[project].update(people)
        try:
            await asyncio.get_running_loop().run_in_executor(self._maker, self._make_wanted)
        except SQLAlchemyError as error:
            raise Unavailable(
                "the database of person keys cannot be asked", hint="nothing was kept; send again after Retry-After"
            ) from error

    def _make_wanted(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, defaultdict(set)
        for project, people in wanted.items():
            marks = self._marks_of(project)
            found = self._found_or_made(project, people, marks)
            with self._lock:
                if self._judged.get(project, 0) != _count(marks):
                    continue  # judged by tombstones that others have followed; whoever wants them asks again
                known = self._known.setdefault(project, {})
                known.update(found)
                if len(known) > _MOST_KNOWN:  # many at once: one by one, a batch would push out its own people
                    for person in list(islice(known, len(known) - _MOST_KNOWN + _FORGOTTEN)):
                        del known[person]

    def _found_or_made(self, project: str, people: Iterable[Person], marks: Marks | None) -> dict[Person, Known]:
        secret, now = self._secret_of(project), self._clock.milliseconds()
        by_hash = {(kind, place, subject_hash(secret, name)): (kind, place, name) for kind, place, name in people}
        newest: dict[Person, PersonKey] = {}
        found: dict[Person, Known] = {}
        made = []
        with self._engine.begin() as db:
            for some in _batches({hash for _, _, hash in by_hash}):
                asked = select(person_keys).where(person_keys.c.project == project, person_keys.c.hash.in_(some))
                for row in db.execute(asked.order_by(person_keys.c.made_at)):
                    person = by_hash.get((row.kind, row.environment, row.hash))
                    if person is not None and (opens := self._unwrapped(row)) is not None:
                        newest[person] = opens
            for (kind, place, hash), person in by_hash.items():
                environment, user, browser = place, person[2] if kind == USER else "", person[2] if kind != USER else ""
                erased = marks.until(environment, user, browser) + FENCE_MILLISECONDS if marks else -_ALWAYS
                key = newest.get(person)
                if key is None or key.made_at <= erased < now:
                    key = PersonKey(secrets.token_bytes(ID_BYTES), secrets.token_bytes(KEY_BYTES), now)
                    made.append(self._row(Kept(key.id, project, place, kind, hash, key.secret, now)))
                found[person] = Known(key, _ALWAYS if key.made_at > erased else erased)
            if made:
                db.execute(insert(person_keys), made)
        self._metrics.person_keys["made"].inc(len(made))
        return found

    # -- opening -------------------------------------------------------------------------------------------------

    def opened(self, project: str, value: Any) -> Any:
        """A value of JSON with every sealed text in it opened; `[NO KEY]` where its key is gone or damaged.

        Keys are asked for each time and not kept: one that was destroyed opens nothing, on no node.
        Raises: Unavailable where the database is away.
        """
        wanted = {key_id for token in _texts(value) if (key_id := key_of(token)) is not None}
        if not wanted:
            return value
        try:
            keys = self._by_id(project, wanted)
        except SQLAlchemyError as error:
            raise Unavailable("the database of person keys cannot be asked", hint="ask again later") from error
        return _opened(value, keys, project.encode())

    def missing(self, project: str, key_ids: set[bytes]) -> int:
        """How many of these keys are not there. Raises: SQLAlchemyError."""
        return len(key_ids) - len(list(self._rows(project, key_ids)))

    def damaged(self) -> Counter[str]:
        """How many keys of each project do not open, because their rows were altered. Reads every key, 10 us each.

        Raises: SQLAlchemyError.
        """
        found: defaultdict[str, set[bytes]] = defaultdict(set)
        with self._engine.connect() as db:
            for row in db.execute(select(person_keys).execution_options(yield_per=_AT_ONCE)):
                if self._unwrapped(row) is None:
                    found[row.project].add(row.id)
        for project, key_ids in found.items():
            self._forget(project, key_ids)
        return Counter({project: len(key_ids) for project, key_ids in found.items()})

    def _by_id(self, project: str, key_ids: set[bytes]) -> dict[bytes, PersonKey]:
        """Those of the keys that are there and open."""
        found = {row.id: self._unwrapped(row) for row in self._rows(project, key_ids)}
        damaged = {key_id for key_id, key in found.items() if key is None}
        if damaged:
            self._forget(project, damaged)
        return {key_id: key for key_id, key in found.items() if key is not None}

    def _rows(self, project: str, key_ids: set[bytes]) -> Iterator[Any]:
        with self._engine.connect() as db:
            for some in _batches(key_ids):
                asked = select(person_keys).where(person_keys.c.project == project, person_keys.c.id.in_(some))
                yield from db.execute(asked)

    def _forget(self, project: str, key_ids: set[bytes]) -> None:
        """Keys that do not open any more are not to seal from memory: nobody could read that."""
        with self._lock:
            known = self._known.get(project, {})
            for person in [person for person, one in known.items() if one.key.id in key_ids]:
                del known[person]

    def count(self) -> int:
        """Raises: SQLAlchemyError."""
        with self._engine.connect() as db:
            return int(db.execute(select(func.count()).select_from(person_keys)).scalar_one())

    # -- destroying ----------------------------------------------------------------------------------------------

    def destroy(self, marks: Iterable[Tombstone]) -> int:
        """Destroys the keys of these people that were made before their erasure took hold; how many.

        Raises: SQLAlchemyError; then none is.
        """
        gone, projects = 0, set()
        ahead = self._clock.milliseconds() + _AHEAD_MILLISECONDS
        with self._engine.begin() as db:
            for mark in marks:
                projects.add(mark.project)
                whose = [
                    person_keys.c[name] == getattr(mark, name) for name in ("project", "environment", "kind", "hash")
                ]
                until = mark.requested_at + FENCE_MILLISECONDS
                old = (person_keys.c.made_at <= until) | (person_keys.c.made_at > ahead)
                gone += db.execute(delete(person_keys).where(*whose, old)).rowcount
        with self._lock:
            for project in projects:
                self._known.pop(project, None)
        self._metrics.person_keys["destroyed"].inc(gone)
        self.forget_bytes()
        return gone

    def destroy_erased(self, project: str) -> int:
        """Destroys what the tombstones of a project cover, and a restore has brought back; how many keys.

        Raises: SQLAlchemyError.
        """
        marks = self._marks_of(project)
        return self.destroy(marks.rows) if marks else 0

    def forget_bytes(self) -> bool:
        """What was destroyed leaves the files of SQLite; whether it has. PostgreSQL does that by VACUUM."""
        if self._engine.dialect.name != "sqlite":
            return True
        with self._engine.connect() as db:
            busy, *_ = db.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        return not busy

    # -- kept apart ----------------------------------------------------------------------------------------------

    def all(self) -> Iterator[Kept]:
        """Every key that opens, for a backup. Raises: SQLAlchemyError."""
        with self._engine.connect() as db:
            for row in db.execute(select(person_keys).order_by(person_keys.c.id)):
                key = self._unwrapped(row)
                if key is not None:
                    yield Kept(key.id, row.project, row.environment, row.kind, row.hash, key.secret, key.made_at)

    def add(self, kept: Iterable[Kept]) -> int:
        """Brings keys back that are not there, or do not open; how many. Raises: SQLAlchemyError."""
        added = 0
        with self._engine.begin() as db:
            there = {row.id for row in db.execute(select(person_keys)) if self._unwrapped(row) is not None}
            for key in kept:
                if key.id not in there:
                    db.execute(delete(person_keys).where(person_keys.c.id == key.id))
                    db.execute(insert(person_keys).values(**self._row(key)))
                    added += 1
        return added

    def _row(self, key: Kept) -> dict[str, Any]:
        values = key._asdict()
        values["wrapped"] = self._data_keys.seal(values.pop("secret"), _bound(key.project, key.id))
        return values

    def _unwrapped(self, row: Any) -> PersonKey | None:
        """None where the row was altered: its key opens nothing, and seals nothing."""
        if not is_sealed(row.wrapped):  # none was ever kept so: whoever wrote it would know it
            return None
        try:
            return PersonKey(row.id, self._data_keys.open(row.wrapped, _bound(row.project, row.id)), row.made_at)
        except SealBroken:
            return None


def _count(marks: Marks | None) -> int:
    return len(marks.rows) if marks else 0


def _bound(project: str, key_id: bytes) -> str:
    return f"person key {key_id.hex()} of project {project}"


def are_there(url: str) -> bool:
    """Whether keys were ever made there; looks only. Raises: SQLAlchemyError."""
    engine = create_engine(url)
    try:
        if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists():
            return False
        return inspect(engine).has_table(person_keys.name)
    finally:
        engine.dispose()


def copy_keys(live: Path, made: Path) -> None:
    """Keys of one data folder go to the one that takes its place, wrapped as they are. Raises: SQLAlchemyError."""
    if live.exists():
        engine = create_engine(f"sqlite:///{live}")
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
                db.execute(text("VACUUM INTO :path"), {"path": str(made)})
        finally:
            engine.dispose()


def _batches(values: set[Any]) -> Iterator[list[Any]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _opened(value: Any, keys: Mapping[bytes, PersonKey], project: bytes) -> Any:
    if isinstance(value, str):
        key_id = key_of(value)
        if key_id is None:
            return value
        try:
            return opened(keys[key_id], value, project) if key_id in keys else NO_KEY
        except SealBroken:
            return NO_KEY
    if isinstance(value, dict):
        return {name: _opened(item, keys, project) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_opened(item, keys, project) for item in value]
    return value
