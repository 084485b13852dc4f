"""Rows of a topic's chunks as anybody may read them: out of the control data where they are kept there, else out of the
topic, by a reader of its own, since the loader's is at work."""

import contextlib
from collections.abc import Iterator
from uuid import UUID

import msgspec
import structlog

from twintrack.errors import ChunkDamaged, SealBroken, TwintrackError, Unavailable
from twintrack.seal import DataKeys
from twintrack.spool.chunks import identity_of
from twintrack.spool.kafka.broker import Broker, Reader
from twintrack.spool.kafka.ledger import Hushed, Overtaken, Verdicts
from twintrack.spool.kafka.message import Message, decode
from twintrack.spool.kafka.partition import Fetch, Read, content_of
from twintrack.spool.kafka.verdict import kept
from twintrack.spool.protocol import Chunk, Kind
from twintrack.spool.segment import Record

log = structlog.get_logger()


def rows(ledger: Verdicts, broker: Broker, keys: DataKeys | None, *states: str) -> Iterator[tuple[str, Kind, bytes]]:
    """Rows in quarantine, and of what is decided and not loaded, as far as they can be read."""
    for one in ledger.decided("quarantined") if "quarantined" in states else ():
        with contextlib.suppress(ChunkDamaged):
            yield from (("quarantined", one.chunk.kind, row) for row in kept(one).split(b"\n"))
    waiting = ledger.decided("open") if "frozen" in states else []
    if waiting:
        with contextlib.closing(broker.reader()) as reader:
            for one in waiting:
                with contextlib.suppress(ChunkDamaged, Unavailable):
                    content = content_of(one, fetch(reader, one.partition, keys))
                    yield from (("frozen", one.chunk.kind, row) for row in content.split(b"\n"))


def unreadable(ledger: Verdicts, broker: Broker, keys: DataKeys | None) -> dict[str, TwintrackError]:
    """Chunks of all loaders that are open, in quarantine or damaged, and cannot be fetched."""
    faults: dict[str, TwintrackError] = {}
    away: Unavailable | None = None
    with contextlib.closing(broker.reader()) as reader:
        for one in ledger.decided("open", "quarantined", "damaged"):
            try:
                if not one.content:
                    if away is not None:
                        raise away
                    reader.oldest(one.partition)  # a broker that is away is found out sooner than by reading
                content_of(one, fetch(reader, one.partition, keys))
            except (ChunkDamaged, Unavailable) as error:
                faults[one.chunk.chunk_id] = error
                away = error if isinstance(error, Unavailable) else away
    return faults


def put_back(ledger: Verdicts, event_id: UUID | None) -> list[Chunk]:
    """Opens quarantined chunks again, or the one with an id; which.

    What was kept of a row and has changed since stays where it is: `unreadable` names it. Raises: Unavailable.
    """
    back = []
    for one in ledger.decided("quarantined"):
        with contextlib.suppress(ChunkDamaged, Overtaken):
            found = [identity_of(row)[1] for row in kept(one).split(b"\n")]
            if event_id is None or event_id.bytes in found:
                try:
                    ledger.replay(one)
                except Hushed as error:
                    raise Unavailable(
                        "rows are being taken out of the store just now", hint="ask again in some seconds"
                    ) from error
                back.append(one.chunk)
    return back


def fetch(reader: Reader, number: int, keys: DataKeys | None) -> Fetch:
    return lambda first, end: (read(number, offset, value, keys) for offset, value in reader.fetch(number, first, end))


def read(partition: int, offset: int, value: bytes, keys: DataKeys | None) -> Read:
    """A message as sent; where it is none of ours, one that holds nothing: it must not stop the others."""
    try:
        return Read(offset, decode(value, keys))
    except (msgspec.DecodeError, SealBroken):
        log.error("message_not_ours", partition=partition, offset=offset)
        return Read(offset, Message("", b"", Record("", "", 0, "", {}, [], [])))
