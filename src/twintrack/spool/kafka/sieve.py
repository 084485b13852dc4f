"""What is taken out of messages when they are judged: a topic cannot be rewritten, so what waits in it is looked at when
it is read.

Events of people who were erased while they were on their way, and events that are past their deadline by now. It is
decided once, with the verdict: whoever takes a partition over replays what was decided, whatever holds by then.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from twintrack.control.retention import NONE, Lifetimes, Policies
from twintrack.control.tombstones import Marks
from twintrack.spool.claims import split_ids
from twintrack.spool.erase import link_of, may_be_erased, told
from twintrack.spool.protocol import Kind, TakenLink
from twintrack.spool.segment import Part, Record

# What the door saw so short a time ago has passed what holds now; a pass over the store takes what has expired since. A
# message that waited longer, in a fallback say, may be older than a tombstone that came late for a time before.
_FRESH_MILLISECONDS = 60_000
ERASED = "erased"  # the kind of a part whose rows are gone already: ids alone
_FATES = {"erased": "topic", "expired": "retention"}


class Rights(Protocol):
    """What holds for people and projects, as the control data say it."""

    def tombstones(self, project: str) -> Marks | None: ...

    def known_tombstones(self, *, now: bool = False) -> int: ...

    def policies(self) -> Policies: ...


class Sieve(NamedTuple):
    marks_of: Callable[[str], Marks | None]
    policies: Policies
    known_tombstones: int | None  # how many it judges by; None where nobody asks
    now_milliseconds: int

    @classmethod
    def of(cls, rights: Rights, now_milliseconds: int, *, anew: bool = False) -> "Sieve":
        """By what is known now, at most a second old."""
        known = rights.known_tombstones(now=anew)  # before any of them is asked: what comes later only adds
        return cls(rights.tombstones, rights.policies(), known, now_milliseconds)

    def taken(self, record: Record, part: Part, links: set[TakenLink]) -> list[str] | None:
        """For each row the outcome that takes it out, empty where it stays; None where all stay.

        Adds the links of erased people to `links`.
        """
        if part.kind == ERASED:
            return ["erased"] * part.rows
        waited = record.received <= self.now_milliseconds - _FRESH_MILLISECONDS
        marks = self.marks_of(record.project)
        if marks is not None and not (waited or may_be_erased(record, marks)):
            marks = None
        lives = self.policies.of(record.project) if waited and not record.import_id else None
        if part.kind != Kind.EVENTS or (marks is None and lives is None):
            return None
        return [self._fate(line, marks, lives, links) for line in part.lines.split(b"\n")]

    def sifted(self, record: Record, links: set[TakenLink]) -> Record:
        """The record with the rows of erased people gone, their ids in parts of their own, where they are counted."""
        parts: list[Part] = []
        for part in record.parts:
            taken = self.taken(record, part, links) if part.kind == Kind.EVENTS else None
            if taken is None or not any(taken):
                parts.append(part)
                continue
            rows = list(zip(taken, split_ids(part.ids), part.lines.split(b"\n"), strict=True))
            kept = [(event_id, line) for outcome, event_id, line in rows if not outcome]
            gone = b"".join(event_id for outcome, event_id, _ in rows if outcome)
            if kept:
                ids, lines = b"".join(one for one, _ in kept), b"\n".join(line for _, line in kept)
                parts.append(part._replace(rows=len(kept), ids=ids, lines=lines))
            parts.append(part._replace(kind=ERASED, rows=len(gone) // 16, ids=gone, lines=b""))
        return record._replace(parts=parts)

    def _fate(self, line: bytes, marks: Marks | None, lives: Lifetimes | None, links: set[TakenLink]) -> str:
        row = told(line)
        if marks is not None and marks.covers(row.environment, row.user_id, row.anonymous_id, row.moment):
            links |= link_of(row)
            return "erased"
        if lives is not None:
            name = msgspec.json.decode(row.event_name, type=str)
            if lives.expired(name, int(row.event_timestamp), self.now_milliseconds // 1000):
                return "expired"
        return ""


NOBODY = Sieve(lambda _: None, NONE, None, 0)


def reason_of(outcome: str) -> str:
    """Under which reason it is counted."""
    return _FATES[outcome]
