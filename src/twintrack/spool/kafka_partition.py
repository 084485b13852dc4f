"""One partition in the hands of its loader: what was read of it and is not decided, the index of its ids, its chunks.

A verdict covers a range of offsets and says of each row whether it is kept. It is written before the first insert
and never made again, so that whoever takes over inserts the same rows under the same token. The index is a function
of the topic up to the partition's head; where it is not known to be whole, ids are looked up in the store.
"""

import hashlib
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from twintrack.spool.chunks import Gathered, Group, identity_of, place_of
from twintrack.spool.claims import Claims, claim_key, project_tag
from twintrack.spool.kafka_message import Message
from twintrack.spool.kafka_verdicts import Decided, Refusal, Tally, Verdicts
from twintrack.spool.protocol import Chunk, Kind
from twintrack.spool.segment import Part, Record

_POSITION = b"position"
_COPIES = "\0copies"  # stands for a project where the index holds the ids of messages
# A message that waited in a fallback for longer may bring ids that the index has forgotten since.
_LATE_MILLISECONDS = 86_400_000


class Read(NamedTuple):
    offset: int
    message: Message


def split_ids(part: Part) -> list[bytes]:
    return [part.ids[i : i + 16] for i in range(0, len(part.ids), 16)]


class Partition:
    """Shape: `folder` is its index. Only the loader's thread calls it, except `holds`."""

    def __init__(self, number: int, folder: Path, index_bytes: int, verdicts: Verdicts) -> None:
        self.number = number
        self._verdicts = verdicts
        self._claims = Claims(folder, index_bytes)
        self.head = 0
        self.whole = False  # whether the index knows every id before `head` that is in the window
        self.waiting: deque[Read] = deque()
        self.rows_waiting = 0
        self.decided: dict[str, Decided] = {}  # chunks that are not loaded, oldest first
        self._contents: dict[str, bytes] = {}
        self._received = 0  # newest arrival that was decided, milliseconds

    def close(self) -> None:
        self._claims.close()

    # -- taking over ---------------------------------------------------------------------------------------------

    def adopt(self, fetch: Callable[[int, int], Iterator[Read]], low: int, most_messages: int, horizon: int) -> None:
        """Takes the partition as its last owner left it: head, open chunks, and an index of what is before.

        Shape: `low` is the oldest offset the topic keeps; ids received before `horizon` need not be known.
        """
        self.waiting.clear()
        self.rows_waiting = 0
        self._contents.clear()
        self.head = self._verdicts.head(self.number)
        self.decided = {one.chunk.chunk_id: one for one in self._verdicts.unsettled(self.number)}
        known, self.whole = self._position()
        if known > self.head:
            self._claims.discard()
            known, self.whole = 0, True
        open_from = min((one.first for one in self.decided.values()), default=self.head)
        start = max(known, low, open_from - most_messages)
        oldest: int | None = None
        batch: list[tuple[bytes, bool]] = []
        for offset, message in fetch(start, self.head) if start < self.head else ():
            oldest = message.record.received if oldest is None else oldest
            self._received = max(self._received, message.record.received)
            batch.append((claim_key(message.copy, _COPIES), False))
            batch += self._claims_of(message.record, offset >= open_from)
            if len(batch) > 50_000:
                self._claims.add(batch)
                batch = []
        for row in self._verdicts.quarantined(self.number):
            project, event_id = identity_of(row)
            batch.append((claim_key(event_id, project), event_id[6] >> 4 != 7))
        self._claims.add(batch)
        self.whole &= start <= known or (oldest is not None and oldest < horizon)
        self._set_position()

    @staticmethod
    def _claims_of(record: Record, is_open: bool) -> Iterator[tuple[bytes, bool]]:
        """What the index would hold of a message: late ids stay late until their chunk is loaded."""
        tag = project_tag(record.project)
        for part in record.parts:
            for event_id in split_ids(part):
                if is_open:
                    yield event_id + tag, part.late
                elif event_id[6] >> 4 == 7:
                    yield event_id + tag, False

    def _position(self) -> tuple[int, bool]:
        transaction, _ = self._claims.claim([])
        found = transaction.get(_POSITION)
        transaction.abort()
        if found is None:
            return 0, True
        offset, whole, received = map(int, bytes(found).split())
        self._received = max(self._received, received)
        return offset, bool(whole)

    def _set_position(self) -> None:
        transaction, _ = self._claims.claim([])
        transaction.put(_POSITION, self._mark(self.head))
        transaction.commit()

    def _mark(self, head: int) -> bytes:
        return b"%d %d %d" % (head, self.whole, self._received)

    def restore(self, keys: Iterable[tuple[bytes, bool]]) -> None:
        self._claims.add(keys)

    def restored(self) -> None:
        self.whole = True
        self._set_position()

    # -- deciding ------------------------------------------------------------------------------------------------

    def take(self, read: Read) -> bool:
        """Queues a message; False where it is before the head or was queued already."""
        if read.offset < self.next_offset():
            return False
        self.waiting.append(read)
        self.rows_waiting += max(1, sum(part.rows for part in read.message.record.parts))
        return True

    def next_offset(self) -> int:
        """The first offset that is neither decided nor queued."""
        waiting = self.waiting
        return waiting[-1].offset + 1 if waiting else self.head

    def oldest_waiting(self) -> int | None:
        """When the first message that is queued was received, milliseconds."""
        waiting = self.waiting
        return waiting[0].message.record.received if waiting else None

    def decide(self, most_rows: int) -> int:
        """Judges what is queued, up to that many rows; how many messages. Nothing of it may be open before.

        Raises: Overtaken where another loader judged it; what is queued must be read again.
        """
        reads, rows = [], 0
        for read in self.waiting:
            reads.append(read)
            rows += sum(part.rows for part in read.message.record.parts)
            if rows >= most_rows:
                break
        if not reads:
            return 0
        verdict = _Verdict(self.number, self.head, reads[-1].offset + 1)
        fresh = self._fresh(reads)
        late = {read.offset: not self.whole or self._delayed(read) for read in reads}
        wanted: list[tuple[list[bytes], bool]] = []
        for read in fresh:
            record, is_late = read.message.record, late[read.offset]
            tag = project_tag(record.project)
            wanted.append(([claim_key(read.message.copy, _COPIES)], False))
            wanted += [([i + tag for i in split_ids(p)], is_late or p.late) for p in record.parts]
        transaction, answers = self._claims.claim(wanted)
        try:
            verdicts = iter(answers)
            judged = {read.offset for read in fresh}
            for read in reads:
                if read.offset in judged:
                    next(verdicts)
                    verdict.judge(read.message.record, verdicts, late[read.offset])
                else:
                    verdict.skip(read.message.record)
            decided = verdict.finish()
            self._verdicts.decide(
                self.number, verdict.first, verdict.end, [d for d, _ in decided], verdict.counts, verdict.refusals
            )
            self._received = max(self._received, *(read.message.record.received for read in reads))
            transaction.put(_POSITION, self._mark(verdict.end))
        except BaseException:
            transaction.abort()
            raise
        transaction.commit()
        for one, content in decided:
            self.decided[one.chunk.chunk_id] = one
            self._contents[one.chunk.chunk_id] = content
        self.head = verdict.end
        for read in reads:
            self.waiting.popleft()
            self.rows_waiting -= max(1, sum(part.rows for part in read.message.record.parts))
        return len(reads)

    def _fresh(self, reads: list[Read]) -> list[Read]:
        """Without second copies: the same message sent twice, after a timeout or out of a fallback."""
        seen: set[bytes] = set()
        fresh = []
        for read in reads:
            copy = read.message.copy
            if copy not in seen and not self._claims.holds(UUID(bytes=copy), _COPIES):
                fresh.append(read)
            seen.add(copy)
        return fresh

    def _delayed(self, read: Read) -> bool:
        return read.message.record.received < self._received - _LATE_MILLISECONDS

    # -- settling ------------------------------------------------------------------------------------------------

    def content(self, chunk_id: str, fetch: Callable[[int, int], Iterator[Read]]) -> bytes:
        """The rows of a chunk: as judged, or read from the topic again and held against the verdict's hash."""
        content = self._contents.get(chunk_id)
        if content is None:
            one = self.decided[chunk_id]
            content = replay(one, (read.message.record for read in fetch(one.first, one.end)))
            self._contents[chunk_id] = content
        return content

    def replace(self, one: Decided, parts: list["Half"], counts: Counter[Tally], import_id: str = "") -> None:
        """Puts other chunks of the same rows in the place of one."""
        decided = [part.finish(one) for part in parts if part.gathered.rows]
        self._verdicts.replace(one.chunk.chunk_id, [d for d, _ in decided], counts, import_id)
        self.forget(one)
        for new, content in decided:
            self.decided[new.chunk.chunk_id] = new
            self._contents[new.chunk.chunk_id] = content

    def forget(self, one: Decided) -> None:
        self.decided.pop(one.chunk.chunk_id, None)
        self._contents.pop(one.chunk.chunk_id, None)

    def loaded(self, keys: Iterable[bytes]) -> None:
        """Late ids that the store has now."""
        self._claims.loaded(keys)

    def has_late(self) -> bool:
        return self._claims.has_late()

    def forget_older(self, window_milliseconds: int) -> None:
        self._claims.forget_older(self._received - window_milliseconds)

    def holds(self, event_id: UUID, project: str) -> bool:
        return self._claims.holds(event_id, project)


