"""What a visitor does and what strikes them, in the words that the cases are written in."""

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import BrowserContext, CDPSession, Page
from playwright.sync_api import Error as PlaywrightError

from tests.e2e.conftest import CHROMIUM_FLAGS, chromium_path
from tests.sdk.proxy import Mode

if TYPE_CHECKING:
    from tests.sdk.seeds import Bench

GRACE_MS = 50

# Each event is told to the harness at once, so that a page which dies has told what it tracked. After the first burst it
# goes on, so that the fault meets events of every age. Every 15 ms the page shows that it lives: one that the machine
# leaves without a turn can write nothing, however old its events are.
_TRACK = """async ({ name, many, gap, tail, seed }) => {
  const pause = (ms) => new Promise((next) => setTimeout(next, ms));
  const tell = (word) => ledger(JSON.stringify({ ...word, at: Date.now() }));
  const one = (n) => {
    const id = track(name, { seed, n, text: "x".repeat(40) }, () => tell({ sure: id }));
    tell({ id });
  };
  for (let n = 0; n < many; n++) {
    one(n);
    if (gap) await pause(gap);
  }
  let n = many;
  setInterval(() => {
    if (n < many + tail) one(n++);
    tell({});
  }, 15);
}"""


class Script:
    def __init__(self, bench: "Bench", name: str, dice: random.Random, seed: int) -> None:
        self.bench, self.name, self.dice, self.seed = bench, name, dice, seed
        self.tracked: list[dict[str, Any]] = []
        self.killed_at = 0.0
        # Some batches go while events come in, some only when the page does.
        self.options: dict[str, Any] = {"flushInterval": dice.choice([300, 2_000])}
        self._context: BrowserContext | None = None
        self._profile: str | None = None
        self._sessions: list[CDPSession] = []
        self._lives: dict[Page, float] = {}
        self._sure: dict[str, float] = {}

    @property
    def context(self) -> BrowserContext:
        if self._context is None:
            self._context = self.bench.browser().new_context()
        return self._context

    def use(self, context: BrowserContext) -> None:
        self._context = context

    def own_browser(self) -> BrowserContext:
        """A whole browser with a profile on disk, for the kill of its process."""
        self._profile = self._profile or tempfile.mkdtemp(prefix="twintrack-profile-")
        self._context = self.bench.playwright.chromium.launch_persistent_context(
            self._profile, executable_path=chromium_path(), args=CHROMIUM_FLAGS
        )
        return self._context

    def kill_browser(self) -> str:
        """SIGKILL to the browser's own process. Which one is gone, or nothing where it lives on."""
        pid = self._browser_pid()
        self.strike()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}/exe").exists():
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.01)
        return f"process {pid} gone"

    def _browser_pid(self) -> int:
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
        page = self.context.new_page()
        session = self.context.new_cdp_session(page)
        session.on("Runtime.bindingCalled", lambda call: self._told(page, json.loads(call["payload"])))
        session.send("Runtime.enable")
        session.send("Runtime.addBinding", {"name": "ledger"})
        self._sessions.append(session)
        self.load(page, **options)
        return page

    def _told(self, page: Page, word: dict[str, Any]) -> None:
        if "id" in word:
            self.tracked.append({**word, "page": page})
        if "sure" in word:
            self._sure[word["sure"]] = word["at"]
        self._lives[page] = word["at"]

    def load(self, page: Page, **options: Any) -> None:
        page.goto(f"{self.bench.proxy.address}/page")
        page.evaluate(self.bench.subject.open, {"key": self.bench.write_key, "options": {**self.options, **options}})

    def track(self, page: Page, most: int = 40, tail: int = 40, gap: int | None = None) -> None:
        """A burst of up to `most` events, told when this returns; then `tail` more, one each 15 ms, while the page lives."""
        before = len(self.tracked)
        many = self.dice.randint(1, most)
        pace = self.dice.choice([0, 0, 5, 20]) if gap is None else gap
        page.evaluate(_TRACK, {"name": self.name, "many": many, "gap": pace, "tail": tail, "seed": self.seed})
        while len(self.tracked) < before + many:
            page.wait_for_timeout(1)

    def strike(self) -> None:
        """The moment of the kill: the burst is then at least 50 ms old, what came after it is of every age."""
        page = self.context.pages[-1]
        page.wait_for_timeout(self.dice.uniform(GRACE_MS + 5, 250))
        self.killed_at = time.time() * 1000

    def eligible(self) -> set[str]:
        return {event["id"] for event in self.tracked if event["at"] <= self.killed_at - GRACE_MS}

    def young(self) -> set[str]:
        return {e["id"] for e in self.tracked if self.killed_at - GRACE_MS < e["at"] <= self.killed_at}

    def sure(self) -> set[str]:
        """Events of which the page was told before the kill that they are on disk, however young."""
        return {id for id, at in self._sure.items() if at <= self.killed_at}

    def disk_ms(self) -> float:
        """The longest that an event needed to its disk before the kill."""
        spans = [self._sure[e["id"]] - e["at"] for e in self.tracked if e["id"] in self.sure()]
        return max(spans, default=0.0)

    def starved(self) -> set[str]:
        """Eligible events whose page had no turn on the machine in the 50 ms after them."""
        return {e["id"] for e in self.tracked if e["at"] > self._lives[e["page"]] - GRACE_MS} & self.eligible()

    def mode(self, mode: Mode) -> None:
        self.bench.proxy.mode = mode

    def struck(self, page: Page, mode: Mode, within_seconds: float = 10.0) -> int:
        """How many requests with this seed's events were treated so; waits for the first."""
        deadline = time.monotonic() + within_seconds
        while True:
            ids = {event["id"] for event in self.tracked}
            hit = [b for b in self.bench.proxy.batches if b.mode == mode and ids & set(b.ids)]
            if mode == "cut":
                hit = [b for b in hit if b.stored]
            if hit or time.monotonic() > deadline:
                return len(hit)
            page.wait_for_timeout(20)

    def answered(self, page: Page) -> None:
        """Until the browser was told of each event that it is taken: what was sent before has then been sent again."""
        deadline = time.monotonic() + self.bench.patience_seconds
        while not self.eligible() <= self.bench.proxy.answered() and time.monotonic() < deadline:
            page.wait_for_timeout(50)

    def waiting(self, page: Page) -> int:
        """How many events of a page no answer has ended by now: without one, leaving it proves nothing."""
        return sum(event["page"] is page for event in self.tracked if event["id"] not in self.bench.proxy.answered())

    def crash(self, page: Page) -> bool:
        """Whether the renderer died at once, without the events of a page that leaves."""
        gone: list[bool] = []
        page.on("crash", lambda _: gone.append(True))
        with contextlib.suppress(PlaywrightError):
            page.goto("chrome://crash", timeout=3_000)
        deadline = time.monotonic() + 5
        while not gone and time.monotonic() < deadline:
            # A page that comes and goes lets the browser's events in.
            self.context.new_page().close()
        return bool(gone)

    def say(self) -> str:
        """What each page that is still there says of itself."""
        said = []
        for page in self.context.pages:
            try:
                said.append(json.dumps(page.evaluate(self.bench.subject.say)))
            except PlaywrightError as failure:
                said.append(str(failure).splitlines()[0])
        return "; ".join(said)

    def close(self) -> None:
        if self._context is not None:
            with contextlib.suppress(PlaywrightError):
                self._context.close()
        if self._profile:
            shutil.rmtree(self._profile, ignore_errors=True)
