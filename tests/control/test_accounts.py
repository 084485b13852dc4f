"""People: invited by a link that is good once, signed in by what they know, and never without an owner."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import create_engine, text

from twintrack.auth import Role
from twintrack.control import accounts
from twintrack.control.control import Control
from twintrack.control.sessions import Session
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.testing import ManualClock

PASSWORD = "correct horse battery staple"
SHOP = Tenancy("shop", "production")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'control.db'}"


@pytest.fixture
def control(url: str, clock: ManualClock) -> Iterator[Control]:
    control = Control(url, clock)
    for project in ("shop", "blog"):
        control.ensure_project(project)
    yield control
    control.close()


def join(
    control: Control, email: str, role: Role = Role.ANALYST, password: str = PASSWORD, project: str = "shop"
) -> str:
    secret, _ = control.people.invite(email, project, role, 72)
    return control.people.accept(secret, password)[0]


def test_invited_person_becomes_what_they_were_invited_as(control: Control) -> None:
    secret, _ = control.people.invite(" Ann@Example.com ", "shop", Role.ANALYST, 72)
    assert control.people.invitation(secret) == {
        "kind": "invite",
        "email": "ann@example.com",
        "project": "shop",
        "role": "analyst",
    }
    assert [p["state"] for p in control.people.list("shop")] == ["invited"]
    person_id, project = control.people.accept(secret, PASSWORD)
    found = control.people.principal(person_id, SHOP)
    assert found is not None and project == "shop"
    assert (found.role, found.person, found.tenancy) == (Role.ANALYST, "ann@example.com", SHOP)
    assert [p["state"] for p in control.people.list("shop")] == ["member"]
    assert control.people.principal(person_id, Tenancy("blog", "production")) is None


def test_link_is_good_once_and_until_it_ends(control: Control, clock: ManualClock) -> None:
    secret, _ = control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    control.people.accept(secret, PASSWORD)
    late, _ = control.people.invite("bob@example.com", "shop", Role.VIEWER, 1)
    clock.advance(3600)
    for bad in (secret, late, "nonsense", "", "\ud800"):
        for ask in (lambda s: control.people.accept(s, PASSWORD), control.people.invitation):
            with pytest.raises(RequestError) as caught:
                ask(bad)
            assert (caught.value.code, caught.value.status) == ("bad_link", 401)


def test_two_who_use_one_link_at_once_make_one_member(control: Control, url: str, clock: ManualClock) -> None:
    secret, _ = control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    barrier, won = threading.Barrier(4), []

    def use() -> None:
        other = Control(url, clock)
        try:
            barrier.wait(30)
            won.append(other.people.accept(secret, "")[0])
        except Exception:  # refused, or the database was busy: either way not let in
            pass
        finally:
            other.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1


def test_new_invitation_ends_the_one_before(control: Control) -> None:
    first, _ = control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    second, _ = control.people.invite("ann@example.com", "shop", Role.ADMIN, 1)
    with pytest.raises(RequestError):
        control.people.accept(first, PASSWORD)
    control.people.accept(second, PASSWORD)


def test_password_signs_in_and_another_does_not(control: Control) -> None:
    person_id = join(control, "ann@example.com")
    assert control.people.check_password("Ann@example.com ", PASSWORD) == person_id
    for email, password in (
        ("ann@example.com", PASSWORD + " "),
        ("ann@example.com", ""),
        ("ann@example.com", "x" * 100_000),
        ("nobody@example.com", PASSWORD),
        ("", ""),
    ):
        assert control.people.check_password(email, password) is None


def test_person_without_a_password_comes_by_link_alone(control: Control) -> None:
    person_id = join(control, "ann@example.com", password="")
    assert control.people.check_password("ann@example.com", "") is None
    secret, _ = control.people.sign_in_link(person_id, "shop", 60)
    assert control.people.accept(secret, "") == (person_id, "shop")


def test_link_never_changes_a_password_that_is_there(control: Control) -> None:
    """Else whoever may invite could take over an account that is a member elsewhere too."""
    person_id = join(control, "ann@example.com", Role.OWNER)
    secret, _ = control.people.invite("ann@example.com", "blog", Role.VIEWER, 1)
    control.people.accept(secret, "another password entirely")
    secret, _ = control.people.sign_in_link(person_id, "shop", 60)
    control.people.accept(secret, "another password entirely")
    assert control.people.check_password("ann@example.com", "another password entirely") is None
    assert control.people.check_password("ann@example.com", PASSWORD) == person_id
    assert sorted(control.people.projects(person_id)) == ["blog", "shop"]
    without = join(control, "bob@example.com", Role.OWNER, password="")
    join(control, "bob@example.com", Role.VIEWER, project="blog", password="another password entirely")
    assert not control.people.has_password(without)


def test_changed_password_ends_sessions_and_short_ones_are_refused(control: Control) -> None:
    person_id = join(control, "ann@example.com")
    session = control.sessions.open(Session("", person_id, SHOP), 14)
    assert control.session(session) is not None
    with pytest.raises(RequestError, match="12 to 200"):
        control.people.set_password(person_id, "short")
    control.people.set_password(person_id, "a wholly new password")
    assert control.session(session) is None
    assert control.people.check_password("ann@example.com", PASSWORD) is None


def test_secrets_are_kept_as_hashes_alone(control: Control, url: str) -> None:
    secret, _ = control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    person_id = join(control, "bob@example.com")
    session = control.sessions.open(Session("", person_id, SHOP), 14)
    engine = create_engine(url)
    with engine.connect() as db:
        stored = " ".join(
            str(cell)
            for table in ("people", "members", "links", "signins")
            for row in db.execute(text(f"SELECT * FROM {table}"))
            for cell in row
        )
    engine.dispose()
    assert "$argon2id$" in stored
    assert not any(hidden in stored for hidden in (secret, session, PASSWORD))


def test_role_holds_from_the_next_request_on_and_removal_ends_sessions(control: Control) -> None:
    person_id = join(control, "ann@example.com", Role.VIEWER)
    session = control.sessions.open(Session("", person_id, SHOP), 14)
    control.people.change_role(person_id, "shop", Role.ADMIN)
    found = control.session(session)
    assert found is not None and found.role is Role.ADMIN
    control.people.remove(person_id, "shop")
    assert control.session(session) is None
    assert control.people.check_password("ann@example.com", PASSWORD) is None
    assert control.people.list("shop") == []


def test_last_owner_stays_whichever_way_they_are_to_go(control: Control) -> None:
    ann = join(control, "ann@example.com", Role.OWNER)
    for way in (
        lambda: control.people.remove(ann, "shop"),
        lambda: control.people.change_role(ann, "shop", Role.ADMIN),
    ):
        with pytest.raises(RequestError) as caught:
            way()
        assert (caught.value.code, caught.value.status) == ("last_owner", 409)
    assert control.people.role_of(ann, "shop") is Role.OWNER
    bob = join(control, "bob@example.com", Role.OWNER)
    join(control, "bob@example.com", Role.OWNER, project="blog")
    control.people.remove(ann, "shop")
    with pytest.raises(RequestError):
        control.people.remove(bob, "shop")


def test_owners_who_remove_each_other_at_once_leave_one(control: Control, url: str, clock: ManualClock) -> None:
    for _ in range(5):
        here = {p["email"]: p["id"] for p in control.people.list("shop")}
        ann, bob = (
            here.get(email) or join(control, email, Role.OWNER) for email in ("ann@example.com", "bob@example.com")
        )
        barrier = threading.Barrier(2)

        def remove(person_id: str, barrier: threading.Barrier = barrier) -> None:
            other = Control(url, clock)
            try:
                barrier.wait(30)
                other.people.remove(person_id, "shop")
            except Exception:  # refused, or the database was busy
                pass
            finally:
                other.close()

        threads = [threading.Thread(target=remove, args=(each,)) for each in (ann, bob)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [p["role"] for p in control.people.list("shop") if p["state"] == "member"].count("owner") >= 1


@pytest.mark.parametrize("email", ["", "ann", "ann@", "@x", "a b@x.y", "<ann@x.y>", "ann@x.y\n", "a@" + "x" * 300])
def test_what_is_no_address_is_not_invited(control: Control, email: str) -> None:
    with pytest.raises(RequestError):
        control.people.invite(email.replace("\n", "\nb"), "shop", Role.VIEWER, 1)


@pytest.mark.parametrize("role", [Role.WRITE, Role.SERVER, Role.READ])
def test_role_of_keys_is_given_to_nobody(control: Control, role: Role) -> None:
    with pytest.raises(RequestError):
        control.people.invite("ann@example.com", "shop", role, 1)
    person_id = join(control, "ann@example.com")
    with pytest.raises(RequestError):
        control.people.change_role(person_id, "shop", role)


def test_link_made_before_somebody_became_more_leads_nowhere(control: Control) -> None:
    """Its maker could else become what they may not make."""
    first, _ = control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    ann = control.people.accept(first, "")[0]
    link, _ = control.people.sign_in_link(ann, "shop", 60)
    control.people.change_role(ann, "shop", Role.OWNER)
    with pytest.raises(RequestError) as caught:
        control.people.accept(link, "")
    assert caught.value.code == "bad_link"
    with pytest.raises(RequestError) as caught:
        control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    assert (caught.value.code, caught.value.status) == ("already_member", 409)


def test_invitation_that_waited_while_its_person_became_a_member_is_worth_nothing(control: Control) -> None:
    waiting, _ = control.people.invite("ann@example.com", "shop", Role.VIEWER, 1)
    ann = join(control, "ann@example.com", Role.OWNER)
    with pytest.raises(RequestError):
        control.people.accept(waiting, PASSWORD)
    assert control.people.role_of(ann, "shop") is Role.OWNER


def test_hash_of_nobody_takes_as_long_as_anyone_s() -> None:
    """It is compared where there is no account; with other parameters the time of an answer would tell."""
    assert not accounts._HASHER.check_needs_rehash(accounts._NOBODY)
    with pytest.raises(VerifyMismatchError):
        accounts._HASHER.verify(accounts._NOBODY, PASSWORD)
