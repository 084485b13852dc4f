"""After the machine went down: which chunks the store really has.

The engine syncs its parts and never its log of tokens, so behind a power cut a token may be remembered whose rows are
gone (a retry would lose them), or forgotten whose rows are there (a retry would double them). Each row carries its
chunk's id, so counting says what is true; then no chunk goes in again under a token that was used before.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import structlog

from twintrack.errors import StoreUnavailable
from twintrack.spool.protocol import Chunk, Kind, Spool
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

log = structlog.get_logger()


class Action(StrEnum):
    KEEP = "keep"  # all of it is there
    SETTLE = "settle"  # all of it is there, and nobody had been told
    INSERT = "insert"  # none of it is there
    REPLACE = "replace"  # some of it is there, or too much


class Decision(NamedTuple):
    action: Action
    stale: bool  # whether the rollups of its month may say something else than raw


def decide(chunk: Chunk, found: int, *, loaded: bool) -> Decision:
    """What to do with a chunk of which the store holds so many rows. Pure.

    An insert that was acknowledged had synced its rollups too; of one that was not, and of one that has lost rows,
    rollups may have more or less than raw. Receipts have no rollups and replace each other by key: where one is
    missing, or was replaced by another chunk's, all go in again.
    """
    if chunk.kind is Kind.RECEIPTS:
        whole = found >= chunk.rows
        return Decision((Action.KEEP if loaded else Action.SETTLE) if whole else Action.INSERT, False)
    if found == chunk.rows:
        return Decision(Action.KEEP, False) if loaded else Decision(Action.SETTLE, True)
    return Decision(Action.REPLACE if found else Action.INSERT, True)


def reconcile(spool: Spool, store: Store) -> None:
    """Compares every chunk whose file is still there with the store. May be cut short and run again.

    Raises: StoreError.
    """
    wait_for_deletions(store)
    maybe, loaded = spool.in_grace()
    again: list[Chunk] = []
    settle: list[Chunk] = []
    replace: list[Chunk] = []
    months: set[int] = set()
    known = {chunk.chunk_id for chunk in loaded}
    for kind in Kind:
        ours = [chunk for chunk in (*maybe, *loaded) if chunk.kind is kind]
        found = rows_of(store, ours)
        for chunk in ours:
            decision = decide(chunk, found.get(chunk.chunk_id, 0), loaded=chunk.chunk_id in known)
            if decision.stale:
                months.add(chunk.month)
            if decision.action is Action.SETTLE:
                settle.append(chunk)
            elif decision.action is not Action.KEEP:
                again.append(chunk)
            if decision.action is Action.REPLACE:
                replace.append(chunk)
    remove_rows(store, replace)
    spool.reinsert(again, months | {0} if months else ())
    for chunk in settle:
        spool.loaded(chunk)
    spool.reconciled()
    log.info("reconciled", kept=len(loaded) + len(maybe) - len(again) - len(settle), again=len(again))


def rows_of(store: Store, chunks: Iterable[Chunk]) -> dict[str, int]:
    """How many rows the store has of each chunk of one kind. Raises: StoreError."""
    wanted = list(chunks)
    found: dict[str, int] = {}
    for start in range(0, len(wanted), 1000):
        part = wanted[start : start + 1000]
        column = "date" if part[0].kind is Kind.EVENTS else "at"
        answer = store.select(
            f"SELECT toString(chunk_id), count() FROM {DATABASE}.{part[0].kind.value}"
            f" WHERE toYYYYMM({column}) IN ({', '.join(sorted({str(c.month) for c in part}))})"
            f" AND chunk_id IN ({_ids(part)}) GROUP BY chunk_id"
        )
        found.update((chunk_id, rows) for chunk_id, rows in answer.rows)
    return found


def wait_for_deletions(store: Store) -> None:
    """A deletion whose answer was lost goes on in the store, and a count of its rows would be wrong a moment later.

    Raises: StoreUnavailable while one goes on; StoreError.
    """
    asked = f"SELECT count() FROM system.mutations WHERE database = '{DATABASE}' AND table = 'events' AND NOT is_done"
    if store.select(asked).rows[0][0]:
        raise StoreUnavailable(
            "rows are still being deleted in the store", hint="loading goes on after that; see system.mutations"
        )


def remove_rows(store: Store, chunks: Iterable[Chunk]) -> None:
    """Deletes the rows of chunks of events. Raises: StoreError."""
    by_month: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        by_month.setdefault(chunk.month, []).append(chunk)
    for month, part in by_month.items():
        store.command(
            f"ALTER TABLE {DATABASE}.events DELETE IN PARTITION {month} WHERE chunk_id IN ({_ids(part)})"
            " SETTINGS mutations_sync = 2"
        )


def _ids(chunks: Iterable[Chunk]) -> str:
    return ", ".join(f"'{chunk.chunk_id}'" for chunk in chunks)
