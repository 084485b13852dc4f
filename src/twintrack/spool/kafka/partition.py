"""One partition in the hands of its loader: what was read of it and is not decided, the index of its ids, its chunks.

A verdict (verdict.py) covers a range of offsets and says of each row whether it is kept. It is written before the
first insert and never made again, so that whoever takes over inserts the same rows under the same token. The index is a
function of the topic up to the partition's head; ids that it cannot know are looked up in the store (known.py).
"""

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from twintrack.spool.chunks import identity_of, place_of
from twintrack.spool.claims import Claims, claim_key, is_timed, project_tag, split_ids
from twintrack.spool.kafka.ledger import Taken, Verdicts
from twintrack.spool.kafka.message import Message
from twintrack.spool.kafka.sieve import NOBODY, Sieve
from twintrack.spool.kafka.verdict import Decided, Half, Tally, Verdict, kept, replay, take_apart
from twintrack.spool.known import KnownIds, Wanted
from twintrack.spool.protocol import Kind
from twintrack.spool.segment import Record

_HEAD = "head"  # everything before this offset is in the index
_COPIES = "\0copies"  # stands for a project where the index holds the ids of messages
_BATCH = 50_000


class Read(NamedTuple):
    offset: int
    message: Message


Fetch = Callable[[int, int], Iterator[Read]]


