"""kill -9 at random and at named points: every acknowledged event is one row, counted once; no other row appears.

`TWINTRACK_SOAK_ROUNDS` asks for more rounds than a test run has time for; `make soak` does.
"""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from twintrack.crash import CRASH_POINTS
from twintrack.testing import wire_event

ROUNDS = int(os.environ.get("TWINTRACK_SOAK_ROUNDS", "20"))
ROUNDS_PER_CHECK = 20
PATIENCE_SECONDS = 60
UNLIMITED = {"TWINTRACK_LIMIT_PERSON_PER_MINUTE": "0"}  # few people send all they can
ANY_ANSWER = {"TWINTRACK_QUERY_RESULT_ROWS": str(1 << 30)}  # a long run has more than one answer may hold


class Sender:
    """Sends until the service dies; what got no answer goes first to the next one, as a client would."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self._unsure: list[dict[str, object]] = []
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()

    def send_until_death(self, running: Running, key: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        with httpx.Client(base_url=running.address, headers={"X-Write-Key": key}, timeout=10) as client:
            while time.monotonic() < end:
                batch = self._unsure + [wire_event(user_id=f"u{self._source.randrange(9)}") for _ in range(20)]
                ids = {str(event["event_id"]) for event in batch}
                self.sent |= ids
                try:
                    answer = client.post("/api/analytics/events", json=batch)
                except httpx.HTTPError:
                    self._unsure = batch
                    return
                assert answer.status_code == 200, answer.text
                assert answer.json()["rejected"] == answer.json()["retry"] == 0
                self.acknowledged |= ids
                self._unsure = []
        raise AssertionError("the service did not die")


def assert_each_once(running: Running, sender: Sender) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while "in spool 0 " not in running.command("doctor", "--json"):
        assert time.monotonic() < end, "the spool did not drain"
    rows = running.command("query", "SELECT event_id FROM events", "--format", "csv").replace('"', "").split()[1:]
    assert len(rows) == len(set(rows))
    assert sender.acknowledged <= set(rows) <= sender.sent
    report = json.loads(running.command("doctor", "--json"))  # balance, and rollups equal to raw
    assert report["ok"], report


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_service_killed_at_a_named_point_keeps_each_acknowledged_event_once(tmp_path: Path, point: str) -> None:
    data, sender = tmp_path / "data", Sender(7)
    first = start(data)
    key = first.command("keys", "create", "--role", "write").strip()
    assert first.stop() == 0
    for number in (1, 3):
        dying = start(data, **UNLIMITED, TWINTRACK_CRASH_POINT=f"{point}:{number}")
        sender.send_until_death(dying, key)
        assert dying.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    running = start(data, **ANY_ANSWER)
    try:
        assert_each_once(running, sender)
    finally:
        assert running.stop() == 0


def test_service_killed_at_random_keeps_each_acknowledged_event_once(tmp_path: Path) -> None:
    data, source, sender = tmp_path / "data", random.Random(7), Sender(7)
    key = ""
    for done in range(1, ROUNDS + 1):
        running = start(data, **UNLIMITED)
        key = key or running.command("keys", "create", "--role", "write").strip()
        killer = threading.Timer(0.1 + source.random(), os.kill, (running.process.pid, signal.SIGKILL))
        killer.start()
        sender.send_until_death(running, key)
        killer.join()
        assert running.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        if done % ROUNDS_PER_CHECK and done < ROUNDS:
            continue
        running = start(data, **ANY_ANSWER)
        try:
            assert sender.acknowledged
            assert_each_once(running, sender)
        finally:
            assert running.stop() == 0
        print(f"killed {done} times: {len(sender.acknowledged)} events acknowledged, each is there once")
