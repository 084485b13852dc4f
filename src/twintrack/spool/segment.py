"""The log on disk: one file per epoch, records of length, CRC-32 and payload, read up to the first torn one.

A position is (epoch, offset). Each start opens a new epoch, so an offset is never used twice.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

MAGIC = b"TTLOG002"
_HEAD = struct.Struct("<II")
_LARGEST_RECORD_BYTES = 256 << 20


class Part(msgspec.Struct, array_like=True):
    """Rows of one request that may share a chunk: one table, one month, one way of settling."""

    kind: str
    month: int  # as 202601
    late: bool
    rows: int
    ids: bytes  # 16 bytes for each row; empty for receipts
    lines: bytes  # one row a line


class Record(msgspec.Struct, array_like=True):
    """One request: what it delivered and how each event was answered."""

    project: str
    environment: str
    received: int  # milliseconds since 1970
    import_id: str
    counts: dict[str, int]  # "status|reason" -> events
    parts: list[Part]
    refused: list[tuple[str, str, str]]

    def events(self) -> int:
        """How many events of it are new."""
        return sum(part.rows for part in self.parts if part.ids)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Position(NamedTuple):
    epoch: int
    offset: int


def encode_record(record: Record) -> bytes:
    payload = _encode(record)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def segment_path(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:010d}.log"


def epochs(folder: Path) -> list[int]:
    """Epochs that have a segment, oldest first."""
    return sorted(int(p.stem) for p in folder.glob("*.log"))


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create_segment(folder: Path, epoch: int) -> int:
    """A new, durable, empty segment; its file descriptor."""
    handle = os.open(segment_path(folder, epoch), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.write(handle, MAGIC)
    os.fsync(handle)
    sync_folder(folder)
    return handle


def write_all(handle: int, data: bytes) -> None:
    """Appends all of it, or raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def mark_end(folder: Path, epoch: int, offset: int) -> None:
    """Says durably where a segment ends; readers skip what stands behind it."""
    part = folder / f"{epoch:010d}.end.part"
    with part.open("w") as file:
        file.write(str(offset))
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / f"{epoch:010d}.end")
    sync_folder(folder)


def marked_end(folder: Path, epoch: int) -> int | None:
    path = folder / f"{epoch:010d}.end"
    return int(path.read_text()) if path.exists() else None


def remove_segment(folder: Path, epoch: int) -> None:
    segment_path(folder, epoch).unlink(missing_ok=True)
    (folder / f"{epoch:010d}.end").unlink(missing_ok=True)


def read_records(folder: Path, epoch: int, start: int, end: int | None) -> Iterator[tuple[int, Record]]:
    """Records of a segment between two offsets, each with the offset behind it.

    `end` None reads to the first record that is torn: behind a crash, nothing after it was acknowledged.
    """
    with segment_path(folder, epoch).open("rb") as file:
        offset = max(start, len(MAGIC))
        file.seek(offset)
        while end is None or offset < end:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            length, check = _HEAD.unpack(head)
            if length > _LARGEST_RECORD_BYTES:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != check:
                return
            offset += _HEAD.size + length
            yield offset, _decode(payload)
