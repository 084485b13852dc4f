"""What people were promised after a backup was made holds after it is restored: nobody who was erased comes back."""

import base64
import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.backup.test_backup import NOON, back_up, put_back
from tests.conftest import Service, running
from tests.load.test_expiry import everything_in
from tests.privacy.kit import erase
from tests.test_balance import doctor
from twintrack.app import build
from twintrack.auth import Role
from twintrack.backup.archive import BackupDamaged, private
from twintrack.backup.carry import has_projects, rights_of
from twintrack.backup.rights import Rights, read_file, write_file
from twintrack.clock import SystemClock
from twintrack.errors import EncryptionKeyRefused, RequestError
from twintrack.load.rollup import compare
from twintrack.privacy.started import record_start
from twintrack.seal import KeyRing
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, uuid7, wire_event

CLOCK = SystemClock()
CANARY = "zqx-erased-person"


def sent(**fields: Any) -> list[dict[str, Any]]:
    born = CLOCK.milliseconds()
    return [wire_event(born - i * 1000, event_id=uuid7(born), **fields) for i in range(3)]


def names(service: Service) -> list[str]:
    return [row[0] for row in service.rows("SELECT DISTINCT user_id FROM analytics.events ORDER BY 1")]


def before_and_after(tmp_path: Path) -> tuple[list[dict[str, Any]], Path, Path]:
    """A folder whose backup has a person whom it has not itself any more; the person's events, backup, rights."""
    data, backup, rights = tmp_path / "data", tmp_path / "b.tar", tmp_path / "rights.json"
    mine = sent(user_id=CANARY, anonymous_id="browser-1") + sent(anonymous_id="browser-1", message_content=CANARY)
    with running(data) as service:
        service.send(mine, key=service.server_key)
        service.send(sent(user_id="bob", anonymous_id="browser-2"), key=service.server_key)
        service.settle()
        back_up(service, backup)
        erase(service, user_id=CANARY)
        assert names(service) == ["bob"]
        write_file(rights, rights_of(service.services.control.engine, CLOCK.milliseconds()), None)
    return mine, backup, rights


def assert_gone(service: Service, mine: list[dict[str, Any]], folder: Path) -> None:
    assert names(service) == ["bob"]
    again = service.send(mine, key=service.server_key)
    assert again["accepted"] == 0, again
    for table in ("events_daily", "identities"):
        assert service.rows(f"SELECT count() FROM analytics.{table} WHERE user_id = '{CANARY}'") == [[0]]
    assert compare(service.services.store) == []
    report = doctor(service)
    assert report["balance"]["ok"] and report["rollups"]["ok"], report
    end = time.monotonic() + 120
    while CANARY.encode() in everything_in(folder):
        assert time.monotonic() < end, "bytes of the person are still there"
        time.sleep(0.5)
    new = service.send(sent(user_id=CANARY), key=service.server_key)
    assert new["accepted"] == 3  # who comes back is new


def test_backup_from_before_an_erasure_brings_nobody_back_where_it_replaces_the_folder(tmp_path: Path) -> None:
    mine, backup, _ = before_and_after(tmp_path)
    assert CANARY.encode() in backup.read_bytes()
    put_back(backup, tmp_path / "data", CLOCK)
    with running(tmp_path / "data") as service:
        assert_gone(service, mine, tmp_path / "data")


def test_backup_from_before_an_erasure_brings_nobody_back_in_a_new_folder_with_the_rights(tmp_path: Path) -> None:
    mine, backup, rights = before_and_after(tmp_path)
    assert CANARY.encode() not in rights.read_bytes()
    put_back(backup, tmp_path / "new", CLOCK, read_file(rights, None))
    with running(tmp_path / "new") as service:
        assert_gone(service, mine, tmp_path / "new")


