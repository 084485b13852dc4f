"""`twintrack rollout`, with a service running and without: what is set holds, and what is wrong is told with its limit."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

from tests.e2e.conftest import Running, start
from tests.test_commands import command
from twintrack.cli import app
from twintrack.errors import TwintrackError
from twintrack.testing import wire_event

HERE = ("--project", "shop", "--environment", "live")


class Said(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("served") / "data")
    for environment in ("live", "test"):
        words = ("keys", "create", "--role", "write", "--project", "shop", "--environment", environment)
        assert CliRunner().invoke(app, [*words, "--data", str(running.data)]).exit_code == 0
    yield running
    assert running.stop() == 0


@pytest.fixture
def data(served: Running) -> Path:
    return served.data


def rollout(data: Path, *words: str) -> Said:
    """The command in this process, over the service's own socket."""
    done = CliRunner().invoke(app, ["rollout", *words, "--data", str(data)])
    if isinstance(done.exception, TwintrackError):
        return Said(1, done.stdout, f"{done.exception.message}; {done.exception.hint}")
    assert done.exception is None, done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


def test_without_a_service_the_folder_itself_is_asked_and_keeps_what_was_set(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    none = command(folder, "rollout", "show")
    assert (none.returncode, none.stdout) == (0, "") and "twintrack keys create" in none.stderr
    command(folder, "keys", "create", "--role", "write")
    done = command(folder, "rollout", "set", "--share", "1%")
    assert "1% of identities" in done.stdout, done.stderr
    refused = command(folder, "rollout", "set", "--share", "10")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines() == ["error: share must lie in 0..1", "       write 0.1 or 10%"]
    assert "KILLED" in command(folder, "rollout", "kill").stdout
    shown = command(folder, "rollout", "show").stdout
    assert "default/production, version 3" in shown and "KILLED" in shown and "1% of identities" in shown


def test_everything_is_set_shown_and_kept_apart_by_environment(data: Path) -> None:
    words = (
        *("--share", "12.5%", "--sample", "mouse_move=0.1", "--sample", "scroll=5%", "--sample-others", "0.5"),
        *("--batch-events", "50", "--batch-bytes", "2048", "--batch-interval-milliseconds", "500"),
        *("--endpoint", "/t/e"),
    )
    done = rollout(data, "set", *HERE, *words)
    assert done.code == 0, done.stderr
    shown = rollout(data, "show", *HERE).stdout
    assert shown == done.stdout
    for said in (
        "shop/live, version ",
        "state     on",
        "share     12.5% of identities",
        "mouse_move 10%, scroll 5%, all other events 50%",
        "50 events, 2048 bytes or 500 ms",
        "endpoint  /t/e",
    ):
        assert said in shown, shown
    assert "shop/test, version 1\n" in rollout(data, "show").stdout
    assert rollout(data, "show", "--project", "shop", "--environment", "test").stdout.count("100%") == 2


def test_gate_rate_and_endpoint_are_taken_off_again(data: Path) -> None:
    rollout(
        data, "set", *HERE, "--gate", "backend_on", "--endpoint", "https://events.example.com/e", "--sample", "a=0.1"
    )
    assert "as gate backend_on says" in rollout(data, "show", *HERE).stdout
    done = rollout(data, "set", *HERE, "--gate", "", "--endpoint", "", "--sample", "a=")
    assert "gate" not in done.stdout and "example.com" not in done.stdout and "a 10%" not in done.stdout, done.stdout


def test_kill_says_what_pages_do_and_is_lifted(data: Path) -> None:
    assert "KILLED: no event is taken; pages drain what waits" in rollout(data, "kill", *HERE).stdout
    assert "pages discard what waits" in rollout(data, "kill", *HERE, "--queue", "discard").stdout
    assert "state     on" in rollout(data, "kill", *HERE, "--off").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", *HERE), "nothing to change"),
        (("set", *HERE, "--share", "10"), "share must lie in 0..1"),
        (("set", *HERE, "--share", "half"), "10%"),
        (("set", *HERE, "--share", "nan"), "10%"),
        (("set", *HERE, "--sample", "mouse_move=-inf%"), "10%"),
        (("set", *HERE, "--batch-events", "0"), "1..1000"),
        (("set", *HERE, "--endpoint", "http://x.example"), "https://"),
        (("set", *HERE, "--sample", "mouse_move"), "EVENT=RATE"),
        (("set", *HERE, "--sample", "mouse_move=2"), "0..1"),
        (("kill", *HERE, "--queue", "later"), "drain, discard"),
        (("kill", "--project", "shop", "--environment", "prodd"), "shop/live"),
        (("show", "--project", "nothere"), "shop/live"),
    ],
)
def test_what_is_wrong_is_told_with_its_limit_and_changes_nothing(
    data: Path, words: tuple[str, ...], said: str
) -> None:
    before = rollout(data, "show").stdout
    done = rollout(data, *words)
    assert (done.code, done.stdout) == (1, "")
    assert said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert rollout(data, "show").stdout == before


def test_kill_holds_in_the_running_server_at_the_next_request_and_until_it_is_lifted(served: Running) -> None:
    words = ["keys", "create", "--role", "write", "--project", "blog", "--data", str(served.data)]
    key = CliRunner().invoke(app, words).stdout.strip()

    def send() -> dict[str, object]:
        answer = httpx.post(f"{served.address}/api/analytics/events", json=[wire_event()], headers={"X-Write-Key": key})
        body: dict[str, object] = answer.json()
        return body

    def told() -> dict[str, object]:
        body: dict[str, object] = httpx.get(f"{served.address}/api/analytics/config?write_key={key}").json()
        return body

    assert send()["accepted"] == 1
    rollout(served.data, "kill", "--project", "blog", "--queue", "discard")
    killed = send()
    assert (killed["dropped"], killed["config"]) == (1, {"version": 2, "kill": True})
    assert (told()["kill"], told()["queue"], told()["version"]) == (True, "discard", 2)
    rollout(served.data, "kill", "--project", "blog", "--off")
    assert send()["accepted"] == 1
