"""A power cut: unsynced writes are dropped from a trace taken below Python; every acknowledged event is one row then.

The control, a spool that does not sync and loses events here, is one of the mutants in test_mutants.py.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.powercut import WORDS, Disk, calls
from tests.faults.test_engine import alive, engine_of
from tests.faults.test_kill import Sender, assert_each_once
from tests.faults.test_wire import until
from twintrack.testing import wire_event

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    assert shutil.which("strace"), "the power cut tests need strace: apt-get install strace"


def traced(data: Path, trace: Path) -> tuple[subprocess.Popen[str], str, int]:
    """A service under strace, its address, its process."""
    words = [*WORDS, "-o", str(trace), sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(data)]
    with (trace.parent / "traced.log").open("a") as log:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TWINTRACK_BOOT": "before", "PYTHONPATH": str(SOURCE)},
        )
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            break
    assert found
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, found.group(), int(child)


def cut(data: Path, trace: Path, sender: Sender) -> Disk:
    """Sends to a fresh service and ends it at once; the disk as it stands then."""
    process, address, service = traced(data, trace)
    engine = engine_of(service)
    key = Running(process, address, "", data).command("keys", "create", "--role", "write").strip()
    with httpx.Client(base_url=address, headers={"X-Write-Key": key}, timeout=60) as client:
        for _ in range(12):
            batch = [wire_event(user_id="ann") for _ in range(20)]
            ids = {str(event["event_id"]) for event in batch}
            sender.sent |= ids
            assert client.post("/api/analytics/events", json=batch).status_code == 200
            sender.acknowledged |= ids
    os.kill(service, signal.SIGKILL)
    process.wait(60)
    until(lambda: not alive(engine))
    disk = Disk(data)
    for call in calls(trace):
        disk.apply(*call)
    return disk


def test_power_cut_keeps_each_acknowledged_event_once(tmp_path: Path) -> None:
    sender = Sender(1)
    disk = cut(tmp_path / "data", tmp_path / "trace", sender)
    kinds = {part for path in disk.synced for part in ("/spool/log/", "/spool/ledger.db", "/store/") if part in path}
    assert kinds == {"/spool/log/", "/spool/ledger.db", "/store/"}, "the trace does not see the files that matter"
    assert disk.seen("/spool/claims/data.mdb") > 0, "the trace does not see the index"
    disk.write_to(tmp_path / "after" / "data")
    running = start(tmp_path / "after" / "data", TWINTRACK_BOOT="after")
    try:
        assert_each_once(running, sender)
    finally:
        assert running.stop() == 0
