"""How much longer an acknowledgement takes beside heavy questions: `python -m benchmarks.beside [--folder DIR]`.

One service, one steady rate of batches and of single events. Each round has two halves, alone and beside, in an order that
changes from round to round; the ratio of a round compares halves of the same minute, which is what holds on a machine that
others use too. Without a folder a year of events is made first (benchmarks/year.py). Times run from when a request was due.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx

from benchmarks.mix import events
from benchmarks.service import Request, Served, offer, requests
from benchmarks.year import PROJECT, fill

YEAR = {"from": "2025-11-01", "to": "2026-10-31"}
STEPS: list[dict[str, Any]] = [{"event": name} for name in ("view_item", "add_to_cart", "checkout")]
# Each reads every row of the year from raw.
HEAVY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("trends", {"range": YEAR, "interval": "day", "series": [{"measure": "persons"}]}),
    ("funnel", {"range": YEAR, "steps": STEPS, "window_seconds": 7 * 86_400}),
    ("retention", {"range": YEAR, "periods": 12}),
    ("paths", {"range": YEAR, "steps": 5}),
)


class Times(NamedTuple):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Times":
        at = statistics.quantiles(seconds, n=100)
        return cls(*(at[n] * 1000 for n in (49, 94, 98)))

    def __str__(self) -> str:
        return f"p50 {self.p50:6.1f}  p95 {self.p95:6.1f}  p99 {self.p99:6.1f} ms"


class Asking:
    """People of keys of their own, each asking one heavy question after the other."""

    def __init__(self, served: Served, keys: list[str]) -> None:
        self._at, self._ended = f"http://127.0.0.1:{served.address[1]}/api/analytics/query/", threading.Event()
        self.answered: list[float] = []
        self.refused = 0
        self._threads = [threading.Thread(target=self._ask, args=(n, key)) for n, key in enumerate(keys)]

    def _ask(self, number: int, key: str) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
            while not self._ended.is_set():
                kind, question = HEAVY[number % len(HEAVY)]
                number += 1
                started = time.perf_counter()
                if client.post(self._at + kind, json=question).is_success:
                    self.answered.append(time.perf_counter() - started)
                else:  # on a busy machine one may meet its limit of time
                    self.refused += 1

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def half(served: Served, seconds: float, rate: float, batch: int) -> Times:
    """Acknowledgements at a steady rate of events a second."""
    sent = events(int(rate * seconds), seed=time.time_ns(), start_milliseconds=time.time_ns() // 1_000_000 - 60_000)
    waiting: list[Request] = requests(sent, served.write, batch)
    return Times.of(asyncio.run(offer(served.address, waiting, rate)))


def rounds(served: Served, keys: list[str], given: argparse.Namespace) -> Iterator[tuple[str, Times, Times]]:
    for number in range(given.rounds):
        for name, rate, batch in (("batches", given.rate, 100), ("singles", given.singles, 1)):
            found: dict[bool, Times] = {}
            for beside in (False, True) if number % 2 == 0 else (True, False):
                if beside:
                    with Asking(served, keys) as asking:
                        found[True] = half(served, given.seconds, rate, batch)
                else:
                    found[False] = half(served, given.seconds, rate, batch)
            median = statistics.median(asking.answered or [0.0])
            took = f"{len(asking.answered)} answered, median {median:.1f} s; {asking.refused} refused"
            print(f"round {number + 1} {name}  alone  {found[False]}", flush=True)
            print(f"{'':15}  beside {found[True]}  {took}", flush=True)
            yield name, found[False], found[True]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="A data folder with a year in it; events of this run are added to it."
    )
    parser.add_argument("--events", type=int, default=2_000_000, help="Of the year that is made without a folder.")
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--asking", type=int, default=4, help="How many people ask at once.")
    parser.add_argument("--rate", type=float, default=10_000, help="Events a second, in batches of 100.")
    parser.add_argument("--singles", type=float, default=500, help="Requests of one event a second.")
    parser.add_argument("--seconds", type=float, default=10, help="Of each half of a round.")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    data = given.folder or Path(tempfile.mkdtemp()) / "data"
    os.environ["TWINTRACK_QUERY_CACHE_ANSWERS"] = "0"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()};"
          f" {given.asking} askers, {given.rate:,.0f} events/s in batches, {given.singles:,.0f} single ones/s,"
          f" halves of {given.seconds:.0f} s", flush=True)  # fmt: skip
    try:
        if not data.exists():
            fill(data, given.events, given.people)
        served = Served(folder=data)
        try:
            keys = [served.key("owner", PROJECT) for _ in range(given.asking)]
            half(served, 2, given.rate, 100)  # warm
            seen = list(rounds(served, keys, given))
        finally:
            served.stop()
        for name in ("batches", "singles"):
            pairs = [(alone, beside) for kind, alone, beside in seen if kind == name]
            cuts = []
            for at, label in enumerate(Times._fields):
                alone, beside = (statistics.median(pair[side][at] for pair in pairs) for side in (0, 1))
                ratios = sorted(pair[1][at] / pair[0][at] for pair in pairs)
                cuts.append(f"{label} {alone:.1f} -> {beside:.1f} ms, x{statistics.median(ratios):.2f}"
                            f" ({ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip
            print(f"{name}  medians of {given.rounds} rounds: " + "; ".join(cuts))
    finally:
        if given.folder is None:
            shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
