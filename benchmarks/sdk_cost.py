"""What an SDK costs its page, ours and OpenPanel's in turn in one run: `make bench-sdk-cost`.

Real Chromium, pages that are cross-origin isolated (their clock counts in 5 microseconds), nothing switched off: disk, turn,
sends. Each repeat opens a fresh page for each subject, in an order that changes from repeat to repeat:

- the first script and start of the SDK (`init_ms`: the call alone, the script being parsed already);
- an idle stretch, then the same stretch with 250 calls 10 ms apart. `call` are the calls' own times, `later_call` those
  after the first ten, which come after seconds of idling, from a function of the bench that is new each time; `event_us` is
  the main thread's task time (CDP `Performance.getMetrics`) of the second less the first, sends included, by call, and
  `event_processor_us` what of it was on the processor: on a busy machine a task's time holds waits for a core;
- a chat of ten minutes: a message each 20 s, and with it what a page tracks beside it (120 calls in all). It is not pressed
  into a shorter time as a whole, which would share the fixed costs of a send among more calls than in truth; instead one
  minute of it (12 calls at their own pace) runs in real time, and its share of the main thread is that of the ten.
"""

import argparse
import platform
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, Playwright, sync_playwright
from tests.e2e.conftest import CHROMIUM_FLAGS, chromium_path, start
from tests.sdk.proxy import Proxy
from tests.sdk.seeds import Service, service_of
from tests.sdk.subject import TWINTRACK, Subject

from benchmarks.sdk import subject_of

EVENTS = 250
FIRST = 10
CHAT_SECONDS = 60
_OBSERVE = """() => {
  window.long = [];
  new PerformanceObserver((list) => long.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: "longtask", buffered: true });
}"""
# The second half of a run is the sends' own time.
_RUN = """async ({ many, gap, rest, on }) => {
  const costs = [];
  for (let n = 0; n < many; n++) {
    const from = performance.now();
    if (on) track("cost", { plan: "pro", n });
    costs.push((performance.now() - from) * 1000);
    await new Promise((next) => setTimeout(next, gap));
  }
  await new Promise((next) => setTimeout(next, rest));
  return costs;
}"""


def seconds(session: CDPSession) -> tuple[float, float]:
    """What the main thread has spent in tasks, and on the processor: on a busy machine the first holds waits for a core."""
    metrics = {m["name"]: float(m["value"]) for m in session.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"], metrics["ThreadTime"]


@dataclass
class Stretch:
    """Microseconds of each call, and the seconds of the main thread in tasks and on the processor."""

    costs: list[float]
    task: float
    processor: float


def stretch(page: Page, session: CDPSession, on: bool, many: int, gap: float, rest: float) -> Stretch:
    before = seconds(session)
    costs: list[float] = page.evaluate(_RUN, {"on": on, "many": many, "gap": gap, "rest": rest})
    after = seconds(session)
    return Stretch(costs, after[0] - before[0], after[1] - before[1])


def at(costs: list[float], share: float) -> float:
    return sorted(costs)[min(len(costs) - 1, int(len(costs) * share))]


def measure(playwright: Playwright, subject: Subject, service: Service | None, chat: bool) -> dict[str, float]:
    proxy = Proxy(subject, service.address if service else None)
    browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
    page = browser.new_context().new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.goto(f"{proxy.address}/page")
    assert page.evaluate("crossOriginIsolated")
    page.evaluate(_OBSERVE)
    # The driver's own work is not to fall into the first measurement.
    stretch(page, session, False, 10, 10, 100)
    options = {"key": service.write_key if service else "peer", "options": {}}
    init = page.evaluate(
        f"(options) => {{ const from = performance.now(); ({subject.open})(options); return performance.now() - from; }}",
        options,
    )
    found = {"init_ms": float(init)}
    page.wait_for_timeout(500)
    idle = stretch(page, session, False, EVENTS, 10, 2_500)
    busy = stretch(page, session, True, EVENTS, 10, 2_500)
    found |= {f"call_p{int(share * 100)}_us": at(busy.costs, share) for share in (0.5, 0.95, 0.99)}
    found["later_call_p99_us"] = at(busy.costs[FIRST:], 0.99)
    found["event_us"] = (busy.task - idle.task) / EVENTS * 1e6
    found["event_processor_us"] = (busy.processor - idle.processor) / EVENTS * 1e6
    if chat:
        calls = CHAT_SECONDS // 5
        idle = stretch(page, session, False, calls, 5_000, 0)
        busy = stretch(page, session, True, calls, 5_000, 0)
        found["chat_percent"] = (busy.task - idle.task) / CHAT_SECONDS * 100
        found["chat_processor_percent"] = (busy.processor - idle.processor) / CHAT_SECONDS * 100
    long: list[float] = page.evaluate("long")
    found["long_tasks"] = len(long)
    browser.close()
    proxy.close()
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Median of the repeats, and their least and most."""
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run))
    rows = [f"| median (least to most) | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for name in names:
        cells = []
        for runs in found.values():
            values = [run[name] for run in runs if name in run]
            digits = 3 if name.endswith("percent") else 1
            span = [round(v, digits) for v in (statistics.median(values), min(values), max(values))] if values else []
            cells.append(f"{span[0]} ({span[1]} to {span[2]})" if span else "-")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each subject, in turn (default: 5)")
    parser.add_argument(
        "--chats", type=int, default=2, help="in so many of them the chat too, two minutes each (default: 2)"
    )
    parser.add_argument("--subject", action="append", help="may be repeated (default: twintrack and openpanel)")
    options = parser.parse_args()
    subjects = [subject_of(name) for name in options.subject or [TWINTRACK.name, "openpanel"]]
    found: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    version: Any = None
    with tempfile.TemporaryDirectory() as folder:
        running = start(Path(folder) / "data")
        service = service_of(running)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
                version = browser.version
                browser.close()
                for repeat in range(options.repeat):
                    for subject in subjects if repeat % 2 == 0 else reversed(subjects):
                        own = service if subject is TWINTRACK else None
                        run = measure(playwright, subject, own, chat=repeat < options.chats)
                        found[subject.name].append(run)
                        print(subject.name, {name: round(value, 3) for name, value in run.items()}, flush=True)
        finally:
            running.stop()
    print(
        f"{platform.platform()}, Chromium {version}, {options.repeat} repeats, builds {[s.build() for s in subjects]}"
    )
    print(table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
