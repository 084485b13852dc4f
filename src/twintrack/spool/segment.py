"""The log on disk: one file per epoch. A header, then records of two checked parts each.

    header  magic, salt, the epoch before this one and where that one ended, CRC-32
    record  mark, lengths, CRC-32 of head and of body, head (tenancy, counts, shapes), body (ids, lines, refusals)

A position is (epoch, offset, events of the epoch before it). Each start and each failed write opens a new epoch, whose
header says durably where the one before ended: what a failed write left behind that is never read.

Every checksum starts from the segment's random salt and the record's place, so that no sender can put bytes into an
event that read as a record. A reader that meets a broken record looks for the next whole one: only the broken one is
lost, and since each head counts the events before it, how many they were is known.

A sealed segment's magic holds the number of its data key, and each of its bodies is sealed: head and place are bound in.
Its checksums are those of the sealed bytes, so that a torn tail is told as in a segment that is not sealed.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from twintrack.errors import SealBroken
from twintrack.seal import Cipher, DataKeys

_MAGIC = b"TTLOG003"
_SEALED_MAGIC = b"TTLS"  # and four bytes of number
_HEADER = struct.Struct("<8s8sQQQI")
HEADER_BYTES = 2 * _HEADER.size  # written twice: without its salt nothing of a segment could be read
_MARK = b"\xf7\x9c\x00\xe5"  # no UTF-8 and no msgpack that we write
_HEAD = struct.Struct("<4sIIII")
_LARGEST_PART_BYTES = 256 << 20


class Part(NamedTuple):
    """Rows of one request that may share a chunk: one table, one month, one way of settling."""

    kind: str
    month: int  # as 202601
    late: bool
    rows: int
    ids: bytes  # 16 bytes for each row; empty for receipts
    lines: bytes  # one row a line


class Record(NamedTuple):
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


class Position(NamedTuple):
    epoch: int
    offset: int
    events: int = 0  # new events of the epoch that stand before it


class Damage(NamedTuple):
    """A record that cannot be read any more: its counts and no rows. Where its head is gone too, whose it was is unknown."""

    events: int  # new events that are lost with it
    record: Record


def _unknown(events: int) -> Damage:
    return Damage(events, Record("", "", 0, "", {"accepted|": events}, [], []))


class _Head(msgspec.Struct, array_like=True):
    project: str
    environment: str
    received: int
    import_id: str
    counts: dict[str, int]
    shapes: list[tuple[str, int, bool, int, bool]]  # kind, month, late, rows, has ids
    before: int  # new events of the epoch before this record
    synced: int  # everything before this offset was on disk when this record was written


class _Body(msgspec.Struct, array_like=True):
    parts: list[tuple[bytes, bytes]]
    refused: list[tuple[str, str, str]]


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_body = msgspec.msgpack.Decoder(_Body).decode


class Binding(NamedTuple):
    """What all of a segment's checks start from: its salt, and its cipher where it is sealed."""

    salt: bytes
    cipher: Cipher | None = None


class Opened(NamedTuple):
    """What a segment's header says."""

    binding: Binding
    before: Position  # the end of the epoch before; epoch 0 where there was none


def encode_records(records: list[Record], binding: Binding, end: Position) -> tuple[bytes, Position]:
    """The bytes that follow `end`, a synced place, and the place behind them."""
    pieces: list[bytes] = []
    offset, before = end.offset, end.events
    for record in records:
        shapes = [(p.kind, p.month, p.late, p.rows, bool(p.ids)) for p in record.parts]
        head = _encode(_Head(*record[:5], shapes, before, end.offset))
        body = _encode(_Body([(p.ids, p.lines) for p in record.parts], record.refused))
        if binding.cipher is not None:
            body = binding.cipher.seal(offset, body, head)
        seed = _seed(binding.salt, offset)
        body_check = zlib.crc32(body, seed)
        head_check = zlib.crc32(head, zlib.crc32(struct.pack("<III", len(head), len(body), body_check), seed))
        pieces += (_HEAD.pack(_MARK, len(head), len(body), head_check, body_check), head, body)
        offset += _HEAD.size + len(head) + len(body)
        before += record.events()
    return b"".join(pieces), Position(end.epoch, offset, before)


def _seed(salt: bytes, offset: int) -> int:
    return zlib.crc32(salt + offset.to_bytes(8, "little"))


def segment_path(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:010d}.log"


def epochs(folder: Path) -> list[int]:
    """Epochs that have a segment, oldest first."""
    return sorted(int(p.stem) for p in folder.glob("*.log") if p.stem.isdigit())


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create_segment(folder: Path, epoch: int, before: Position, keys: DataKeys | None = None) -> tuple[int, Binding]:
    """A new, durable, empty segment; its file descriptor and what its records are bound to.

    From now on `before` is where the last one ends.
    """
    path, salt = segment_path(folder, epoch), os.urandom(8)
    magic = _MAGIC if keys is None else _SEALED_MAGIC + keys.newest.to_bytes(4, "big")
    fields = (magic, salt, before.epoch, before.offset, before.events)
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        write_all(handle, 2 * _HEADER.pack(*fields, zlib.crc32(_HEADER.pack(*fields, 0)[:-4])))
        os.fsync(handle)
        sync_folder(folder)
    except BaseException:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    return handle, Binding(salt, _cipher(keys, magic, salt, epoch))


