"""What was decided about a range of offsets: which rows are kept, in which chunks, and what is counted.

A verdict is made once, by the partition's loader, and is in the control data before the first insert. It names the rows
by a byte each and holds their hash, so that whoever takes over makes the same chunk of the same messages again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from uuid import uuid4

from twintrack.errors import ChunkDamaged
from twintrack.spool.chunks import Gathered, Group, place_of
from twintrack.spool.claims import split_ids
from twintrack.spool.kafka.sieve import Sieve, reason_of
from twintrack.spool.protocol import Chunk, Kind, TakenLink
from twintrack.spool.segment import Part, Record

Place = tuple[str, str]  # project, environment
Tally = tuple[str, str, str, str]  # project, environment, outcome, reason


class Decided(NamedTuple):
    """A chunk with where its rows stand in the topic."""

    chunk: Chunk
    partition: int
    first: int
    end: int
    kept: bytes  # a byte for each row of the range
    places: Counter[Place]
    content: bytes = b""  # of a row that was in quarantine: by now the topic may have forgotten it

    def counted(self, outcome: str, reason: str) -> Counter[Tally]:
        """Its events in an outcome; receipts stand outside the balance."""
        if self.chunk.kind is not Kind.EVENTS:
            return Counter()
        return Counter({(*place, outcome, reason): rows for place, rows in self.places.items()})


class Refusal(NamedTuple):
    event_id: str
    project: str
    status: str
    reason: str
    received_milliseconds: int


class Verdict:
    """A range on its way to being decided: rows by group, with a mark for each row of the range."""

    def __init__(self, partition: int, first: int, end: int, sieve: Sieve) -> None:
        self.partition, self.first, self.end, self._sieve = partition, first, end, sieve
        self.erased: list[tuple[str, bytes]] = []  # (project, event id) of events whose person was erased
        self.links: set[TakenLink] = set()  # that erased people had
        self.never_late: list[tuple[str, bytes]] = []  # of events that would have been looked up and were taken out
        self.counts: Counter[Tally] = Counter()
        self.refusals: list[Refusal] = []
        self._rows = 0
        self._groups: dict[Group, tuple[Gathered, bytearray]] = {}

    def skip(self, record: Record) -> None:
        self._rows += sum(part.rows for part in record.parts)

    def judge(self, record: Record, answers: Iterator[tuple[list[bool], bool]]) -> None:
        """Counts a message and keeps its rows whose ids were free. Shape: for each part (free, must be looked up)."""
        place = (record.project, record.environment)
        for fate, events in record.counts.items():
            outcome, _, reason = fate.partition("|")
            self.counts[(*place, outcome, reason)] += events
        self.refusals += [Refusal(i, record.project, s, r, record.received) for i, s, r in record.refused]
        for part in record.parts:
            free, lookup = next(answers)
            if part.kind == Kind.RECEIPTS.value:
                self._keep(Group(Kind.RECEIPTS, part.month, False, ""), record, part.lines, [True] * part.rows)
                continue
            fresh = sum(free)
            self.counts[(*place, "accepted", "")] += fresh
            self.counts[(*place, "duplicate", "already_accepted")] += part.rows - fresh
            kept = self._sift(record, part, free, late=lookup)
            lines = part.lines
            if 0 < sum(kept) < part.rows:
                lines = b"\n".join(line for line, stays in zip(lines.split(b"\n"), kept, strict=True) if stays)
            self._keep(Group(Kind.EVENTS, part.month, lookup, record.import_id if lookup else ""), record, lines, kept)

    def _sift(self, record: Record, part: Part, free: list[bool], *, late: bool) -> list[bool]:
        """Which new rows stay; the others are counted as what takes them out."""
        taken = self._sieve.taken(record, part, self.links)
        if taken is None:
            return free
        for event_id, new, outcome in zip(split_ids(part.ids), free, taken, strict=True):
            if new and outcome:
                self.counts[(record.project, record.environment, outcome, reason_of(outcome))] += 1
                if outcome == "erased":
                    self.erased.append((record.project, event_id))
                if late:
                    self.never_late.append((record.project, event_id))
        return [new and not outcome for new, outcome in zip(free, taken, strict=True)]

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
            freeze(group, gathered, self.partition, self.first, self.end, bytes(kept.ljust(self._rows, b"\0")))
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
        one, content = freeze(group, self.gathered, whole.partition, whole.first, whole.end, bytes(self._kept))
        return one._replace(content=content if whole.content else b""), content


def take_apart(one: Decided, content: bytes, into: int, choose: Callable[[int, bytes], int]) -> list[Half]:
    """The rows of a chunk, dealt out: `choose` says for each row, by number and content, where it goes, -1 for nowhere."""
    halves = [Half(len(one.kept)) for _ in range(into)]
    marks = (mark for mark, kept in enumerate(one.kept) if kept)
    for number, (row, mark) in enumerate(zip(content.split(b"\n"), marks, strict=True)):
        chosen = choose(number, row)
        if chosen >= 0:
            halves[chosen].add(row, mark, one.chunk.received_milliseconds)
    return halves


def freeze(
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


def replay(one: Decided, records: Iterable[Record]) -> bytes:
    """The rows that a verdict keeps, out of the messages of its range.

    Raises: ChunkDamaged where they are not the rows that were decided.
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
    if not _is_of(one, content):
        raise ChunkDamaged(
            f"the topic has other rows than chunk {one.chunk.chunk_id} was made of",
            hint="docs/operations/kafka.md says what the topic must keep",
        )
    return content


def kept(one: Decided) -> bytes:
    """The rows of a chunk that the control data keep. Raises: ChunkDamaged where they are not those that were decided."""
    if not _is_of(one, one.content):
        raise ChunkDamaged(
            f"the control data have other rows than chunk {one.chunk.chunk_id} was made of",
            hint="put the control database back from a backup that is not older than the topic's last verdict",
        )
    return one.content


def _is_of(one: Decided, content: bytes) -> bool:
    return one.chunk.token.split(":")[2] == hashlib.sha256(content).hexdigest()[:16]
