"""A topic's spool over a real broker, without a store: what it hands out for an insert, and which partitions it takes."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from tests.broker import TestBroker, running_broker
from tests.faults.test_kafka import until
from tests.spool.kit import SIZES, delivery, fresh
from twintrack.clock import SystemClock
from twintrack.control.retention import NONE, Policies
from twintrack.control.tombstones import Marks, tombstones
from twintrack.control.upgrade import make_tables
from twintrack.errors import Unavailable
from twintrack.metrics import Metrics
from twintrack.spool.kafka.broker import Address, Broker
from twintrack.spool.kafka.ledger import Verdicts
from twintrack.spool.kafka.spool import KafkaSpool


class Nobody:
    """Nobody was ever erased, and no rule holds."""

    def tombstones(self, project: str) -> Marks | None:
        return None

    def known_tombstones(self, *, now: bool = False) -> int:
        return 0

    def policies(self) -> Policies:
        return NONE


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with running_broker() as running:
        yield running


@pytest.fixture
def topic(broker: TestBroker, tmp_path: Path) -> Iterator[tuple[Broker, Verdicts]]:
    """A topic of two partitions, and what another loader of it writes down."""
    reached = Broker(Address.of(broker.url(uuid4().hex, 2)), {})
    with closing(Verdicts(f"sqlite:///{tmp_path / 'control.db'}", reached.address.topic)) as verdicts:
        make_tables(verdicts._engine, tombstones.metadata)
        yield reached, verdicts


def opened(folder: Path, broker: Broker) -> KafkaSpool:
    return KafkaSpool(
        folder / "node",
        broker,
        f"sqlite:///{folder / 'control.db'}",
        SystemClock(),
        Metrics(),
        SIZES,
        timeout_seconds=5.0,
        catch_up_messages=100,
        rights=Nobody(),
    )


def test_chunk_that_another_loader_settled_is_not_handed_out_for_an_insert(
    topic: tuple[Broker, Verdicts], tmp_path: Path
) -> None:
    broker, other = topic
    with closing(opened(tmp_path, broker)) as spool:
        asyncio.run(spool.append(delivery(fresh(count=20), received=SystemClock().milliseconds())))
        until(lambda: spool.freeze() and len(spool.pending()) == 2, "two partitions' chunks")
        first, second = spool.pending()
        assert spool.content(first)
        # It sleeps; the other one loads both, and gives one of them another token before.
        one, two = other.decided("open")
        other.settle(one, "loaded", "", Counter(), 0)
        other.reinsert([two], [])
        for chunk in (first, second):
            with pytest.raises(Unavailable):
                spool.content(chunk)
        (left,) = spool.pending()
        assert left.token != second.token and spool.content(left)


def test_partitions_that_a_topic_got_later_hold_up_nobody(topic: tuple[Broker, Verdicts], tmp_path: Path) -> None:
    broker, other = topic
    assert broker.partitions() == 2
    other.open(1)  # so many had it then
    with closing(opened(tmp_path, broker)) as spool:
        asyncio.run(spool.append(delivery(fresh(), received=SystemClock().milliseconds())))
        until(lambda: spool.freeze() and spool.pending(), "a chunk")
        fence = spool.fence()
        assert not fence()
        spool.loaded(spool.pending()[0])
        assert fence() and fence.ends == {0: 1}