def read_header(folder: Path, epoch: int, keys: DataKeys | None = None) -> Opened | None:
    """What a segment begins with; None where its making was cut short, so that nothing can stand in it.

    Raises: SealBroken where it is sealed by a key that is not there.
    """
    with segment_path(folder, epoch).open("rb") as file:
        data = file.read(HEADER_BYTES)
    for copy in (data[: _HEADER.size], data[_HEADER.size :]):
        if len(copy) == _HEADER.size and zlib.crc32(copy[:-4]) == int.from_bytes(copy[-4:], "little"):
            magic, salt, epoch_before, offset, events, _ = _HEADER.unpack(copy)
            if magic != _MAGIC and magic[:4] != _SEALED_MAGIC:
                return None
            binding = Binding(salt, _cipher(keys, magic, salt, epoch))
            return Opened(binding, Position(epoch_before, offset, events))
    return None


def _cipher(keys: DataKeys | None, magic: bytes, salt: bytes, epoch: int) -> Cipher | None:
    if magic == _MAGIC:
        return None
    if keys is None:
        raise SealBroken(f"log segment {epoch} is sealed, and there is no key")
    return keys.cipher(int.from_bytes(magic[4:], "big"), salt + epoch.to_bytes(8, "big"))


def write_all(handle: int, data: bytes) -> None:
    """Appends all of it, or raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def remove_segment(folder: Path, epoch: int) -> None:
    segment_path(folder, epoch).unlink(missing_ok=True)


class _Whole(NamedTuple):
    """A record as it stands in the file: the offset behind it, its head, and its body where that can be read."""

    end: int
    head: _Head
    body: _Body | None


def read_records(
    folder: Path, epoch: int, start: Position, end: Position | None, keys: DataKeys | None = None
) -> Iterator[tuple[Position, Record | Damage]]:
    """Records of a segment from a place on, each with the place behind it.

    With an `end` everything before it was acknowledged, and what cannot be read of it comes as `Damage`. Without one
    the segment is the rest of a crash: a broken record is damage only where a later one says that it had been synced;
    else it is the torn tail of a group that nobody was told about, and reading ends.
    """
    opened = read_header(folder, epoch, keys)
    if opened is None:
        # The header is gone, and with it the salt: nothing of the segment can be told from noise.
        if end is not None and end.events > start.events:
            yield end, _unknown(end.events - start.events)
        return
    path, binding = segment_path(folder, epoch), opened.binding
    offset, events = max(start.offset, HEADER_BYTES), start.events
    with path.open("rb") as file:
        file.seek(offset)
        while end is None or offset < end.offset:
            whole = _read(file.read, binding, offset)
            if whole is None:
                found = _resync(path, binding, offset, end)
                if found is None:
                    if end is not None and end.events > events:
                        yield end, _unknown(end.events - events)
                    return
                offset, before = found
                if before > events:
                    yield Position(epoch, offset, before), _unknown(before - events)
                events = before
                file.seek(offset)
                continue
            if whole.body is None and end is None and not _synced_later(path, binding, offset, whole.end):
                return
            offset = whole.end
            record = _record(whole)
            lost = sum(rows for *_, rows, has_ids in whole.head.shapes if has_ids) if whole.body is None else 0
            events = whole.head.before + (record.events() or lost)
            yield Position(epoch, offset, events), record if whole.body is not None else Damage(lost, record)


def _read(read: Callable[[int], bytes], binding: Binding, offset: int) -> _Whole | None:
    """The record at an offset; None where there is none that can be read."""
    raw = read(_HEAD.size)
    if len(raw) < _HEAD.size:
        return None
    mark, head_bytes, body_bytes, head_check, body_check = _HEAD.unpack(raw)
    if mark != _MARK or head_bytes > _LARGEST_PART_BYTES or body_bytes > _LARGEST_PART_BYTES:
        return None
    seed = _seed(binding.salt, offset)
    raw_head = read(head_bytes)
    if zlib.crc32(raw_head, zlib.crc32(struct.pack("<III", head_bytes, body_bytes, body_check), seed)) != head_check:
        return None
    raw_body = read(body_bytes)
    whole = len(raw_body) == body_bytes and zlib.crc32(raw_body, seed) == body_check
    end = offset + _HEAD.size + head_bytes + body_bytes
    if whole and binding.cipher is not None:
        try:
            raw_body = binding.cipher.open(offset, raw_body, raw_head)
        except SealBroken:
            whole = False
    return _Whole(end, _decode_head(raw_head), _decode_body(raw_body) if whole else None)


def _record(whole: _Whole) -> Record:
    head, body = whole.head, whole.body
    parts = []
    if body is not None:
        parts = [
            Part(kind, month, late, rows, ids, lines)
            for (kind, month, late, rows, _), (ids, lines) in zip(head.shapes, body.parts, strict=True)
        ]
    refused = body.refused if body is not None else []
    return Record(head.project, head.environment, head.received, head.import_id, head.counts, parts, refused)


def _later(path: Path, binding: Binding, start: int, end: int | None) -> Iterator[tuple[int, _Whole]]:
    """Records that stand somewhere behind an offset, found by their mark and proved by their checksum."""
    data = path.read_bytes()[:end]
    found = data.find(_MARK, start)
    while found >= 0:
        place = [found]

        def read(size: int, place: list[int] = place) -> bytes:
            place[0] += size
            return data[place[0] - size : place[0]]

        whole = _read(read, binding, found)
        if whole is not None:
            yield found, whole
        found = data.find(_MARK, found + 1)


def _resync(path: Path, binding: Binding, offset: int, end: Position | None) -> tuple[int, int] | None:
    """Where the next record stands, and how many events of the epoch stand before it."""
    for found, whole in _later(path, binding, offset + 1, end.offset if end else None):
        if end is not None or whole.head.synced > offset or _synced_later(path, binding, offset, whole.end):
            return found, whole.head.before
        return None
    return None


def _synced_later(path: Path, binding: Binding, offset: int, start: int) -> bool:
    """Whether a record behind `start` says that what stands at `offset` was on disk before it."""
    return any(whole.head.synced > offset for _, whole in _later(path, binding, start, None))