class Partition:
    """Shape: `folder` is its index. Only the loader's thread calls it, except `holds`."""

    def __init__(self, number: int, folder: Path, index_bytes: int, verdicts: Verdicts) -> None:
        self.number = number
        self._verdicts = verdicts
        self._claims = Claims(folder, index_bytes)
        self._known = KnownIds(self._claims, self._claims)
        self.head = 0
        self.suspect = False  # the store must be asked which of the open chunks it has
        self.waiting: deque[Read] = deque()
        self.rows_waiting = 0
        self.decided: dict[str, Decided] = {}  # chunks that are not loaded, oldest first
        self._contents: dict[str, bytes] = {}

    def close(self) -> None:
        self._claims.close()

    # -- taking over ---------------------------------------------------------------------------------------------

    def adopt(self, fetch: Fetch, low: int, most_messages: int, horizon: int) -> None:
        """Takes the partition as its last owner left it: head, open chunks, and an index of what is before.

        Shape: `low` is the oldest offset the topic keeps; ids born before `horizon` need not be known.
        """
        self.waiting.clear()
        self.rows_waiting = 0
        self._contents.clear()
        self.head = self._verdicts.head(self.number)
        self.suspect = self._verdicts.is_suspect(self.number)
        self.decided = {one.chunk.chunk_id: one for one in self._verdicts.unsettled(self.number)}
        indexed = self._claims.get(_HEAD)
        if indexed > self.head:
            self._claims.discard()
            indexed = 0
        self._known = KnownIds(self._claims, self._claims)
        whole = indexed == 0 or not self._known.rebuilding
        self._known.begin_restore(max(0, horizon))
        # What came out of quarantine may be old, and its rows are at hand.
        open_from = min((one.first for one in self.decided.values() if not one.content), default=self.head)
        start = max(indexed, low, open_from - most_messages)
        oldest: int | None = None
        batch: list[tuple[bytes, bool]] = []
        for offset, message in fetch(start, self.head) if start < self.head else ():
            oldest = message.record.received if oldest is None else oldest
            batch.append((claim_key(message.copy, _COPIES), False))
            batch += _claims_of(message.record, offset >= open_from)
            if len(batch) > _BATCH:
                self._known.add(batch)
                batch = []
        returned = [one.content for one in self.decided.values() if one.content and one.chunk.kind is Kind.EVENTS]
        for row in self._verdicts.quarantined(self.number) + returned:
            project, event_id = identity_of(row)
            batch.append((claim_key(event_id, project), not is_timed(event_id)))
        self._known.add(batch)
        if not (start <= indexed and whole) and (oldest is None or oldest >= horizon):
            self._known.lose()
        elif self._known.rebuilding:
            self._known.restored()
        self._claims.put(_HEAD, self.head)

    @property
    def rebuilding(self) -> bool:
        return self._known.rebuilding

    def begin_restore(self, since: int) -> None:
        self._known.begin_restore(since)

    def restore(self, ids: Iterable[tuple[str, bytes]]) -> None:
        self._known.restore(ids)

    def restored(self) -> None:
        self._known.restored()

    # -- deciding ------------------------------------------------------------------------------------------------

    def take(self, read: Read) -> bool:
        """Queues a message; False where it is before the head or was queued already."""
        if read.offset < self.next_offset():
            return False
        self.waiting.append(read)
        self.rows_waiting += _weight(read)
        return True

    def next_offset(self) -> int:
        """The first offset that is neither decided nor queued."""
        waiting = self.waiting
        return waiting[-1].offset + 1 if waiting else self.head

    def oldest_waiting(self) -> int | None:
        """When the first message that is queued was received, milliseconds."""
        waiting = self.waiting
        return waiting[0].message.record.received if waiting else None

    def decide(self, most_rows: int, sieve: Sieve = NOBODY) -> int:
        """Judges what is queued, up to that many rows; how many messages. Nothing of it may be open before.

        Raises: Overtaken where another loader judged it, and what is queued must be read again; Hushed, Outdated.
        """
        reads, rows = [], 0
        for read in self.waiting:
            reads.append(read)
            rows += sum(part.rows for part in read.message.record.parts)
            if rows >= most_rows:
                break
        if not reads:
            return 0
        verdict = Verdict(self.number, self.head, reads[-1].offset + 1, sieve)
        fresh = self._fresh(reads)
        copies = [read.message.copy for read in fresh]
        wanted = [Wanted(copies, project_tag(_COPIES), True)]
        for record in (read.message.record for read in fresh):
            tag = project_tag(record.project)
            wanted += [Wanted(list(split_ids(part.ids)), tag, not part.late) for part in record.parts]
        claimed = self._known.claim(wanted)
        try:
            answers = iter(list(zip(claimed.verdicts, claimed.late, strict=True))[1:])
            judged = {read.offset for read in fresh}
            for read in reads:
                if read.offset in judged:
                    verdict.judge(read.message.record, answers)
                else:
                    verdict.skip(read.message.record)
            decided = verdict.finish()
            self._verdicts.decide(
                self.number,
                verdict.first,
                verdict.end,
                [d for d, _ in decided],
                verdict.counts,
                verdict.refusals,
                Taken(verdict.erased, verdict.links, sieve.known_tombstones),
            )
        except BaseException:
            if claimed.transaction is not None:
                claimed.transaction.abort()
            raise
        if claimed.transaction is not None:
            claimed.transaction.put(_HEAD.encode(), b"%d" % verdict.end)
            claimed.transaction.commit()
            if claimed.late[0]:
                self._known.loaded(claim_key(copy, _COPIES) for copy in copies)
            if verdict.never_late:
                self._known.loaded(claim_key(event_id, project) for project, event_id in verdict.never_late)
        for one, content in decided:
            self.decided[one.chunk.chunk_id] = one
            self._contents[one.chunk.chunk_id] = content
        self.head = verdict.end
        for _ in reads:
            self.rows_waiting -= _weight(self.waiting.popleft())
        return len(reads)

    def _fresh(self, reads: list[Read]) -> list[Read]:
        """Without second copies: the same message sent twice, after a timeout or out of a fallback."""
        seen: set[bytes] = set()
        fresh = []
        for read in reads:
            copy = read.message.copy
            if copy and copy not in seen and not self._claims.holds(UUID(bytes=copy), _COPIES):
                fresh.append(read)
            seen.add(copy)
        return fresh

    # -- settling ------------------------------------------------------------------------------------------------

    def content(self, chunk_id: str, fetch: Fetch) -> bytes:
        """The rows of a chunk: as judged, or read again."""
        content = self._contents.get(chunk_id)
        if content is None:
            content = self._contents[chunk_id] = content_of(self.decided[chunk_id], fetch)
        return content

    def settle_lookup(self, one: Decided, content: bytes, found: set[tuple[str, bytes]]) -> None:
        """Decides the rows that the store lacks, in place of the chunk. Raises: Overtaken, like all that follow."""
        counts: Counter[Tally] = Counter()
        seen = set(found)

        def choose(_: int, row: bytes) -> int:
            if (identity := identity_of(row)) not in seen:
                seen.add(identity)
                return 0
            counts[(*place_of(row), "duplicate", "found_in_store")] += 1
            return -1

        self._replace(one, take_apart(one, content, 1, choose), counts)
        self._known.loaded(claim_key(event_id, project) for project, event_id in found)

    def bisect(self, one: Decided, content: bytes, why: str, now: int) -> None:
        rows = one.chunk.rows
        if rows == 1:
            self.leave(one, "quarantined", why, "store_refused_data", now, content)
            return
        self._replace(one, take_apart(one, content, 2, lambda number, _: int(number >= rows // 2)), Counter())

    def _replace(self, one: Decided, parts: list[Half], counts: Counter[Tally]) -> None:
        """Puts other chunks of the same rows in the place of one."""
        decided = [part.finish(one) for part in parts if part.gathered.rows]
        self._verdicts.replace(one.chunk.chunk_id, [d for d, _ in decided], counts, one.chunk.import_id)
        self._forget(one)
        for new, content in decided:
            self.decided[new.chunk.chunk_id] = new
            self._contents[new.chunk.chunk_id] = content

    def leave(self, one: Decided, outcome: str, why: str, reason: str, now: int, content: bytes | None = None) -> None:
        """The chunk goes no further; the rows are kept where they are given."""
        self._verdicts.settle(one, outcome, why, one.counted(outcome, reason), now, content)
        self._forget(one)

    def loaded(self, one: Decided, late: Iterable[bytes], now: int) -> None:
        """The store has the chunk, and these ids that were late."""
        self._verdicts.settle(one, "loaded", "", one.counted("stored", ""), now)
        self._known.loaded(late)
        self._forget(one)

    def _forget(self, one: Decided) -> None:
        self.decided.pop(one.chunk.chunk_id, None)
        self._contents.pop(one.chunk.chunk_id, None)

    def has_late(self) -> bool:
        return self._claims.has_late()

    def sweep(self, now: int, window_milliseconds: int) -> None:
        self._known.sweep(now, self.oldest_waiting(), window_milliseconds)

    def holds(self, event_id: UUID, project: str) -> bool:
        return self._claims.holds(event_id, project)

    def index_size(self) -> tuple[int, int]:
        """(entries, bytes) of the index."""
        return self._claims.size()


def _weight(read: Read) -> int:
    return max(1, sum(part.rows for part in read.message.record.parts))


def _claims_of(record: Record, is_open: bool) -> Iterator[tuple[bytes, bool]]:
    """What the index would hold of a message: late ids stay late until their chunk is loaded."""
    tag = project_tag(record.project)
    for part in record.parts:
        for event_id in split_ids(part.ids):
            if is_open:
                yield event_id + tag, part.late
            elif is_timed(event_id):
                yield event_id + tag, False


def content_of(one: Decided, fetch: Fetch) -> bytes:
    """The rows of a chunk, out of the control data where they are kept there, else out of the topic.

    Raises: ChunkDamaged where they are not what was decided; Unavailable.
    """
    if one.content:
        return kept(one)
    return replay(one, (read.message.record for read in fetch(one.first, one.end)))


def discard_indexes(folder: Path) -> None:
    """Forgets the indexes of a process that did not end well."""
    shutil.rmtree(folder, ignore_errors=True)
