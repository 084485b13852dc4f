"""Several nodes over a real topic: whatever breaks, each acknowledged id is one row, counted once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import TestBroker, running_broker
from tests.conftest import Service, open_service
from twintrack.store.embedded import EngineProcess
from twintrack.testing import wire_event


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with running_broker() as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = EngineProcess(tmp_path_factory.mktemp("engine"))
    yield process.dsn
    process.close()


def test_event_goes_over_the_topic_into_one_row(broker: TestBroker, tmp_path: Path) -> None:
    service = open_service(tmp_path / "data", spool=broker.url("straight"))
    try:
        events = [wire_event() for _ in range(50)]
        assert service.send(events)["accepted"] == 50
        assert service.send(events)["accepted"] == 50  # copies are found behind the door
        service.settle()
        assert service.rows("SELECT count(), uniqExact(event_id) FROM analytics.events") == [[50, 50]]
        assert service.services.spool.tallies() == {
            ("demo", "local", "accepted", ""): 50,
            ("demo", "local", "duplicate", "already_accepted"): 50,
            ("demo", "local", "stored", ""): 50,
        }
    finally:
        service.services.close()
