"""One loader of a topic leads, another takes its place when it falls silent, and quiet means that no chunk is open."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from tests.spool.kit import delivery, fresh
from tests.spool.test_partition import adopted
from twintrack.errors import StoreUnavailable
from twintrack.spool.kafka.housework import Housework
from twintrack.spool.kafka.ledger import Hushed, Verdicts
from twintrack.spool.kafka.message import decode, split
from twintrack.spool.kafka.partition import Partition, Read
from twintrack.spool.kafka.removals import TopicRemovals
from twintrack.testing import ManualClock

SILENCE = 10.1  # seconds


class Loader:
    """What of a loader is asked here; its time is a clock of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.clock = ManualClock()
        self.verdicts = Verdicts(f"sqlite:///{folder / 'control.db'}", "events")
        self.ledger, _ = self.verdicts.open(1)
        self.housework = Housework(self.verdicts, self.clock)
        self._folder, self._name = folder, name

    def partition(self) -> Partition:
        return adopted(self._folder / self._name, self.verdicts, self.verdicts.head(0))

    def close(self) -> None:
        self.housework.close()
        self.verdicts.close()


def stopped(housework: Housework) -> None:
    """As in a process that is stopped: no beat comes any more."""
    housework._ending.set()
    assert housework._thread is not None
    housework._thread.join()


@contextmanager
def loaders(folder: Path, *names: str) -> Iterator[list[Loader]]:
    made = [Loader(folder, name) for name in names]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def test_one_leads_and_another_takes_the_place_of_one_that_ends(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other):
        assert not other.housework.led()
        assert one.housework.leads() and not other.housework.leads()
        assert other.housework.led()
        one.housework.close()
        assert not other.housework.led()
        other.clock.advance(1)
        assert other.housework.leads()


def test_silent_one_loses_the_place_and_finds_that_out_when_it_wakes(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other):
        assert one.housework.quiet()
        stopped(one.housework)
        assert not other.housework.leads()  # it has seen the last beat
        other.clock.advance(SILENCE / 2)
        assert not other.housework.leads()
        other.clock.advance(SILENCE / 2)
        assert other.housework.leads()
        one.clock.advance(SILENCE)
        assert not one.housework.quiet() and not one.housework.leads()
        assert other.housework.quiet()


def test_quiet_waits_for_open_chunks_and_nobody_opens_one_meanwhile(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other), closing(other.partition()) as partition:
        messages = [split(delivery(fresh()), bytes([n]) * 16, one.ledger, 1)[0] for n in range(1, 3)]
        for offset, message in enumerate(messages):
            partition.take(Read(offset, decode(message.value)))
        assert partition.decide(1) == 1
        (chunk,) = partition.decided.values()
        assert one.housework.leads() and not one.housework.quiet()
        with pytest.raises(Hushed):
            partition.decide(1)
        partition.loaded(chunk, [], 0)
        assert one.housework.quiet()
        with pytest.raises(Hushed):
            partition.decide(1)
        assert other.verdicts.head(0) == 1
        one.housework.release()
        assert partition.decide(1) == 1
        place = ("demo", "local")
        assert +Counter(other.verdicts.tallies()) == {(*place, "accepted", ""): 2, (*place, "stored", ""): 1}


def test_quiet_that_is_asked_for_and_given_up_holds_up_nobody(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other), closing(other.partition()) as partition:
        for offset in range(2):
            (message,) = split(delivery(fresh()), bytes([offset + 1]) * 16, one.ledger, 1)
            partition.take(Read(offset, decode(message.value)))
        partition.decide(1)
        assert not one.housework.quiet()
        one.housework.release()  # a step that waits for it asks on
        with pytest.raises(Hushed):
            partition.decide(1)
        one.housework.release()  # one that failed does not
        assert partition.decide(1) == 1


def test_quarantined_row_is_not_put_back_while_it_is_quiet(tmp_path: Path) -> None:
    with loaders(tmp_path, "one") as (one,), closing(one.partition()) as partition:
        (message,) = split(delivery(fresh()), bytes(16), one.ledger, 1)
        partition.take(Read(0, decode(message.value)))
        partition.decide(1)
        (chunk,) = partition.decided.values()
        content = partition._contents[chunk.chunk.chunk_id]
        partition.bisect(chunk, content, "refused", 0)
        (back,) = one.verdicts.decided("quarantined")
        assert one.housework.quiet()
        with pytest.raises(Hushed):
            one.verdicts.replay(back)
        one.housework.release()
        one.verdicts.replay(back)
        assert one.verdicts.put_back([0])


def test_chunk_that_does_not_settle_holds_up_loading_for_seconds_only(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other), closing(other.partition()) as partition:
        for offset in range(2):
            (message,) = split(delivery(fresh()), bytes([offset + 1]) * 16, one.ledger, 1)
            partition.take(Read(offset, decode(message.value)))
        partition.decide(1)
        assert one.housework.leads() and not one.housework.quiet()
        one.clock.advance(SILENCE)
        assert not one.housework.quiet()
        assert partition.decide(1) == 1
        assert not one.housework.quiet()  # and it is not asked for again at once


def test_silent_one_that_wakes_notes_down_nothing_more_of_its_work(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other):
        place = ("demo", "local")
        late, removals = TopicRemovals(one.verdicts), TopicRemovals(other.verdicts)
        assert one.housework.quiet()  # it counts, and falls asleep
        stopped(one.housework)
        assert not other.housework.leads()
        other.clock.advance(SILENCE)
        assert other.housework.leads()
        removals.begin(202601, 100, {place: 2}, {}, [], lambda line: line)
        removals.done(202601)
        removals.plan("r-1", {place: 3})
        removals.settle("r-1", [202601])
        steps: list[Callable[[], None]] = [
            lambda: late.begin(202601, 100, {place: 2}, {}, [], lambda line: line),
            lambda: late.plan("r-1", {place: 3}),
            lambda: late.begin_rewrite(1, [202601]),
            lambda: one.verdicts.month_rebuilt(202601),
        ]
        for step in steps:
            with pytest.raises(StoreUnavailable):
                step()
        assert not removals.pending() and not removals.erasing() and removals.version() == 0
        assert other.verdicts.stale_months() == [202601]
        assert other.verdicts.tallies()[(*place, "stored", "")] == -5


def test_beat_that_is_answered_late_is_as_old_as_when_it_was_sent(tmp_path: Path) -> None:
    with loaders(tmp_path, "one", "other") as (one, other):
        event.listen(one.verdicts._engine, "commit", lambda _: one.clock.advance(SILENCE))
        assert one.housework.leads()
        stopped(one.housework)
        assert not other.housework.leads()
        other.clock.advance(SILENCE)
        assert other.housework.leads()
        assert not one.housework.leads()


def test_quiet_whose_end_was_not_written_down_is_looked_at_again(tmp_path: Path) -> None:
    with loaders(tmp_path, "one") as (one,), closing(one.partition()) as partition:
        assert one.housework.quiet()

        def away(*_: object) -> None:
            event.remove(one.verdicts._engine, "begin", away)
            raise OperationalError("", {}, Exception())

        event.listen(one.verdicts._engine, "begin", away)
        with pytest.raises(OperationalError):
            one.housework.release()
        (message,) = split(delivery(fresh()), bytes(16), one.ledger, 1)
        partition.take(Read(0, decode(message.value)))
        assert partition.decide(1) == 1  # its own
        assert not one.housework.quiet()
