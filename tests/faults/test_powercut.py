"""A power cut: unsynced writes are dropped from a trace taken below Python; every acknowledged event is one row then.

The control, a spool that does not sync and loses events here, is one of the mutants in test_mutants.py.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.powercut import WORDS, Disk, answered, calls
from tests.faults.test_engine import alive, engine_of
from tests.faults.test_kill import Sender, assert_each_once
from tests.faults.test_wire import until
from twintrack.testing import wire_event

SOURCE = Path(__file__).parents[2] / "src"
FILES = ("/spool/log/", "/spool/ledger.db", "/spool/chunks/", "/store/")
BATCHES, ROWS = 12, 20
SEEDS = range(int(os.environ.get("TWINTRACK_POWER_CUTS", "5")))


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    assert shutil.which("strace"), "the power cut tests need strace: apt-get install strace"


def traced(data: Path, trace: Path, more: dict[str, str]) -> tuple[subprocess.Popen[str], str, int]:
    """A service under strace, its address, its process."""
    words = [*WORDS, "-o", str(trace), sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(data)]
    with (trace.parent / "traced.log").open("a") as log:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TWINTRACK_BOOT": "before", "PYTHONPATH": str(SOURCE), **more},
        )
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            break
    assert found
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, found.group(), int(child)


class Recorded(NamedTuple):
    """What a service did until it was killed, call by call, and which batches it was sent."""

    data: Path
    calls: list[tuple[str, str, int]]
    answers: list[int]  # behind so many calls the n-th batch was answered
    batches: list[set[str]]
    environment: dict[str, str]


def record(folder: Path, **environment: str) -> Recorded:
    data, trace = folder / "data", folder / "trace"
    process, address, service = traced(data, trace, environment)
    engine = engine_of(service)
    key = Running(process, address, "", data).command("keys", "create", "--role", "write").strip()
    batches = []
    with httpx.Client(base_url=address, headers={"X-Write-Key": key}, timeout=60) as client:
        for number in range(BATCHES):
            if number == BATCHES // 2:
                until(lambda: "\ntwintrack_spool_events 0.0\n" in client.get("/metrics").text)  # one insert is whole
            # Each batch is of somebody new: their key must be on the disk before the answer is.
            batch = [wire_event(user_id=f"u{number}", message_content="hello") for _ in range(ROWS)]
            batches.append({str(event["event_id"]) for event in batch})
            assert client.post("/api/analytics/events", json=batch).status_code == 200
        client.get("/healthz")  # the loop goes on only when the trace has the end of the last answer's write
    os.kill(service, signal.SIGKILL)
    process.wait(60)
    until(lambda: not alive(engine))
    found = list(calls(trace))
    answers = [number for number, call in enumerate(found, 1) if answered(*call[:2]) == ROWS]
    assert len(answers) == BATCHES, "the trace does not see the answers"
    return Recorded(data, found, answers, batches, environment)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_keeps_each_acknowledged_event_once(tmp_path: Path, recorded: Recorded, seed: int) -> None:
    """Seed 0 cuts behind the last call and keeps nothing unsynced; the others at random, behind the first answer."""
    cut(tmp_path, recorded, seed)


def test_power_cut_of_a_sealed_service_keeps_each_acknowledged_event_once(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """And each text can be read: the doctor would tell of keys that are gone."""
    sealing = {"TWINTRACK_ENCRYPTION_KEY": "17" * 32, "TWINTRACK_SEALED_FIELDS": "message_content"}
    sealed = record(tmp_path_factory.mktemp("sealed"), **sealing)
    for seed in (0, 3):
        cut(tmp_path / str(seed), sealed, seed)


def cut(folder: Path, recorded: Recorded, seed: int) -> None:
    source, sender = random.Random(seed), Sender(seed)
    place = source.randint(recorded.answers[0], len(recorded.calls)) if seed else len(recorded.calls)
    disk = Disk(recorded.data, strict=recorded.data / "spool")
    for call in recorded.calls[:place]:
        disk.apply(*call)
    for answer, ids in zip(recorded.answers, recorded.batches, strict=True):
        sender.sent |= ids
        if answer <= place:
            sender.acknowledged |= ids
    if not seed:
        kinds = {part for path in disk.synced for part in FILES if part in path}
        assert kinds == set(FILES), "the trace does not see the files that matter"
        assert disk.seen("/spool/claims/data.mdb") > 0, "the trace does not see the index"
    disk.write_to(folder / "data", source if seed else None)
    running = start(folder / "data", TWINTRACK_BOOT="after", **recorded.environment)
    try:
        assert_each_once(running, sender)
    finally:
        assert running.stop() == 0
