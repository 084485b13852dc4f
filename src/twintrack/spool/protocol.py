"""What the two halves share: ingest appends, load takes chunks. Everything else about the spool is its own.

Promises: when `append` returns, the batch is on disk; each (project, event id) is accepted once; chunks are
frozen before their first insert and never decided again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from twintrack.errors import TwintrackError
from twintrack.event import Tenancy


class Kind(StrEnum):
    """Which table the rows of a record or chunk belong to."""

    EVENTS = "events"
    RECEIPTS = "receipts"


class Slab(NamedTuple):
    """Events of one request that passed the pipeline and share a month and a way of settling.

    Shape: `lines` holds one JSON array a line, in column order without the chunk, as many as `ids`.
    """

    month: int  # as 202601, of the events' own time
    recent: bool  # the door remembers these ids; else the store is asked before their chunk is frozen
    ids: list[bytes]  # 16 bytes each
    lines: bytes


class Refused(NamedTuple):
    """One event that did not, kept for a while so that "where is my event?" has an answer."""

    event_id: str
    status: str
    reason: str


class Delivery(NamedTuple):
    """One decoded request: everything that must be durable before it is answered."""

    tenancy: Tenancy
    received_milliseconds: int
    slabs: list[Slab]
    refused: list[Refused]
    receipts: list[tuple[int, bytes]]  # (month, row)
    import_id: str = ""


class TakenLink(NamedTuple):
    """Both ids of an event that was taken out before the store had it: whose anonymous id it was is known by it alone."""

    project: str
    environment: str
    anonymous_id: str
    user_id: str
    at: float  # seconds since 1970


class Chunk(NamedTuple):
    """A frozen insert: same rows, same token, however often it is tried."""

    chunk_id: str
    kind: Kind
    month: int
    rows: int
    token: str
    lookup: bool  # its ids must be asked for in the store first
    import_id: str
    received_milliseconds: int  # of its oldest row


class Depth(NamedTuple):
    """How much is accepted and not yet in the store."""

    events: int
    bytes: int
    oldest_milliseconds: int | None


class Sizes(NamedTuple):
    """What the spool takes of the disk."""

    log_bytes: int  # not frozen yet
    chunk_bytes: int  # waiting for the store, quarantined ones included
    quarantine_bytes: int
    index_entries: int
    index_bytes: int


class Spool(Protocol):
    async def append(self, delivery: Delivery) -> list[bool]:
        """Makes the delivery durable; for each event of its slabs, in order, whether it is new.

        Raises: Unavailable when nothing of it was kept; the sender may retry.
        """
        ...

    def freeze(self) -> int:
        """Freezes what the log holds beyond the last chunk; how many records it read. One caller at a time."""
        ...

    def pending(self) -> list[Chunk]:
        """Chunks that are not loaded, oldest first."""
        ...

    def content(self, chunk: Chunk) -> bytes:
        """The rows of a chunk, in order, a line each: a JSON array in column order without the chunk.

        Raises: ChunkDamaged when they are not what was frozen.
        """
        ...

    def settle_lookup(self, chunk: Chunk, found: set[tuple[str, bytes]]) -> None:
        """Drops the rows whose (project, id) the store already had and freezes the rest, in one step."""
        ...

    def bisect(self, chunk: Chunk, why: str) -> None:
        """Replaces a chunk that the store refuses by its halves; a single row goes to quarantine.

        Shape: `why` is the engine's code and its name, such as `INCORRECT_DATA (117)`; never words about the row.
        """
        ...

    def damaged(self, chunk: Chunk) -> None:
        """Gives up a chunk whose rows cannot be read as they were frozen; they are counted as damaged."""
        ...

    def loaded(self, chunk: Chunk) -> None:
        """Remembers durably that the store has the chunk."""
        ...

    def identities(self, chunk: Chunk) -> list[tuple[str, bytes]]:
        """(project, 16 bytes of event id) of each row of a chunk."""
        ...

    def wait(self, seconds: float) -> bool:
        """Waits until there is something to freeze, or that long; whether there is."""
        ...

    def wake(self) -> None:
        """Ends a `wait` at once."""
        ...

    def last_call(self) -> None:
        """The loader stops: ends a `wait` for good, and from now on freezes only what nobody else can load."""
        ...

    @property
    def rebuilding(self) -> bool:
        """Whether the index of ids lacks what the store holds, after the machine went down."""
        ...

    def begin_restore(self) -> int:
        """The store is about to be read; ids born since when are wanted, milliseconds."""
        ...

    def restore(self, ids: Iterable[tuple[str, bytes]]) -> None:
        """Claims (project, id) pairs that the store holds."""
        ...

    def restored(self) -> None:
        """The store has been read to its end."""
        ...

    @property
    def reconciling(self) -> bool:
        """Whether chunks must be compared with the store, because the machine went down since they were inserted."""
        ...

    def in_grace(self) -> tuple[list[Chunk], list[Chunk]]:
        """Chunks that may be in the store and chunks that are, as far as their files are still there."""
        ...

    def reinsert(self, again: Iterable[Chunk], months: Iterable[int]) -> None:
        """Has chunks inserted again under other tokens, and the rollups of months made again from raw."""
        ...

    def suspect(self) -> None:
        """Durably: before the next insert, of this process or the next one, chunks are compared with the store."""
        ...

    def reconciled(self) -> None:
        """The comparison is done; not before the next boot again."""
        ...

    def stale_months(self) -> list[int]:
        """Months whose rollups must be made again from raw; 0 stands for the rollups that have no months."""
        ...

    def leads(self) -> bool:
        """Whether this loader is the one that erases, expires and makes rollups again; of several there is one."""
        ...

    def quiet(self) -> bool:
        """Whether no insert of any loader is in doubt, and none begins before `release`: only then are rows counted and
        months made again. Where others are at work they are asked to wait, and it is so a little later."""
        ...

    def release(self) -> None:
        """The others may go on."""
        ...

    def led(self) -> bool:
        """Whether any loader has led within the last minute."""
        ...

    def month_rebuilt(self, month: int) -> None: ...

    @property
    def erasing(self) -> bool:
        """Whether rows of a person are being deleted from the store."""
        ...

    def complete_since(self) -> dict[str, int]:
        """From when on, in milliseconds since 1970, raw has every event of a project; others have lost none."""
        ...

    @property
    def removals(self) -> "Removals":
        """What retention does to this spool."""
        ...

    def sweep(self) -> None:
        """Deletes what has outlived its use."""
        ...

    def depth(self) -> Depth: ...


class Removals(Protocol):
    """Rows that expire leave chunk files, manifests and counts. Called by the loader, when no insert is in doubt."""

    def version(self) -> int:
        """Of the policies whose deadlines the rows carry, months that are still to be rewritten aside."""
        ...

    def begin_rewrite(self, version: int, months: Iterable[int]) -> None: ...

    def rewrites(self) -> list[int]:
        """Months whose rows carry the deadlines of earlier policies."""
        ...

    def rewritten(self, month: int) -> None: ...

    def begin(
        self,
        month: int,
        until_seconds: int,
        gone: Mapping[tuple[str, str], int],
        complete: Mapping[str, int],
        amended: Iterable[str],
        change: Callable[[bytes], bytes | None],
    ) -> None:
        """Durably, in one step: rows of a month count as expired, watermarks rise, manifests lose these rows.

        Shape: `gone` are rows of the store by (project, environment), `complete` watermarks in milliseconds by project,
        `amended` the chunks whose manifests lose some, `change` says of a row what is left of it.
        """
        ...

    def pending(self) -> dict[int, int]:
        """Months whose expired rows are counted as gone and may still be in the store; until when, seconds."""
        ...

    def done(self, month: int) -> None:
        """The store has none of these rows any more."""
        ...

    def in_grace(self, month: int) -> list[str]:
        """Chunks of events of a month that are in the store and whose files are still there."""
        ...

    def renew(self) -> None:
        """Ends the file that is appended to: what was appended before leaves the disk once it is frozen."""
        ...

    def expire_held(self, until_month: int, change: Callable[[bytes], bytes | None]) -> int:
        """Takes expired rows out of what the store never had; how many events went."""
        ...

    def amend(self, amended: Iterable[str], change: Callable[[bytes], bytes | None]) -> None:
        """Changes rows in the files of chunks that are in the store; none of them goes."""
        ...


class Fates(Protocol):
    """What a spool remembers of chunks, of events that went no further, and of imports."""

    def chunks(self, *states: str) -> list[Chunk]:
        """Chunks by what became of them, oldest first: `quarantined`, `damaged`, or `loaded` and not yet forgotten."""
        ...

    def check(self) -> str:
        """What the database that keeps all this says of itself; `ok` when it is whole."""
        ...

    def complete_since(self) -> dict[str, int]:
        """By project, since when raw has every event, milliseconds; a project is missing where nothing was removed."""
        ...

    def refusal(self, event_id: str, project: str) -> tuple[str, str, int] | None:
        """(status, reason, received) of the last refusal of an id."""
        ...

    def import_counts(self, import_id: str) -> tuple[int, int]:
        """(found in the store, loaded) of one import."""
        ...


class WholeSpool(Spool, Protocol):
    """A spool as the composition root and those who look at it see it."""

    @property
    def ledger(self) -> Fates: ...

    def why_not_ready(self) -> str:
        """Why no event can be accepted durably now; empty where it can."""
        ...

    def tallies(self) -> dict[tuple[str, str, str, str], int]:
        """Events by (project, environment, outcome, reason) since the spool was made."""
        ...

    def sizes(self) -> Sizes:
        """What it takes of this node's disk, and what stands in quarantine."""
        ...

    def holds(self, event_id: UUID, project: str) -> bool:
        """Whether the id was accepted and is remembered here."""
        ...

    def quarantined(self, event_id: UUID, project: str) -> bool: ...

    def replay(self, event_id: UUID | None = None) -> list[Chunk]:
        """Puts quarantined chunks back, or the one with an id; which. They are looked up and loaded like any other.

        Called from any thread, and on any node: whoever loads takes them up.
        """
        ...

    def unreadable(self) -> dict[str, TwintrackError]:
        """Chunks that still matter and whose rows cannot be read as they were frozen, by id, and why each cannot.

        Shape: ChunkDamaged where they are gone or changed, Unavailable where nobody can tell now.
        """
        ...

    def rows(self, *states: str) -> Iterator[tuple[str, Kind, bytes]]:
        """Rows of chunks in these states, as far as they can be read: (state, kind, row)."""
        ...

    def waiting_for(self, import_id: str) -> bool:
        """Whether anything of an import is not settled."""
        ...

    def close(self) -> None:
        """Ends after the loader."""
        ...

    # -- a person's rows are taken out ---------------------------------------------------------------------------

    def fence(self) -> Callable[[], bool]:
        """Whether all that was appended before this call, by any node, is in the store or settled otherwise.

        Raises: Unavailable, also when it is called.
        """
        ...

    def renew(self) -> None:
        """Ends the file that is appended to, so that what was appended before can leave the disk. Raises: Unavailable."""
        ...

    def passed(self) -> bool:
        """Whether all that was appended before the last `renew` is in chunks, and its files are gone; of a topic, whether
        it is settled. Raises: Unavailable."""
        ...

    def remains(self) -> dict[str, Any]:
        """What stays of it where nothing can be taken out, and for how long; `words` says it."""
        ...

    def remove(self, gone: Callable[[Kind, bytes], bool], names: Iterable[str]) -> Counter[str]:
        """Takes rows out of every chunk's file and manifest, in one step for each; how many, by the chunk's state.

        No insert may be in doubt. `names` are identifiers whose files go where they cannot be read any more.
        """
        ...

    def plan_erasure(self, request: str, events: dict[tuple[str, str], int]) -> None:
        """Before rows are deleted from the store: how many, by (project, environment)."""
        ...

    def settle_erasure(self, request: str, months: Iterable[int]) -> int:
        """They are deleted: what was planned moves from stored to erased, once, and rollups of these months are
        made again; how many events."""
        ...

    def erased_ids(self) -> list[tuple[str, bytes]]:
        """(project, event id) of events that were taken out of log and chunks, until they are forgotten."""
        ...

    def forget_erased(self, identities: Iterable[tuple[str, bytes]]) -> None: ...

    def taken_links(self) -> list[TakenLink]:
        """Links of events that were taken out, until they are forgotten."""
        ...

    def forget_links(self, links: Iterable[TakenLink]) -> None: ...