class _Verdict:
    """A range on its way to being decided: rows by group, with a mark for each row of the range."""

    def __init__(self, partition: int, first: int, end: int) -> None:
        self.partition, self.first, self.end = partition, first, end
        self.counts: Counter[Tally] = Counter()
        self.refusals: list[Refusal] = []
        self._rows = 0
        self._groups: dict[Group, tuple[Gathered, bytearray]] = {}

    def skip(self, record: Record) -> None:
        self._rows += sum(part.rows for part in record.parts)

    def judge(self, record: Record, verdicts: Iterator[list[bool]], late: bool) -> None:
        place = (record.project, record.environment)
        for fate, events in record.counts.items():
            outcome, _, reason = fate.partition("|")
            self.counts[(*place, outcome, reason)] += events
        self.refusals += [Refusal(i, record.project, s, r, record.received) for i, s, r in record.refused]
        for part in record.parts:
            free = next(verdicts)
            if part.kind == Kind.RECEIPTS.value:
                self._keep(Group(Kind.RECEIPTS, part.month, False, ""), record, part.lines, [True] * part.rows)
                continue
            fresh = sum(free)
            self.counts[(*place, "accepted", "")] += fresh
            self.counts[(*place, "duplicate", "already_accepted")] += part.rows - fresh
            lookup = late or part.late
            lines = part.lines
            if 0 < fresh < part.rows:
                lines = b"\n".join(line for line, new in zip(lines.split(b"\n"), free, strict=True) if new)
            self._keep(Group(Kind.EVENTS, part.month, lookup, record.import_id if lookup else ""), record, lines, free)

    def _keep(self, group: Group, record: Record, lines: bytes, marks: list[bool]) -> None:
        rows = sum(marks)
        if rows:
            gathered, kept = self._groups.setdefault(group, (Gathered(), bytearray()))
            kept.extend(bytes(self._rows - len(kept)))
            kept.extend(bytes(marks))
            gathered.add(lines, rows, (record.project, record.environment), record.received)
        self._rows += len(marks)

    def finish(self) -> list[tuple[Decided, bytes]]:
        return [
            _freeze(group, gathered, self.partition, self.first, self.end, bytes(kept.ljust(self._rows, b"\0")))
            for group, (gathered, kept) in self._groups.items()
        ]


