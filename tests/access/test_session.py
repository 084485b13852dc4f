"""Signing in and out over HTTP: what opens a session, what a cookie is good for, and who is slowed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, open_service, running
from twintrack.app import create_app
from twintrack.auth import Role, permission_key
from twintrack.demo import SignInLink
from twintrack.permissions import PERMISSIONS, Permission

PASSWORD = "correct horse battery staple"
OURS = {"Sec-Fetch-Site": "same-origin"}


class Browser:
    """A client that keeps cookies, and says of itself what a browser says on our own pages."""

    def __init__(self, service: Service, base: str = "http://localhost") -> None:
        self.app, self.base = create_app(service.services), base
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=self.base, cookies=self.cookies) as client:
                return await client.request(method, path, json=body, headers=headers or OURS)

        answer = asyncio.run(one())
        self.set_cookie = answer.headers.get("set-cookie", "")
        if self.set_cookie:
            name, _, rest = self.set_cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer


@pytest.fixture
def browser(service: Service) -> Browser:
    return Browser(service)


def invited(service: Service, role: Role, email: str = "ann@example.com", password: str = PASSWORD) -> str:
    people = service.services.control.people
    return people.accept(people.invite(email, "demo", role, 72)[0], password)[0]


def refusals(service: Service, reason: str) -> float:
    return service.services.metrics.registry.get_sample_value("twintrack_access_refused_total", {"reason": reason}) or 0


@pytest.mark.parametrize("demo", [True, False])
def test_session_says_whether_the_service_serves_the_demo(service: Service, demo: bool) -> None:
    app = create_app(service.services, demo_link=SignInLink() if demo else None)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/api/session", json={"key": service.owner_key})

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert answer.json() == {
        "role": "owner",
        "project": "demo",
        "environment": "local",
        "name": "owner key",
        "person": False,
        "permissions": sorted(PERMISSIONS[Role.OWNER]),
        "environments": ["local"],
        "demo": demo,
    }


def test_person_signs_in_by_password_and_sees_what_their_role_may(service: Service, browser: Browser) -> None:
    invited(service, Role.VIEWER)
    answer = browser.ask("POST", "/api/session", {"email": "Ann@example.com", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["name"], answer.json()["role"], answer.json()["person"]) == (
        "ann@example.com",
        "viewer",
        True,
    )
    assert browser.ask("GET", "/api/session").json()["name"] == "ann@example.com"
    assert browser.ask("GET", "/api/analytics/live").status_code == 200
    assert browser.ask("POST", "/api/analytics/sql", {"sql": "SELECT 1"}).json()["error"]["code"] == "wrong_role"
    assert browser.ask("GET", "/api/people").status_code == 403
    assert browser.ask("DELETE", "/api/session").status_code == 204
    assert browser.ask("GET", "/api/session").status_code == 401


def test_link_signs_in_once_and_its_token_is_in_no_path(service: Service, browser: Browser) -> None:
    people = service.services.control.people
    secret, _ = people.invite("ann@example.com", "demo", Role.ANALYST, 1)
    assert browser.ask("POST", "/api/link", {"token": secret}).json()["email"] == "ann@example.com"
    assert browser.ask("POST", "/api/session", {"token": secret, "password": "short"}).status_code == 400
    assert browser.ask("POST", "/api/session", {"token": secret, "password": PASSWORD}).json()["role"] == "analyst"
    again = browser.ask("POST", "/api/session", {"token": secret, "password": PASSWORD})
    assert (again.status_code, again.json()["error"]["code"]) == (401, "bad_link")
    assert browser.ask("GET", f"/api/session?token={secret}").json()["name"] == "ann@example.com"  # by cookie alone
    assert refusals(service, "bad_link") == 1


@pytest.mark.parametrize(
    "body",
    [{}, {"email": "ann@example.com"}, {"password": "x"}, {"key": ""}, {"token": ""}],
    ids=str,
)
def test_sign_in_without_proof_is_refused(browser: Browser, body: dict[str, str]) -> None:
    assert browser.ask("POST", "/api/session", body).json()["error"]["code"] == "no_proof"
    assert browser.cookies == {}


def test_wrong_password_and_unknown_address_are_answered_alike(service: Service, browser: Browser) -> None:
    invited(service, Role.VIEWER)
    answers = [
        browser.ask("POST", "/api/session", {"email": email, "password": "wrong password here"})
        for email in ("ann@example.com", "nobody@example.com")
    ]
    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].json() == answers[1].json()
    assert browser.cookies == {} and refusals(service, "wrong_password") == 2


def test_guessing_is_slowed_for_the_account_from_anywhere_and_told_in_a_metric(service: Service) -> None:
    invited(service, Role.VIEWER)
    codes = []
    for _ in range(8):
        answer = Browser(service).ask("POST", "/api/session", {"email": "ann@example.com", "password": "wrong one"})
        codes.append(answer.status_code)
    # Each browser is an application of its own and so has counts of its own; one application slows.
    assert codes == [401] * 8
    browser = Browser(service)
    answers = [
        browser.ask("POST", "/api/session", {"email": "ann@example.com", "password": "wrong one"}) for _ in range(8)
    ]
    assert [a.status_code for a in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) >= 1
    right = browser.ask("POST", "/api/session", {"email": "ann@example.com", "password": PASSWORD})
    assert right.status_code == 429  # also the right one: else guessing at once would find it
    assert refusals(service, "slowed") == 4


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://evil.localhost"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Referer": "http://localhost/"}, False),
    ],
    ids=str,
)
def test_cookie_counts_for_a_change_only_from_our_own_pages(
    service: Service, browser: Browser, headers: dict[str, str], passes: bool
) -> None:
    browser.ask("POST", "/api/session", {"key": service.owner_key})
    answer = browser.ask("POST", "/api/analytics/sql", {"sql": "SELECT 1"}, **headers)
    assert (answer.status_code == 200) is passes
    if not passes:
        assert answer.json()["error"]["code"] == "foreign_origin"
    assert browser.ask("GET", "/api/session", **headers).status_code == 200  # a look changes nothing
    assert (browser.ask("DELETE", "/api/session", **headers).status_code == 204) is passes


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_foreign_page_cannot_sign_a_reader_in_as_somebody_else(service: Service, browser: Browser, origin: str) -> None:
    answer = browser.ask("POST", "/api/session", {"key": service.owner_key}, Origin=origin)
    assert answer.status_code == 403 and browser.cookies == {}


def test_key_needs_no_origin_and_no_cookie(service: Service) -> None:
    answer = service.sql("SELECT 1")
    assert answer.status_code == 200 and "set-cookie" not in answer.headers


def test_sign_in_gives_a_new_secret_and_ends_the_one_before(service: Service, browser: Browser) -> None:
    browser.ask("POST", "/api/session", {"key": service.owner_key})
    first = dict(browser.cookies)
    browser.ask("POST", "/api/session", {"key": service.owner_key})
    assert browser.cookies != first
    browser.cookies = first
    assert browser.ask("GET", "/api/session").status_code == 401


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(service: Service, browser: Browser) -> None:
    browser.ask("POST", "/api/session", {"key": service.owner_key})
    attributes = {part.strip().lower() for part in browser.set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert not any(a.startswith("domain") for a in attributes) and "secure" not in attributes


@pytest.mark.parametrize(
    ("base", "public_url"), [("https://localhost", ""), ("http://localhost", "https://analytics.example.com")]
)
def test_cookie_of_https_is_bound_to_its_host(tmp_path: Path, base: str, public_url: str) -> None:
    with running(tmp_path / "data", public_url=public_url) as service:
        browser = Browser(service, base)
        browser.ask("POST", "/api/session", {"key": service.owner_key})
        assert browser.set_cookie.startswith("__Host-twintrack_session=")
        assert "secure" in browser.set_cookie.lower()
        assert browser.ask("GET", "/api/session").status_code == 200
        # A cookie that plain http could have set does not count.
        browser.cookies = {"twintrack_session": browser.cookies["__Host-twintrack_session"]}
        assert browser.ask("GET", "/api/session").status_code == 401


def test_proxy_that_speaks_https_for_us_is_our_own_origin(tmp_path: Path) -> None:
    with running(tmp_path / "data", public_url="https://analytics.example.com") as service:
        browser = Browser(service, "http://10.0.0.7:8080")
        there = {"Origin": "https://analytics.example.com"}
        assert browser.ask("POST", "/api/session", {"key": service.owner_key}, **there).status_code == 200
        assert browser.ask("POST", "/api/analytics/sql", {"sql": "SELECT 1"}, **there).status_code == 200


def test_answers_to_readers_carry_no_cors_and_a_strict_policy(service: Service, browser: Browser) -> None:
    foreign = {"Origin": "https://evil.example"}
    for method, path in (
        ("GET", "/api/session"),
        ("OPTIONS", "/api/session"),
        ("OPTIONS", "/api/analytics/sql"),
        ("GET", "/api/keys"),
        ("GET", "/api/people"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ):
        answer = browser.ask(method, path, **foreign)
        assert not [name for name in answer.headers if name.startswith("access-control")], path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    events = browser.ask("OPTIONS", "/api/analytics/events", **foreign)
    assert events.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in events.headers


def test_person_looks_at_another_environment_and_a_key_does_not(service: Service, browser: Browser) -> None:
    service.services.control.create_key(Role.WRITE, "demo", "production")
    browser.ask("POST", "/api/session", {"key": service.owner_key})
    assert browser.ask("PUT", "/api/session", {"environment": "production"}).status_code == 403
    invited(service, Role.VIEWER)
    told = browser.ask("POST", "/api/session", {"email": "ann@example.com", "password": PASSWORD}).json()
    assert (told["environment"], told["environments"]) == ("production", ["production", "local"])
    assert browser.ask("PUT", "/api/session", {"environment": "local"}).json()["environment"] == "local"
    assert browser.ask("GET", "/api/session").json()["environment"] == "local"
    assert browser.ask("PUT", "/api/session", {"environment": "nowhere"}).status_code == 403


def test_new_password_needs_the_old_one_and_ends_other_sessions(service: Service, browser: Browser) -> None:
    invited(service, Role.VIEWER)
    browser.ask("POST", "/api/session", {"email": "ann@example.com", "password": PASSWORD})
    other = Browser(service)
    other.ask("POST", "/api/session", {"email": "ann@example.com", "password": PASSWORD})
    wrong = browser.ask("PUT", "/api/session/password", {"current": "no", "password": "a wholly new password"})
    assert wrong.status_code == 401
    right = browser.ask("PUT", "/api/session/password", {"current": PASSWORD, "password": "a wholly new password"})
    assert right.status_code == 200
    assert browser.ask("GET", "/api/session").status_code == 200
    assert other.ask("GET", "/api/session").status_code == 401


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Service]:
    service = open_service(tmp_path / "data", trusted_proxies="127.0.0.0/8")
    yield service
    service.services.close()


def test_key_of_a_network_asks_and_signs_in_from_there_alone(proxied: Service) -> None:
    from twintrack.bounds import bounds_of

    bounds = bounds_of([], ["203.0.113.0/24"], None)
    key = proxied.services.control.create_key(Role.OWNER, "demo", "local", bounds)
    inside, outside = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "198.51.100.1"}
    bearer = {"Authorization": f"Bearer {key}"}
    assert proxied.request("GET", "/api/session", headers=bearer | inside).status_code == 200
    refused = proxied.request("GET", "/api/session", headers=bearer | outside)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_address")
    browser = Browser(proxied)
    assert browser.ask("POST", "/api/session", {"key": key}, **(OURS | outside)).status_code == 403
    assert browser.ask("POST", "/api/session", {"key": key}, **(OURS | inside)).status_code == 200
    assert browser.ask("GET", "/api/session", **(OURS | outside)).status_code == 403


def test_kept_answers_are_filed_by_who_asked_and_what_they_may(service: Service) -> None:
    control = service.services.control
    principals = [control.principal(service.owner_key), control.principal(service.read_key)]
    keys = {permission_key(p) for p in principals if p is not None}
    assert len(keys) == 2
    owner = principals[0]
    assert owner is not None and permission_key(owner) == permission_key(owner)
    assert permission_key(owner._replace(role=Role.VIEWER)) not in keys
    assert owner.may(Permission.TEXT)
