"""Takes an erased person's rows out of what the spool holds on disk: chunks that wait, are quarantined, or are kept for
a while after they were loaded.

The manifest of a chunk is amended in the transaction that counts what went; the chunk keeps its id, so that rows of it
in the store can still be told, and gets a token of its new content. The new file is synced beside the old one before
the transaction and takes its place behind it; a crash in between is settled at the next start.
Nothing here touches a chunk whose insert may be under way: whoever calls has seen that there is none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from twintrack.control.tombstones import Marks
from twintrack.errors import ChunkDamaged, SealBroken
from twintrack.spool import chunks, segment
from twintrack.spool.balance import Balance, Place
from twintrack.spool.claims import split_ids
from twintrack.spool.ledger import Ledger
from twintrack.spool.protocol import Chunk, Kind, TakenLink
from twintrack.spool.segment import Part, Record

log = structlog.get_logger()
# A request that came this long after a tombstone was judged by it at the door: caches are a second old, and clocks of
# several nodes differ by less.
_IN_FLIGHT_MILLISECONDS = 60_000
HELD = ("lookup", "frozen", "loaded", "quarantined")

MarksOf = Callable[[str], Marks | None]


class Told(msgspec.Struct, array_like=True):
    """What a row of events says of its person and time; the rest is not read."""

    project: str
    environment: str
    event_id: UUID
    event_name: msgspec.Raw
    event_timestamp: float  # seconds
    user_id: str
    anonymous_id: str
    session_id: msgspec.Raw
    identity: msgspec.Raw
    sequence: msgspec.Raw
    event_value: msgspec.Raw
    event_metadata: msgspec.Raw
    message_content: msgspec.Raw
    message_length: msgspec.Raw
    thread_id: msgspec.Raw
    client_timestamp: msgspec.Raw
    server_timestamp: float  # seconds

    @property
    def moment(self) -> float:
        """When it was at the latest, milliseconds: what was received before a request is older than it."""
        return min(self.event_timestamp, self.server_timestamp) * 1000


told = msgspec.json.Decoder(Told).decode


class Filtered(NamedTuple):
    record: Record
    ids: list[bytes]  # of the events that were taken out
    links: list[TakenLink]


def may_be_erased(record: Record, marks: Marks) -> bool:
    """Whether the door may have taken it before it knew these tombstones."""
    return record.received <= marks.latest_milliseconds + _IN_FLIGHT_MILLISECONDS


def without_erased(record: Record, marks: Marks | None) -> Filtered:
    """A record of the log without the events of people who were erased while it was on its way. Pure."""
    if marks is None or not may_be_erased(record, marks):
        return Filtered(record, [], [])
    parts: list[Part] = []
    gone: list[bytes] = []
    links: set[TakenLink] = set()
    for part in record.parts:
        if part.kind != Kind.EVENTS:
            parts.append(part)
            continue
        rows = zip(split_ids(part.ids), part.lines.split(b"\n"), strict=True)
        kept = []
        for event_id, line in rows:
            row = told(line)
            if marks.covers(row.environment, row.user_id, row.anonymous_id, row.moment):
                gone.append(event_id)
                links |= link_of(row)
            else:
                kept.append((event_id, line))
        if len(kept) == part.rows:
            parts.append(part)
        elif kept:
            ids, lines = b"".join([i for i, _ in kept]), b"\n".join([line for _, line in kept])
            parts.append(part._replace(rows=len(kept), ids=ids, lines=lines))
    return Filtered(record._replace(parts=parts) if gone else record, gone, sorted(links))


def link_of(row: Told) -> set[TakenLink]:
    """The link that an event is, where it is one."""
    if not row.user_id or not row.anonymous_id:
        return set()
    return {TakenLink(row.project, row.environment, row.anonymous_id, row.user_id, row.event_timestamp)}


class Erasing:
    def __init__(self, folder: chunks.Folder, ledger: Ledger, balance: Balance, reached: Callable[[str], None]) -> None:
        self._folder, self._ledger, self._balance, self._reached = folder, ledger, balance, reached

    def rows(self, *states: str) -> Iterator[tuple[str, Kind, bytes]]:
        """Every row of chunks in these states that can be read: (state, kind, row)."""
        for state in states:
            for chunk in self._ledger.chunks(state):
                try:
                    yield from ((state, chunk.kind, row) for row in chunks.read(self._folder, chunk))
                except ChunkDamaged:
                    continue

    def remove(self, gone: Callable[[Kind, bytes], bool], names: Iterable[str]) -> Counter[str]:
        """Rows that are gone leave every chunk; how many did, by the state of their chunk.

        A file that cannot be read as it was frozen cannot be amended: where one of `names` stands in it, or it was only
        kept for a while, it is deleted.
        """
        # A transaction that failed, on a full disk say, left its new file behind.
        self._ledger.settle_doubt()
        chunks.settle_amendments(self._folder, self._ledger.chunks(*HELD))
        chunks.remove_unnamed(self._folder, self._ledger.named())
        removed: Counter[str] = Counter()
        for state in HELD:
            for chunk in self._ledger.chunks(state):
                try:
                    rows = chunks.read(self._folder, chunk)
                except ChunkDamaged:
                    removed["unreadable"] += self._discard(chunk, names, loaded=state == "loaded")
                    continue
                kept = [row for row in rows if not gone(chunk.kind, row)]
                if len(kept) < len(rows):
                    self._amend(chunk, state, rows, kept)
                    removed[state] += len(rows) - len(kept)
        for chunk in self._ledger.chunks("damaged"):
            removed["unreadable"] += self._discard(chunk, names)
        return removed

    def _amend(self, chunk: Chunk, state: str, rows: list[bytes], kept: list[bytes]) -> None:
        size_bytes, token = chunks.write_amendment(self._folder, chunk, kept) if kept else (0, "")
        self._reached("before_amend")
        before = Counter(chunks.place_of(row) for row in rows)
        after = Counter(chunks.place_of(row) for row in kept)
        fates = _fates(chunk, state, before - after)
        with self._ledger as ledger:
            if kept:
                ledger.amend_chunk(chunk.chunk_id, len(kept), size_bytes, after, token)
            else:
                ledger.remove_chunk(chunk.chunk_id)
            for place, outcome, reason, events in fates:
                ledger.tally(*place, outcome, reason, events)
            if chunk.kind is Kind.EVENTS:
                ledger.note_erased([chunks.identity_of(row) for row in set(rows) - set(kept)])
        self._reached("after_amend")
        if kept:
            chunks.content(self._folder, chunk._replace(token=token))  # the new file takes its place
        else:
            chunks.path(self._folder, chunk.chunk_id).unlink(missing_ok=True)
        waiting = [fate for fate in fates if state == "lookup"]
        self._balance.moved(waiting)
        self._balance.counted([fate for fate in fates if fate not in waiting])

    def _discard(self, chunk: Chunk, names: Iterable[str], *, loaded: bool = False) -> int:
        path = chunks.path(self._folder, chunk.chunk_id)
        if loaded:
            # Nobody can tell how many rows the store shall have of it from now on, and it could not be sent again.
            self._ledger.remove_chunk(chunk.chunk_id)
            path.unlink(missing_ok=True)
            return chunk.rows
        try:
            content = chunks.opened(self._folder, chunk.chunk_id, path.read_bytes())
        except FileNotFoundError:
            return 0
        except SealBroken:  # nobody can tell what stands in it, so nobody may be promised that they do not
            content = None
        written = [msgspec.json.encode(name)[1:-1] for name in names]
        if content is not None and not any(name in content for name in written):
            return 0
        path.unlink()
        segment.sync_folder(self._folder.path)
        log.warning("damaged_chunk_deleted", chunk=chunk.chunk_id, rows=chunk.rows)
        return chunk.rows

    # -- what goes out of the store ------------------------------------------------------------------------------

    def plan(self, request: str, events: dict[Place, int]) -> None:
        """Before rows of the store are deleted: how many there are, once. What a crash cuts short is counted by it."""
        with self._ledger as ledger:
            ledger.plan_erasure(request, events)

    def settle(self, request: str, months: Iterable[int]) -> int:
        """The rows of the plan are gone from the store: they move from stored to erased; how many."""
        with self._ledger as ledger:
            planned = ledger.planned_erasure(request)
            for place, events in planned.items():
                ledger.tally(*place, "stored", "", -events)
                ledger.tally(*place, "erased", "store", events)
            ledger.add_stale_months(months)
            ledger.forget_erasure(request)
        moved = [(place, "stored", "", -events) for place, events in planned.items()]
        moved += [(place, "erased", "store", events) for place, events in planned.items()]
        self._balance.counted(moved)
        return sum(planned.values())


def _fates(chunk: Chunk, state: str, gone: Counter[Place]) -> list[tuple[Place, str, str, int]]:
    """What of the balance changes. Rows of a loaded chunk are the store's: they are counted when they go there."""
    if chunk.kind is not Kind.EVENTS or state == "loaded":
        return []
    fates = [(place, "erased", "spool" if state != "quarantined" else state, events) for place, events in gone.items()]
    if state == "quarantined":
        fates += [(place, "quarantined", "store_refused_data", -events) for place, events in gone.items()]
    return fates
