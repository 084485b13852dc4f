"""Chunk files: rows that are inserted together, always the same ones under the same token.

A chunk is one file of JSON arrays, a line each, under a token that holds a random id and the checksum of its rows. It
counts only once the ledger names it; a file that no ledger row names is the rest of a crash and is deleted at the
next start.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from twintrack.errors import ChunkDamaged, SealBroken
from twintrack.seal import DataKeys, is_sealed
from twintrack.spool.protocol import Chunk, Kind
from twintrack.spool.segment import Record, sync_folder

_PUT_BACK = "put it back from a copy of the data folder; until then its events are counted as damaged"
_UNFINISHED = ".sealing"
_decode_start = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Group(NamedTuple):
    """Rows that may share a chunk: one table, one month, one way of settling."""

    kind: Kind
    month: int
    lookup: bool
    import_id: str


class Folder(NamedTuple):
    """Where chunk files stand, and the keys they are sealed by; None where they are not."""

    path: Path
    keys: DataKeys | None = None


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


def write(folder: Folder, group: Group, gathered: Gathered) -> Frozen:
    """A durable chunk file. Not a chunk yet: the ledger must name it."""
    chunk_id = str(uuid4())
    content = b"\n".join(gathered.lines)
    token = f"tt1:{chunk_id}:{_digest(content)}"
    try:
        with path(folder, chunk_id).open("xb") as file:
            file.writelines(_sealed(folder, chunk_id, content))
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


def path(folder: Folder, chunk_id: str) -> Path:
    return folder.path / f"{chunk_id}.rows"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _sealed(folder: Folder, chunk_id: str, content: bytes) -> Iterable[bytes]:
    """Pieces, as they are written."""
    return (content,) if folder.keys is None else folder.keys.seal_large(content, chunk_id)


def opened(folder: Folder, chunk_id: str, found: bytes) -> bytes:
    """What a file holds. Raises: SealBroken."""
    return found if folder.keys is None else folder.keys.open(found, chunk_id)


def content(folder: Folder, chunk: Chunk) -> bytes:
    """The rows as they were frozen: the token holds their checksum.

    Raises: ChunkDamaged when the file is gone or changed.
    """
    if amended(folder, chunk.chunk_id).exists():
        _settle_amendment(folder, chunk)
    try:
        found = path(folder, chunk.chunk_id).read_bytes()
    except FileNotFoundError as error:
        raise ChunkDamaged(f"the file of chunk {chunk.chunk_id} is gone", hint=_PUT_BACK) from error
    try:
        found = opened(folder, chunk.chunk_id, found)
    except SealBroken as error:
        raise ChunkDamaged(f"the file of chunk {chunk.chunk_id} does not open", hint=_PUT_BACK) from error
    if chunk.token.split(":")[2] != _digest(found):
        raise ChunkDamaged(f"the file of chunk {chunk.chunk_id} has changed on the disk", hint=_PUT_BACK)
    return found


def amended(folder: Folder, chunk_id: str) -> Path:
    """Where a chunk's file lies that shall take the place of the present one, once the ledger says so."""
    return folder.path / f"{chunk_id}.amended"


def write_amendment(folder: Folder, chunk: Chunk, lines: list[bytes]) -> tuple[int, str]:
    """A durable file beside the chunk's own; its size and a token for it that was never used before.

    It counts once the ledger has that token, and takes its place at the next reading.
    """
    content = b"\n".join(lines)
    with amended(folder, chunk.chunk_id).open("wb") as file:
        file.writelines(_sealed(folder, chunk.chunk_id, content))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder.path)
    head, chunk_id, _, *number = next_token(chunk.token).split(":")
    return len(content), ":".join([head, chunk_id, _digest(content), *number])


def _settle_amendment(folder: Folder, chunk: Chunk) -> bool:
    """Puts an amendment in place where the ledger names it; whether it does."""
    file = amended(folder, chunk.chunk_id)
    try:
        found = opened(folder, chunk.chunk_id, file.read_bytes())
    except (SealBroken, FileNotFoundError):
        return False  # cut short by a crash, or another reader has just put it in place
    if _digest(found) != chunk.token.split(":")[2]:
        return False  # the ledger may be about to name it
    os.replace(file, path(folder, chunk.chunk_id))
    sync_folder(folder.path)
    return True


def settle_amendments(folder: Folder, named: Iterable[Chunk]) -> None:
    """At the start: what the ledger names takes its place, the rest of a crash is deleted."""
    for chunk in named:
        file = amended(folder, chunk.chunk_id)
        if file.exists() and not _settle_amendment(folder, chunk):
            file.unlink()


def read(folder: Folder, chunk: Chunk) -> list[bytes]:
    return content(folder, chunk).split(b"\n")


def next_token(token: str) -> str:
    """Another token for the same rows: `tt1:ID:HASH`, `tt1:ID:HASH:r1`, `tt1:ID:HASH:r2`."""
    head, found, number = token.partition(":r")
    return f"{head}:r{int(number) + 1 if found else 1}"


def remove_unnamed(folder: Folder, named: set[str]) -> int:
    """Deletes files that no ledger row names; how many."""
    gone = 0
    for file in folder.path.iterdir():
        if file.suffix == _UNFINISHED or (file.suffix in (".rows", ".amended") and file.stem not in named):
            file.unlink()
            gone += 1
    if gone:
        sync_folder(folder.path)
    return gone


def seal_plain(folder: Folder) -> int:
    """Seals files that were written before sealing was switched on; how many. A crash in between leaves either form."""
    assert folder.keys is not None
    sealed = 0
    for file in folder.path.glob("*.rows"):
        with file.open("rb") as found:
            if is_sealed(found.read(16)):
                continue
        beside = file.with_suffix(_UNFINISHED)
        with beside.open("wb") as made:
            made.writelines(folder.keys.seal_large(file.read_bytes(), file.stem))
            made.flush()
            os.fsync(made.fileno())
        beside.replace(file)
        sealed += 1
    if sealed:
        sync_folder(folder.path)
    return sealed
