"""A sealed spool keeps its promises, shows nothing, and takes over what stood there before it was sealed."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from tests.spool.kit import KEYS, delivery, fresh, killed, opened, rows_of, send
from twintrack.errors import ChunkDamaged, SealBroken
from twintrack.seal import DataKeys
from twintrack.spool.kafka.fallback import Fallback
from twintrack.spool.kafka.message import decode, delivery_id, split
from twintrack.spool.local import LocalSpool

MARKER = "marker-1729"


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def quarantine(spool: LocalSpool) -> None:
    """Has the store refuse everything that waits."""
    while spool.freeze():
        pass
    while pending := spool.pending():
        for chunk in pending:
            spool.bisect(chunk, "INCORRECT_DATA (117)")


def test_no_file_of_a_sealed_spool_shows_what_was_sent(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", keys=KEYS)
    ids = fresh(count=8)
    send(spool, ids[:4], text=MARKER)
    quarantine(spool)
    send(spool, ids[4:6], text=MARKER)
    assert rows_of(spool) == ids[4:6]
    send(spool, ids[6:], text=MARKER)  # the log's tail
    assert MARKER.encode() not in bytes_of(tmp_path)
    spool.close()
    again = opened(tmp_path / "spool", keys=KEYS)
    assert sorted(rows_of(again)) == sorted(ids[4:])
    assert sum(chunk.rows for chunk in again.replay()) == 4
    again.close()


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_sealing_that_is_switched_on_seals_what_is_there(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "a" / "spool"
    spool = opened(folder)
    ids = fresh(count=9)
    send(spool, ids[:3], text=MARKER)
    quarantine(spool)
    send(spool, ids[3:6], text=MARKER)
    rows_of(spool)
    send(spool, ids[6:], text=MARKER)
    assert MARKER.encode() in bytes_of(folder)
    if how == "killed":
        folder = killed(spool, folder, tmp_path / "b" / "spool")
    else:
        spool.close()
    again = opened(folder, keys=KEYS)
    assert MARKER.encode() not in bytes_of(folder)
    assert sorted(rows_of(again)) == sorted(ids[3:])
    assert send(again, ids) == [False] * 9
    assert sum(chunk.rows for chunk in again.replay()) == 3
    again.close()


def test_file_of_one_chunk_in_the_place_of_another_is_damage(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", keys=KEYS, chunk_rows=2)
    for _ in range(2):
        send(spool, fresh(count=2))
        spool.freeze()
    first, second = spool.pending()
    place = tmp_path / "spool" / "chunks"
    (place / f"{first.chunk_id}.rows").write_bytes((place / f"{second.chunk_id}.rows").read_bytes())
    with pytest.raises(ChunkDamaged, match="does not open"):
        spool.content(first)
    assert spool.content(second)
    spool.close()


def test_segments_of_an_older_data_key_are_read_beside_those_of_a_new_one(tmp_path: Path) -> None:
    """A kill leaves sealed segments behind; the data key was changed meanwhile."""
    spool = opened(tmp_path / "a" / "spool", keys=KEYS)
    ids = fresh(count=4)
    send(spool, ids[:2])
    folder = killed(spool, tmp_path / "a" / "spool", tmp_path / "b" / "spool")
    both = DataKeys(lambda: {7: bytes(range(32)), 8: bytes(range(1, 33))})
    again = opened(folder, keys=both)
    send(again, ids[2:])
    assert sorted(rows_of(again)) == sorted(ids)
    again.close()


def test_fallback_of_a_topic_keeps_sealed_messages(tmp_path: Path) -> None:
    fallback = Fallback(tmp_path / "fallback", 1 << 20)
    ids = fresh(count=5)
    messages = split(delivery(ids, text=MARKER), delivery_id(0, bytes(8)), "ledger", 2, KEYS)
    asyncio.run(fallback.append(messages))
    assert MARKER.encode() not in bytes_of(tmp_path)
    kept = [decode(one.value, KEYS) for number in fallback.segments() for one in fallback.read(number)]
    rows = [part for message in kept for part in message.record.parts]
    assert sum(part.rows for part in rows) == 5 and all(MARKER.encode() in part.lines for part in rows)
    with pytest.raises(msgspec.DecodeError):
        decode(messages[0].value)
    with pytest.raises(SealBroken):
        decode(messages[0].value[:-1] + b"x", KEYS)
    fallback.close()
