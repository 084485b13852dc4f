"""Faults of vendors in a real browser, with Statsig's real client: receipts say what happened, our rows are untouched."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from tests.e2e.conftest import Running
from tests.sdk.proxy import Proxy
from tests.sdk.seeds import Bench
from tests.sdk.subject import TWINTRACK
from tests.sdk.vendor import Vendor

_OPEN = """({ key, vendor, timeout }) => {
  const urls = { logEventUrl: `${vendor}/log`, initializeUrl: `${vendor}/init`, sdkExceptionUrl: `${vendor}/oops` };
  window.client = new (window.Statsig ?? window).StatsigClient("client-key", {}, { networkConfig: urls });
  client.dataAdapter.setDataLegacy(JSON.stringify({ has_updates: true, time: 1, feature_gates: {}, dynamic_configs: {},
    layer_configs: {}, hash_used: "djb2" }), {});
  client.initializeSync({ disableBackgroundCacheRefresh: true });
  const where = { endpoint: "/api/analytics/events", writeKey: key, flushInterval: 100 };
  window.analytics = twintrack.createAnalytics({ ...where,
    destinations: [twintrack.statsig(client), twintrack.gtm({ timeout })] });
}"""
_TRACK = """async ({ name, many }) => {
  const tracked = Array.from({ length: many }, (_, n) => analytics.trackEvent({ name, metadata: { n } }));
  for (const one of tracked) await one;
  return tracked.map((one) => one.id);
}"""


def until(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@dataclass
class Site:
    running: Running
    proxy: Proxy
    vendor: Vendor
    context: BrowserContext
    write_key: str
    read: httpx.Client
    ids: list[str] = field(default_factory=list)

    def open(self, *, google: bool = True, timeout: int = 60_000) -> Page:
        page = self.context.new_page()
        page.goto(f"{self.proxy.address}/page")
        page.evaluate(_OPEN, {"key": self.write_key, "vendor": self.vendor.address, "timeout": timeout})
        if google:
            page.evaluate("loadGoogle()")
        return page

    def track(self, page: Page, name: str, many: int = 3) -> None:
        self.ids += page.evaluate(_TRACK, {"name": name, "many": many})

    def receipts(self, vendor: str) -> dict[str, set[str]]:
        """What the receipts in ClickHouse say of each tracked event."""
        sql = "SELECT toString(event_id), status FROM receipts WHERE vendor = {vendor:String}"
        rows = self._ask(sql, {"vendor": vendor})
        return {one: {status for id, status in rows if id == one} for one in self.ids}

    def rows(self) -> dict[str, int]:
        found = dict(self._ask("SELECT toString(event_id), toString(count()) FROM events GROUP BY 1", {}))
        return {one: int(found.get(one, 0)) for one in self.ids}

    def _ask(self, sql: str, parameters: dict[str, str]) -> list[list[str]]:
        answer = self.read.post("/api/analytics/sql", json={"sql": sql, "parameters": parameters})
        assert answer.status_code == 200, answer.text
        rows: list[list[str]] = answer.json()["rows"]
        return rows

    def told(self, vendor: str, statuses: set[str], seconds: float = 30.0) -> bool:
        wanted = dict.fromkeys(self.ids, statuses)
        return bool(until(lambda: self.receipts(vendor) == wanted, seconds)) or self.receipts(vendor) == wanted

    def stored_once(self) -> bool:
        return bool(until(lambda: self.rows() == dict.fromkeys(self.ids, 1)))


@pytest.fixture(scope="module")
def shared(running: Running, bench: Bench) -> Iterator[tuple[Running, Proxy, Vendor, Any, str, httpx.Client]]:
    vendor = Vendor()
    scripts = "".join(f'<script src="{src}"></script>' for src in (f"{vendor.address}/statsig.js", "/sdk.js"))
    page = f'<!doctype html><meta charset=utf-8>{scripts}<script src="{vendor.address}/gtm.js?id=GTM-TEST"></script>'
    proxy = Proxy(TWINTRACK, running.address, page.encode())
    keys = {role: running.command("keys", "create", "--role", role).split()[-1] for role in ("write", "read")}
    reader = httpx.Client(base_url=running.address, timeout=30, headers={"Authorization": f"Bearer {keys['read']}"})
    yield running, proxy, vendor, bench.browser(), keys["write"], reader
    reader.close()
    proxy.close()
    vendor.close()


@pytest.fixture
def site(shared: tuple[Running, Proxy, Vendor, Any, str, httpx.Client]) -> Iterator[Site]:
    running, proxy, vendor, browser, key, reader = shared
    vendor.mode, vendor.taken, vendor.asked = "ok", [], []
    context = browser.new_context()
    yield Site(running, proxy, vendor, context, key, reader)
    context.close()


def test_vendors_that_work_are_receipted_delivered(site: Site) -> None:
    page = site.open()
    site.track(page, "works")
    page.evaluate("client.flush()")
    assert site.told("statsig", {"handed", "delivered"})
    assert site.told("gtm", {"handed", "delivered"})
    assert site.vendor.ids() == site.ids
    assert site.stored_once()


def test_statsig_that_refuses_is_receipted_failed_and_nothing_else_is_touched(site: Site) -> None:
    site.vendor.mode = "fail"
    page = site.open()
    site.track(page, "refuses")
    page.evaluate("client.flush()")
    assert site.told("statsig", {"handed", "failed"})
    assert site.told("gtm", {"handed", "delivered"})
    assert site.vendor.ids() == [] and "fail" in site.vendor.asked
    assert site.stored_once()


def test_statsig_that_is_slow_is_delivered_only_when_it_has_answered(site: Site) -> None:
    site.vendor.mode = "delay"
    page = site.open()
    site.track(page, "slow")
    page.evaluate("void client.flush()")
    assert until(lambda: site.vendor.ids() == site.ids)
    assert site.told("gtm", {"handed", "delivered"})
    assert site.told("statsig", {"handed", "delivered"})
    assert site.stored_once()


@pytest.mark.parametrize("mode", ["drop", "double"])
def test_statsig_that_fails_for_a_while_is_failed_and_then_delivered(site: Site, mode: Any) -> None:
    site.vendor.mode = mode
    page = site.open()
    site.track(page, mode)
    # Its client tries four times, 7 s in all, before it says so.
    page.evaluate("void client.flush()")
    assert site.told("statsig", {"handed", "failed"}, seconds=60)
    site.vendor.mode = "ok"
    page.evaluate("client.flush()")
    assert site.told("statsig", {"handed", "failed", "delivered"})
    assert (len(site.vendor.ids()) > len(site.ids)) == (mode == "double")
    assert site.stored_once()


def test_beacon_of_a_page_that_leaves_is_not_called_delivered(site: Site) -> None:
    page = site.open()
    site.track(page, "leaves")
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    assert until(lambda: set(site.vendor.ids()) == set(site.ids))
    assert site.told("gtm", {"handed", "delivered"})
    assert site.told("statsig", {"handed"})
    assert site.stored_once()


def test_google_that_never_loads_is_absent_or_blocked(site: Site) -> None:
    page = site.open(google=False, timeout=300)
    site.track(page, "asked_for")
    assert site.told("gtm", {"handed", "blocked"})
    page.evaluate("document.querySelector('script[src*=\"/gtm.js\"]').remove()")
    site.ids = []
    site.track(page, "never_asked_for")
    assert site.told("gtm", {"handed", "absent"})
    assert site.stored_once()


def test_google_that_trims_its_layer_takes_every_event(site: Site) -> None:
    page = site.open()
    for _ in range(4):
        site.track(page, "many", 100)
        assert site.stored_once()
    assert page.evaluate("dataLayer.length") <= 300
    assert site.told("gtm", {"handed", "delivered"})


def test_vendor_that_throws_costs_the_others_nothing(site: Site) -> None:
    page = site.open()
    page.evaluate("void (client.logEvent = () => { throw new Error('theirs'); })")
    site.track(page, "throws")
    assert site.told("statsig", {"failed"})
    assert site.told("gtm", {"handed", "delivered"})
    assert site.stored_once()
