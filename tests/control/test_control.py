"""Keys, projects and sessions: what one process changes, another sees within a second of its own clock."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text, update

from twintrack.auth import Role
from twintrack.control.control import Control
from twintrack.control.tables import keys, projects, sessions
from twintrack.errors import RequestError
from twintrack.testing import ManualClock


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'control.db'}"


@pytest.fixture
def here(url: str, clock: ManualClock) -> Iterator[Control]:
    """The control of the process under test."""
    control = Control(url, clock)
    yield control
    control.close()


@pytest.fixture
def there(url: str, here: Control, clock: ManualClock) -> Iterator[Control]:
    """The control of another process on the same database."""
    control = Control(url, clock)
    yield control
    control.close()


def test_key_made_elsewhere_is_seen_within_a_second(here: Control, there: Control, clock: ManualClock) -> None:
    here.ensure_project("shop")
    key = there.create_key(Role.WRITE, "shop", "live")
    clock.advance(1)
    found = here.principal(key)
    assert found is not None
    assert (found.role, *found.tenancy) == (Role.WRITE, "shop", "live")


def test_key_revoked_elsewhere_ends_within_a_second(here: Control, there: Control, clock: ManualClock) -> None:
    key = here.create_key(Role.SERVER, "shop", "live")
    assert here.principal(key) is not None
    there.revoke_key(there.list_keys()[0]["id"])
    assert there.principal(key) is None
    clock.advance(1)
    assert here.principal(key) is None


def test_within_the_second_no_request_asks_the_database(here: Control, there: Control, clock: ManualClock) -> None:
    """The cache is what keeps the control database off the hot path; without it this key would be seen at once."""
    here.ensure_project("shop")
    key = there.create_key(Role.WRITE, "shop", "live")
    clock.advance(0.9)
    assert here.principal(key) is None


def test_switch_thrown_elsewhere_is_seen_within_a_second(here: Control, url: str, clock: ManualClock) -> None:
    before = here.ensure_project("shop")
    assert not before.kill
    engine = create_engine(url)
    with engine.begin() as db:
        db.execute(update(projects).values(kill=1, config_version=before.config_version + 1, share=0.5))
    engine.dispose()
    clock.advance(1)
    after = here.project("shop")
    assert (after.kill, after.config_version, after.share) == (True, before.config_version + 1, 0.5)


def test_project_made_elsewhere_is_found_at_once(here: Control, there: Control) -> None:
    here.ensure_project("shop")
    secret = there.ensure_project("blog").secret
    assert here.project("blog").secret == secret


def test_secret_of_a_project_is_its_own_and_never_changes(here: Control, there: Control) -> None:
    first, second = here.ensure_project("shop").secret, here.ensure_project("blog").secret
    assert len(first) == 32 and first != second
    assert there.ensure_project("shop").secret == first


def test_processes_that_make_one_project_at_once_share_it(url: str, here: Control) -> None:
    barrier = threading.Barrier(6)
    secrets: list[bytes] = []
    faults: list[BaseException] = []

    def make() -> None:
        control = Control(url, ManualClock())
        try:
            barrier.wait(30)
            secrets.append(control.ensure_project("shop").secret)
        except BaseException as error:
            faults.append(error)
        finally:
            control.close()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert len(secrets) == 6 and len(set(secrets)) == 1


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "é", "a\n", "x" * 64, "a.b", "'; DROP TABLE keys"])
def test_name_that_is_none_makes_nothing(here: Control, name: str) -> None:
    with pytest.raises(RequestError):
        here.create_key(Role.WRITE, name, "live")
    with pytest.raises(RequestError):
        here.create_key(Role.WRITE, "shop", name)
    assert here.list_keys() == []


def test_no_key_but_a_public_one_can_be_read_again(here: Control, url: str) -> None:
    made = {role: here.create_key(role, "shop", "live") for role in Role}
    listed = {row["role"]: row for row in here.list_keys()}
    assert {role for role in Role if listed[role]["write_key"]} == {Role.WRITE}
    assert listed["write"]["write_key"] == made[Role.WRITE]
    engine = create_engine(url)
    with engine.connect() as db:
        stored = " ".join(str(cell) for row in db.execute(select(keys)) for cell in row)
    engine.dispose()
    assert [role for role, key in made.items() if key in stored] == [Role.WRITE]
    assert all(key.startswith(listed[role]["prefix"]) and key != listed[role]["prefix"] for role, key in made.items())


def test_keys_are_listed_for_one_project_or_for_all(here: Control) -> None:
    for project in ("shop", "shop", "blog"):
        here.create_key(Role.READ, project, "live")
    assert len(here.list_keys("shop")) == 2 and len(here.list_keys()) == 3 and here.list_keys("none") == []


def test_revoking_twice_or_what_is_unknown_is_refused(here: Control) -> None:
    here.create_key(Role.READ, "shop", "live")
    (listed,) = here.list_keys()
    here.revoke_key(listed["id"])
    assert here.list_keys()[0]["revoked_at"] is not None
    for unknown in (listed["id"], "nonsense"):
        with pytest.raises(RequestError) as refused:
            here.revoke_key(unknown)
        assert refused.value.status == 404


@pytest.mark.parametrize("key", ["", "nonsense", "tt_owner_", "\ud800", "x" * 100_000])
def test_what_is_no_key_is_nobody(here: Control, key: str) -> None:
    here.create_key(Role.OWNER, "shop", "live")
    assert here.principal(key) is None
    assert here.session(key) is None


def signed_in(control: Control) -> str:
    control.create_key(Role.OWNER, "shop", "live")
    return control.open_session(control.list_keys()[0]["id"], days=14)


def test_session_names_its_key_until_it_ends_by_the_clock(here: Control, there: Control, clock: ManualClock) -> None:
    secret = signed_in(there)
    clock.advance(1)
    found = here.session(secret)
    assert found is not None and found.role is Role.OWNER
    clock.advance(14 * 86_400 - 2)
    assert here.session(secret) is not None
    clock.advance(2)
    assert here.session(secret) is None


def test_session_ends_with_its_key_at_once_and_everywhere(here: Control, there: Control) -> None:
    secret = signed_in(here)
    there.revoke_key(there.list_keys()[0]["id"])
    assert here.session(secret) is None


def test_session_closed_elsewhere_is_closed(here: Control, there: Control) -> None:
    secret = signed_in(here)
    there.close_session(secret)
    assert here.session(secret) is None


def test_secret_of_a_session_is_stored_as_a_hash_and_old_ones_go(here: Control, url: str, clock: ManualClock) -> None:
    secret = signed_in(here)
    engine = create_engine(url)
    with engine.connect() as db:
        assert secret not in {row.hash for row in db.execute(select(sessions))}
        clock.advance(15 * 86_400)
        signed_in(here)
        assert db.execute(text("SELECT count(*) FROM sessions")).scalar() == 1
    engine.dispose()
