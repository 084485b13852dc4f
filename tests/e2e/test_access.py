"""People and keys in a real browser: invited by link, signed in by password, given and taken access. And no secret in
any log, answer, address or dump."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Running, start
from twintrack.testing import wire_event

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("access") / "data", TWINTRACK_LOG_LEVEL="debug")
    yield running
    assert running.stop() == 0


def invitation(running: Running, email: str, role: str = "owner") -> str:
    link = running.command("people", "invite", email, "--role", role).split()[0]
    return re.sub(r"^http://[^/]+", running.address, link)


def join(running: Running, page: Page, email: str, role: str = "owner") -> str:
    link = invitation(running, email, role)
    page.goto(link)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_role("link", name="Live")).to_be_visible(timeout=15_000)
    return link


def test_invited_owner_joins_invites_and_makes_a_key(plain: Running, page: Page) -> None:
    link = invitation(plain, "ann@example.com")
    page.goto(link)
    expect(page.get_by_text("You are invited to Twintrack")).to_be_visible(timeout=10_000)
    assert page.url == f"{plain.address}/join"  # the secret is out of the address bar
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    page.get_by_role("link", name="Access").click()
    rows = page.locator("main li")
    expect(rows.filter(has_text="ann@example.com")).to_be_visible(timeout=10_000)
    page.get_by_label("E-mail address").fill("bob@example.com")
    page.get_by_role("button", name="Make an invitation").click()
    expect(page.get_by_role("heading", name="Invitation of bob@example.com")).to_be_visible(timeout=10_000)
    expect(rows.filter(has_text="bob@example.com")).to_contain_text("invited")
    page.get_by_label("Origins").fill("https://shop.example")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_role("heading", name="New write key")).to_be_visible(timeout=10_000)
    expect(rows.filter(has_text="https://shop.example")).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("was used", timeout=10_000)
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert PASSWORD not in kept and link.partition("#")[2] not in kept
    assert not [e for e in page.errors if "Failed to load" not in e and e]  # type: ignore[attr-defined]


def test_last_owner_is_told_that_they_stay(plain: Running, page: Page) -> None:
    email = "carl@example.com"
    link = plain.command("people", "invite", email, "--role", "owner", "--project", "alone").split()[0]
    page.goto(re.sub(r"^http://[^/]+", plain.address, link))
    page.get_by_role("button", name="Join").click()
    page.get_by_role("link", name="Access").click()
    page.get_by_role("button", name=f"Remove: {email}").click()
    page.get_by_role("button", name=f"Really remove: {email}").click()
    expect(page.get_by_role("alert")).to_contain_text("last owner", timeout=10_000)


def test_viewer_signs_in_by_password_and_sees_no_access(plain: Running, page: Page) -> None:
    join(plain, page, "eve@example.com", "viewer")
    page.context.clear_cookies()
    page.goto(plain.address)
    page.get_by_role("button", name="By password").click()
    page.get_by_label("E-mail address").fill("eve@example.com")
    page.get_by_label("Password").fill("wrong password here")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong", timeout=10_000)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Live")).to_be_visible(timeout=10_000)
    expect(page.get_by_role("link", name="Access")).to_have_count(0)
    page.goto(f"{plain.address}/access")
    expect(page.get_by_text("This page is for owners and admins")).to_be_visible(timeout=10_000)


def test_commands_change_roles_and_end_access_of_a_running_service(plain: Running) -> None:
    link = plain.command("people", "invite", "dan@example.com", "--role", "viewer").split()[0]
    with httpx.Client(base_url=plain.address, headers={"Sec-Fetch-Site": "same-origin"}) as client:
        body = {"token": link.partition("#")[2], "password": PASSWORD}
        assert client.post("/api/session", json=body).json()["role"] == "viewer"
        plain.command("people", "role", "dan@example.com", "--role", "analyst")
        assert client.get("/api/session").json()["role"] == "analyst"
        again = plain.command("people", "link", "dan@example.com").split()[0]
        assert client.post("/api/session", json={"token": again.partition("#")[2]}).status_code == 200
        assert "dan@example.com" in plain.command("people", "list")
        plain.command("people", "remove", "dan@example.com")
        assert client.get("/api/session").status_code == 401
    old = plain.command("keys", "create", "--role", "write", "--origin", "https://a.example").strip()
    listed = plain.command("keys", "list")
    assert "https" in listed and old not in listed


def test_no_secret_is_in_a_log_an_answer_or_a_dump(plain: Running) -> None:
    """Used in every place where one may stand, right and wrong, then looked for in everything that was said."""
    owner = plain.command("keys", "create", "--role", "owner").strip()
    write = plain.command("keys", "create", "--role", "write").strip()
    link = plain.command("people", "invite", "fay@example.com", "--role", "admin").split()[0]
    token = link.partition("#")[2]
    wrong = ["tt_write_WRONGSECRETONE", "tt_owner_WRONGSECRETTWO", "WRONGPASSWORDTHREE", "WRONGTOKENFOUR"]
    said = []
    with httpx.Client(base_url=plain.address, headers={"Sec-Fetch-Site": "same-origin"}, timeout=60) as client:
        for key in (write, wrong[0]):
            for answer in (
                client.post("/api/analytics/events", json=[wire_event()], headers={"X-Write-Key": key}),
                client.post("/api/analytics/events", json={"events": [wire_event()], "key": key, "token": wrong[3]}),
                client.post(f"/api/analytics/events?write_key={key}", json=[wire_event()]),
                client.post(f"/api/analytics/events?write_key={key}", content=b"{broken"),
                client.get(f"/api/analytics/config?write_key={key}"),
                client.get(f"/nowhere?write_key={key}"),
                client.get(f"/api/nowhere?write_key={key}"),
            ):
                said.append(answer.text)
        for key in (owner, wrong[1]):
            said.append(client.post("/api/session", json={"key": key}).text)
            said.append(client.post("/api/analytics/sql", json={"sql": "SELECT"}, headers={"Authorization": key}).text)
            bearer = {"Authorization": f"Bearer {key}"}
            said.append(client.post("/api/analytics/sql", json={"sql": 5, "key": key}, headers=bearer).text)
        said.append(client.post("/api/session", json={"email": "fay@example.com", "password": wrong[2]}).text)
        said.append(client.post("/api/session", json={"token": wrong[3]}).text)
        said.append(client.post("/api/session", json={"token": token, "password": PASSWORD}).text)
        said.append(client.post("/api/session", json={"key": {"nested": wrong[1]}}).text)
        said.append(client.get("/metrics").text)
        said.append(client.get("/openapi.json").text)
    log = (plain.data.parent / "serve.log").read_text()
    secrets = [owner, write, token, PASSWORD, *wrong]
    for text in (log, *said):
        assert not [secret for secret in secrets if secret in text], text[:300]
    assert '"batch"' in log or "batch" in log
    limits = Path(f"/proc/{plain.process.pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0", limits)
    assert json.loads(said[0])["accepted"] == 1
