"""The cases in which events are lost or doubled elsewhere, each in a real browser against the real service.

A seed tracks a random number of events over a random time, then the fault strikes, then a new page opens as a visitor's
would, and the rows of the store are counted. `eligible` are the events that were at least 50 ms old at the kill; the others
may be lost. A seed whose fault left no proof is a failure, whatever its rows say.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from playwright.sync_api import Browser, BrowserContext, Page, Playwright
from playwright.sync_api import Error as PlaywrightError

from tests.e2e.conftest import CHROMIUM_FLAGS, Running, chromium_path
from tests.sdk.proxy import Mode, Proxy

GRACE_MS = 50
_DEADLINE_SECONDS = 40.0

_OPEN = """({ key, options }) => {
  const where = { endpoint: "/api/analytics/events", writeKey: key };
  window.analytics = twintrack.createAnalytics({ ...where, flushInterval: 300, ...options });
}"""
_TRACK = """async ({ name, many, gap, seed }) => {
  const tracked = [];
  for (let n = 0; n < many; n++) {
    tracked.push({ id: analytics.trackEvent({ name, metadata: { seed, n, text: "x".repeat(40) } }).id, at: Date.now() });
    if (gap) await new Promise((next) => setTimeout(next, gap));
  }
  return tracked;
}"""


@dataclass
class Line:
    """What one seed came to. `proof` is empty where the fault is not known to have struck."""

    case: str
    seed: int
    tracked: int
    eligible: int
    rows: int
    lost: int
    doubled: int
    requests: int
    proof: str

    @property
    def passed(self) -> bool:
        return self.lost == 0 and self.doubled == 0 and bool(self.proof) and self.eligible > 0

    def text(self) -> str:
        return json.dumps({**asdict(self), "passed": self.passed})


class Rows:
    """The rows in ClickHouse, asked for as anyone may: through the service's own SQL."""

    def __init__(self, running: Running) -> None:
        self._key = _key(running, "read")
        self._client = httpx.Client(base_url=running.address, timeout=30)

    def of(self, name: str) -> dict[str, int]:
        """Ids of an event's rows, each with how many there are."""
        answer = self._client.post(
            "/api/analytics/sql",
            headers={"Authorization": f"Bearer {self._key}"},
            json={
                "sql": "SELECT toString(event_id), count() FROM events WHERE event_name = {name:String} GROUP BY 1",
                "parameters": {"name": name},
            },
        )
        assert answer.status_code == 200, answer.text
        return {row[0]: int(row[1]) for row in answer.json()["rows"]}

    def close(self) -> None:
        self._client.close()


def _key(running: Running, role: str) -> str:
    return running.command("keys", "create", "--role", role).split()[-1]


class Bench:
    """One service, one proxy, one browser for all seeds; each seed has a profile of its own."""

    def __init__(self, playwright: Playwright, running: Running, sdk: Path) -> None:
        self._playwright = playwright
        self.proxy = Proxy(running.address, sdk)
        self.rows = Rows(running)
        self.write_key = _key(running, "write")
        self._browser: Browser | None = None
        self._names: dict[str, Line] = {}

    def browser(self) -> Browser:
        if self._browser is None:
            self._browser = self._playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        return self._browser

    def page(self, context: BrowserContext, **options: Any) -> Page:
        page = context.new_page()
        page.goto(f"{self.proxy.address}/page")
        page.evaluate(_OPEN, {"key": self.write_key, "options": options})
        return page

    def script(self, case: str, seed: int = 0) -> "Script":
        dice = random.Random(f"{case} {seed}")
        return Script(self, f"{case}_{seed}_{time.time_ns()}"[-100:], dice, seed)

    def run(self, case: str, seed: int) -> Line:
        """One seed from its first event to its counted rows."""
        self.proxy.mode = "ok"
        before = len(self.proxy.batches)
        script = self.script(case, seed)
        try:
            proof = CASES[case](script)
            eligible = {event["id"] for event in script.tracked if event["at"] <= script.killed_at - GRACE_MS}
            found = self._settled(script.name, eligible)
        finally:
            script.close()
        batches = self.proxy.batches[before:]
        line = Line(
            case,
            seed,
            len(script.tracked),
            len(eligible),
            sum(found.values()),
            len(eligible - found.keys()),
            sum(n - 1 for n in found.values()),
            len(batches),
            proof,
        )
        self._names[script.name] = line
        return line

    def _settled(self, name: str, eligible: set[str]) -> dict[str, int]:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while True:
            found = self.rows.of(name)
            if eligible <= found.keys() or time.monotonic() > deadline:
                return found
            time.sleep(0.25)

    def late_doubles(self) -> int:
        """Rows that came after their seed was counted, and are one too many."""
        return sum(n - 1 for name in self._names for n in self.rows.of(name).values())

    def close(self) -> None:
        if self._browser is not None:
            self._browser.close()
        self.rows.close()
        self.proxy.close()


