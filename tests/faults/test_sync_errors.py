"""A disk that fails to sync: the door says 503 and keeps nothing of the batch, and recovers without a restart.

strace makes the system calls of a served process fail with EIO, by file, for as long as it is attached.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.test_engine import alive, engine_of
from tests.faults.test_kill import Sender, assert_each_once
from tests.faults.test_wire import until
from twintrack.spool.segment import segment_path
from twintrack.testing import wire_event

EVENTS = "/api/analytics/events"
MOST_SEGMENTS = 30


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    assert shutil.which("strace"), "the tests of failing syncs need strace: apt-get install strace"


class Failing:
    def __init__(self, record: Path) -> None:
        self._record = record

    def times(self) -> int:
        """How many syncs have failed so far."""
        return self._record.read_text().count("(INJECTED)")


@contextmanager
def failing(process: int, calls: str, paths: list[Path], record: Path) -> Iterator[Failing]:
    """While inside, these calls of a process fail: on some paths, without paths on every file."""
    wanted = [word for path in paths for word in ("-P", str(path))]
    words = ["strace", "-f", "-p", str(process), "-o", str(record), *wanted]
    words += ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"]
    tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = ""
    for line in tracer.stderr:
        said += line
        if f"Process {process} attached" in line:
            break
    else:
        tracer.wait()
        assert "Operation not permitted" in said, said
        pytest.skip("failing syncs need the right to trace a process (root, or kernel.yama.ptrace_scope = 0)")
    try:
        yield Failing(record)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.stderr.read()
        tracer.wait(30)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    running = start(tmp_path / "data", TWINTRACK_STORE_BACKOFF_SECONDS="0.2")
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


def client_of(served: Running) -> httpx.Client:
    key = served.command("keys", "create", "--role", "write").strip()
    return httpx.Client(base_url=served.address, headers={"X-Write-Key": key}, timeout=60)


def batch() -> list[dict[str, object]]:
    return [wire_event(user_id="ann") for _ in range(20)]


def accept(client: httpx.Client, sender: Sender, events: list[dict[str, object]]) -> None:
    """Sends what must be new to the door, and notes it as acknowledged."""
    answer = client.post(EVENTS, json=events)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["accepted"], answer.json()["duplicate"]) == (len(events), 0)
    sender.sent |= {str(event["event_id"]) for event in events}
    sender.acknowledged |= {str(event["event_id"]) for event in events}


def killed(served: Running) -> None:
    engine = engine_of(served.process.pid)
    served.process.kill()
    served.process.wait(30)
    until(lambda: not alive(engine))


def assert_each_once_after_a_start(data: Path, sender: Sender) -> None:
    running = start(data)
    try:
        assert_each_once(running, sender)
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize("calls", ["fdatasync", "fsync,fdatasync"], ids=["the records", "the next header too"])
def test_sync_of_the_log_that_fails_is_answered_503_and_keeps_nothing(
    served: Running, tmp_path: Path, calls: str
) -> None:
    sender = Sender(1)
    log = [segment_path(served.data / "spool" / "log", epoch) for epoch in range(1, MOST_SEGMENTS)]
    again, never = batch(), batch()
    with client_of(served) as client:
        accept(client, sender, batch())
        with failing(served.process.pid, calls, log, tmp_path / "failed") as fault:
            for events in (again, never, again):
                answer = client.post(EVENTS, json=events)
                assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1, answer.text
                assert str(events[0]["event_id"]) not in answer.text
            assert fault.times() >= 3
            if "fsync," in calls:
                assert client.get("/readyz").status_code == 503
        until(lambda: client.get("/readyz").status_code == 200)
        accept(client, sender, again)
        accept(client, sender, batch())
    killed(served)  # what the failed syncs left in the page cache must not come back
    assert_each_once_after_a_start(served.data, sender)


@pytest.mark.parametrize("end", ["mended", "killed"])
@pytest.mark.parametrize("what", ["chunk file", "ledger"])
def test_sync_of_chunk_or_ledger_that_fails_loses_and_doubles_nothing(
    served: Running, tmp_path: Path, what: str, end: str
) -> None:
    """Only chunk files and the ends of log segments are fsynced; SQLite asks for fdatasync."""
    sender, spool = Sender(1), served.data / "spool"
    calls, paths = (
        ("fsync", []) if what == "chunk file" else ("fdatasync", [spool / "ledger.db-wal", spool / "ledger.db"])
    )
    with client_of(served) as client:
        accept(client, sender, batch())
        with failing(served.process.pid, calls, paths, tmp_path / "failed") as fault:
            for _ in range(3):
                accept(client, sender, batch())  # the log takes them; they wait
            until(lambda: fault.times() >= 3)
            if end == "killed":
                killed(served)
        if end == "mended":
            accept(client, sender, batch())
            assert_each_once(served, sender)
            return
    assert_each_once_after_a_start(served.data, sender)
