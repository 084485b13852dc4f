"""The SDK in odd corners of a real browser: blocked, without storage or locks, under a strict policy."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.conftest import start
from tests.sdk.cases import Bench, Script
from tests.sdk.test_delivery import SDK


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    running = start(tmp_path_factory.mktemp("sdk") / "data")
    with sync_playwright() as playwright:
        bench = Bench(playwright, running, SDK)
        yield bench
        bench.close()
    running.stop()


@pytest.fixture
def script(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Script]:
    bench.proxy.mode = "ok"
    bench.proxy.policy = ""
    script = bench.script(request.node.name)
    yield script
    script.close()


def until(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def stats(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("analytics.stats()")
    return found


def stored_once(script: Script) -> bool:
    ids = {event["id"] for event in script.tracked}
    return bool(until(lambda: script.bench.rows.of(script.name) == dict.fromkeys(ids, 1)))


def test_crash_without_a_disk_loses_events(script: Script) -> None:
    """The control of the harness: it sees a loss where there is one."""
    script.context.add_init_script("Object.defineProperty(window, 'indexedDB', { value: undefined })")
    page = script.open(flushInterval=60_000)
    script.track(page, 15)
    assert script.crash(page)
    script.open()
    time.sleep(2)
    assert script.bench.rows.of(script.name) == {}


def test_page_without_locks_sends_under_a_lease(script: Script) -> None:
    script.context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })")
    page = script.open()
    script.track(page)
    assert stored_once(script)
    assert until(lambda: stats(page)["queued"] == 0)


def test_two_tabs_without_locks_store_each_event_once(script: Script) -> None:
    script.context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })")
    first, second = script.open(), script.open()
    for page in (first, second, first, second):
        script.track(page)
    assert stored_once(script)


def test_full_disk_goes_on_in_memory(script: Script) -> None:
    page = script.open()
    session = script.context.new_cdp_session(page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": script.bench.proxy.address, "quotaSize": 1})
    script.track(page)
    assert stored_once(script)
    assert stats(page)["queued"] == 0


def test_blocked_endpoint_is_reported_and_asked_ever_more_rarely(script: Script) -> None:
    page = script.open()
    asked: list[float] = []

    def block(route: Any) -> None:
        asked.append(time.monotonic())
        route.abort("blockedbyclient")

    page.route("**/api/analytics/events", block)
    script.track(page, 5)
    page.wait_for_function("analytics.stats().blocked", timeout=40_000)
    assert len(asked) <= 4
    assert stats(page)["queued"] == len(script.tracked)
    page.close()
    script.open()
    assert stored_once(script)


def test_strict_policy_is_not_violated(script: Script) -> None:
    script.bench.proxy.policy = "default-src 'none'; script-src 'self'; connect-src 'self'"
    page = script.open()
    page.evaluate(
        "window.violations = [];"
        "document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective))"
    )
    script.track(page)
    assert stored_once(script)
    assert page.evaluate("violations") == []
