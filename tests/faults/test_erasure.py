"""kill -9 at each point of an erasure, and the machine comes up again: the person is gone, everybody else is there once."""

import json
import signal
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import open_service
from tests.e2e.conftest import Running, start
from tests.faults.test_wire import until
from tests.privacy.canary import SOON
from twintrack.auth import Role
from twintrack.crash import ERASURE_POINTS
from twintrack.testing import wire_event


@pytest.mark.parametrize("point", ERASURE_POINTS)
def test_service_killed_in_an_erasure_goes_on_with_it_and_counts_each_event_once(tmp_path: Path, point: str) -> None:
    data = tmp_path / "data"
    made = open_service(data)
    for table in ("events", "receipts", "identities", "events_daily", "events_hourly"):
        made.services.store.command(f"ALTER TABLE analytics.{table} MODIFY SETTING {SOON}")
    owner, write = (made.services.control.create_key(role, "default", "live") for role in (Role.OWNER, Role.WRITE))
    made.services.close()
    dying = start(data, TWINTRACK_CRASH_POINT=point, TWINTRACK_BOOT="one")
    events = [wire_event(user_id="ann" if number % 3 else "bob", anonymous_id=f"a{number}") for number in range(30)]
    others = sorted(event["event_id"] for event in events if event["user_id"] == "bob")
    send(dying, write, events)
    with headed(dying, owner) as client:
        until(lambda: client.get("/api/analytics/pipeline").json()["in_spool"] == 0)
        request = client.post("/api/analytics/privacy/erasures", json={"user_id": "ann"}).json()["id"]
    assert dying.process.wait(60) == -signal.SIGKILL
    running = start(data, TWINTRACK_BOOT="two")
    try:
        with headed(running, owner) as client:
            until(lambda: client.get(f"/api/analytics/privacy/erasures/{request}").json()["state"] == "done", 90)
            answer = send(running, write, events)
        assert (answer["duplicate"], answer["dropped"]) == (10, 20)
        found = running.command("query", "SELECT event_id FROM events", "--format", "csv").replace('"', "").split()[1:]
        assert sorted(found) == others
        report = json.loads(running.command("doctor", "--json"))
        assert report["ok"], report
        (balance,) = (check["says"] for check in report["checks"] if check["check"] == "balance")
        assert "stored 10 " in balance and "erased 20" in balance, balance
    finally:
        assert running.stop() == 0


def headed(running: Running, key: str) -> httpx.Client:
    return httpx.Client(base_url=running.address, headers={"Authorization": f"Bearer {key}"})


def send(running: Running, key: str, events: list[dict[str, object]]) -> dict[str, int]:
    answer = httpx.post(f"{running.address}/api/analytics/events", json=events, headers={"X-Write-Key": key})
    assert answer.status_code == 200
    found: dict[str, int] = answer.json()
    return found
