"""What a topic cannot give back is taken out when it is read, once, and counted; a verdict that was made stays as it is."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from tests.spool.kit import MONTH, PLACE, fresh
from tests.spool.test_erase import ANN, NOW, SECRET, row
from tests.spool.test_partition import adopted
from twintrack.control.retention import NONE, Policies, policies_of
from twintrack.control.tombstones import Marks, Tombstone, subject_hash, tombstones, write
from twintrack.control.upgrade import make_tables
from twintrack.spool.chunks import identity_of
from twintrack.spool.kafka.fence import remains
from twintrack.spool.kafka.ledger import Outdated, Verdicts
from twintrack.spool.kafka.message import Outgoing, decode, sifted, split
from twintrack.spool.kafka.partition import Partition, Read
from twintrack.spool.kafka.sieve import Sieve
from twintrack.spool.protocol import Delivery, Slab

DAY = 86_400_000
WHERE = ("demo", "local")


class Topic(NamedTuple):
    partition: Partition
    verdicts: Verdicts
    ledger: str

    def take(self, ids: list[UUID], *users: str, **more: float) -> Outgoing:
        message = self.message(ids, *users, **more)
        self.read(message)
        return message

    def message(self, ids: list[UUID], *users: str, at: float = NOW / 1000, recent: bool = True) -> Outgoing:
        lines = b"\n".join(row(i, user, at) for i, user in zip(ids, users, strict=True))
        slab = Slab(MONTH, recent, [i.bytes for i in ids], lines)
        (message,) = split(Delivery(PLACE, NOW, [slab], [], []), fresh()[0].bytes, self.ledger, 1)
        return message

    def read(self, message: Outgoing) -> None:
        assert self.partition.take(Read(self.partition.next_offset(), decode(message.value)))

    def decided(self) -> list[bytes]:
        """Ids of what is to be inserted."""
        chunks = self.partition.decided.values()
        rows = [line for one in chunks for line in self.partition._contents[one.chunk.chunk_id].split(b"\n")]
        return [identity_of(line)[1] for line in rows]

    def tallies(self) -> dict[tuple[str, str, str, str], int]:
        return dict(+Counter(self.verdicts.tallies()))


@pytest.fixture
def topic(tmp_path: Path) -> Iterator[Topic]:
    verdicts = Verdicts(f"sqlite:///{tmp_path / 'control.db'}", "events")
    ledger, _ = verdicts.open(1)
    with closing(verdicts), closing(adopted(tmp_path / "index", verdicts, 0)) as partition:
        yield Topic(partition, verdicts, ledger)


def by(marks: Marks | None = None, policies: Policies = NONE, now: int = NOW) -> Sieve:
    return Sieve(lambda _: marks, policies, None, now)


def test_event_of_who_was_erased_meanwhile_is_no_row_and_counted_once(topic: Topic) -> None:
    ids = fresh(count=4)
    topic.take(ids[:3], "ann", "bob", "ann")
    topic.take([ids[3]], "ann", at=NOW / 1000 + 1)  # happened after the request
    assert topic.partition.decide(100, by(ANN)) == 2
    assert topic.decided() == [ids[1].bytes, ids[3].bytes]
    assert topic.tallies() == {(*WHERE, "accepted", ""): 4, (*WHERE, "erased", "topic"): 2}
    topic.take([ids[0]], "ann")  # a copy: its id is remembered
    for one in list(topic.partition.decided.values()):
        topic.partition.loaded(one, [], 0)
    topic.partition.decide(100, by(ANN))
    assert topic.tallies()[(*WHERE, "duplicate", "already_accepted")] == 1
    assert topic.tallies()[(*WHERE, "erased", "topic")] == 2


def test_late_event_of_who_was_erased_is_not_looked_up(topic: Topic) -> None:
    ids = fresh(count=2)
    topic.take(ids, "ann", "ann", recent=False)
    topic.partition.decide(100, by(ANN))
    assert topic.decided() == [] and not topic.partition.has_late()
    assert topic.tallies() == {(*WHERE, "accepted", ""): 2, (*WHERE, "erased", "topic"): 2}


def test_message_that_waited_is_judged_by_a_tombstone_for_a_time_before_it_was_received(topic: Topic) -> None:
    """An anonymous id is known as the person's only when what came before the request is loaded."""
    hour = 3_600_000
    earlier = Marks(SECRET, [Tombstone("demo", "", "user", subject_hash(SECRET, "ann"), NOW - hour)])
    ids = fresh(count=2)
    topic.take([ids[0]], "ann", at=(NOW - 2 * hour) / 1000)
    assert topic.partition.decide(100, by(earlier)) == 1  # just received: the door knew the tombstone
    assert topic.decided() == [ids[0].bytes]
    topic.take([ids[1]], "ann", at=(NOW - 2 * hour) / 1000)
    topic.partition.decide(100, by(earlier, now=NOW + hour))
    assert topic.tallies()[(*WHERE, "erased", "topic")] == 1 and topic.decided() == [ids[0].bytes]