class Half:
    """Some of the rows of a chunk, on their way into a chunk of their own."""

    def __init__(self, rows: int) -> None:
        self.gathered = Gathered()
        self._kept = bytearray(rows)

    def add(self, row: bytes, mark: int, received_milliseconds: int) -> None:
        self.gathered.add(row, 1, place_of(row), received_milliseconds)
        self._kept[mark] = 1

    def finish(self, whole: Decided) -> tuple[Decided, bytes]:
        chunk = whole.chunk
        group = Group(chunk.kind, chunk.month, False, chunk.import_id)
        return _freeze(group, self.gathered, whole.partition, whole.first, whole.end, bytes(self._kept))


def take_apart(one: Decided, content: bytes, into: int, choose: Callable[[int, bytes], int]) -> list[Half]:
    """The rows of a chunk, dealt out: `choose` says for each row, by number and content, where it goes, -1 for nowhere."""
    halves = [Half(len(one.kept)) for _ in range(into)]
    marks = (mark for mark, kept in enumerate(one.kept) if kept)
    for number, (row, mark) in enumerate(zip(content.split(b"\n"), marks, strict=True)):
        chosen = choose(number, row)
        if chosen >= 0:
            halves[chosen].add(row, mark, one.chunk.received_milliseconds)
    return halves


def _freeze(
    group: Group, gathered: Gathered, partition: int, first: int, end: int, kept: bytes
) -> tuple[Decided, bytes]:
    content = b"\n".join(gathered.lines)
    chunk_id = str(uuid4())
    chunk = Chunk(
        chunk_id,
        group.kind,
        group.month,
        gathered.rows,
        f"tt1:{chunk_id}:{hashlib.sha256(content).hexdigest()[:16]}",
        group.lookup,
        group.import_id,
        gathered.received_milliseconds,
    )
    return Decided(chunk, partition, first, end, kept, gathered.places), content


class TopicChanged(Exception):
    """The topic no longer holds what a verdict was about."""


def replay(one: Decided, records: Iterable[Record]) -> bytes:
    """The rows that a verdict keeps, out of the messages of its range.

    Raises: TopicChanged where they are not the rows that were decided.
    """
    lines, row = [], 0
    for record in records:
        for part in record.parts:
            marks = one.kept[row : row + part.rows]
            row += part.rows
            if all(marks):
                lines.append(part.lines)
            elif any(marks):
                lines.append(
                    b"\n".join(line for line, kept in zip(part.lines.split(b"\n"), marks, strict=True) if kept)
                )
    content = b"\n".join(lines)
    if not one.chunk.token.endswith(hashlib.sha256(content).hexdigest()[:16]):
        raise TopicChanged
    return content


def discard_indexes(folder: Path) -> None:
    """Forgets the indexes of a process that did not end well."""
    shutil.rmtree(folder, ignore_errors=True)
