"""Keys, projects and sessions: what one process changes, another sees within a second of its own clock."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from twintrack.auth import Role
from twintrack.control.control import Control
from twintrack.control.rollout import Rollout
from twintrack.control.tables import keys, sessions
from twintrack.errors import RequestError
from twintrack.event import Tenancy
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


SHOP = Tenancy("shop", "live")


def test_switch_thrown_elsewhere_is_seen_within_a_second(here: Control, there: Control, clock: ManualClock) -> None:
    here.create_key(Role.WRITE, *SHOP)
    assert here.rollout(SHOP) == Rollout()
    there.change_rollout(SHOP, {"kill": True, "share": 0.5})
    clock.advance(1)
    assert here.rollout(SHOP) == Rollout(version=2, kill=True, share=0.5)


def test_rollout_of_one_environment_leaves_the_others(here: Control) -> None:
    for environment in ("live", "test"):
        here.create_key(Role.WRITE, "shop", environment)
    here.change_rollout(SHOP, {"share": 0.1})
    assert [(*tenancy, rollout.share) for tenancy, rollout in here.list_rollouts()] == [
        ("shop", "live", 0.1),
        ("shop", "test", 1.0),
    ]


def test_rollout_of_an_unknown_environment_is_refused_and_names_those_that_are_there(here: Control) -> None:
    here.create_key(Role.WRITE, *SHOP)
    with pytest.raises(RequestError) as refused:
        here.change_rollout(Tenancy("shop", "prodd"), {"kill": True})
    assert "shop/live" in (refused.value.hint or "")
    assert here.list_rollouts() == [(SHOP, Rollout())]


def test_changes_made_at_once_all_hold_and_each_has_its_version(url: str, here: Control) -> None:
    """Six processes change a rate of their own; none overwrites another."""
    here.create_key(Role.WRITE, *SHOP)
    barrier = threading.Barrier(6)
    versions: list[int] = []

    def change(name: str) -> None:
        control = Control(url, ManualClock())
        try:
            barrier.wait(30)
            versions.append(control.change_rollout(SHOP, {"sampling": {"events": {name: 0.5}}}).version)
        finally:
            control.close()

    threads = [threading.Thread(target=change, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(versions) == [2, 3, 4, 5, 6, 7]
    ((_, rollout),) = here.list_rollouts()
    assert rollout.sampling.events == dict.fromkeys("abcdef", 0.5)


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
