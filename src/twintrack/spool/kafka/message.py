"""What one message of the topic holds: the part of a delivery whose ids meet in one partition.

An id's partition is a pure function of (project, event id), so all copies of an id are judged by one loader at a
time. A delivery of a hundred events is one message for each partition, not a hundred.
Next: spool/kafka/spool.py sends them, spool/kafka/partition.py judges them.
"""

import zlib
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import msgspec

from twintrack.errors import SealBroken
from twintrack.seal import DataKeys
from twintrack.spool.protocol import Delivery, Kind, Slab
from twintrack.spool.segment import Part, Record

# Brokers take messages of up to 1 MiB by default; an event has at most 128 KiB.
_MOST_BYTES = 512 << 10
_MOST_REFUSED = 4_000


class Message(msgspec.Struct, array_like=True):
    ledger: str  # of the control data whose loaders may judge it
    copy: bytes  # 16 bytes: the delivery's UUIDv7 and which piece of it this is; the message's key too
    record: Record


class Outgoing(NamedTuple):
    """A message on its way; sent again with the same key and bytes, it counts nowhere."""

    partition: int
    key: bytes
    value: bytes
    events: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
_BOUND = "message"


def decode(value: bytes, keys: DataKeys | None = None) -> Message:
    """Raises: msgspec.DecodeError; SealBroken for what is sealed and was altered, or by a key that nobody has."""
    return _decode(keys.open(value, _BOUND) if keys is not None else value)


def sifted(message: Outgoing, change: Callable[[Record], Record], keys: DataKeys | None) -> Outgoing:
    """A message that was not sent yet, with another record under the same key; as it is where it cannot be read."""
    try:
        found = decode(message.value, keys)
    except (msgspec.DecodeError, SealBroken):
        return message
    record = change(found.record)
    if record == found.record:
        return message
    value = _encode(Message(found.ledger, found.copy, record))
    return message._replace(value=keys.seal(value, _BOUND) if keys is not None else value)


def delivery_id(milliseconds: int, random: bytes) -> bytes:
    """A UUIDv7 whose last two bytes are 0: they number the pieces. Source: RFC 9562 section 5.7."""
    number = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(random[:8], "big") << 16
    number = number & ~(0xF << 76) | 7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62).bytes


def partition_of(event_id: bytes, project: str, partitions: int) -> int:
    """Where all copies of an id meet. Never change it: they would no longer."""
    return zlib.crc32(event_id, _check(project)) % partitions


@lru_cache(maxsize=1024)
def _check(project: str) -> int:
    return zlib.crc32(project.encode())


def split(
    delivery: Delivery, delivery_id: bytes, ledger: str, partitions: int, keys: DataKeys | None = None
) -> list[Outgoing]:
    """The messages of a delivery: its events by partition, then what it refused and its receipts."""
    check = _check(delivery.tenancy.project)
    pieces: list[tuple[int, list[Part]]] = []
    sizes: dict[int, int] = {}
    latest: dict[int, list[Part]] = {}
    for slab in delivery.slabs:
        for number, part in _parts(slab, check, partitions):
            size = sizes.get(number, _MOST_BYTES) + len(part.lines)
            if size > _MOST_BYTES:
                latest[number] = []
                pieces.append((number, latest[number]))
                size = len(part.lines)
            latest[number].append(part)
            sizes[number] = size
    records = [(number, _record(delivery, {}, parts, [])) for number, parts in pieces]
    records += [(zlib.crc32(delivery_id) % partitions, record) for record in _door(delivery)]
    outgoing = []
    for piece, (number, record) in enumerate(records):
        key = delivery_id[:14] + piece.to_bytes(2, "big")
        value = _encode(Message(ledger, key, record))
        if keys is not None:
            value = keys.seal(value, _BOUND)
        outgoing.append(Outgoing(number, key, value, record.events()))
    return outgoing


def _parts(slab: Slab, check: int, partitions: int) -> list[tuple[int, Part]]:
    """The rows of a slab by partition, in pieces that fit into a message."""
    if partitions == 1 and len(slab.lines) <= _MOST_BYTES:
        return [(0, _part(slab, slab.ids, slab.lines))]
    groups: dict[int, tuple[list[bytes], list[bytes]]] = {}
    for event_id, line in zip(slab.ids, slab.lines.split(b"\n"), strict=True):
        number = zlib.crc32(event_id, check) % partitions
        if number not in groups:
            groups[number] = ([], [])
        ids, lines = groups[number]
        ids.append(event_id)
        lines.append(line)
    parts = []
    for number, (ids, lines) in groups.items():
        start = size = 0
        for index, line in enumerate(lines):
            size += len(line) + 1
            if size > _MOST_BYTES:
                parts.append((number, _part(slab, ids[start:index], b"\n".join(lines[start:index]))))
                start, size = index, len(line) + 1
        parts.append((number, _part(slab, ids[start:], b"\n".join(lines[start:]))))
    return parts


def _part(slab: Slab, ids: list[bytes], lines: bytes) -> Part:
    return Part(Kind.EVENTS.value, slab.month, not slab.recent, len(ids), b"".join(ids), lines)


def _door(delivery: Delivery) -> list[Record]:
    """What was decided at the door already, counted once a delivery also when it stores nothing."""
    receipts = [Part(Kind.RECEIPTS.value, month, False, 1, b"", row) for month, row in delivery.receipts]
    records = []
    for start in range(0, len(delivery.refused), _MOST_REFUSED):
        refused = delivery.refused[start : start + _MOST_REFUSED]
        counts = Counter(f"{one.status}|{one.reason}" for one in refused)
        names = [(one.event_id, one.status, one.reason) for one in refused if one.event_id]
        records.append(_record(delivery, dict(counts), [], names))
    for start in range(0, len(receipts), _MOST_REFUSED // 4):
        records.append(_record(delivery, {}, receipts[start : start + _MOST_REFUSED // 4], []))
    return records


def _record(
    delivery: Delivery, counts: dict[str, int], parts: list[Part], refused: list[tuple[str, str, str]]
) -> Record:
    place = delivery.tenancy
    return Record(
        place.project, place.environment, delivery.received_milliseconds, delivery.import_id, counts, parts, refused
    )
