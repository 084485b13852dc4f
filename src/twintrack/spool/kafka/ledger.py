"""What the loaders of a topic decided, where any of them can read it: in the control data, by SQLAlchemy.

A partition's verdicts form a chain: each begins at the offset where the last one ended, and the step from one to the
next is a compare-and-set. Whoever is overtaken has decided nothing. A verdict, its chunks and its counts are one
transaction. Loaders may die, pause and come back in any order: the group's membership only saves work.
"""

import contextlib
import json
import secrets
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from twintrack.control.tombstones import tombstones
from twintrack.control.upgrade import make_tables
from twintrack.errors import ChunkDamaged, SealBroken, StoreUnavailable
from twintrack.seal import DataKeys
from twintrack.spool.chunks import next_token
from twintrack.spool.kafka.tables import (
    LEDGER_LENGTH,
    chunks,
    complete,
    heads,
    housework,
    imports,
    metadata,
    refused,
    stale_months,
    tallies,
    topics,
)
from twintrack.spool.kafka.taken import note_erased, note_links
from twintrack.spool.kafka.verdict import Decided, Refusal, Tally, kept
from twintrack.spool.protocol import Chunk, Kind, TakenLink

_MOST_REFUSED = 100_000


class Overtaken(Exception):
    """Another loader has decided this already; nothing was written."""


class Hushed(Exception):
    """Another loader needs that nothing be begun just now; nothing was written."""


class Outdated(Exception):
    """Somebody was erased since this was judged; nothing was written."""


class Taken(NamedTuple):
    """What a verdict took out for people who were erased, and by how many tombstones it was judged."""

    erased: Iterable[tuple[str, bytes]]
    links: Iterable[TakenLink]
    known_tombstones: int | None  # None where nobody asks


