"""What stands around the service fails: clients that leave while they are answered, a log that takes no more lines."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.e2e.conftest import Running
from twintrack.testing import wire_event


@contextmanager
def serving(data: Path, errors: str) -> Iterator[Running]:
    """A service whose log goes to a file of that name."""
    with open(errors, "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(data)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        yield Running(process, found.group(), "", data)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_clients_that_leave_while_they_are_answered_do_not_end_the_service(tmp_path: Path) -> None:
    with serving(tmp_path / "data", os.devnull) as served:
        host, port = served.address.removeprefix("http://").split(":")
        for _ in range(40):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            assert httpx.get(f"{served.address}/healthz").status_code == 200
        assert served.stop() == 0


def test_log_that_takes_no_lines_costs_no_event_and_no_thread(tmp_path: Path) -> None:
    """Every write to /dev/full fails as on a full disk."""
    with serving(tmp_path / "data", "/dev/full") as served:
        write, owner = (served.command("keys", "create", "--role", role).strip() for role in ("write", "owner"))

        def stored() -> Any:
            state = httpx.get(f"{served.address}/api/analytics/pipeline", headers={"Authorization": f"Bearer {owner}"})
            return state.json()["stored"]

        for sent in range(1, 4):
            answer = httpx.post(
                f"{served.address}/api/analytics/events", json=[wire_event()], headers={"X-Write-Key": write}
            )
            assert answer.status_code == 200
            end = time.monotonic() + 30
            while stored() != sent:
                assert time.monotonic() < end, "nothing is loaded any more"
                time.sleep(0.02)
        served.stop()
