"""Encryption at rest as an operator meets it: a process with a key, another one, none, a new one."""

import base64
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.test_kill import UNLIMITED, Sender, assert_each_once
from twintrack.testing import wire_event

KEY, OTHER = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
MARKER = "canary1729"


def sealed(key: str = KEY, old: str = "") -> dict[str, str]:
    return {"TWINTRACK_ENCRYPTION_KEY": key, "TWINTRACK_ENCRYPTION_KEY_OLD": old}


def run(data: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twintrack", *words, "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def places_of(data: Path, marker: str) -> set[str]:
    """Top folders or files of a data folder, other than the store, whose bytes hold a marker."""
    return {
        file.relative_to(data).parts[0]
        for file in data.rglob("*")
        if file.is_file() and file.relative_to(data).parts[0] != "store" and marker.encode() in file.read_bytes()
    }


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sealed events that wait: the service was killed before it loaded them."""
    folder = tmp_path_factory.mktemp("waiting") / "data"
    key = run(folder, "keys", "create", "--role", "write", **sealed()).stdout.strip()
    running = start(folder, **sealed(), TWINTRACK_CRASH_POINT="before_answer:1")
    with pytest.raises(httpx.HTTPError), httpx.Client(base_url=running.address, headers={"X-Write-Key": key}) as client:
        client.post("/api/analytics/events", json=[wire_event(user_id=MARKER, event_metadata={"note": MARKER})])
    assert running.process.wait(60) == -signal.SIGKILL
    assert list((folder / "spool" / "log").iterdir())
    return folder


@pytest.fixture
def data(waiting: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(waiting, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock", "store")))


def test_folder_of_a_killed_service_shows_nothing_and_loads_with_its_key(data: Path) -> None:
    assert places_of(data, MARKER) == set()
    running = start(data, **sealed())
    try:
        assert_stored(running)
    finally:
        assert running.stop() == 0
    assert places_of(data, MARKER) == set()


def assert_stored(running: Running) -> None:
    rows = ""
    for _ in range(100):
        rows = running.command("query", "SELECT user_id FROM events", "--format", "csv")
        if MARKER in rows:
            return
    raise AssertionError(rows)


@pytest.mark.parametrize("key,told", [("", "none is given"), (OTHER, "the one given is")], ids=["none", "wrong"])
def test_start_without_the_key_is_refused_by_its_own_code_and_harms_nothing(data: Path, key: str, told: str) -> None:
    before = {file: file.read_bytes() for file in (data / "spool").rglob("*") if file.is_file()}
    for words in (["serve", "--port", "0"], ["keys", "list"]):
        done = run(data, *words, **sealed(key))
        assert done.returncode == 6, done.stderr
        assert told in done.stderr and "TWINTRACK_ENCRYPTION_KEY" in done.stderr
        assert KEY not in done.stderr and (not key or key not in done.stderr)
    assert {file: file.read_bytes() for file in (data / "spool").rglob("*") if file.is_file()} == before


def test_key_is_changed_by_one_start_with_both_and_the_data_stays_readable(data: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text(OTHER + "\n")
    both = {"TWINTRACK_ENCRYPTION_KEY_FILE": str(tmp_path / "new"), "TWINTRACK_ENCRYPTION_KEY_OLD": KEY}
    assert run(data, "keys", "list", **both).returncode == 0
    assert run(data, "keys", "list", **sealed()).returncode == 6
    running = start(data, **sealed(OTHER))
    try:
        assert_stored(running)
        shown = running.command("encryption", "show").splitlines()
        assert len(shown) == 2
        assert len(running.command("encryption", "rotate").splitlines()) == 3
    finally:
        assert running.stop() == 0


def test_rotate_says_that_nothing_is_sealed_where_there_is_no_key(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "encryption", "rotate")
    assert (done.returncode, "nothing is sealed" in done.stderr) == (1, True)


def test_key_that_is_none_is_refused_without_being_shown(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "keys", "list", TWINTRACK_ENCRYPTION_KEY="not-a-key-1729")
    assert done.returncode == 1
    assert "TWINTRACK_ENCRYPTION_KEY" in done.stderr and "not-a-key" not in done.stderr


def test_sealed_service_killed_at_random_keeps_each_acknowledged_event_once(tmp_path: Path) -> None:
    data, sender = tmp_path / "data", Sender(11)
    key = ""
    for point in ("after_write:3", "after_chunk_write:2", "before_forget:2"):
        key = key or run(data, "keys", "create", "--role", "write", **sealed()).stdout.strip()
        dying = start(data, **sealed(), **UNLIMITED, TWINTRACK_CRASH_POINT=point)
        sender.send_until_death(dying, key)
        assert dying.process.wait(60) == -signal.SIGKILL
    running = start(data, **sealed(), TWINTRACK_QUERY_RESULT_ROWS=str(1 << 30))
    try:
        assert_each_once(running, sender)
    finally:
        assert running.stop() == 0
