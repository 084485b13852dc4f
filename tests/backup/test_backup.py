"""Backup and restore: what is restored is what was there, nothing twice, nobody back, and what is damaged is refused."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service, running
from tests.e2e.conftest import start
from tests.test_balance import doctor, state_of
from tests.test_commands import command
from twintrack.backup.archive import BackupDamaged, BackupFormat
from twintrack.backup.carry import rights_in
from twintrack.backup.place import MADE, PLACE
from twintrack.backup.restore import restore
from twintrack.backup.rights import Rights
from twintrack.backup.snapshot import take
from twintrack.clock import Clock
from twintrack.load.rollup import compare
from twintrack.privacy.audit import OPERATOR
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, uuid7, wire_event

NOON = 1_770_638_400_000  # 2026-02-09 12:00 UTC
IDS = "SELECT toString(event_id) FROM analytics.events ORDER BY event_id"


def back_up(service: Service, target: Path) -> None:
    s = service.services
    take(s.settings, s.control, s.spool, s.loader, s.store, s.clock, target)
    s.audit.record(OPERATOR, "backup")  # as the command does: by it the folder is known to be the newer one


def put_back(source: Path, data: Path, clock: Clock, *rights: Rights, without: bool = False) -> None:
    data.mkdir(parents=True, exist_ok=True)
    settings = load_settings(data=data, chunk_age_milliseconds=20)
    there = None if without else rights_in(data)
    newer = [*rights, there] if there else rights
    restore(source, settings, newer, clock, lambda _: None, without_rights=without)


def rollups(service: Service) -> list[list[Any]]:
    return service.rows(
        "SELECT event_name, hour, sum(event_count), uniqExactMerge(persons) FROM analytics.events_hourly"
        " GROUP BY ALL ORDER BY ALL"
    )


@pytest.mark.parametrize("name", ["backup.tar", "backup"])
def test_restored_folder_holds_what_was_there_and_takes_nothing_twice(tmp_path: Path, name: str) -> None:
    clock = ManualClock(NOON)
    sent = [wire_event(NOON - i * 3_600_000, event_id=uuid7(NOON), user_id=f"u{i % 5}") for i in range(60)]
    with running(tmp_path / "data", clock) as service:
        service.send(sent[:50])
        service.settle()
        back_up(service, tmp_path / name)
        service.send(sent[50:])  # behind the backup: they are not in it
        ids, counted = service.rows(IDS), rollups(service)
        assert len(ids) == 60
    put_back(tmp_path / name, tmp_path / "new", clock, without=True)
    with running(tmp_path / "new", clock) as service:
        assert len(service.rows(IDS)) == 50
        state = state_of(service)
        assert (state["received"], state["stored"]) == (50, 50)
        again = service.send(sent)
        assert (again["accepted"], again["duplicate"]) in ((10, 50), (60, 0))  # the rest is found in the store
        assert service.rows(IDS) == ids and rollups(service) == counted
        assert compare(service.services.store) == []
        assert doctor(service)["balance"]["ok"]


def test_backup_under_load_is_one_moment_of_spool_and_store(tmp_path: Path) -> None:
    """Whatever was on its way when the picture was taken is there once: in the store, in a chunk or in the log."""
    clock = ManualClock(NOON)
    sent = [wire_event(NOON, event_id=uuid7(NOON)) for _ in range(90)]
    with running(tmp_path / "data", clock) as service:
        for i in range(30):
            service.send(sent[i * 3 : i * 3 + 3])
            if i % 7 == 3:
                back_up(service, tmp_path / f"b{i}.tar")
    for i in range(3, 30, 7):
        put_back(tmp_path / f"b{i}.tar", tmp_path / f"n{i}", clock, without=True)
        with running(tmp_path / f"n{i}", clock) as service:
            state = state_of(service)
            assert state["stored"] == (i + 1) * 3
            service.send(sent)
            assert service.rows("SELECT count(), uniqExact(event_id) FROM analytics.events") == [[90, 90]]
            assert compare(service.services.store) == []


def test_event_that_waits_in_the_log_or_in_quarantine_is_in_the_backup(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([wire_event(NOON, event_value="5")])
        service.settle()
        service.make_the_store_refuse_text_values()
        service.send([wire_event(NOON, event_value="text")])
        service.settle()
        service.services.loader.stop()
        service.send([wire_event(NOON, event_value="7")])
        back_up(service, tmp_path / "b.tar")
    put_back(tmp_path / "b.tar", tmp_path / "new", clock, without=True)
    with running(tmp_path / "new", clock) as service:
        state = state_of(service)
        assert (state["stored"], state["quarantined"]) == (2, 1)
        service.services.spool.replay()  # the table is new and has no constraint
        assert state_of(service)["stored"] == 3


def changed(backup: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """The tar with one member changed."""
    target = backup.with_name("changed.tar")
    with tarfile.open(backup) as old, tarfile.open(target, "w") as new:
        for entry in old:
            file = old.extractfile(entry)
            assert file is not None
            content = file.read()
            if entry.name.startswith(name):
                content = change(content)
                name = "-"  # the first one only
            entry.size = len(content)
            new.addfile(entry, io.BytesIO(content))
    return target


def test_backup_that_is_damaged_newer_or_cut_short_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    data, backup = tmp_path / "data", tmp_path / "b.tar"
    with running(data, clock) as service:
        service.send([wire_event(NOON)])
        service.settle()
        back_up(service, backup)
    held = {p: p.stat().st_mtime_ns for p in data.rglob("*") if p.is_file()}

    def flipped(content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 1])

    def newer(content: bytes) -> bytes:
        return json.dumps({**json.loads(content), "format": 2}).encode()

    def older_time(content: bytes) -> bytes:
        return json.dumps({**json.loads(content), "made_at": "2020-01-01T00:00:00.000Z"}).encode()

    for name in ("control.db", "spool/ledger.db", "spool/log/", "spool/chunks/", "store/events/"):
        with pytest.raises(BackupDamaged) as refused:
            put_back(changed(backup, name, flipped), data, clock)
        assert name.rstrip("/") in refused.value.message
    with pytest.raises(BackupDamaged):
        put_back(changed(backup, "manifest.json", older_time), data, clock)
    with pytest.raises(BackupFormat):
        put_back(changed(backup, "manifest.json", newer), data, clock)
    whole = backup.read_bytes()
    for part in (0, 700, len(whole) // 2, len(whole) - 11_000):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(whole[:part])
        with pytest.raises(BackupDamaged):
            put_back(cut, data, clock)
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*") if p.is_file()} == held


def test_what_expired_since_the_backup_is_not_served_again(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([wire_event(NOON - d * 86_400_000, event_id=uuid7(NOON)) for d in (0, 1, 2)])
        service.settle()
        back_up(service, tmp_path / "b.tar")
        service.services.control.retention.set("demo", "", "", 3)  # behind the backup, and holds after it
    clock.advance(1.5 * 86_400)
    put_back(tmp_path / "b.tar", tmp_path / "data", clock)
    with running(tmp_path / "data", clock) as service:
        assert service.services.store.select("SELECT count() FROM analytics.events").rows[0][0] == 2
        state = state_of_expired(service)
        assert (state["stored"], state["expired"]) == (2, 1)


def state_of_expired(service: Service) -> dict[str, Any]:
    state: dict[str, Any] = service.get("/api/analytics/pipeline").json()
    assert state["balance"]["holds"], state
    return state


def test_key_that_was_revoked_behind_the_backup_stays_revoked(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        old = service.write_key
        back_up(service, tmp_path / "b.tar")
        control = service.services.control
        revoked = control.principal(old)
        assert revoked is not None
        control.revoke_key(revoked.key_id)
    put_back(tmp_path / "b.tar", tmp_path / "data", clock)
    with running(tmp_path / "data", clock) as service:
        assert service.services.control.principal(old) is None


def test_restore_that_is_killed_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    """Killed while it puts things in place, the next start goes on with that."""
    clock = ManualClock(NOON)
    data = tmp_path / "data"
    with running(data, clock) as service:
        service.send([wire_event(NOON)])
        service.settle()
        back_up(service, tmp_path / "b")
        service.send([wire_event(NOON)])
        service.settle()
    (data / PLACE / MADE).mkdir(parents=True)  # before it was ready: the old one
    with running(data, clock) as service:
        assert len(service.rows(IDS)) == 2
    assert not (data / PLACE).exists()
    put_back(tmp_path / "b", tmp_path / "new", clock, without=True)
    for moved_out, moved_in in ((0, 0), (2, 0), (99, 0), (99, 2)):
        shutil.rmtree(data)
        with running(data, clock) as service:
            service.send([wire_event(NOON), wire_event(NOON)])
            service.settle()
        shutil.copytree(tmp_path / "new", data / PLACE / MADE, symlinks=True)
        cut_short(data, moved_out, moved_in)
        with running(data, clock) as service:
            assert len(service.rows(IDS)) == 1, (moved_out, moved_in)
            assert doctor(service)["balance"]["ok"]
        assert not (data / PLACE).exists()


def cut_short(data: Path, moved_out: int, moved_in: int) -> None:
    """As a kill leaves it after so many moves."""
    place = data / PLACE
    (place / "ready").touch()
    (place / "out").mkdir()
    stays = {"lock", PLACE}
    for entry in [e for e in sorted(data.iterdir()) if e.name not in stays][:moved_out]:
        entry.rename(place / "out" / entry.name)
    if moved_in or moved_out > 10:
        (place / "out").rename(place / "old")
    for entry in [e for e in sorted((place / MADE).iterdir()) if e.name not in stays][:moved_in]:
        entry.rename(data / entry.name)


def test_backup_of_a_running_service_and_restore_beside_it(tmp_path: Path) -> None:
    """Both ways: over the socket while it serves, and in the folder itself; restore refuses a live one by code 5."""
    command(tmp_path / "data", "keys", "create", "--role", "owner")
    served = start(tmp_path / "data")
    try:
        assert "files" in served.command("backup", "--to", str(tmp_path / "live.tar"))
        refused = command(tmp_path / "data", "restore", "--from", str(tmp_path / "live.tar"), "--replace")
        assert refused.returncode == 5 and "stop the service" in refused.stderr
        taken = command(tmp_path / "data", "backup", "--to", str(tmp_path / "live.tar"))
        assert taken.returncode == 1 and "there already" in taken.stderr
        served.command("backup", "--rights", "--to", str(tmp_path / "rights.json"))
    finally:
        assert served.stop() == 0
    assert command(tmp_path / "data", "backup", "--to", str(tmp_path / "quiet")).returncode == 0
    holds = command(tmp_path / "data", "restore", "--from", str(tmp_path / "quiet"))
    assert holds.returncode == 1 and "--replace" in holds.stderr
    for source in ("quiet", "live.tar"):
        done = command(tmp_path / "data", "restore", "--from", str(tmp_path / source), "--replace")
        assert done.returncode == 0, done.stderr
    words = ("restore", "--rights", str(tmp_path / "rights.json"), "--from")
    older = command(tmp_path / "elsewhere", *words, str(tmp_path / "quiet"))
    assert older.returncode == 1 and "--without-rights" in older.stderr, older.stderr
    done = command(tmp_path / "elsewhere", *words, str(tmp_path / "live.tar"))
    assert done.returncode == 0, done.stderr
    report = json.loads(command(tmp_path / "elsewhere", "doctor", "--json").stdout)
    assert report["ok"], report


def test_kill_in_mid_backup_leaves_no_backup_and_harms_nothing(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    data = tmp_path / "data"
    with running(data, clock) as service:
        service.send([wire_event(NOON) for _ in range(500)])
        service.settle()
    target = tmp_path / "b.tar"
    process = subprocess.Popen(
        [sys.executable, "-m", "twintrack", "backup", "--to", str(target), "--data", str(data)],
        env={**os.environ, "TWINTRACK_CRASH_POINT": "in_backup"},
        stderr=subprocess.PIPE,
    )
    assert process.wait(60) == -signal.SIGKILL
    assert not target.exists()
    with running(data, clock) as service:
        assert not (data / "backup.partial").exists()
        assert not list((data / "store" / "shadow").glob("twintrack*"))
        assert state_of(service)["stored"] == 500
        back_up(service, target)
    put_back(target, tmp_path / "new", clock, without=True)
    with running(tmp_path / "new", clock) as service:
        assert state_of(service)["stored"] == 500
