"""What changed behind a backup and must not come back with it: bounds of keys, people who were removed, ended sessions."""

import shutil
from pathlib import Path

from tests.backup.test_backup import NOON, back_up, put_back
from tests.conftest import Service, running
from tests.test_commands import command
from twintrack.auth import Role
from twintrack.backup.carry import rights_of
from twintrack.backup.rights import Rights
from twintrack.bounds import Bounds
from twintrack.control.sessions import Session
from twintrack.event import Tenancy
from twintrack.privacy.audit import OPERATOR
from twintrack.privacy.chain import check, files, lines
from twintrack.testing import ManualClock

HERE = Tenancy("demo", "local")
PASSWORD = "a long enough one"


def joined(service: Service, email: str, role: Role) -> str:
    """A member with a password; their id."""
    people = service.services.control.people
    secret, _ = people.invite(email, "demo", role, 1)
    return people.accept(secret, PASSWORD)[0]


def test_key_that_was_bound_or_rotated_behind_the_backup_stays_so(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        control = service.services.control
        old = control.principal(service.server_key)
        assert old is not None
        back_up(service, tmp_path / "b.tar")
        control.rotate_key(old.key_id, 60)
        bound = control.create_key(Role.SERVER, *HERE, Bounds(networks=("10.0.0.0/8",)))
    put_back(tmp_path / "b.tar", tmp_path / "data", clock)
    clock.advance(61)
    with running(tmp_path / "data", clock) as service:
        control = service.services.control
        assert control.live_key(old.key_id) is None
        found = control.principal(bound)
        assert found is not None and found.bounds.networks == ("10.0.0.0/8",)


def test_person_who_was_removed_behind_the_backup_stays_out_and_sessions_end(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        control = service.services.control
        first, second = (joined(service, f"{name}@example.com", Role.OWNER) for name in ("ann", "bob"))
        session = control.sessions.open(Session("", second, HERE), 7)
        back_up(service, tmp_path / "b.tar")
        control.people.remove(second, "demo")
        control.people.set_password(first, "another long one")
        third = joined(service, "cid@example.com", Role.VIEWER)
    put_back(tmp_path / "b.tar", tmp_path / "data", clock)
    with running(tmp_path / "data", clock) as service:
        control = service.services.control
        assert control.session(session) is None
        assert control.people.projects(second) == []
        assert control.people.check_password("ann@example.com", PASSWORD) is None
        assert control.people.projects(third) == ["demo"]


def test_older_rights_take_nothing_back_that_the_folder_or_the_backup_knows(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    data, backup = tmp_path / "data", tmp_path / "b.tar"

    def now(service: Service) -> Rights:
        return rights_of(service.services.control.engine, clock.milliseconds())

    with running(data, clock) as service:
        control = service.services.control
        first, second = (joined(service, f"{name}@example.com", Role.OWNER) for name in ("ann", "bob"))
        control.retention.set("demo", "", "", 90)
        known = [control.principal(key) for key in (service.read_key, service.server_key)]
        in_backup, in_folder = (one.key_id for one in known if one is not None)
        service.services.audit.record(OPERATOR, "before")
        older = now(service)
    shutil.copytree(data, tmp_path / "stale", symlinks=True)
    clock.advance(60)
    with running(data, clock) as service:
        control = service.services.control
        control.people.remove(second, "demo")
        control.people.set_password(first, "another long one")
        control.retention.off("demo", "", "")
        control.revoke_key(in_backup)
        back_up(service, backup)
        clock.advance(60)
        control.revoke_key(in_folder)
        service.services.audit.record(OPERATOR, "behind")
        newer = now(service)
    put_back(backup, tmp_path / "new", clock, older, without=True)  # the backup is newer than this file
    put_back(backup, tmp_path / "stale", clock, newer)  # and the file than the folder that is replaced
    put_back(backup, data, clock, older)  # and the folder than both
    for name in ("new", "stale", "data"):
        with running(tmp_path / name, clock) as service:
            control = service.services.control
            assert control.people.projects(second) == [], name
            assert control.people.check_password("ann@example.com", PASSWORD) is None, name
            assert control.retention.policies().rules_of("demo") == [], name
            assert control.live_key(in_backup) is None, name
            assert (control.live_key(in_folder) is None) is (name != "new"), name


def test_restore_takes_no_record_out_of_the_audit_log_and_leaves_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as service:
        service.services.audit.record(OPERATOR, "before")
        back_up(service, tmp_path / "b.tar")
        service.services.audit.record(OPERATOR, "behind")
    done = command(data, "restore", "--from", str(tmp_path / "b.tar"), "--replace")
    assert done.returncode == 0, done.stderr
    kept = [line.entry for file in files(data / "audit") for line in lines(file) if line.entry is not None]
    acts = [(entry.what, entry.outcome) for entry in kept if entry.role == "operator"]
    assert acts == [
        ("before", "done"),
        ("backup", "done"),
        ("behind", "done"),
        ("restore", "begun"),
        ("restore", "done"),
    ]
    assert check(line for file in files(data / "audit") for line in lines(file)).fault is None


def test_restore_over_another_chain_keeps_both(tmp_path: Path) -> None:
    for name in ("data", "other"):
        with running(tmp_path / name) as service:
            service.services.audit.record(OPERATOR, name)
            back_up(service, tmp_path / f"{name}.tar")
    put_back(tmp_path / "data.tar", tmp_path / "other", ManualClock(NOON), without=True)
    found = {
        line.entry.what: folder.name
        for folder in (tmp_path / "other").glob("audit*")
        for file in files(folder)
        for line in lines(file)
        if line.entry is not None
    }
    assert found["data"] == "audit" and found["other"].startswith("audit-")
