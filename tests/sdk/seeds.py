"""One seed of a case: run, proven, and its rows counted in ClickHouse.

`eligible` are the events that were at least 50 ms old when the fault struck; what is younger may be lost, and is counted
apart, as is what a page could not write that had no turn on the machine in those 50 ms.
"""

import contextlib
import json
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx2 as httpx
from playwright.sync_api import Browser, Playwright
from playwright.sync_api import Error as PlaywrightError

from tests.e2e.conftest import CHROMIUM_FLAGS, Running, chromium_path
from tests.sdk.cases import CASES
from tests.sdk.proxy import Proxy
from tests.sdk.script import Script
from tests.sdk.subject import Subject

# Of a seed whose eligible events are all there: how long the younger ones are waited for. The next page sends what it finds
# after an interval of up to 2 s.
_YOUNG_SECONDS = 5.0


@dataclass(frozen=True)
class Line:
    """What one seed came to. `proof` is empty where the fault is not known to have struck."""

    subject: str
    build: str
    case: str
    seed: int
    tracked: int
    eligible: int
    sure: int
    """Events of which the page was told before the kill that they are on the browser's disk."""
    rows: int
    lost: int
    """Eligible and not there."""
    doubled: int
    young: int
    """Younger than 50 ms at the kill, and not there."""
    broken: int
    """Sure, and not there: none may be, however young."""
    starved: int
    """Not there either, but their page had no turn on the machine in the 50 ms after them: on a quiet one there are none."""
    requests: int
    seconds: float
    """From the kill to the last eligible row."""
    disk_ms: float
    """The longest that an event needed to the browser's disk before the kill."""
    proof: str
    ages_ms: tuple[int, ...] = ()
    """How old the lost events were at the kill."""
    left: str = ""
    """Where events were lost: what the pages that are still there say of themselves, or what went wrong in the harness."""

    @property
    def passed(self) -> bool:
        return not (self.lost or self.broken or self.doubled) and bool(self.proof) and self.eligible > 0

    def text(self) -> str:
        return json.dumps({**asdict(self), "passed": self.passed})


@dataclass(frozen=True)
class Service:
    """A running service, as a page and as someone with a question know it."""

    address: str
    write_key: str
    read_key: str


def service_of(running: Running) -> Service:
    def key(role: str) -> str:
        return running.command("keys", "create", "--role", role).split()[-1]

    return Service(running.address, key("write"), key("read"))


class Rows:
    """The rows in ClickHouse, asked for as anyone may: through the service's own SQL."""

    def __init__(self, service: Service) -> None:
        self._client = httpx.Client(
            base_url=service.address, timeout=30, headers={"Authorization": f"Bearer {service.read_key}"}
        )

    def _ask(self, sql: str, **parameters: str) -> dict[str, Any]:
        while True:
            answer = self._client.post("/api/analytics/sql", json={"sql": sql, "parameters": parameters})
            if answer.status_code not in (429, 503):
                break
            time.sleep(0.2)
        assert answer.status_code == 200, answer.text
        return {row[0]: row[1] for row in answer.json()["rows"]}

    def of(self, name: str) -> dict[str, int]:
        """Ids of an event's rows, each with how many there are."""
        sql = "SELECT toString(event_id), count() FROM events WHERE event_name = {name:String} GROUP BY 1"
        return {id: int(many) for id, many in self._ask(sql, name=name).items()}

    def told(self, name: str) -> list[dict[str, Any]]:
        """What the rows of an event carry as metadata."""
        sql = "SELECT toString(event_id), toJSONString(event_metadata) FROM events WHERE event_name = {name:String}"
        return [json.loads(text) for text in self._ask(sql, name=name).values()]

    def doubled(self) -> dict[str, int]:
        """Events with more than one row, whatever the seed; each with how many are too many."""
        sql = "SELECT toString(event_id), count() - 1 FROM events GROUP BY 1 HAVING count() > 1"
        return {id: int(many) for id, many in self._ask(sql).items()}

    def close(self) -> None:
        self._client.close()


class Bench:
    """One subject, one proxy, one browser for all seeds, which come one after the other; each has a profile of its own."""

    def __init__(
        self, playwright: Playwright, subject: Subject, service: Service | None, patience_seconds: float = 40.0
    ) -> None:
        """`patience_seconds`: how long lost events are waited for. Without a service the proxy is the ledger."""
        self.playwright, self.subject, self.patience_seconds = playwright, subject, patience_seconds
        self.proxy = Proxy(subject, service.address if service else None)
        self.rows = Rows(service) if service else None
        self.write_key = service.write_key if service else "peer"
        self._build = subject.build()
        self._browser: Browser | None = None

    def browser(self) -> Browser:
        if self._browser is None or not self._browser.is_connected():
            self._browser = self.playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        return self._browser

    def script(self, case: str, seed: int = 0) -> Script:
        self.proxy.mode = "ok"
        self.proxy.dice = random.Random(f"{case} {seed} proxy")
        return Script(self, f"{case}_{seed}_{time.time_ns()}"[-100:], random.Random(f"{case} {seed}"), seed)

    def run(self, case: str, seed: int) -> Line:
        """One seed from its first event to its counted rows."""
        before = len(self.proxy.batches)
        script = self.script(case, seed)
        proof = left = ""
        try:
            try:
                proof = CASES[case](script)
            except PlaywrightError as failure:
                left = str(failure).splitlines()[0]
            found, at = self._settled(script)
            eligible, sure = script.eligible(), script.sure()
            starved = script.starved() - found.keys()
            lost = eligible - starved - found.keys()
            if lost:
                left = f"{left} {script.say()}".strip()
        finally:
            script.close()
        return Line(
            subject=self.subject.name,
            build=self._build,
            case=case,
            seed=seed,
            tracked=len(script.tracked),
            eligible=len(eligible),
            sure=len(sure),
            rows=sum(found.values()),
            lost=len(lost),
            doubled=sum(n - 1 for n in found.values()),
            young=len(script.young() - found.keys()),
            broken=len(sure - found.keys()),
            starved=len(starved),
            requests=len(self.proxy.batches) - before,
            seconds=round(at - script.killed_at / 1000, 2),
            disk_ms=script.disk_ms(),
            proof=proof,
            ages_ms=tuple(round(script.killed_at - event["at"]) for event in script.tracked if event["id"] in lost),
            left=left,
        )

    def found(self, script: Script) -> dict[str, int]:
        """What was stored of a script's events, and how often."""
        if self.rows:
            return self.rows.of(script.name)
        return self.proxy.taken({event["id"] for event in script.tracked})

    def _settled(self, script: Script) -> tuple[dict[str, int], float]:
        deadline = time.monotonic() + self.patience_seconds
        at = 0.0
        while True:
            found = self.found(script)
            if not at and script.eligible() <= found.keys():
                at = time.time()
                deadline = time.monotonic() + _YOUNG_SECONDS
            everything = {event["id"] for event in script.tracked} <= found.keys()
            # A ledger has no second look when all seeds are done, so a second copy is given its time here.
            if time.monotonic() > deadline or (at and everything and self.rows):
                return found, at or time.time()
            self._pump(script)

    def _pump(self, script: Script) -> None:
        """A moment's wait in which the browser's events come in."""
        with contextlib.suppress(PlaywrightError):
            for page in script.context.pages[-1:]:
                return page.wait_for_timeout(100)
        time.sleep(0.1)

    def close(self) -> None:
        if self._browser is not None:
            self._browser.close()
        if self.rows:
            self.rows.close()
        self.proxy.close()
