"""The engine dies of heavy questions while events come in: each acknowledged event is one row, and questions go on."""

import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.test_engine import ENDLESS, alive, engine_of
from tests.faults.test_wire import events, until

ROWS = "(SELECT arrayJoin(range(10000)) AS number FROM events LIMIT 10000)"
# Beyond its memory within a second, whatever the limit of one question is.
GREEDY = f"SELECT length(groupArray(range(a.number))) FROM {ROWS} a, {ROWS} b"


class Sender:
    """Sends batches until it is stopped; counts what was acknowledged."""

    def __init__(self, served: Running) -> None:
        key = served.command("keys", "create", "--role", "write", "--project", "p").strip()
        self._at, self._headers = f"{served.address}/api/analytics/events", {"X-Write-Key": key}
        self._stopped = threading.Event()
        self.accepted = 0
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stopped.wait(0.01):
                answer = client.post(self._at, json=events(20), headers=self._headers)
                if answer.status_code == 200:
                    self.accepted += answer.json()["accepted"]
                else:
                    self.failed.append(answer.text)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    opened = start(tmp_path / "data")
    yield opened
    if opened.process.poll() is None:
        opened.process.kill()
        opened.process.wait()


def test_engine_that_dies_under_heavy_questions_loses_and_doubles_no_event_that_comes_meanwhile(
    served: Running,
) -> None:
    key = served.command("keys", "create", "--role", "owner", "--project", "p").strip()

    def ask(sql: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{served.address}/api/analytics/sql", json={"sql": sql}, headers=headers, timeout=90)

    def count() -> Any:
        answer = ask("SELECT count(), uniqExact(event_id) FROM events")
        return answer.json()["rows"][0] if answer.status_code == 200 else answer.json()["error"]["code"]

    sender = Sender(served)
    answers: list[httpx.Response] = []
    try:
        until(lambda: isinstance(count(), list) and count()[0] > 0)
        for death in ("killed", "out of memory"):
            engine = engine_of(served.process.pid)
            question = ENDLESS.format(ROWS) if death == "killed" else GREEDY
            before, begun = sender.accepted, _processor_seconds(engine)
            asking = threading.Thread(target=lambda sql=question: answers.append(ask(sql)))
            if death == "out of memory":
                # As little as a cgroup would leave it: what it asks for then, the system refuses.
                most = _address_space(engine) + (64 << 20)
                resource.prlimit(engine, resource.RLIMIT_AS, (most, most))
            asking.start()
            if death == "killed":
                until(lambda engine=engine, begun=begun: _processor_seconds(engine) > begun + 0.5)
                os.kill(engine, signal.SIGKILL)
            asking.join(90)
            assert not asking.is_alive() and answers[-1].status_code in (400, 502, 503), answers[-1].text
            if alive(engine):
                assert death == "out of memory" and answers[-1].json()["error"]["code"] == "query_limit"
                os.kill(engine, signal.SIGKILL)  # as the system does to what asks for more than there is
            until(lambda: isinstance(count(), list))
            until(lambda before=before: sender.accepted > before)
    finally:
        sender.stop()
    assert not sender.failed
    until(lambda: count() == [sender.accepted, sender.accepted])
    assert ask("SELECT sum(event_count) FROM events_hourly").json()["rows"] == [[sender.accepted]]
    assert json.loads(served.command("doctor", "--json"))["ok"]


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _address_space(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
