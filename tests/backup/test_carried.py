"""What changed behind a backup and must not come back with it: bounds of keys, people who were removed, ended sessions."""

from pathlib import Path
from typing import Any

from tests.backup.test_backup import NOON, back_up, put_back
from tests.conftest import Service, running
from twintrack.auth import Role
from twintrack.bounds import Bounds
from twintrack.control.sessions import Session
from twintrack.event import Tenancy
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
        control: Any = service.services.control
        assert control.session(session) is None
        assert control.people.projects(second) == []
        assert control.people.check_password("ann@example.com", PASSWORD) is None
        assert control.people.projects(third) == ["demo"]
