"""The embedded store on an encrypted disk: no byte of it shows a row, and only its key opens it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import running
from twintrack.errors import EncryptionKeyRefused, SettingsError, StoreError
from twintrack.seal import KeyRing
from twintrack.store.disk import disk_key
from twintrack.testing import wire_event

KEY, OTHER = "17" * 32, "18" * 32
MARKER = "canary1729"


def files_with(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and MARKER.encode() in file.read_bytes()]


def event() -> dict[str, object]:
    return wire_event(user_id=MARKER, event_name=MARKER, session_id=MARKER, message_content=f"hello {MARKER}")


def test_no_byte_of_the_data_folder_shows_a_row(tmp_path: Path) -> None:
    """Beside it the same in a folder without a key, where it shows: the search would find it."""
    with running(tmp_path / "plain") as plain:
        plain.send([event()])
        plain.settle()
    assert files_with(tmp_path / "plain" / "store")
    data = tmp_path / "data"
    with running(data, encryption_key=KEY, store_encrypted=True) as service:
        service.send([event()])
        assert service.rows("SELECT count() FROM analytics.events") == [[1]]
    assert files_with(data) == []
    with running(data, encryption_key=KEY) as again:  # once made so, it needs no setting
        assert again.rows("SELECT user_id FROM analytics.events") == [[MARKER]]


@contextmanager
def spilt(store: Path) -> Iterator[set[str]]:
    """The names of files that lay in the engine's folder for what spills, meanwhile."""
    seen, done = set[str](), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(file.name for file in (store / "tmp").iterdir())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()


def test_question_that_would_spill_is_refused_on_an_encrypted_disk(tmp_path: Path) -> None:
    """The engine's folder for what spills is not on that disk. Beside it a folder without a key, where it spills."""
    gathered = (
        "SELECT sum(length(g)) FROM (SELECT groupArray(number) AS g FROM numbers(5000000) GROUP BY toString(number))"
    )
    ratios = "SELECT DISTINCT value FROM system.settings WHERE name LIKE 'max_bytes_ratio_before_external%'"
    bounds: dict[str, Any] = {"query_memory_bytes": 300 << 20, "query_seconds": 120.0}
    with running(tmp_path / "plain", **bounds) as plain:
        with spilt(tmp_path / "plain" / "store") as seen:
            assert asyncio.run(plain.services.executor.run(gathered))["rows"] == [[5_000_000]]
        assert seen and plain.rows(ratios) == [["0.5"]]
    with running(tmp_path / "data", encryption_key=KEY, store_encrypted=True, **bounds) as service:
        with spilt(tmp_path / "data" / "store") as seen, pytest.raises(StoreError, match="query_memory_bytes"):
            asyncio.run(service.services.executor.run(gathered))
        assert not seen and service.rows(ratios) == [["0"]]


def test_key_is_rewrapped_by_a_new_one_and_refused_by_another(tmp_path: Path) -> None:
    one, other = KeyRing(bytes.fromhex(KEY)), KeyRing(bytes.fromhex(OTHER))
    key = disk_key(tmp_path / "store", one, wanted=True)
    assert key is not None and key not in (tmp_path / "store" / "disk.key").read_bytes()
    for ring in (other, None):
        with pytest.raises(EncryptionKeyRefused):
            disk_key(tmp_path / "store", ring, wanted=False)
    assert disk_key(tmp_path / "store", KeyRing(bytes.fromhex(OTHER), [bytes.fromhex(KEY)]), wanted=False) == key
    assert disk_key(tmp_path / "store", other, wanted=True) == key


def test_store_that_stands_there_in_plain_is_refused_rather_than_left_so_in_silence(tmp_path: Path) -> None:
    ring = KeyRing(bytes.fromhex(KEY))
    assert disk_key(tmp_path / "store", ring, wanted=False) is None
    with pytest.raises(SettingsError, match="ENCRYPTION_KEY"):
        disk_key(tmp_path / "store", None, wanted=True)
    (tmp_path / "store" / "metadata").mkdir(parents=True)
    with pytest.raises(SettingsError, match="without encryption"):
        disk_key(tmp_path / "store", ring, wanted=True)


def test_key_of_the_disk_is_not_shown_by_the_processes_environment_or_words(tmp_path: Path) -> None:
    with running(tmp_path / "data", encryption_key=KEY, store_encrypted=True):
        key = disk_key(tmp_path / "data" / "store", KeyRing(bytes.fromhex(KEY)), wanted=False)
        assert key is not None
        shown = b""
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                for name in ("environ", "cmdline"):
                    try:
                        shown += (process / name).read_bytes()
                    except OSError:
                        continue
        assert b"twintrack.store.engine" in shown
        assert key.hex().encode() not in shown
