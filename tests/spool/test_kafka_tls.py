"""TLS to the broker, by librdkafka's own properties: what is sent comes back, and a stranger's certificate is refused."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import TestBroker, running_broker
from tests.server import certificates
from twintrack.errors import Unavailable
from twintrack.settings import load_settings
from twintrack.spool.kafka.broker import Address, Broker
from twintrack.spool.kafka.message import Outgoing


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def broker(authority: tuple[Path, Path, Path]) -> Iterator[TestBroker]:
    with running_broker(authority[1:]) as running:
        yield running


def opened(broker: TestBroker, ca: Path) -> Broker:
    settings = load_settings(spool=broker.url("sealed", 1), kafka_options=f"security.protocol=SSL,ssl.ca.location={ca}")
    return Broker(Address.of(settings.spool), settings.kafka_properties)


def test_message_goes_to_the_broker_and_back_over_tls(broker: TestBroker, authority: tuple[Path, Path, Path]) -> None:
    through = opened(broker, authority[0])
    assert through.partitions() == 1
    sender, sent = through.sender(10), threading.Event()
    offsets: list[int | None] = []

    def done(found: list[int | None]) -> None:
        offsets.extend(found)
        sent.set()

    sender.send([Outgoing(0, b"k" * 16, b"over tls", 1)], done)
    assert sent.wait(30)
    sender.close()
    assert offsets == [0]
    with contextlib.closing(through.reader()) as reader:
        assert list(reader.fetch(0, 0, 1)) == [(0, b"over tls")]


def test_broker_with_a_strangers_certificate_is_refused(broker: TestBroker, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        opened(broker, certificates(tmp_path)[0]).partitions()
