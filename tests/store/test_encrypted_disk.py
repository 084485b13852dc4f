"""The embedded store on an encrypted disk: no byte of it shows a row, and only its key opens it."""

from pathlib import Path

import pytest

from tests.conftest import running
from twintrack.errors import EncryptionKeyRefused, SettingsError
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
        sorted_rows = "SELECT concat(user_id, toString(arrayJoin(range(300000)))) AS x FROM analytics.events ORDER BY x"
        spilling = {"max_bytes_before_external_sort": 1 << 20}
        assert service.services.store.select(f"SELECT count() FROM ({sorted_rows})", None, spilling).rows == [(300000,)]
        assert files_with(data) == []
    assert files_with(data) == []
    with running(data, encryption_key=KEY) as again:  # once made so, it needs no setting
        assert again.rows("SELECT user_id FROM analytics.events") == [[MARKER]]


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
