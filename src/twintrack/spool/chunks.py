"""Chunk files: rows that are inserted together, always the same ones under the same token.

A chunk is one file of JSON arrays, a line each, under a token that holds a random id and the checksum of its rows. It
counts only once the ledger names it; a file that no ledger row names is the rest of a crash and is deleted at the
next start.
"""

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from twintrack.errors import ChunkDamaged
from twintrack.spool.protocol import Chunk, Kind
from twintrack.spool.segment import Record, sync_folder

_PUT_BACK = "put it back from a copy of the data folder; until then its events are counted as damaged"
_decode_start = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Group(NamedTuple):
    """Rows that may share a chunk: one table, one month, one way of settling."""

    kind: Kind
    month: int
    lookup: bool
    import_id: str


class Frozen(NamedTuple):
    """A written chunk with what the ledger keeps of it."""

    chunk: Chunk
    size_bytes: int
    places: Counter[tuple[str, str]]


def identity_of(row: bytes) -> tuple[str, bytes]:
    """(project, 16 bytes of event id) of a row; both kinds of rows start project, environment, event_id."""
    cells = _decode_start(row)
    return msgspec.json.decode(cells[0], type=str), msgspec.json.decode(cells[2], type=UUID).bytes


def place_of(row: bytes) -> tuple[str, str]:
    """(project, environment) of a row."""
    cells = _decode_start(row)
    return msgspec.json.decode(cells[0], type=str), msgspec.json.decode(cells[1], type=str)


class Gathered:
    """Rows on their way into one chunk: how many, whose, and since when."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.rows = 0
        self.places: Counter[tuple[str, str]] = Counter()  # (project, environment) to rows
        self.received_milliseconds = 1 << 62

    def add(self, lines: bytes, rows: int, place: tuple[str, str], received_milliseconds: int) -> None:
        self.lines.append(lines)
        self.rows += rows
        self.places[place] += rows
        self.received_milliseconds = min(self.received_milliseconds, received_milliseconds)


def gather(record: Record, groups: dict[Group, Gathered]) -> None:
    """Adds the rows of a record to their groups."""
    place = (record.project, record.environment)
    for part in record.parts:
        group = Group(Kind(part.kind), part.month, part.late, record.import_id if part.late else "")
        groups.setdefault(group, Gathered()).add(part.lines, part.rows, place, record.received)


def write(folder: Path, group: Group, gathered: Gathered) -> Frozen:
    """A durable chunk file. Not a chunk yet: the ledger must name it."""
    chunk_id = str(uuid4())
    content = b"\n".join(gathered.lines)
    token = f"tt1:{chunk_id}:{_digest(content)}"
    try:
        with path(folder, chunk_id).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path(folder, chunk_id).unlink(missing_ok=True)
        raise
    chunk = Chunk(
        chunk_id,
        group.kind,
        group.month,
        gathered.rows,
        token,
        group.lookup,
        group.import_id,
        gathered.received_milliseconds,
    )
    return Frozen(chunk, len(content), gathered.places)


def path(folder: Path, chunk_id: str) -> Path:
    return folder / f"{chunk_id}.rows"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def content(folder: Path, chunk: Chunk) -> bytes:
    """The rows as they were frozen: the token holds their checksum.

    Raises: ChunkDamaged when the file is gone or changed.
    """
    try:
        found = path(folder, chunk.chunk_id).read_bytes()
    except FileNotFoundError as error:
        raise ChunkDamaged(f"the file of chunk {chunk.chunk_id} is gone", hint=_PUT_BACK) from error
    if chunk.token.split(":")[2] != _digest(found):
        raise ChunkDamaged(f"the file of chunk {chunk.chunk_id} has changed on the disk", hint=_PUT_BACK)
    return found


def amended_token(chunk: Chunk, content: bytes) -> str:
    """The token of a chunk whose rows were taken out: of the new content, and never one that was used for it."""
    _, found, number = chunk.token.partition(":r")
    return next_token(f"tt1:{chunk.chunk_id}:{_digest(content)}{found}{number}")


def write_beside(folder: Path, chunk: Chunk, content: bytes) -> None:
    """Durably: what the chunk's file shall hold, beside it, until the ledger says so."""
    with _beside(folder, chunk.chunk_id).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def take_place(folder: Path, chunk: Chunk) -> None:
    """The amended file takes the chunk's place; the old bytes are gone."""
    _beside(folder, chunk.chunk_id).replace(path(folder, chunk.chunk_id))
    sync_folder(folder)


def settle_beside(folder: Path, named: dict[str, str]) -> None:
    """After a crash: an amended file that the ledger knows takes its place, any other one is deleted.

    Shape: `named` is the token of each chunk by its id.
    """
    for file in folder.glob("*.amended"):
        token = named.get(file.stem, "::")
        if token.split(":")[2] == _digest(file.read_bytes()):
            file.replace(path(folder, file.stem))
        else:
            file.unlink()
    sync_folder(folder)


def _beside(folder: Path, chunk_id: str) -> Path:
    return folder / f"{chunk_id}.amended"


def read(folder: Path, chunk: Chunk) -> list[bytes]:
    return content(folder, chunk).split(b"\n")


def next_token(token: str) -> str:
    """Another token for the same rows: `tt1:ID:HASH`, `tt1:ID:HASH:r1`, `tt1:ID:HASH:r2`."""
    head, found, number = token.partition(":r")
    return f"{head}:r{int(number) + 1 if found else 1}"


def remove_unnamed(folder: Path, named: set[str]) -> int:
    """Deletes files that no ledger row names; how many."""
    gone = 0
    for file in (*folder.glob("*.rows"), *folder.glob("*.amended")):
        if file.stem not in named:
            file.unlink()
            gone += 1
    if gone:
        sync_folder(folder)
    return gone
