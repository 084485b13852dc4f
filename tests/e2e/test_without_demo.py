"""A service without `--demo`: no sandbox, no printed link, and an owner's key opens a session in a real browser."""

from collections.abc import Iterator

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Running, start


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("plain") / "data")
    yield running
    running.stop()


def test_service_without_demo_prints_no_link(plain: Running) -> None:
    assert plain.link == ""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/demo/config.json"),
        ("GET", "/demo/vendor/events"),
        ("POST", "/demo/vendor/v1/rgstr"),
        ("GET", "/demo/vendor/faults"),
        ("PUT", "/demo/vendor/faults"),
        ("POST", "/demo/vendor/v1/initialize"),
    ],
)
def test_sandbox_without_demo_is_not_there(plain: Running, method: str, path: str) -> None:
    answer = httpx.request(method, f"{plain.address}{path}", content=b"{}")
    assert "json" not in answer.headers["content-type"] or answer.status_code in (404, 405)


def test_owner_key_without_demo_opens_a_session(plain: Running, page: Page) -> None:
    printed = plain.command("keys", "create", "--role", "owner")
    key = next(word for word in printed.split() if word.startswith("tt_"))
    page.goto(plain.address)
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("The balance holds.")).to_be_visible(timeout=10_000)
    assert key not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")


def test_write_key_without_demo_opens_no_session(plain: Running, page: Page) -> None:
    printed = plain.command("keys", "create", "--role", "write")
    key = next(word for word in printed.split() if word.startswith("tt_"))
    page.goto(plain.address)
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible(timeout=10_000)
    assert page.request.get(f"{plain.address}/api/session").status == 401
