"""One partition of a topic in the hands of its loaders, without a broker: what they read is given to them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

from tests.spool.kit import delivery, fresh
from twintrack.errors import ChunkDamaged
from twintrack.spool.kafka.ledger import Verdicts
from twintrack.spool.kafka.message import decode, split
from twintrack.spool.kafka.partition import Partition, Read

HEAD = 1  # behind the only message


def forgotten(first: int, end: int) -> Iterator[Read]:
    raise ChunkDamaged("the topic no longer holds these offsets")


def adopted(folder: Path, verdicts: Verdicts, low: int = HEAD) -> Partition:
    """A loader that takes the partition over, of which the topic holds nothing before the head."""
    partition = Partition(0, folder, 16 << 20, verdicts)
    partition.adopt(forgotten, low, 100, 0)
    return partition


def test_row_that_came_out_of_quarantine_outlives_the_topic_through_each_hand_over(tmp_path: Path) -> None:
    verdicts = Verdicts(f"sqlite:///{tmp_path / 'control.db'}", "events")
    ledger, _ = verdicts.open(1)
    ids = fresh()
    with closing(adopted(tmp_path / "first", verdicts)) as first:
        (message,) = split(delivery(ids), bytes(16), ledger, 1)
        first.take(Read(0, decode(message.value)))
        assert first.decide(100) == 1
        (one,) = first.decided.values()
        row = first.content(one.chunk.chunk_id, forgotten)
        first.bisect(one, row, "refused", 0)
    (one,) = verdicts.decided("quarantined")
    verdicts.replay(one)
    assert verdicts.put_back([0]) == verdicts.decided("open")
    with closing(adopted(tmp_path / "second", verdicts)) as second:
        (one,) = second.decided.values()
        assert one.chunk.lookup and second.content(one.chunk.chunk_id, forgotten) == row
        assert second.holds(ids[0], "demo")
        second.settle_lookup(one, row, set())
    with closing(adopted(tmp_path / "third", verdicts)) as third:
        (again,) = third.decided.values()
        assert again.chunk.token != one.chunk.token and not again.chunk.lookup
        assert third.content(again.chunk.chunk_id, forgotten) == row
        third.loaded(again, [], 0)
    assert verdicts.put_back([0]) == verdicts.decided("open", "quarantined") == []
    place = ("demo", "local")
    expected = {(*place, "accepted", ""): 1, (*place, "stored", ""): 1}
    assert +Counter(verdicts.tallies()) == expected
    verdicts.close()


def test_loaders_that_start_at_once_on_a_new_database_all_come_up(tmp_path: Path) -> None:
    barrier = Barrier(8)

    def begin(_: int) -> None:
        barrier.wait(30)
        Verdicts(f"sqlite:///{tmp_path / 'control.db'}", "events").close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(begin, range(8))) == [None] * 8
