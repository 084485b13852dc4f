"""Ten people who look at an overview at once: `python -m benchmarks.overview [--folder DIR]`.

Each has a key of their own and asks its tiles one after the other, again and again, as a dashboard does that is left open.
The result cache is as configured (on), and events come in at a steady rate, so that answers about now do not stay true; with
`--cold` it is off and each tile is asked of the engine. Percentiles are of seconds from asking to the whole answer.
"""

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx

from benchmarks.mix import events
from benchmarks.service import Served, offer, requests
from benchmarks.year import PROJECT, fill

_GOAL_SECONDS = 1.0


def tiles(last_day: date) -> dict[str, tuple[str, dict[str, Any]]]:
    """What an overview asks: thirty days up to this one."""
    month = {"from": (last_day - timedelta(days=29)).isoformat(), "to": last_day.isoformat()}
    steps = [{"event": name} for name in ("view_item", "add_to_cart", "checkout")]
    return {
        "events a day": ("trends", {"range": month, "interval": "day"}),
        "persons a day": ("trends", {"range": month, "interval": "day", "series": [{"measure": "persons"}]}),
        "top events": ("trends", {"range": month, "interval": "day", "breakdown": ["event_name"], "top": 10}),
        "sessions": ("sessions", {"range": month, "interval": "day"}),
        "funnel": ("funnel", {"range": month, "steps": steps, "window_seconds": 7 * 86_400}),
        "live events": ("events", {"range": {"from": last_day.isoformat(), "to": last_day.isoformat()}, "limit": 20}),
    }


class Looking:
    """One thread for each person; seconds by tile."""

    def __init__(self, served: Served, keys: list[str], asked: dict[str, tuple[str, dict[str, Any]]]) -> None:
        self._at, self._asked = f"http://127.0.0.1:{served.address[1]}/api/analytics/query/", asked
        self._ended = threading.Event()
        self.taken: dict[str, list[float]] = {name: [] for name in asked}
        self.refused = 0
        self._threads = [threading.Thread(target=self._look, args=(n, key)) for n, key in enumerate(keys)]

    def _look(self, number: int, key: str) -> None:
        # They did not all open it in the same moment.
        names = list(self._asked)[number % len(self._asked) :] + list(self._asked)[: number % len(self._asked)]
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
            while not self._ended.is_set():
                for name in names:
                    kind, question = self._asked[name]
                    started = time.perf_counter()
                    answer = client.post(self._at + kind, json=question)
                    if answer.is_success:
                        self.taken[name].append(time.perf_counter() - started)
                    else:
                        self.refused += 1

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._ended.set()
        for thread in self._threads:
            thread.join()


def _cuts(taken: list[float]) -> tuple[float, float]:
    at = statistics.quantiles(taken, n=20) if len(taken) > 1 else [*taken, 0.0] * 20
    return at[9], at[18]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="A data folder with a year in it; events of this run are added to it."
    )
    parser.add_argument("--events", type=int, default=2_000_000, help="Of the year that is made without a folder.")
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--asking", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument(
        "--rate", type=float, default=200, help="Events a second into the same project meanwhile; 0 for none."
    )
    parser.add_argument("--cold", action="store_true", help="Without the cache of answers.")
    parser.add_argument("--last-day", type=date.fromisoformat, default=date(2026, 10, 31), help="Of the thirty.")
    given = parser.parse_args()
    data = given.folder or Path(tempfile.mkdtemp()) / "data"
    if given.cold:
        os.environ["TWINTRACK_QUERY_CACHE_ANSWERS"] = "0"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {given.asking} people,"
          f" {given.rate:,.0f} events/s meanwhile, cache {'off' if given.cold else 'on'},"
          f" {given.seconds:.0f} s", flush=True)  # fmt: skip
    try:
        if not data.exists():
            fill(data, given.events, given.people)
        served = Served(folder=data)
        try:
            keys = [served.key("owner", PROJECT) for _ in range(given.asking)]
            write = served.key("write", PROJECT)
            looking = Looking(served, keys, tiles(given.last_day))
            moment = datetime.combine(given.last_day, datetime.min.time(), UTC) + timedelta(hours=20)
            born = min(round(moment.timestamp() * 1000), time.time_ns() // 1_000_000)
            sent = events(round(given.rate * given.seconds), seed=time.time_ns(), start_milliseconds=born)
            person = threading.Thread(target=looking.run, args=(given.seconds,))
            person.start()
            if sent:
                asyncio.run(offer(served.address, requests(sent, write, 10), given.rate))
            person.join()
        finally:
            served.stop()
        every = [seconds for taken in looking.taken.values() for seconds in taken]
        print(f"{'tile':<16}{'asked':>8}{'p50 ms':>9}{'p95 ms':>9}")
        for name, taken in [*looking.taken.items(), ("all", every)]:
            p50, p95 = _cuts(taken)
            print(f"{name:<16}{len(taken):>8}{p50 * 1000:>9.0f}{p95 * 1000:>9.0f}")
        print(f"refused {looking.refused}; goal: p95 under {_GOAL_SECONDS * 1000:.0f} ms")
    finally:
        if given.folder is None:
            shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
