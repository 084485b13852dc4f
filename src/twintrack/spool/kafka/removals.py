"""What erasures and retention do to a topic's spool: counts move, watermarks rise, rows in quarantine go.

The topic itself keeps what it has until its own retention; of chunks that are loaded the control data hold no rows. So
what is left to be rewritten is the quarantine. Only the loader that leads calls this, when no insert is in doubt.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
import structlog
from sqlalchemy import Connection, Table, delete, insert, select, update

from twintrack.errors import ChunkDamaged
from twintrack.spool.chunks import identity_of, next_token
from twintrack.spool.kafka.ledger import Overtaken, Verdicts
from twintrack.spool.kafka.tables import complete, erased, erased_links, erasures, policies, removals, rewrites
from twintrack.spool.kafka.taken import is_link, link_in, note_links
from twintrack.spool.kafka.verdict import Decided, Place, Tally, kept
from twintrack.spool.protocol import Kind, TakenLink

log = structlog.get_logger()
_QUARANTINED = "quarantined"
Change = Callable[[bytes], bytes | None]  # a row as it shall be, None where it goes


class TopicRemovals:
    """Shape: the protocol `Removals`, and what an erasure asks of a spool.

    Raises: StoreUnavailable, with nothing written, where a step of the work is noted down and another loader leads.
    """

    def __init__(self, ledger: Verdicts) -> None:
        self._ledger, self._topic = ledger, ledger.topic

    # -- rows get other deadlines --------------------------------------------------------------------------------

    def version(self) -> int:
        with self._ledger.begin() as db:
            return int(
                db.execute(select(policies.c.version).where(policies.c.topic == self._topic)).scalar_one_or_none() or 0
            )

    def begin_rewrite(self, version: int, months: Iterable[int]) -> None:
        with self._ledger.begin() as db:
            where = policies.c.topic == self._topic
            if not db.execute(update(policies).where(where).values(version=version)).rowcount:
                db.execute(insert(policies).values(topic=self._topic, version=version))
            known = set(self._months(db, rewrites))
            for month in sorted(set(months) - known):
                db.execute(insert(rewrites).values(topic=self._topic, month=month))
            self._ledger.check_leads(db)

    def rewrites(self) -> list[int]:
        with self._ledger.begin() as db:
            return self._months(db, rewrites)

    def rewritten(self, month: int) -> None:
        self._forget_month(rewrites, month)

    # -- rows go -------------------------------------------------------------------------------------------------

    def begin(
        self,
        month: int,
        until_seconds: int,
        gone: Mapping[Place, int],
        complete: Mapping[str, int],
        amended: Iterable[str],
        change: Change,
    ) -> None:
        """Counts rows of a month as expired. No manifest holds rows of the store."""
        counts: Counter[Tally] = Counter()
        for place, events in gone.items():
            counts[(*place, "stored", "")] -= events
            counts[(*place, "expired", "retention")] += events
        with self._ledger.begin() as db:
            where = (removals.c.topic == self._topic) & (removals.c.month == month)
            if not db.execute(update(removals).where(where).values(until_seconds=until_seconds)).rowcount:
                db.execute(insert(removals).values(topic=self._topic, month=month, until_seconds=until_seconds))
            self._ledger.tally(db, counts)
            for project, milliseconds in complete.items():
                self._raise_watermark(db, project, milliseconds)
            self._ledger.check_leads(db)

    def _raise_watermark(self, db: Connection, project: str, milliseconds: int) -> None:
        where = (complete.c.topic == self._topic) & (complete.c.project == project)
        now = db.execute(select(complete.c.since_milliseconds).where(where)).scalar_one_or_none()
        if now is None:
            db.execute(insert(complete).values(topic=self._topic, project=project, since_milliseconds=milliseconds))
        elif now < milliseconds:
            db.execute(update(complete).where(where).values(since_milliseconds=milliseconds))

    def pending(self) -> dict[int, int]:
        with self._ledger.begin() as db:
            found = select(removals.c.month, removals.c.until_seconds).where(removals.c.topic == self._topic)
            return {row[0]: row[1] for row in db.execute(found)}

    def done(self, month: int) -> None:
        self._forget_month(removals, month)

    def in_grace(self, month: int) -> list[str]:
        return []

    def renew(self) -> None:
        """What a topic holds goes when its own retention says so."""

    def amend(self, amended: Iterable[str], change: Change) -> None:
        """Rows of the store stand nowhere else."""

    def expire_held(self, until_month: int, change: Change) -> int:
        return sum(
            rows
            for _, rows in self._change_quarantined(
                lambda kind, row: change(row) if kind is Kind.EVENTS else row,
                ("expired", "retention"),
                until_month,
            )
        )

    # -- erase ---------------------------------------------------------------------------------------------------

    def erasing(self) -> bool:
        with self._ledger.begin() as db:
            found = select(erasures.c.request).where(erasures.c.topic == self._topic).limit(1)
            return db.execute(found).first() is not None

    def remove(self, gone: Callable[[Kind, bytes], bool], names: Iterable[str]) -> Counter[str]:
        """Takes rows out of quarantine, and what is kept of damaged chunks where it names the person or cannot be read."""
        taken = self._change_quarantined(
            lambda kind, row: None if gone(kind, row) else row, ("erased", _QUARANTINED), None
        )
        removed: Counter[str] = Counter()
        for state, rows in taken:
            removed[state] += rows
        written = [msgspec.json.encode(name)[1:-1] for name in names]
        for one in self._ledger.decided(_QUARANTINED, "damaged"):
            if one.content and not _may_stay(one, written):
                removed["unreadable"] += one.chunk.rows
                self._ledger.forget_content(one.chunk.chunk_id)
                log.warning("damaged_chunk_deleted", chunk=one.chunk.chunk_id, rows=one.chunk.rows)
        return removed

    def plan(self, request: str, events: Mapping[Place, int]) -> None:
        """Before rows of the store are deleted: how many there are, once. What a kill cuts short is counted by it."""
        with self._ledger.begin() as db:
            if self._planned(db, request):
                return
            for (project, environment), number in events.items():
                values = {"project": project, "environment": environment, "events": number}
                db.execute(insert(erasures).values(topic=self._topic, request=request, **values))
            self._ledger.check_leads(db)

    def settle(self, request: str, months: Iterable[int]) -> int:
        """The rows of the plan are gone from the store: they move from stored to erased, once; how many."""
        counts: Counter[Tally] = Counter()
        with self._ledger.begin() as db:
            planned = self._planned(db, request)
            for place, events in planned.items():
                counts[(*place, "stored", "")] -= events
                counts[(*place, "erased", "store")] += events
            self._ledger.tally(db, counts)
            self._ledger.add_stale_months(db, months)
            where = (erasures.c.topic == self._topic) & (erasures.c.request == request)
            db.execute(delete(erasures).where(where))
            self._ledger.check_leads(db)
        return sum(planned.values())

    def _planned(self, db: Connection, request: str) -> dict[Place, int]:
        where = (erasures.c.topic == self._topic) & (erasures.c.request == request)
        found = db.execute(select(erasures).where(where))
        return {(row.project, row.environment): row.events for row in found}

    def erased_ids(self) -> list[tuple[str, bytes]]:
        with self._ledger.begin() as db:
            found = select(erased.c.project, erased.c.event_id).where(erased.c.topic == self._topic)
            return [(row[0], bytes(row[1])) for row in db.execute(found)]

    def forget_erased(self, identities: Iterable[tuple[str, bytes]]) -> None:
        with self._ledger.begin() as db:
            for project, event_id in identities:
                same = (erased.c.project == project) & (erased.c.event_id == event_id)
                db.execute(delete(erased).where((erased.c.topic == self._topic) & same))

    def taken_links(self) -> list[TakenLink]:
        with self._ledger.begin() as db:
            found = db.execute(select(erased_links).where(erased_links.c.topic == self._topic))
            return [link_in(row) for row in found]

    def note_links(self, links: Iterable[TakenLink]) -> None:
        """Of messages that this node took somebody out of before they were sent."""
        with self._ledger.begin() as db:
            note_links(db, self._topic, links)

    def forget_links(self, links: Iterable[TakenLink]) -> None:
        with self._ledger.begin() as db:
            for link in links:
                db.execute(delete(erased_links).where(is_link(self._topic, link)))

    # -- quarantine ----------------------------------------------------------------------------------------------

    def _change_quarantined(
        self, change: Callable[[Kind, bytes], bytes | None], fate: tuple[str, str], until_month: int | None
    ) -> Iterator[tuple[str, int]]:
        """Changes the row of each chunk in quarantine, or takes it out; (state, rows that went)."""
        for one in self._ledger.decided(_QUARANTINED):
            if until_month is not None and one.chunk.month > until_month:
                continue
            try:
                row = kept(one)  # one: chunks are halved until a single row is left
            except ChunkDamaged:
                continue
            left = change(one.chunk.kind, row)
            if left == row:
                continue
            counts: Counter[Tally] = Counter()
            gone: list[tuple[str, bytes]] = []
            if left is None:
                counts = one.counted(*fate)
                counts.subtract(one.counted(_QUARANTINED, "store_refused_data"))
                if one.chunk.kind is Kind.EVENTS and fate[0] == "erased":
                    gone.append(identity_of(row))
            try:
                self._ledger.amend(_changed(one, left), _QUARANTINED, counts, gone)
            except Overtaken:  # an operator has put it back meanwhile: it is looked up and loaded first
                continue
            yield _QUARANTINED, int(left is None)

    # -- months --------------------------------------------------------------------------------------------------

    def _months(self, db: Connection, table: Table) -> list[int]:
        return sorted(db.execute(select(table.c.month).where(table.c.topic == self._topic)).scalars())

    def _forget_month(self, table: Table, month: int) -> None:
        with self._ledger.begin() as db:
            db.execute(delete(table).where((table.c.topic == self._topic) & (table.c.month == month)))
            self._ledger.check_leads(db)


def _may_stay(one: Decided, names: list[bytes]) -> bool:
    """Whether what is kept of a chunk is what was decided, and so was looked at, or can be read and names none of these."""
    try:
        kept(one)
    except ChunkDamaged:
        return one.content[:1] == b"[" and not any(name in one.content for name in names)
    return True


def _changed(one: Decided, row: bytes | None) -> Decided:
    if row is None:
        return one._replace(chunk=one.chunk._replace(rows=0), content=b"")
    head, chunk_id, _, *number = next_token(one.chunk.token).split(":")
    token = ":".join([head, chunk_id, hashlib.sha256(row).hexdigest()[:16], *number])
    return one._replace(chunk=one.chunk._replace(token=token), content=row)
