"""The demo's vendor sandbox, over real sockets: it takes what Statsig's client sends, and misbehaves when told to."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    demo = start(tmp_path_factory.mktemp("demo") / "data", "--demo")
    yield demo
    assert demo.stop() == 0


@pytest.fixture
def sandbox(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{running.address}/demo/vendor", timeout=60) as client:
        yield client
        assert client.put("/faults", json={}).status_code == 200


def log(sandbox: httpx.Client, *event_ids: str, packed: bool = False) -> httpx.Response:
    """Events in Statsig's wire format."""
    events = [{"eventName": "click", "value": "1", "metadata": {"event_id": event_id}} for event_id in event_ids]
    body = json.dumps({"events": events, "statsigMetadata": {}}).encode()
    return sandbox.post("/v1/rgstr?k=client-demo", content=gzip.compress(body) if packed else body)


def taken(sandbox: httpx.Client, event_id: str) -> int:
    return len(sandbox.get("/events", params={"event_id": event_id}).json()["events"])


def ids(count: int) -> list[str]:
    return [str(uuid4()) for _ in range(count)]


@pytest.mark.parametrize("packed", [False, True])
def test_sandbox_without_faults_takes_each_event_once(sandbox: httpx.Client, packed: bool) -> None:
    sent = ids(3)
    answer = log(sandbox, *sent, packed=packed)
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    assert [taken(sandbox, event_id) for event_id in sent] == [1, 1, 1]
    assert sandbox.get("/faults").json() == {"fail": 0, "drop": 0, "double": 0, "delay_milliseconds": 0}


@pytest.mark.parametrize(
    ("faults", "status", "copies"),
    [({"fail": 1}, 500, 0), ({"drop": 1}, 202, 0), ({"double": 1}, 202, 2), ({"drop": 0, "double": 0}, 202, 1)],
)
def test_fault_holds_until_it_is_lifted(
    sandbox: httpx.Client, faults: dict[str, Any], status: int, copies: int
) -> None:
    assert sandbox.put("/faults", json=faults).json() == sandbox.get("/faults").json()
    one, other = ids(2)
    assert log(sandbox, one).status_code == status
    assert taken(sandbox, one) == copies
    sandbox.put("/faults", json={})
    assert log(sandbox, other).status_code == 202
    assert taken(sandbox, other) == 1


def test_part_of_the_events_is_lost_by_chance(sandbox: httpx.Client) -> None:
    sandbox.put("/faults", json={"drop": 0.5})
    sent = ids(400)
    log(sandbox, *sent)
    there = {event["event_id"] for event in sandbox.get("/events").json()["events"]}
    assert 100 < len(there & set(sent)) < 300


def test_slow_vendor_takes_the_event_no_sooner_than_told_and_holds_nobody_up(sandbox: httpx.Client) -> None:
    sandbox.put("/faults", json={"delay_milliseconds": 2_000})
    slow, quick = ids(2)
    answers: list[float] = []

    def send() -> None:
        started = time.monotonic()
        assert log(sandbox, slow).status_code == 202
        answers.append(time.monotonic() - started)

    thread = threading.Thread(target=send)
    thread.start()
    assert taken(sandbox, slow) == 0 or answers  # others are answered meanwhile
    thread.join(60)
    assert answers and answers[0] >= 2
    assert taken(sandbox, slow) == 1
    sandbox.put("/faults", json={})
    assert log(sandbox, quick).status_code == 202


@pytest.mark.parametrize(
    "faults", ["5", "{", '{"fail": 2}', '{"drop": -1}', '{"delay_milliseconds": 60001}', '{"explode": 1}']
)
def test_fault_that_is_none_is_refused_and_changes_nothing(sandbox: httpx.Client, faults: str) -> None:
    sandbox.put("/faults", json={"double": 1})
    answer = sandbox.put("/faults", content=faults)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_faults")
    assert sandbox.get("/faults").json()["double"] == 1


def test_body_that_is_not_statsigs_is_refused(sandbox: httpx.Client) -> None:
    assert sandbox.post("/v1/rgstr", content=b"nonsense").json()["error"]["code"] == "not_statsig"


def test_faults_stand_in_no_document(running: Running) -> None:
    assert "faults" not in httpx.get(f"{running.address}/openapi.json").text
