"""Backups of a sealed folder: opened by its key, whatever became of the key since, and by nothing else."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from tests.backup.test_backup import NOON, back_up
from tests.conftest import Service, running
from tests.test_balance import state_of
from twintrack.backup.archive import BackupDamaged
from twintrack.backup.carry import rights_in
from twintrack.backup.restore import restore
from twintrack.errors import EncryptionKeyRefused, RequestError
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, wire_event

KEY, OTHER = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))


def put_back(source: Path, data: Path, clock: ManualClock, **settings: Any) -> None:
    data.mkdir(parents=True, exist_ok=True)
    made = load_settings(data=data, chunk_age_milliseconds=20, **settings)
    there = rights_in(data)
    restore(source, made, [there] if there else [], clock, lambda _: None, without_rights=there is None)


def held(service: Service) -> list[tuple[str, int]]:
    return [tuple(row) for row in service.rows("SELECT project, count() FROM analytics.events GROUP BY 1 ORDER BY 1")]


def test_sealed_backup_opens_with_its_key_alone_and_also_behind_a_change_of_keys(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    data = tmp_path / "data"
    with running(data, clock, encryption_key=KEY) as service:
        service.send([wire_event(NOON, user_id="ann")])
        service.settle()
        service.services.loader.stop()
        service.send([wire_event(NOON, user_id="waits in the log")])
        back_up(service, tmp_path / "b.tar")
        with pytest.raises(RequestError, match="one sealed file"):
            back_up(service, tmp_path / "b")
    whole = (tmp_path / "b.tar").read_bytes()
    assert not [word for word in (b"waits in the log", b"manifest.json", b"SQLite format") if word in whole]
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:-50] + bytes(50)):
        (tmp_path / "damaged.tar").write_bytes(damaged)
        with pytest.raises(BackupDamaged):
            put_back(tmp_path / "damaged.tar", tmp_path / "new", clock, encryption_key=KEY)
    for wrong in ({}, {"encryption_key": OTHER}):
        with pytest.raises(EncryptionKeyRefused):
            put_back(tmp_path / "b.tar", tmp_path / "new", clock, **wrong)
        assert not (tmp_path / "new" / "control.db").exists()
    put_back(tmp_path / "b.tar", tmp_path / "new", clock, encryption_key=KEY)
    with running(tmp_path / "new", clock, encryption_key=KEY) as service:
        assert held(service) == [("demo", 2)]
    # The live folder has another key since, another data key, and a project whose secret is sealed by that.
    with running(data, clock, encryption_key=OTHER, encryption_key_old=KEY) as service:
        service.services.control.new_data_key()
        service.services.control.ensure_project("later")
    put_back(tmp_path / "b.tar", data, clock, encryption_key=OTHER, encryption_key_old=KEY)
    with running(data, clock, encryption_key=OTHER) as service:
        assert held(service) == [("demo", 2)]
        assert len(service.services.control.project("later").secret) == 32
        assert state_of(service)["stored"] == 2


def test_plain_backup_comes_back_to_a_folder_that_was_sealed_since(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    data = tmp_path / "data"
    with running(data, clock) as service:
        service.services.loader.stop()
        service.send([wire_event(NOON, user_id="waits in the log")])
        secret = service.services.control.project("demo").secret
        back_up(service, tmp_path / "b.tar")
    with running(data, clock, encryption_key=KEY) as service:
        service.settle()
    put_back(tmp_path / "b.tar", data, clock, encryption_key=KEY)
    with running(data, clock, encryption_key=KEY) as service:
        assert held(service) == [("demo", 1)]
        assert service.services.control.project("demo").secret == secret
    assert not [p for p in (data / "spool").rglob("*") if p.is_file() and b"waits in" in p.read_bytes()]
