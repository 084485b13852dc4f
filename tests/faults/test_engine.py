"""The engine's process dies, is left behind, or is asked to end while it works: nothing lost, nothing left running."""

import contextlib
import fcntl
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, open_service
from tests.e2e.conftest import start
from tests.faults.test_wire import assert_exact, assert_recovered, events, until

ENDLESS = "SELECT max(sipHash64(a.number, b.number)) FROM {0} a, {0} b, {0} c, {0} d, {0} e"
MANY = "(SELECT arrayJoin(range(10000)) AS number FROM events LIMIT 10000)"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    opened = open_service(tmp_path / "data", store_backoff_seconds=0.2, limit_person_per_minute=0)
    yield opened
    opened.services.close()


def engine_of(process: int, data: Path | None = None) -> int:
    """The engine that a process has started; where it has several, as that of tests may, the one over a data folder."""
    found: list[int] = []

    def look() -> bool:
        tasks = Path(f"/proc/{process}/task")
        for children in [task / "children" for task in tasks.iterdir()]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # threads and children end while one looks
                for child in children.read_text().split():
                    command = Path(f"/proc/{child}/cmdline").read_bytes()
                    if b"twintrack.store.engine" in command and (data is None or bytes(data / "store") in command):
                        found.append(int(child))
        return bool(found)

    until(look)
    return found[-1]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def asking(ask: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_engine_killed_again_and_again_under_load_keeps_each_event_once(service: Service) -> None:
    source, sent = random.Random(5), 0
    for _ in range(5):
        end = time.monotonic() + 0.3 + source.random() / 2
        while time.monotonic() < end:
            service.send(events(40))
            sent += 40
        os.kill(engine_of(os.getpid(), service.services.settings.data), signal.SIGKILL)
    assert_exact(service, sent)
    assert_recovered(service)


def test_engine_gives_way_to_the_service_and_stands_in_its_group_of_the_scheduler(service: Service) -> None:
    engine = engine_of(os.getpid(), service.services.settings.data)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, engine) == min(19, ours + 10)
    # Across sessions nice values count nothing where the kernel groups processes by them; Ctrl-C is told by group.
    assert os.getsid(engine) == os.getsid(0) and os.getpgid(engine) == engine


def test_engine_that_finds_no_descriptors_starts_when_there_are_some(
    service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    service.send(events(5))
    service.settle()
    engine = engine_of(os.getpid(), service.services.settings.data)
    written = ""

    def tried() -> bool:
        nonlocal written
        written += capfd.readouterr().err
        watching = any(thread.name == "engine-watch" for thread in threading.enumerate())
        return "engine_not_started" in written or not watching

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        os.kill(engine, signal.SIGKILL)
        until(tried)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    service.send(events(5))
    assert_exact(service, 10)


def test_question_answers_503_while_the_engine_starts_again(service: Service) -> None:
    service.send(events(3))
    service.settle()
    answers: list[httpx.Response] = []
    long = asking(lambda: answers.append(service.sql(ENDLESS.format(MANY))))
    until(lambda: running(service) == 1)
    os.kill(engine_of(os.getpid(), service.services.settings.data), signal.SIGKILL)
    meanwhile: list[httpx.Response] = []

    def back() -> bool:
        meanwhile.append(service.sql("SELECT count() FROM events"))
        return meanwhile[-1].status_code == 200

    until(back)
    long.join(30)
    for answer in [*answers, *meanwhile[:-1]]:
        assert answer.status_code == 503
        assert "the embedded engine" in answer.json()["error"]["message"]
        assert "127.0.0.1" not in answer.text
    assert meanwhile[-1].json()["rows"] == [[3]]
    assert answers


def running(service: Service) -> int:
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(%' AND query NOT LIKE '%processes%'"
    return int(service.services.store.select(sql).rows[0][0])


def test_service_asked_to_stop_during_long_questions_exits_0_within_seconds(tmp_path: Path) -> None:
    served = start(tmp_path / "data")
    engine = engine_of(served.process.pid)
    try:
        write, owner = (served.command("keys", "create", "--role", role).strip() for role in ("write", "owner"))
        httpx.post(f"{served.address}/api/analytics/events", json=events(200), headers={"X-Write-Key": write})
        until(lambda: "200" in served.command("query", "SELECT count() FROM events", "--format", "csv"))
        answers: list[int] = []

        def ask() -> None:
            question = {"sql": ENDLESS.format(MANY)}
            signed = {"Authorization": f"Bearer {owner}"}
            got = httpx.post(f"{served.address}/api/analytics/sql", json=question, headers=signed, timeout=60)
            answers.append(got.status_code)

        threads = [asking(ask) for _ in range(4)]
        until(lambda: cpu_seconds(engine) > 2.0)
        httpx.post(f"{served.address}/api/analytics/events", json=events(50), headers={"X-Write-Key": write})
        started = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - started < 6
        for thread in threads:
            thread.join(5)
        assert answers == [503] * 4
        assert not alive(engine)
    finally:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait()
    assert "250" in served.command("query", "SELECT count() FROM events", "--format", "csv")


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free(path: Path) -> bool:
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_engine_ends_with_its_killed_service_and_frees_the_folder(tmp_path: Path) -> None:
    served = start(tmp_path / "data")
    write, owner = (served.command("keys", "create", "--role", role).strip() for role in ("write", "owner"))
    httpx.post(f"{served.address}/api/analytics/events", json=events(200), headers={"X-Write-Key": write})
    until(lambda: "200" in served.command("query", "SELECT count() FROM events", "--format", "csv"))
    engine = engine_of(served.process.pid)

    def ask() -> None:
        question = {"sql": ENDLESS.format(MANY)}
        try:
            httpx.post(
                f"{served.address}/api/analytics/sql", json=question, headers={"Authorization": f"Bearer {owner}"}
            )
        except httpx.HTTPError:
            return

    asking(ask)
    before = cpu_seconds(engine)
    until(lambda: cpu_seconds(engine) > before + 1.0)
    served.process.kill()
    served.process.wait()
    killed = time.monotonic()
    until(lambda: not alive(engine) and free(tmp_path / "data" / "store.lock"), 2.5)
    assert time.monotonic() - killed < 2.0
    assert "200" in served.command("query", "SELECT count() FROM events", "--format", "csv")
