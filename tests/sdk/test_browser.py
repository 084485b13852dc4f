"""The SDK in odd corners of a real browser: blocked, without storage or locks, under a strict policy, in the page cache."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.e2e.conftest import CHROMIUM_FLAGS, Running, chromium_path
from tests.sdk.script import Script
from tests.sdk.seeds import Bench

_NO_LOCKS = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })"
# What a page meets where the person forbids a site to keep anything.
_FORBIDDEN = """
for (const name of ["indexedDB", "localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("forbidden", "SecurityError"); } });
}
"""
# The system's clock cannot be set for one browser alone; this is all that a page sees of it.
_CLOCK = """
window.skew = 0;
const now = Date.now.bind(Date);
Date.now = () => now() + window.skew;
"""
# In the page that is left: what it tells when it is shown again out of the cache.
_RETURN = """(name) => addEventListener("pageshow", (event) => {
  track(name, { persisted: event.persisted });
  analytics.flush();
})"""

# What an earlier build left: a database of its own for each form of what lies there.
_LEAVE = """(key) => new Promise((resolve) => {
  const request = indexedDB.open(`twintrack /api/analytics/events ${key} 2`);
  request.onupgradeneeded = () => request.result
    .createObjectStore("slices", { keyPath: "id" })
    .add({ id: "a", rows: [{ id: "a", who: "", text: "{}" }] });
  request.onsuccess = () => resolve(request.result.close());
})"""


@pytest.fixture
def script(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Script]:
    bench.proxy.policy = ""
    script = bench.script(request.node.name)
    script.options = {"flushInterval": 300}
    yield script
    script.close()


def until(page: Page, check: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    return found


def stats(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("analytics.stats()")
    return found


def stored_once(script: Script, page: Page) -> bool:
    """Whether in the end each tracked event is one row, and there is no other row."""

    def check() -> bool:
        return script.bench.found(script) == dict.fromkeys((event["id"] for event in script.tracked), 1)

    return bool(until(page, check))


def requests(script: Script) -> int:
    ids = {event["id"] for event in script.tracked}
    return sum(bool(ids & set(batch.ids)) for batch in script.bench.proxy.batches)


def test_crash_without_a_disk_loses_events(script: Script) -> None:
    """The control of the harness: it sees a loss where there is one."""
    script.context.add_init_script("Object.defineProperty(window, 'indexedDB', { value: undefined })")
    page = script.open(flushInterval=60_000)
    script.track(page, 15, tail=0)
    assert script.crash(page)
    page = script.open()
    script.track(page, 1, tail=0)
    assert until(page, lambda: script.bench.found(script))
    assert len(script.bench.found(script)) == 1 < len(script.tracked)


def test_page_without_locks_sends_under_a_lease(script: Script) -> None:
    script.context.add_init_script(_NO_LOCKS)
    page = script.open()
    script.track(page)
    assert stored_once(script, page)
    assert until(page, lambda: stats(page)["queued"] == 0)


def test_two_tabs_without_locks_store_each_event_once(script: Script) -> None:
    script.context.add_init_script(_NO_LOCKS)
    first, second = script.open(), script.open()
    for page in (first, second, first, second):
        script.track(page, tail=0)
    assert stored_once(script, second)


def test_full_disk_goes_on_in_memory(script: Script) -> None:
    page = script.open()
    session = script.context.new_cdp_session(page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": script.bench.proxy.address, "quotaSize": 1})
    script.mode("503")
    script.track(page, tail=0)
    assert until(page, lambda: stats(page)["storage"] == "memory")
    script.mode("ok")
    assert stored_once(script, page)
    assert stats(page)["queued"] == 0


def test_forbidden_storage_goes_on_in_memory_and_throws_nothing(script: Script) -> None:
    script.context.add_init_script(_FORBIDDEN)
    page = script.open()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    script.track(page)
    assert stored_once(script, page)
    assert stats(page)["storage"] == "memory"
    assert errors == []


def test_forbidden_storage_sends_its_events_when_the_page_goes(script: Script) -> None:
    script.context.add_init_script(_FORBIDDEN)
    page = script.open(flushInterval=60_000)
    script.track(page, tail=0)
    page.close()
    page = script.context.new_page()
    assert stored_once(script, page)


def forms(page: Page) -> list[str]:
    """The forms of what lies in the page's databases."""
    names: list[str] = page.evaluate("indexedDB.databases().then((all) => all.map(({ name }) => name))")
    return sorted(name.rpartition(" ")[2] for name in names)


def test_what_an_earlier_build_left_on_disk_goes_when_ours_is_made_and_when_consent_is_withdrawn(
    script: Script,
) -> None:
    page = script.context.new_page()
    page.goto(f"{script.bench.proxy.address}/page")
    page.evaluate(_LEAVE, script.bench.write_key)
    assert forms(page) == ["2"]
    page = script.open()
    script.track(page, 1, tail=0)
    assert stored_once(script, page)
    assert until(page, lambda: forms(page) == ["3"]), forms(page)
    page.evaluate(_LEAVE, script.bench.write_key)  # as where a page of the earlier build was still open
    assert forms(page) == ["2", "3"]
    page.evaluate("analytics.consent('denied')")
    assert until(page, lambda: forms(page) == []), forms(page)


def test_clock_that_jumps_stores_each_event_once(script: Script) -> None:
    script.context.add_init_script(_CLOCK)
    page = script.open()
    for hours in (0, 2, -3, 20, 0):
        page.evaluate("(hours) => void (window.skew = hours * 3_600_000)", hours)
        script.track(page, 5, tail=2)
        page.wait_for_timeout(script.dice.choice([0, 400]))
    assert stored_once(script, page)
    assert until(page, lambda: stats(page)["queued"] == 0)


def test_clock_that_goes_back_does_not_hold_a_retry(script: Script) -> None:
    script.context.add_init_script(_CLOCK)
    page = script.open()
    page.evaluate("window.skew = 2 * 3_600_000")
    script.mode("503")
    script.track(page, 5, tail=0)
    assert script.struck(page, "503")
    page.evaluate("window.skew = -2 * 3_600_000")
    script.mode("ok")
    assert stored_once(script, page)


def test_several_instances_on_a_page_store_each_event_once(script: Script) -> None:
    page = script.open()
    script.track(page, tail=0)
    first = page.evaluate("() => { window.first = analytics; return first.stats().queued >= 0; }")
    assert first
    page.evaluate(script.bench.subject.open, {"key": script.bench.write_key, "options": script.options})
    script.track(page, tail=0)
    assert stored_once(script, page)
    assert until(page, lambda: page.evaluate("first.stats().queued + analytics.stats().queued === 0"))


def test_page_that_goes_with_more_than_the_browser_lets_it_send_loses_nothing(script: Script) -> None:
    page = script.open(flushInterval=60_000)
    page.evaluate(
        "() => { const plain = track; track = (name, m) => plain(name, { ...m, text: '\\u00e9'.repeat(2_000) }); }"
    )
    script.mode("hang")
    while len(script.tracked) < 40:
        script.track(page, tail=0, gap=0)
    assert script.struck(page, "hang")
    script.strike()
    script.mode("ok")
    page.close()
    page = script.context.new_page()
    # The browser lets 64 KiB go: that is part of them, and they arrive without a next visit.
    assert until(page, lambda: 0 < len(script.bench.found(script)) < len(script.tracked))
    page = script.open()
    assert stored_once(script, page)


def test_blocked_endpoint_is_reported_and_asked_ever_more_rarely(script: Script) -> None:
    page = script.open()
    asked: list[float] = []

    def block(route: Any) -> None:
        asked.append(time.monotonic())
        route.abort("blockedbyclient")

    page.route("**/api/analytics/events", block)
    script.track(page, 5, tail=0)
    page.wait_for_function("analytics.stats().blocked", timeout=40_000)
    assert len(asked) <= 4
    assert stats(page)["queued"] == len(script.tracked)
    page.close()
    page = script.open()
    assert stored_once(script, page)


def test_place_that_the_site_does_not_pass_on_loses_nothing_and_is_told(script: Script, running: Running) -> None:
    running.command("rollout", "set", "--endpoint", "/t/e")
    told = f"{script.bench.proxy.address}/api/analytics/config?write_key={script.bench.write_key}"
    try:
        # A server knows of a change within a second.
        blank = script.context.new_page()
        assert until(blank, lambda: "/t/e" in blank.request.get(told).text())
        page = script.open()
        # Once the page knows, batches go there first.
        assert until(page, lambda: [script.track(page, 2, tail=0), stats(page)["blocked"]][1])
        assert stored_once(script, page)
        assert until(page, lambda: stats(page)["queued"] == 0)
        assert (stats(page)["blocked"], stats(page)["refused"]) == (True, 0)
    finally:
        running.command("rollout", "set", "--endpoint", "")


def test_firewall_in_front_of_the_service_loses_nothing(script: Script) -> None:
    page = script.open()
    page.route(
        "**/api/analytics/events", lambda route: route.fulfill(status=403, body="<html>prove that you are human")
    )
    with page.expect_response("**/api/analytics/events"):
        script.track(page, tail=0)
    page.unroute("**/api/analytics/events")
    page.close()
    page = script.open()
    assert stored_once(script, page)


def test_outage_of_eight_seconds_sees_at_most_four_requests(script: Script) -> None:
    # Full jitter may draw nothing several times in a row; an even die shows the schedule itself.
    script.context.add_init_script("Math.random = () => 0.5")
    page = script.open()
    script.mode("503")
    began = time.monotonic()
    while len(script.tracked) < 40:
        script.track(page, most=10, tail=0)
    page.wait_for_timeout(8_000 - (time.monotonic() - began) * 1_000)
    during = requests(script)
    script.mode("ok")
    assert 1 <= during <= 4
    assert stored_once(script, page)


def test_strict_policy_is_not_violated(script: Script) -> None:
    script.bench.proxy.policy = "default-src 'none'; script-src 'self'; connect-src 'self'"
    page = script.open()
    page.evaluate(
        "window.violations = [];"
        "document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective))"
    )
    script.track(page)
    assert stored_once(script, page)
    assert page.evaluate("violations") == []


def test_page_out_of_the_page_cache_goes_on_and_doubles_nothing(script: Script) -> None:
    """The driver of the tests cannot speak to a page that comes out of the cache, so it tells of itself by an event."""
    browser = script.bench.playwright.chromium.launch(
        executable_path=chromium_path(),
        args=CHROMIUM_FLAGS,
        # The driver switches the cache off.
        ignore_default_args=["--disable-back-forward-cache"],
    )
    script.use(browser.new_context())
    page = script.open(flushInterval=60_000)
    script.track(page, tail=0)
    script.strike()
    back = f"{script.name}_back"
    page.evaluate(_RETURN, back)
    page.goto(f"{script.bench.proxy.address}/page?next")
    page.evaluate("setTimeout(() => history.back(), 200)")
    rows = script.bench.rows
    assert rows is not None
    other = script.context.new_page()
    assert until(other, lambda: rows.told(back)), "the page never came out of the cache"
    assert stored_once(script, other)
    assert [row["persisted"] for row in rows.told(back)] == [True]
    browser.close()