class Script:
    """What a case does, in the words of a visitor."""

    def __init__(self, bench: Bench, name: str, dice: random.Random, seed: int) -> None:
        self.bench, self.name, self.dice, self.seed = bench, name, dice, seed
        self.tracked: list[dict[str, Any]] = []
        self.killed_at = 0.0
        self._context: BrowserContext | None = None
        self._profile: str | None = None

    @property
    def context(self) -> BrowserContext:
        if self._context is None:
            self._context = self.bench.browser().new_context()
        return self._context

    def own_browser(self, **options: Any) -> BrowserContext:
        """A whole browser with a profile on disk, for the kill of its process."""
        self._profile = self._profile or tempfile.mkdtemp(prefix="twintrack-profile-")
        self._context = self.bench._playwright.chromium.launch_persistent_context(
            self._profile, executable_path=chromium_path(), args=CHROMIUM_FLAGS, **options
        )
        return self._context

    def browser_pid(self) -> int:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if f"--user-data-dir={self._profile}".encode() in words and not any(
                    word.startswith(b"--type=") for word in words
                ):
                    return int(folder.name)
        raise AssertionError("the browser's process is not to be found")

    def open(self, **options: Any) -> Page:
        return self.bench.page(self.context, **options)

    def track(self, page: Page, most: int = 40) -> None:
        many = self.dice.randint(1, most)
        self.tracked += page.evaluate(
            _TRACK, {"name": self.name, "many": many, "gap": self.dice.choice([0, 0, 5, 20]), "seed": self.seed}
        )

    def strike(self) -> None:
        """The moment of the kill: the youngest events are then 50 to 150 ms old."""
        time.sleep(self.dice.uniform(GRACE_MS + 5, 150) / 1000)
        self.killed_at = time.time() * 1000

    def mode(self, mode: Mode) -> None:
        self.bench.proxy.mode = mode

    def struck(self, mode: Mode, within: float = 10.0) -> int:
        """How many requests with this seed's events were treated so; waits for the first."""
        ids = {event["id"] for event in self.tracked}
        deadline = time.monotonic() + within
        while True:
            hit = [b for b in self.bench.proxy.batches if b.mode == mode and ids & set(b.ids)]
            if mode == "cut":
                hit = [b for b in hit if b.service_status == 200]
            if hit or time.monotonic() > deadline:
                return len(hit)
            time.sleep(0.02)

    def drained(self, page: Page) -> None:
        """Until nothing waits: what was sent before has then been sent again."""
        page.wait_for_function("analytics.stats().queued === 0 && analytics.flush().then(() => true)", timeout=30_000)

    def crash(self, page: Page) -> bool:
        gone: list[bool] = []
        page.on("crash", lambda _: gone.append(True))
        # An address that crashes the renderer at once, without the events of a page that leaves.
        with contextlib.suppress(PlaywrightError):
            page.goto("chrome://crash", timeout=3_000)
        deadline = time.monotonic() + 5
        while not gone and time.monotonic() < deadline:
            self._pump()
        return bool(gone)

    def _pump(self) -> None:
        """Lets events of the browser in."""
        page = self.context.new_page()
        page.close()

    def close(self) -> None:
        if self._context is not None:
            with contextlib.suppress(PlaywrightError):
                self._context.close()
        if self._profile:
            shutil.rmtree(self._profile, ignore_errors=True)


def _close(script: Script) -> str:
    page = script.open()
    script.track(page)
    script.strike()
    page.close()
    proof = "tab closed" if page.is_closed() else ""
    script.open()
    return proof


def _navigate(script: Script) -> str:
    page = script.open()
    script.track(page)
    script.strike()
    page.goto("about:blank")
    proof = "left for about:blank" if page.url == "about:blank" else ""
    script.open()
    return proof


def _crash(script: Script) -> str:
    page = script.open()
    script.track(page)
    script.strike()
    proof = "renderer gone" if script.crash(page) else ""
    script.open()
    return proof


def _sigkill(script: Script) -> str:
    script.own_browser()
    page = script.open()
    script.track(page)
    pid = script.browser_pid()
    script.strike()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    proof = "" if Path(f"/proc/{pid}/exe").exists() else f"process {pid} gone"
    script.own_browser()
    script.open()
    return proof


def _offline(script: Script) -> str:
    page = script.open()
    before = len(script.bench.proxy.batches)
    script.context.set_offline(True)
    script.track(page)
    failed = page.evaluate("fetch('/page?probe').then(() => false, () => true)")
    script.strike()
    page.close()
    seen = len(script.bench.proxy.batches) - before
    script.context.set_offline(False)
    script.open()
    return "requests failed, none reached the site" if failed and seen == 0 else ""


def _fault(mode: Mode, seconds: float = 1.0) -> Callable[[Script], str]:
    def case(script: Script) -> str:
        page = script.open()
        script.mode(mode)
        script.track(page)
        hits = script.struck(mode)
        time.sleep(script.dice.uniform(0, seconds))
        script.mode("ok")
        script.strike()
        if script.dice.random() < 0.5:
            page.close()
            page = script.open()
        script.drained(page)
        return f"{hits} requests met {mode}" if hits else ""

    return case


def _hang(script: Script) -> str:
    page = script.open()
    script.mode("hang")
    script.track(page)
    hits = script.struck("hang")
    script.strike()
    page.close()
    script.mode("ok")
    script.open()
    return f"{hits} requests hung" if hits else ""


def _tabs(script: Script) -> str:
    first, second = script.open(), script.open()
    script.mode("hang")
    script.track(first, 20)
    hits = script.struck("hang")
    script.track(second, 20)
    held = second.evaluate("navigator.locks.query().then(({ held }) => held.length)")
    script.strike()
    dead = script.crash(first)
    script.mode("ok")
    return f"the sender, {hits} request under way and the turn in hand, is gone" if hits and held == 1 and dead else ""


CASES: dict[str, Callable[[Script], str]] = {
    "close": _close,
    "navigate": _navigate,
    "crash": _crash,
    "sigkill": _sigkill,
    "offline": _offline,
    "503": _fault("503"),
    "429": _fault("429"),
    "reset": _fault("reset"),
    "cut": _fault("cut"),
    "hang": _hang,
    "tabs": _tabs,
}
