"""From where a request comes: origins hold for reading and signing in too, and no client names its own address."""

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, running
from tests.privacy.test_audit import entries
from twintrack.access.guesses import KINDS
from twintrack.auth import Role
from twintrack.bounds import bounds_of
from twintrack.testing import ManualClock

OURS = "http://localhost"


@pytest.fixture(scope="module")
def behind_a_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("proxied") / "data"
    with running(folder, ManualClock(), trusted_proxies="127.0.0.1/32") as opened:  # no pause ends by itself
        yield opened


def bound_key(service: Service, role: Role, origin: str) -> str:
    return service.services.control.create_key(role, "demo", "local", bounds_of([origin], [], None))


def ask(service: Service, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return service.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("role", [Role.READ, Role.OWNER])
def test_key_of_an_origin_reads_from_there_alone(behind_a_proxy: Service, role: Role) -> None:
    key = {"Authorization": f"Bearer {bound_key(behind_a_proxy, role, 'https://shop.example')}"}
    for path, body in (("/api/analytics/live", None), ("/api/analytics/sql", {"sql": "SELECT 1"})):
        method = "GET" if body is None else "POST"
        for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            answer = ask(behind_a_proxy, method, path, body, **key, **origin)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
        assert ask(behind_a_proxy, method, path, body, **key, Origin="https://shop.example").status_code == 200


def test_key_of_an_origin_signs_in_from_there_alone_and_its_session_reads_on(behind_a_proxy: Service) -> None:
    elsewhere, here = (bound_key(behind_a_proxy, Role.OWNER, o) for o in ("https://shop.example", OURS))
    for key, headers in ((elsewhere, {"Origin": OURS}), (elsewhere, {"X": ""}), (here, {"X": ""})):
        answer = ask(behind_a_proxy, "POST", "/api/session", {"key": key}, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
        assert "set-cookie" not in answer.headers
    answer = ask(behind_a_proxy, "POST", "/api/session", {"key": here}, Origin=OURS)
    assert answer.status_code == 200
    cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    # A browser says no origin with what it only reads from our own pages.
    assert ask(behind_a_proxy, "GET", "/api/analytics/live", **cookie).status_code == 200
    assert ask(behind_a_proxy, "GET", "/api/analytics/live", **cookie, Origin="https://evil.example").status_code == 403
    assert (
        ask(behind_a_proxy, "PUT", "/api/session", {"environment": "local"}, **cookie, Origin=OURS).status_code == 403
    )


def forwarded(service: Service, *hops: str, body: Any = None, key: str = "") -> httpx.Response:
    """A sign-in through a proxy that adds a line of its own to what the client sent."""
    headers = [("X-Forwarded-For", hop) for hop in hops]
    return service.request("POST", "/api/session", json=body or {"key": key or service.owner_key}, headers=headers)


def test_address_in_the_record_is_the_proxys_word_and_not_the_clients(behind_a_proxy: Service) -> None:
    assert forwarded(behind_a_proxy, "198.51.100.7", "203.0.113.9").status_code == 200
    opened = [e for e in entries(behind_a_proxy.services.audit.folder) if e.what == "session.open"][-1]
    assert opened.where == "::ffff:203.0.113.0"


def test_home_with_a_whole_network_has_the_tries_of_one_address(behind_a_proxy: Service) -> None:
    tries = [
        forwarded(behind_a_proxy, f"2001:db8:0:7::{n:x}", key="tt_owner_guessed").status_code
        for n in range(KINDS["address"].free + 5)
    ]
    assert tries == [401] * KINDS["address"].free + [429] * 5
    assert forwarded(behind_a_proxy, "2001:db8:0:8::1", key="tt_owner_guessed").status_code == 401