def test_withdrawn_consent_that_the_backup_does_not_know_holds_after_it(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        back_up(service, tmp_path / "b.tar")
        word = {"statements": [{"user_id": "ann", "state": "denied"}]}
        headers = {"Authorization": f"Bearer {service.server_key}"}
        said = service.request("POST", "/api/analytics/privacy/consents", json=word, headers=headers)
        assert said.status_code == 200
    put_back(tmp_path / "b.tar", tmp_path / "data", CLOCK)
    with running(tmp_path / "data") as service:
        answer = service.send(sent(user_id="ann"), key=service.server_key)
        assert answer["dropped"] == 3 and answer["results"][0]["code"] == "consent_withdrawn"


def rights_now(service: Service) -> Rights:
    return rights_of(service.services.control.engine, service.services.clock.milliseconds())


def test_restore_is_refused_where_nothing_newer_than_the_backup_says_who_was_erased(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([wire_event(NOON)])
        service.settle()
        older = rights_now(service)
        clock.advance(60)
        back_up(service, tmp_path / "b.tar")
        clock.advance(60)
        newer = rights_now(service)
    for rights in ([], [older]):
        with pytest.raises(RequestError, match="would be back") as refused:
            put_back(tmp_path / "b.tar", tmp_path / "new", clock, *rights)
        assert refused.value.code == "rights_needed"
        assert not (tmp_path / "new" / "control.db").exists() and not (tmp_path / "new" / "store").exists()
    put_back(tmp_path / "b.tar", tmp_path / "new", clock, newer)
    with running(tmp_path / "new", clock) as service:
        assert service.rows("SELECT count() FROM analytics.events") == [[1]]


def test_folder_that_was_only_just_started_promises_nothing_and_takes_no_rule_away(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([wire_event(NOON)])
        service.settle()
        service.services.control.retention.set("demo", "", "", 90)
        back_up(service, tmp_path / "b.tar")
        clock.advance(60)
        newer = rights_now(service)
    clock.advance(60)
    started = build(load_settings(data=tmp_path / "new"), clock)  # the disk was lost, and somebody started the service
    record_start(started.audit, started.control, started.settings, "1")
    started.close()
    with pytest.raises(RequestError, match="would be back"):
        put_back(tmp_path / "b.tar", tmp_path / "new", clock)
    put_back(tmp_path / "b.tar", tmp_path / "new", clock, newer)
    with running(tmp_path / "new", clock) as service:
        assert service.services.control.retention.policies().of("demo") is not None


def test_backup_without_a_project_needs_nothing_that_says_who_was_erased(tmp_path: Path) -> None:
    with running(tmp_path / "data", ManualClock(NOON)) as service:
        for name in ("DELETE FROM keys", "DELETE FROM projects"):
            with service.services.control.engine.begin() as db:
                db.execute(text(name))
        back_up(service, tmp_path / "b.tar")
    put_back(tmp_path / "b.tar", tmp_path / "new", ManualClock(NOON))
    assert not has_projects(tmp_path / "new")


def test_backup_whose_control_data_are_on_a_server_needs_somebody_who_says_who_was_erased(tmp_path: Path) -> None:
    """It has none of them: that is no word about whom they promised what. As one that is restored without their address."""
    clock, control = ManualClock(NOON), f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with running(tmp_path / "data", clock, control=control) as service:
        service.send([wire_event(NOON)])
        service.settle()
        back_up(service, tmp_path / "b.tar")
    with pytest.raises(RequestError, match="would be back"):
        put_back(tmp_path / "b.tar", tmp_path / "new", clock)


def test_file_of_rights_is_private_from_its_first_moment_and_sealed_where_there_is_a_key(tmp_path: Path) -> None:
    ring, other = KeyRing(bytes(32)), KeyRing(bytes(31) + b"1")
    before = os.umask(0)
    try:
        with private(tmp_path / "new") as file:
            assert os.stat(file.fileno()).st_mode & 0o777 == 0o600
        with running(tmp_path / "data") as service:
            service.services.control.people.invite("cid@example.com", "demo", Role.VIEWER, 1)
            rights = rights_now(service)
            secret = base64.b64encode(service.services.control.project("demo").secret)
        write_file(tmp_path / "plain", rights, None)
        write_file(tmp_path / "sealed", rights, ring)
    finally:
        os.umask(before)
    plain, sealed = ((tmp_path / name).read_bytes() for name in ("plain", "sealed"))
    assert b"cid@example.com" in plain and secret not in plain  # nobody can try a guess on the hashes in it
    assert not [word for word in (b"cid@example.com", b"demo", secret) if word in sealed]
    assert read_file(tmp_path / "sealed", ring) == rights
    for ring_given in (None, other):
        with pytest.raises(EncryptionKeyRefused):
            read_file(tmp_path / "sealed", ring_given)
    (tmp_path / "changed").write_bytes(plain.replace(b"viewer", b"owner"))
    with pytest.raises(BackupDamaged):
        read_file(tmp_path / "changed", None)


def test_project_that_is_younger_than_the_backup_keeps_its_secret_by_a_file_that_does_not_show_it(
    tmp_path: Path,
) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        back_up(service, tmp_path / "b.tar")
        clock.advance(60)
        later = service.services.control.ensure_project("later").secret
        write_file(tmp_path / "rights.json", rights_now(service), None)
    with running(tmp_path / "other", clock) as service:
        back_up(service, tmp_path / "other.tar")
    rights = read_file(tmp_path / "rights.json", None)
    put_back(tmp_path / "b.tar", tmp_path / "new", clock, rights)
    with running(tmp_path / "new", clock) as service:
        assert service.services.control.project("later").secret == later
    with pytest.raises(RequestError, match="not of one installation"):
        put_back(tmp_path / "other.tar", tmp_path / "mixed", clock, rights)
