"""What a call costs its page, in a real Chromium: `python -m benchmarks.sdk_cost [--repeat 5]`.

250 events 10 ms apart in an isolated page (its clock counts in 5 microseconds), the whole way on: disk, turn, sends. Prints
the synchronous cost of a call and the main thread's time per event less that of an idle page, the best and the median run.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from tests.e2e.conftest import start
from tests.sdk.cases import Bench

from benchmarks.sdk import SDK

EVENTS = 250
_RUN = """async ({ many, on }) => {
  const costs = [];
  for (let n = 0; n < many; n++) {
    const from = performance.now();
    if (on) analytics.trackEvent({ name: "cost", value: n, metadata: { plan: "pro", n } });
    costs.push((performance.now() - from) * 1000);
    await new Promise((next) => setTimeout(next, 10));
  }
  await new Promise((next) => setTimeout(next, 1500));
  return costs.sort((a, b) => a - b);
}"""
_INIT = """({ key }) => {
  const from = performance.now();
  window.analytics = twintrack.createAnalytics({ endpoint: "/api/analytics/events", writeKey: key });
  return performance.now() - from;
}"""


def busy_seconds(page: Page, on: bool) -> tuple[list[float], float]:
    """Sorted microseconds of each call, and the seconds that the main thread was at work."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def task() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    before = task()
    costs: list[float] = page.evaluate(_RUN, {"many": EVENTS, "on": on})
    return costs, task() - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each kind, in turn (default: 5)")
    repeat = parser.parse_args().repeat
    found: dict[str, list[float]] = {"p50_us": [], "p99_us": [], "main_thread_us_per_event": [], "init_ms": []}
    with tempfile.TemporaryDirectory() as folder:
        running = start(Path(folder) / "data")
        with sync_playwright() as playwright:
            bench = Bench(playwright, running, SDK)
            for _ in range(repeat):
                context = bench.browser().new_context()
                page = bench.page(context)
                found["init_ms"].append(page.evaluate(_INIT, {"key": bench.write_key}))
                _, idle = busy_seconds(page, on=False)
                costs, busy = busy_seconds(page, on=True)
                found["p50_us"].append(costs[EVENTS // 2])
                found["p99_us"].append(costs[EVENTS * 99 // 100])
                found["main_thread_us_per_event"].append((busy - idle) / EVENTS * 1e6)
                context.close()
            bench.close()
        running.stop()
    for name, values in found.items():
        print(
            f"{name}: best {min(values):.1f}, median {statistics.median(values):.1f}, all {[round(v, 1) for v in values]}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
