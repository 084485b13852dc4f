"""kill -9 under load: every acknowledged event is one row, counted once; no other row appears."""

import json
import os
import random
import signal
import threading
from pathlib import Path

import httpx2 as httpx

from tests.e2e.conftest import start
from twintrack.testing import wire_event

ROUNDS = 4


def test_killed_service_keeps_each_acknowledged_event_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    source = random.Random(7)
    acknowledged: set[str] = set()
    sent: set[str] = set()
    key = ""
    unsure: list[dict[str, object]] = []
    for _ in range(ROUNDS):
        running = start(data)
        key = key or running.command("keys", "create", "--role", "write").strip()
        killer = threading.Timer(0.3 + source.random(), lambda p=running.process: os.kill(p.pid, signal.SIGKILL))
        killer.start()
        with httpx.Client(base_url=running.address, headers={"X-Write-Key": key}) as client:
            while True:
                # What got no answer is sent again, as a client would, beside new events.
                batch = unsure + [wire_event(user_id=f"u{source.randrange(9)}") for _ in range(20)]
                ids = {str(event["event_id"]) for event in batch}
                sent |= ids
                try:
                    answer = client.post("/api/analytics/events", json=batch)
                except httpx.HTTPError:
                    unsure = batch
                    break
                assert answer.status_code == 200, answer.text
                assert answer.json()["rejected"] == 0
                acknowledged |= ids
                unsure = []
        running.process.wait()
    running = start(data)
    try:
        while json.loads(running.command("doctor", "--json"))["checks"][3]["says"].find("in spool 0 ") < 0:
            pass
        rows = running.command("query", "SELECT event_id FROM events", "--format", "csv").replace('"', "").split()[1:]
        assert len(rows) == len(set(rows))
        assert acknowledged <= set(rows) <= sent
        rollup = running.command("query", "SELECT sum(event_count) FROM events_hourly", "--format", "csv").split()
        assert int(rollup[-1]) == len(rows)
        assert json.loads(running.command("doctor", "--json"))["ok"]
    finally:
        running.stop()
