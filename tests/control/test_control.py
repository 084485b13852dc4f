"""Keys, projects and sessions: what one process changes, another sees within a second of its own clock."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import OperationalError

from twintrack.auth import Role
from twintrack.bounds import Bounds, bounds_of
from twintrack.clock import iso
from twintrack.control.access import signins
from twintrack.control.control import Control
from twintrack.control.erasures import Erasures, Subject
from twintrack.control.rollout import Rollout
from twintrack.control.sessions import Session
from twintrack.control.tables import keys
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
    return control.sessions.open(Session(control.list_keys()[0]["id"], "", SHOP), days=14)


def test_session_names_its_key_until_it_ends_by_the_clock(here: Control, there: Control, clock: ManualClock) -> None:
    secret = signed_in(there)
    clock.advance(1)
    found = here.session(secret)
    assert found is not None and found.role is Role.OWNER
    for _ in range(28):
        clock.advance(43_100)
        assert here.session(secret) is not None
    clock.advance(2_799)
    assert here.session(secret) is None


def test_session_that_is_not_used_ends_and_use_is_written_down_once_a_minute(here: Control, clock: ManualClock) -> None:
    secret = signed_in(here)
    clock.advance(12 * 3600 - 1)
    assert here.session(secret) is not None
    clock.advance(12 * 3600 - 1)
    assert here.session(secret) is not None
    clock.advance(12 * 3600)
    assert here.session(secret) is None


def test_session_takes_the_place_of_the_one_before(here: Control) -> None:
    first = signed_in(here)
    again = here.sessions.open(Session(here.list_keys()[0]["id"], "", SHOP), days=14, instead_of=first)
    assert again != first
    assert here.session(first) is None and here.session(again) is not None


def test_session_ends_with_its_key_at_once_and_everywhere(here: Control, there: Control) -> None:
    secret = signed_in(here)
    there.revoke_key(there.list_keys()[0]["id"])
    assert here.session(secret) is None


def test_session_closed_elsewhere_is_closed(here: Control, there: Control) -> None:
    secret = signed_in(here)
    there.sessions.close(secret)
    assert here.session(secret) is None


def test_secret_of_a_session_is_stored_as_a_hash_and_old_ones_go(here: Control, url: str, clock: ManualClock) -> None:
    secret = signed_in(here)
    engine = create_engine(url)
    with engine.connect() as db:
        assert secret not in {row.hash for row in db.execute(select(signins))}
        clock.advance(15 * 86_400)
        signed_in(here)
        assert db.execute(text("SELECT count(*) FROM signins")).scalar() == 1
    engine.dispose()


def test_key_ends_at_its_time_and_not_before(here: Control, clock: ManualClock) -> None:
    ends = clock.milliseconds() + 60_000
    key = here.create_key(Role.OWNER, *SHOP, Bounds(expires_milliseconds=ends))
    session = here.sessions.open(Session(here.list_keys()[0]["id"], "", SHOP), days=14)
    clock.advance(59.999)
    assert here.principal(key) is not None and here.session(session) is not None
    clock.advance(0.001)
    assert here.principal(key) is None and here.session(session) is None


def test_rotated_key_and_its_successor_both_work_until_the_overlap_ends(
    here: Control, there: Control, clock: ManualClock
) -> None:
    bounds = bounds_of(["https://shop.example"], ["203.0.113.0/24"], None)
    old = here.create_key(Role.WRITE, *SHOP, bounds)
    key_id = here.list_keys()[0]["id"]
    new = there.rotate_key(key_id, 3600)
    clock.advance(1)
    first, second = here.principal(old), here.principal(new)
    assert first is not None and second is not None
    assert second.bounds == bounds and (second.role, second.tenancy) == (first.role, first.tenancy)
    listed = {row["id"]: row for row in here.list_keys()}
    assert listed[second.key_id]["replaces"] == key_id and listed[second.key_id]["expires_at"] is None
    clock.advance(3599)
    assert here.principal(old) is None and here.principal(new) is not None
    with pytest.raises(RequestError):
        here.rotate_key(key_id, 3600)


def test_successor_lives_as_long_as_its_key_was_made_for(here: Control, clock: ManualClock) -> None:
    ninety_days = 90 * 86_400
    here.create_key(Role.READ, *SHOP, Bounds(expires_milliseconds=clock.milliseconds() + ninety_days * 1000))
    clock.advance(80 * 86_400)
    new = here.rotate_key(here.list_keys()[0]["id"], 3600)
    clock.advance(ninety_days - 1)
    assert here.principal(new) is not None
    clock.advance(1)
    assert here.principal(new) is None


def test_key_that_has_a_successor_gives_no_second_one(here: Control, clock: ManualClock) -> None:
    """Its end is the overlap's by then, and says nothing of what it was made for."""
    here.create_key(Role.READ, *SHOP)
    first = here.list_keys()[0]["id"]
    successor = here.principal(here.rotate_key(first, 3600))
    assert successor is not None
    with pytest.raises(RequestError) as caught:
        here.rotate_key(first, 3600)
    assert caught.value.code == "rotated" and successor.key_id in caught.value.hint
    assert here.principal(here.rotate_key(successor.key_id, 3600)) is not None


def test_rotation_never_lengthens_the_life_of_a_key(here: Control, clock: ManualClock) -> None:
    key = here.create_key(Role.READ, *SHOP, Bounds(expires_milliseconds=clock.milliseconds() + 10_000))
    here.rotate_key(here.list_keys()[0]["id"], 3600)
    clock.advance(10)
    assert here.principal(key) is None


def test_last_use_of_a_key_is_listed_here_at_once_and_elsewhere_after_a_minute(
    here: Control, there: Control, clock: ManualClock
) -> None:
    key = here.create_key(Role.WRITE, *SHOP)
    assert here.list_keys()[0]["used_at"] is None
    here.principal(key)
    used = iso(clock.milliseconds())
    assert here.list_keys()[0]["used_at"] == used and there.list_keys()[0]["used_at"] is None
    clock.advance(60)
    here.principal(key)
    until = time.monotonic() + 10
    while there.list_keys()[0]["used_at"] is None:
        assert time.monotonic() < until
    assert there.list_keys()[0]["used_at"] == iso(clock.milliseconds())


def test_last_use_is_kept_over_a_stop(here: Control, url: str, clock: ManualClock) -> None:
    other = Control(url, clock)
    other.principal(here.create_key(Role.WRITE, *SHOP))
    other.close()
    assert here.list_keys()[0]["used_at"] == iso(clock.milliseconds())


def test_failed_statement_tells_the_log_no_value(here: Control) -> None:
    """A request to erase has its person in one of them."""
    with here.engine.begin() as db:
        db.execute(text("DROP TABLE erasures"))
    with pytest.raises(OperationalError) as failed:
        Erasures(here.engine).create("demo", Subject("user", "zqx-ann", ["zqx-ann"], []), "", (), 0)
    assert "erasures" in str(failed.value) and "zqx-ann" not in str(failed.value)