def test_verdict_from_before_a_tombstone_is_replayed_as_it_was(topic: Topic, tmp_path: Path) -> None:
    ids = fresh(count=2)
    message = topic.take(ids, "ann", "bob")
    topic.partition.decide(100, by(None))
    (one,) = topic.partition.decided.values()
    before = topic.partition.content(one.chunk.chunk_id, lambda *_: iter(()))

    def again(first: int, end: int) -> Iterator[Read]:
        assert (first, end) == (0, 1)
        yield Read(0, decode(message.value))

    with closing(Partition(0, tmp_path / "other", 16 << 20, topic.verdicts)) as taken_over:
        taken_over.adopt(again, 0, 100, 0)
        assert taken_over.content(one.chunk.chunk_id, again) == before
    assert topic.verdicts.open_before({0: 1})  # so what an erasure counts in the store waits for it
    topic.partition.loaded(one, [], 0)
    assert not topic.verdicts.open_before({0: 1}) and topic.verdicts.open_before({0: 2})


def test_verdict_that_did_not_know_a_tombstone_is_not_written(topic: Topic) -> None:
    make_tables(topic.verdicts._engine, tombstones.metadata)
    topic.take(fresh(), "ann")
    known = by(None)._replace(known_tombstones=0)
    with topic.verdicts.begin() as db:
        write(db, [Tombstone("demo", "", "user", "00", NOW)])
    with pytest.raises(Outdated):
        topic.partition.decide(100, known)
    assert topic.verdicts.head(0) == 0 and topic.tallies() == {}
    assert topic.partition.decide(100, by(ANN)._replace(known_tombstones=1)) == 1
    assert topic.tallies() == {(*WHERE, "accepted", ""): 1, (*WHERE, "erased", "topic"): 1}


def test_event_past_its_deadline_when_it_is_read_is_counted_as_expired(topic: Topic) -> None:
    rules = policies_of([("demo", "", "", 2), ("demo", "y", "", 1)])
    ids = fresh(count=2)
    topic.take([ids[0]], "ann", at=(NOW - DAY) / 1000)
    topic.take([ids[1]], "ann")
    assert topic.partition.decide(100, by(None, rules, NOW + DAY)) == 2
    assert topic.decided() == [ids[1].bytes]
    assert topic.tallies() == {(*WHERE, "accepted", ""): 2, (*WHERE, "expired", "retention"): 1}


def test_message_of_the_fallback_is_sent_without_who_was_erased_and_counts_the_same(topic: Topic) -> None:
    ids = fresh(count=3)
    whole = topic.message(ids, "ann", "bob", "ann")
    sent = sifted(whole, lambda one: by(ANN).sifted(one, set()), None)
    assert (sent.key, sent.partition, sent.events) == (whole.key, whole.partition, 3)
    assert b"ann" in whole.value and b"ann" not in sent.value
    assert sifted(sent, lambda one: by(ANN).sifted(one, set()), None) == sent
    topic.read(sent)
    topic.read(whole)  # the broker had taken it after all
    topic.partition.decide(100, by(None))
    assert topic.decided() == [ids[1].bytes]
    assert topic.tallies() == {(*WHERE, "accepted", ""): 3, (*WHERE, "erased", "topic"): 2}


@pytest.mark.parametrize(
    "retention,segment,gone_by",
    [(7 * DAY, DAY, "2026-01-10"), (7 * DAY, None, "2026-01-16"), (None, DAY, None), (-1, DAY, None)],
)
def test_day_by_which_the_topic_has_nothing_left_is_told_where_the_broker_tells_it(
    retention: int | None, segment: int | None, gone_by: str | None
) -> None:
    told = remains("events", {1: 5, 0: 3}, retention, segment, NOW)
    assert told["gone_by"] == gone_by and told["offsets_before"] == {"0": 3, "1": 5}
    assert (gone_by or "retention.ms") in told["words"]
