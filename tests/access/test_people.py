"""People and keys over HTTP: nobody gives more than the table says, and only in their own project."""

from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service
from twintrack.auth import Role
from twintrack.permissions import Permission, gives, may
from twintrack.permissions import Role as Roles


def ask(service: Service, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or service.owner_key}"}
    return service.request(method, path, json=body, headers=headers)


def key_of(service: Service, role: Role, project: str = "demo") -> str:
    return service.services.control.create_key(role, project, "local")


def member(service: Service, email: str, role: Role, project: str = "demo") -> str:
    people = service.services.control.people
    service.services.control.ensure_project(project)
    return people.accept(people.invite(email, project, role, 1)[0], "")[0]


def test_invitation_is_a_link_told_once_with_its_secret_behind_the_hash(service: Service) -> None:
    answer = ask(service, "POST", "/api/people", {"email": "ann@example.com", "role": "analyst"})
    assert answer.status_code == 201
    link = answer.json()["link"]
    assert link.startswith("http://localhost/join#") and "?" not in link
    listed = ask(service, "GET", "/api/people")
    assert listed.json()["people"][0]["state"] == "invited"
    assert link.partition("#")[2] not in listed.text
    assert ask(service, "DELETE", f"/api/people/{listed.json()['people'][0]['id']}").status_code == 204
    assert ask(service, "GET", "/api/people").json()["people"] == []
    assert service.request("POST", "/api/session", json={"token": link.partition("#")[2]}).status_code == 401


@pytest.mark.parametrize("maker", list(Roles))
def test_nobody_gives_takes_or_makes_keys_of_a_role_beyond_theirs(service: Service, maker: Role) -> None:
    key = key_of(service, maker)
    for role in Roles:
        invite = ask(service, "POST", "/api/people", {"email": f"{role}@example.com", "role": role}, key)
        made = ask(service, "POST", "/api/keys", {"role": role}, key)
        if not may(maker, Permission.ACCESS):
            assert invite.status_code == made.status_code == 403
            continue
        assert (made.status_code == 201) is (role in gives(maker))
        if may(role, Permission.SIGN_IN):
            assert (invite.status_code == 201) is (role in gives(maker))


def test_admin_can_do_nothing_to_an_owner_or_to_an_owners_keys(service: Service) -> None:
    admin = key_of(service, Role.ADMIN)
    ann = member(service, "ann@example.com", Role.OWNER)
    member(service, "bob@example.com", Role.OWNER)
    owner_key = next(k["id"] for k in service.services.control.list_keys("demo") if k["role"] == "owner")
    for method, path, body in (
        ("PUT", f"/api/people/{ann}", {"role": "viewer"}),
        ("DELETE", f"/api/people/{ann}", None),
        ("POST", f"/api/people/{ann}/link", None),
        ("POST", "/api/people", {"email": "ann@example.com", "role": "viewer"}),
        ("DELETE", f"/api/keys/{owner_key}", None),
        ("POST", f"/api/keys/{owner_key}/rotate", {"hours": 1}),
    ):
        answer = ask(service, method, path, body, admin)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_role"), path


def test_nothing_reaches_into_another_project(service: Service) -> None:
    stranger = key_of(service, Role.OWNER, "other")
    ann = member(service, "ann@example.com", Role.VIEWER)
    ours = service.services.control.list_keys("demo")[0]["id"]
    assert ask(service, "GET", "/api/people", key=stranger).json()["people"] == []
    assert {k["project"] for k in ask(service, "GET", "/api/keys", key=stranger).json()["keys"]} == {"other"}
    for method, path, body in (
        ("PUT", f"/api/people/{ann}", {"role": "owner"}),
        ("DELETE", f"/api/people/{ann}", None),
        ("POST", f"/api/people/{ann}/link", None),
        ("DELETE", f"/api/keys/{ours}", None),
        ("POST", f"/api/keys/{ours}/rotate", {"hours": 0}),
    ):
        assert ask(service, method, path, body, stranger).status_code == 404, path


def test_link_into_an_account_of_other_projects_is_the_operators_to_make(service: Service) -> None:
    """An admin here could else become an owner there."""
    ann = member(service, "ann@example.com", Role.VIEWER)
    member(service, "ann@example.com", Role.OWNER, "other")
    answer = ask(service, "POST", f"/api/people/{ann}/link", key=key_of(service, Role.ADMIN))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "several_projects")


def test_last_owner_stays_over_http(service: Service) -> None:
    ann = member(service, "ann@example.com", Role.OWNER)
    for method, body in (("DELETE", None), ("PUT", {"role": "admin"})):
        answer = ask(service, method, f"/api/people/{ann}", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "last_owner")


def test_key_is_made_with_bounds_rotated_and_revoked(service: Service) -> None:
    body = {"role": "write", "origins": ["https://shop.example"], "networks": ["203.0.113.0/24"], "days": 30}
    made = ask(service, "POST", "/api/keys", body).json()["key"]
    listed = next(k for k in ask(service, "GET", "/api/keys").json()["keys"] if k["write_key"] == made)
    assert (listed["origins"], listed["networks"]) == (["https://shop.example"], ["203.0.113.0/24"])
    assert listed["expires_at"] is not None
    rotated = ask(service, "POST", f"/api/keys/{listed['id']}/rotate", {"hours": 1})
    assert rotated.status_code == 201
    control = service.services.control
    assert control.principal(made) is not None and control.principal(rotated.json()["key"]) is not None
    assert ask(service, "DELETE", f"/api/keys/{listed['id']}").status_code == 204
    assert control.principal(made) is None and control.principal(rotated.json()["key"]) is not None
    bad = ask(service, "POST", "/api/keys", {"role": "write", "origins": ["nonsense"]})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "bad_bounds")


def test_keys_are_listed_without_their_secrets(service: Service) -> None:
    text = ask(service, "GET", "/api/keys").text
    assert service.write_key in text
    assert not any(secret in text for secret in (service.owner_key, service.server_key, service.read_key))