class Verdicts:
    def __init__(self, url: str, topic: str, keys: DataKeys | None = None) -> None:
        self.topic, self._keys = topic, keys
        self.loader = uuid4().hex  # this process, among those of the topic
        sqlite = url.startswith("sqlite")
        # Values stay out of messages of errors, and so of logs: ids of people are among them.
        self._engine = create_engine(url, connect_args={"timeout": 30} if sqlite else {}, hide_parameters=True)
        if sqlite:

            @event.listens_for(self._engine, "connect")
            def _durable(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA secure_delete=ON")  # what is deleted or blanked is overwritten

        make_tables(self._engine, metadata)

    def close(self) -> None:
        self._engine.dispose()

    def begin(self) -> AbstractContextManager[Connection]:
        """One transaction, for those who keep tables of their own beside these."""
        return self._engine.begin()

    def opened(self) -> tuple[str, int] | None:
        """(ledger, partitions) of the topic; None where it was never opened."""
        with self._engine.connect() as db:
            found = db.execute(select(topics.c.ledger, topics.c.partitions).where(topics.c.topic == self.topic))
            row = found.first()
        return (row[0], row[1]) if row else None

    def open(self, partitions: int) -> tuple[str, int]:
        """Opens the topic's chains, once and for all of its nodes."""
        try:
            with self._engine.begin() as db:
                ledger = secrets.token_hex(LEDGER_LENGTH // 2)
                db.execute(insert(topics).values(topic=self.topic, ledger=ledger, partitions=partitions))
                for number in range(partitions):
                    db.execute(insert(heads).values(topic=self.topic, partition=number, next_offset=0, suspect=0))
        except IntegrityError:
            pass  # another node was first
        opened = self.opened()
        assert opened is not None
        return opened

    def head(self, partition: int) -> int:
        with self._engine.connect() as db:
            where = (heads.c.topic == self.topic) & (heads.c.partition == partition)
            return int(db.execute(select(heads.c.next_offset).where(where)).scalar_one())

    def heads(self) -> dict[int, int]:
        """Each partition's head."""
        with self._engine.connect() as db:
            found = db.execute(select(heads.c.partition, heads.c.next_offset).where(heads.c.topic == self.topic))
            return {row[0]: row[1] for row in found}

    def quarantined(self, partition: int | None = None) -> list[bytes]:
        """The rows in quarantine that are what was put there; of others nobody can tell which event they are."""
        where = (chunks.c.state == "quarantined") & (chunks.c.kind == Kind.EVENTS.value)
        if partition is not None:
            where &= chunks.c.partition == partition
        rows = []
        for one in self._decided(where):
            with contextlib.suppress(ChunkDamaged):
                rows.append(kept(one))
        return rows

    def _sealed(self, content: bytes | None, chunk_id: str) -> bytes | None:
        return content if content is None or self._keys is None else self._keys.seal(content, chunk_id)

    def _opened(self, kept: bytes | None, chunk_id: str) -> bytes:
        """What does not open comes back sealed: it is not what the chunk's token says, and is found damaged by that."""
        found = bytes(kept or b"")
        with contextlib.suppress(SealBroken):
            return self._keys.open(found, chunk_id) if self._keys is not None else found
        return found

    def unsettled(self, partition: int) -> list[Decided]:
        """Chunks to load, in order."""
        return self._decided((chunks.c.state == "open") & (chunks.c.partition == partition))

    def put_back(self, partitions: Iterable[int]) -> list[Decided]:
        """Chunks to load that came out of quarantine."""
        where = (chunks.c.state == "open") & chunks.c.content.is_not(None)
        return self._decided(where & chunks.c.partition.in_(list(partitions)))

    def decided(self, *states: str) -> list[Decided]:
        """Chunks of all partitions, by what became of them: `open`, `loaded`, `quarantined`, `damaged`."""
        return self._decided(chunks.c.state.in_(states))

    def chunks(self, *states: str) -> list[Chunk]:
        return [one.chunk for one in self.decided(*states)]

    def _decided(self, where: ColumnElement[bool]) -> list[Decided]:
        where = (chunks.c.topic == self.topic) & where
        order = (chunks.c.partition, chunks.c.first_offset, chunks.c.place)
        with self._engine.connect() as db:
            found = db.execute(select(chunks).where(where).order_by(*order))
            return [
                Decided(
                    _chunk(row),
                    row.partition,
                    row.first_offset,
                    row.end_offset,
                    zlib.decompress(row.kept),
                    Counter({(p, e): n for p, e, n in json.loads(row.places)}),
                    self._opened(row.content, row.chunk_id),
                )
                for row in found
            ]

    def decide(
        self,
        partition: int,
        first: int,
        end: int,
        decided: Sequence[Decided],
        counts: Counter[Tally],
        refusals: Sequence[Refusal],
        taken: Taken,
    ) -> None:
        """The verdict about offsets from `first` to before `end`, in one transaction.

        Raises: Overtaken where `first` is not the partition's head any more; Hushed; Outdated.
        """
        with self._engine.begin() as db:
            where = (heads.c.topic == self.topic) & (heads.c.partition == partition) & (heads.c.next_offset == first)
            if db.execute(update(heads).where(where).values(next_offset=end)).rowcount != 1:
                raise Overtaken
            self._check_quiet(db)
            # Who is erased from here on finds this verdict written; whoever was before must have been known to it.
            if taken.known_tombstones is not None and _count(db, tombstones) != taken.known_tombstones:
                raise Outdated
            self._add(db, decided)
            self.tally(db, counts)
            note_erased(db, self.topic, taken.erased)
            note_links(db, self.topic, taken.links)
            if refusals:
                db.execute(insert(refused), [refusal._asdict() for refusal in refusals])

    def replace(self, chunk_id: str, decided: Sequence[Decided], counts: Counter[Tally], import_id: str = "") -> None:
        """Puts chunks of the same range in the place of one. Raises: Overtaken."""
        with self._engine.begin() as db:
            where = (chunks.c.chunk_id == chunk_id) & (chunks.c.state == "open")
            if db.execute(delete(chunks).where(where)).rowcount != 1:
                raise Overtaken
            self._add(db, decided)
            self.tally(db, counts)
            if import_id:
                self._count_import(db, import_id, found=counts.total(), loaded=0)

    def settle(
        self,
        decided: Decided,
        state: str,
        reason: str,
        counts: Counter[Tally],
        now_milliseconds: int,
        content: bytes | None = None,
    ) -> None:
        """The store has the chunk, or will never take it. Raises: Overtaken."""
        with self._engine.begin() as db:
            where = (chunks.c.chunk_id == decided.chunk.chunk_id) & (chunks.c.state == "open")
            values = {"state": state, "reason": reason, "settled_milliseconds": now_milliseconds}
            if state != "damaged":  # what is kept of such a chunk stays for whoever can mend it
                values["content"] = self._sealed(content, decided.chunk.chunk_id)
            if db.execute(update(chunks).where(where).values(values)).rowcount != 1:
                raise Overtaken
            self.tally(db, counts)
            if decided.chunk.import_id and state == "loaded":
                self._count_import(db, decided.chunk.import_id, found=0, loaded=decided.chunk.rows)

    def _check_quiet(self, db: Connection, whoever: bool = False) -> None:
        """Nothing is opened while another loader needs quiet. The row is held, so that it cannot ask in between."""
        asked = select(housework.c.holder, housework.c.quiet).where(housework.c.topic == self.topic)
        row = db.execute(asked.with_for_update(read=True)).first()
        if row is not None and row.quiet and (whoever or row.holder != self.loader):
            raise Hushed

    def check_leads(self, db: Connection) -> None:
        """To be called behind a transaction's first change: nobody takes the housework over before it ends.

        Raises: StoreUnavailable where another loader has: then nothing of it is written.
        """
        asked = select(housework.c.holder).where(housework.c.topic == self.topic)
        row = db.execute(asked.with_for_update(read=True)).first()
        if row is not None and row.holder != self.loader:
            raise StoreUnavailable("another loader has taken this work over", hint="it goes on with it")

    def is_open(self, chunk: Chunk) -> bool:
        """Whether a chunk is still to be loaded, under this token."""
        with self._engine.connect() as db:
            where = (chunks.c.chunk_id == chunk.chunk_id) & (chunks.c.state == "open") & (chunks.c.token == chunk.token)
            return db.execute(select(chunks.c.chunk_id).where(where)).first() is not None

    def replay(self, one: Decided) -> None:
        """Opens a chunk that is in quarantine. Its ids may have come again since, so they are looked up.

        Raises: Overtaken where somebody else did it; Hushed.
        """
        with self._engine.begin() as db:
            where = (chunks.c.chunk_id == one.chunk.chunk_id) & (chunks.c.state == "quarantined")
            lookup = int(one.chunk.kind is Kind.EVENTS)
            values = {"state": "open", "reason": "", "settled_milliseconds": None, "lookup": lookup}
            if db.execute(update(chunks).where(where).values(values)).rowcount != 1:
                raise Overtaken
            self._check_quiet(db, whoever=True)
            counts = one.counted("quarantined", "store_refused_data")
            self.tally(db, Counter({tally: -events for tally, events in counts.items()}))

    def reinsert(self, again: Sequence[Decided], months: Iterable[int]) -> list[Decided]:
        """Gives chunks that are not loaded other tokens and marks months, in one transaction. Raises: Overtaken."""
        renewed = [one._replace(chunk=one.chunk._replace(token=next_token(one.chunk.token))) for one in again]
        with self._engine.begin() as db:
            for one in renewed:
                where = (chunks.c.chunk_id == one.chunk.chunk_id) & (chunks.c.state == "open")
                if db.execute(update(chunks).where(where).values(token=one.chunk.token)).rowcount != 1:
                    raise Overtaken
            self.add_stale_months(db, months)
        return renewed

    def add_stale_months(self, db: Connection, months: Iterable[int]) -> None:
        """Months whose rollups must be made again from raw; 0 stands for what has no months."""
        known = set(db.execute(select(stale_months.c.month).where(stale_months.c.topic == self.topic)).scalars())
        for month in sorted(set(months) - known):
            db.execute(insert(stale_months).values(topic=self.topic, month=month))

    def forget_content(self, chunk_id: str) -> None:
        """What is kept of a chunk's rows goes; the chunk stays counted as it is."""
        with self._engine.begin() as db:
            db.execute(update(chunks).where(chunks.c.chunk_id == chunk_id).values(content=None))

    def stale_months(self) -> list[int]:
        with self._engine.connect() as db:
            found = db.execute(select(stale_months.c.month).where(stale_months.c.topic == self.topic))
            return sorted(found.scalars())

    def month_rebuilt(self, month: int) -> None:
        with self._engine.begin() as db:
            where = (stale_months.c.topic == self.topic) & (stale_months.c.month == month)
            db.execute(delete(stale_months).where(where))
            self.check_leads(db)

    def complete_since(self) -> dict[str, int]:
        """From when on, milliseconds, raw has every event of a project."""
        with self._engine.connect() as db:
            found = select(complete.c.project, complete.c.since_milliseconds).where(complete.c.topic == self.topic)
            return {row[0]: row[1] for row in db.execute(found)}

    def open_before(self, ends: Mapping[int, int]) -> bool:
        """Whether anything from before these offsets, by partition, is not decided, or decided and not settled."""
        heads_now = self.heads()  # first: what these heads have passed is open by now, or settled
        if any(heads_now[partition] < end for partition, end in ends.items()):
            return True
        where = (chunks.c.topic == self.topic) & (chunks.c.state == "open")
        with self._engine.connect() as db:
            found = db.execute(select(chunks.c.partition, chunks.c.first_offset).where(where)).all()
        return any(row.first_offset < ends.get(row.partition, 0) for row in found)

    def amend(self, one: Decided, state: str, counts: Counter[Tally], gone: Iterable[tuple[str, bytes]]) -> None:
        """Rows of a chunk whose rows are kept here are gone: what is left stands in `one`. Raises: Overtaken."""
        chunk = one.chunk
        with self._engine.begin() as db:
            where = (chunks.c.chunk_id == chunk.chunk_id) & (chunks.c.state == state)
            values = {
                "rows": chunk.rows,
                "token": chunk.token,
                "places": _places(one),
                "content": self._sealed(one.content, chunk.chunk_id),
            }
            step = update(chunks).where(where).values(values) if chunk.rows else delete(chunks).where(where)
            if db.execute(step).rowcount != 1:
                raise Overtaken
            self.tally(db, counts)
            note_erased(db, self.topic, gone)

    def check(self) -> str:
        """`ok` when the control database is whole. SQLite checks its file; of another one each of our tables is read."""
        with self._engine.connect() as db:
            if self._engine.dialect.name == "sqlite":
                return str(db.execute(text("PRAGMA quick_check(1)")).scalar_one())
            for table in metadata.sorted_tables:
                db.execute(select(func.count()).select_from(table))
        return "ok"

    def suspect(self, partitions: Iterable[int], suspect: bool) -> None:
        """Durably: whether whoever adopts these partitions compares their open chunks with the store."""
        with self._engine.begin() as db:
            where = (heads.c.topic == self.topic) & heads.c.partition.in_(list(partitions))
            db.execute(update(heads).where(where).values(suspect=int(suspect)))

    def is_suspect(self, partition: int) -> bool:
        with self._engine.connect() as db:
            where = (heads.c.topic == self.topic) & (heads.c.partition == partition)
            return bool(db.execute(select(heads.c.suspect).where(where)).scalar_one())

    def _add(self, db: Connection, decided: Sequence[Decided]) -> None:
        if not decided:
            return
        values = [
            {
                **one.chunk._asdict(),
                "kind": one.chunk.kind.value,
                "lookup": int(one.chunk.lookup),
                "topic": self.topic,
                "partition": one.partition,
                "first_offset": one.first,
                "end_offset": one.end,
                "place": place,
                "kept": zlib.compress(one.kept),
                "places": _places(one),
                "state": "open",
                "reason": "",
                "content": self._sealed(one.content or None, one.chunk.chunk_id),
            }
            for place, one in enumerate(decided)
        ]
        db.execute(insert(chunks), values)

    def tally(self, db: Connection, counts: Counter[Tally]) -> None:
        # In one order, so that two loaders never wait for each other in a circle.
        for tally, events in sorted(counts.items()):
            if not events:
                continue
            values = dict(zip(("project", "environment", "outcome", "reason"), tally, strict=True))
            where = tallies.c.topic == self.topic
            for name, value in values.items():
                where &= tallies.c[name] == value
            self._upsert(db, tallies, where, {"topic": self.topic, **values}, {"events": events})

    def _count_import(self, db: Connection, import_id: str, *, found: int, loaded: int) -> None:
        where = imports.c.import_id == import_id
        self._upsert(db, imports, where, {"import_id": import_id}, {"found": found, "loaded": loaded})

    @staticmethod
    def _upsert(db: Connection, table: Table, where: Any, key: dict[str, Any], more: dict[str, int]) -> None:
        """Adds to a row of counts, or makes it."""
        added = {name: table.c[name] + number for name, number in more.items()}
        if db.execute(update(table).where(where).values(added)).rowcount:
            return
        try:
            with db.begin_nested():
                db.execute(insert(table).values({**key, **more}))
        except IntegrityError:
            db.execute(update(table).where(where).values(added))

    def tallies(self) -> dict[Tally, int]:
        """Events by (project, environment, outcome, reason), of all nodes, since the topic was opened."""
        with self._engine.connect() as db:
            found = db.execute(select(tallies).where(tallies.c.topic == self.topic))
            return {(row.project, row.environment, row.outcome, row.reason): row.events for row in found}

    def open_imports(self, import_id: str) -> bool:
        """Whether a chunk of an import is not settled."""
        where = (chunks.c.topic == self.topic) & (chunks.c.state == "open") & (chunks.c.import_id == import_id)
        with self._engine.connect() as db:
            return db.execute(select(chunks.c.chunk_id).where(where).limit(1)).first() is not None

    def import_counts(self, import_id: str) -> tuple[int, int]:
        """(found in the store, loaded) of one import."""
        with self._engine.connect() as db:
            row = db.execute(select(imports.c.found, imports.c.loaded).where(imports.c.import_id == import_id)).first()
        return (row[0], row[1]) if row else (0, 0)

    def refusal(self, event_id: str, project: str) -> tuple[str, str, int] | None:
        """(status, reason, received) of the last refusal of an id."""
        where = (refused.c.event_id == event_id) & (refused.c.project == project)
        columns = (refused.c.status, refused.c.reason, refused.c.received_milliseconds)
        with self._engine.connect() as db:
            row = db.execute(select(*columns).where(where).order_by(refused.c.sequence.desc()).limit(1)).first()
        return (row[0], row[1], row[2]) if row else None

    def waiting(self) -> tuple[int, int | None]:
        """(events decided and not loaded, when the oldest was received), over all loaders."""
        where = (chunks.c.topic == self.topic) & (chunks.c.state == "open") & (chunks.c.kind == Kind.EVENTS.value)
        columns = (func.coalesce(func.sum(chunks.c.rows), 0), func.min(chunks.c.received_milliseconds))
        with self._engine.connect() as db:
            row = db.execute(select(*columns).where(where)).one()
        return int(row[0]), row[1]

    def forget(self, settled_before: int, refused_before: int, partitions: Iterable[int]) -> None:
        """Deletes loaded chunks and refusals from before these times."""
        with self._engine.begin() as db:
            where = (chunks.c.topic == self.topic) & (chunks.c.state == "loaded")
            where &= chunks.c.partition.in_(list(partitions)) & (chunks.c.settled_milliseconds < settled_before)
            db.execute(delete(chunks).where(where))
            newest = db.execute(select(func.max(refused.c.sequence))).scalar() or 0
            gone = refused.c.received_milliseconds < refused_before
            db.execute(delete(refused).where(gone | (refused.c.sequence <= newest - _MOST_REFUSED)))


def _count(db: Connection, table: Table) -> int:
    return int(db.execute(select(func.count()).select_from(table)).scalar_one())


def _places(one: Decided) -> str:
    return json.dumps([[*who, rows] for who, rows in one.places.items()])


def _chunk(row: Any) -> Chunk:
    return Chunk(
        row.chunk_id,
        Kind(row.kind),
        row.month,
        row.rows,
        row.token,
        bool(row.lookup),
        row.import_id,
        row.received_milliseconds,
    )
