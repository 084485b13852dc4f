"""Chunk files: rows that are inserted together, always the same ones under the same token.

A chunk is one file of JSON arrays, a line each. It counts only once the ledger names it; a file that no ledger
row names is the rest of a crash and is deleted at the next start.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from twintrack.clock import instant
from twintrack.spool.protocol import Chunk, Kind
from twintrack.spool.segment import Record, sync_folder

_decode_start = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Group(NamedTuple):
    """Rows that may share a chunk: one table, one month, one way of settling."""

    kind: Kind
    month: int
    lookup: bool
    import_id: str


_months: dict[int, int] = {}


def month_of(milliseconds: int) -> int:
    """202601 for an instant of January 2026, UTC."""
    day = milliseconds // 86_400_000
    month = _months.get(day)
    if month is None:
        moment = instant(milliseconds)
        month = moment.year * 100 + moment.month
        if len(_months) > 10_000:
            _months.clear()
        _months[day] = month
    return month


def identity_of(row: bytes) -> tuple[str, bytes]:
    """(project, 16 bytes of event id) of a row; both kinds of rows start project, environment, event_id."""
    cells = _decode_start(row)
    return msgspec.json.decode(cells[0], type=str), msgspec.json.decode(cells[2], type=UUID).bytes


def environment_of(row: bytes) -> str:
    return msgspec.json.decode(_decode_start(row)[1], type=str)


def place_of(row: bytes) -> tuple[str, str]:
    """(project, environment) of a row, read from its first two cells alone: this runs once for each stored row."""
    end = row.index(b'","', row.index(b'","') + 3)
    project, environment = msgspec.json.decode(row[:end] + b'"]', type=tuple[str, str])
    return project, environment


def gather(record: Record, groups: dict[Group, list[tuple[int, bytes]]]) -> None:
    """Adds the rows of a record to their groups, each with the time it was received."""
    received = record.received
    for event in record.events:
        group = Group(Kind.EVENTS, event.month, event.late, record.import_id if event.late else "")
        groups.setdefault(group, []).append((received, event.body))
    for milliseconds, body in record.receipts:
        groups.setdefault(Group(Kind.RECEIPTS, month_of(milliseconds), False, ""), []).append((received, body))


def write(folder: Path, group: Group, rows: list[bytes], received_milliseconds: int) -> tuple[Chunk, int]:
    """A durable chunk file and its size in bytes. Not a chunk yet: the ledger must name it."""
    chunk_id = str(uuid4())
    content = b"\n".join(rows)
    token = f"tt1:{chunk_id}:{hashlib.sha256(content).hexdigest()[:16]}"
    with path(folder, chunk_id).open("xb") as file:
        file.write(content)
        file.flush()
        os.fdatasync(file.fileno())
    chunk = Chunk(
        chunk_id, group.kind, group.month, len(rows), token, group.lookup, group.import_id, received_milliseconds
    )
    return chunk, len(content)


def path(folder: Path, chunk_id: str) -> Path:
    return folder / f"{chunk_id}.rows"


def read(folder: Path, chunk_id: str) -> list[bytes]:
    return path(folder, chunk_id).read_bytes().split(b"\n")


def remove_unnamed(folder: Path, named: set[str]) -> int:
    """Deletes files that no ledger row names; how many."""
    gone = 0
    for file in folder.glob("*.rows"):
        if file.stem not in named:
            file.unlink()
            gone += 1
    if gone:
        sync_folder(folder)
    return gone
