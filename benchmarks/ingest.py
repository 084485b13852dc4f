"""`make bench`: bare inserts beside the whole path, alternating in one run, on this machine.

(a) `INSERT ... FORMAT JSONEachRow` of the mix into the plan's own table and rollup, nothing else running.
(b) HTTP to queryable rows with durable acks, plain and gzip: a served process on the embedded store, the load
generator on the same cores; the clock stops when `count()` has every event.
Then single events as fast as they are answered; and at half of (b), alone and beside heavy questions, how long an
acknowledgement takes, when an event can be asked for, and what stays in memory.
"""

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.bare import Bare, bare
from benchmarks.mix import events
from benchmarks.resident import megabytes
from benchmarks.service import BATCH, CONNECTIONS, Request, Served, flood, offer, requests

# Nothing in them is answered by a rollup: each reads every row.
HEAVY = (
    "SELECT user_id, uniqExact(session_id), count() FROM analytics.events GROUP BY user_id ORDER BY 2 DESC LIMIT 10",
    "SELECT event_name, quantiles(0.5, 0.95)(length(message_content)) FROM analytics.events GROUP BY event_name",
    "SELECT countIf(lower(message_content) LIKE '%export%') FROM analytics.events",
    "SELECT event_metadata.feature::String, count() FROM analytics.events GROUP BY 1 ORDER BY 2 DESC",
)


def fresh(count: int, seed: int) -> list[dict[str, Any]]:
    """Events of the last minute."""
    return events(count, seed=seed, start_milliseconds=time.time_ns() // 1_000_000 - 60_000)


def stored_bytes(folder: Path) -> float:
    """Bytes per event of all tables, merged like the bare ones; the service has ended."""
    code = (
        "import sys, clickhouse_connect; from benchmarks.bare import BYTES;"
        "c = clickhouse_connect.get_client(dsn='chdb://' + sys.argv[1]);"
        "t = c.query(\"SELECT name FROM system.tables WHERE database = 'analytics' AND engine LIKE '%MergeTree'\");"
        "[c.command(f'OPTIMIZE TABLE analytics.{name} FINAL') for (name,) in t.result_rows];"
        "print(c.query(BYTES).result_rows[0][0] / c.query('SELECT count() FROM analytics.events').result_rows[0][0]);"
        "c.close()"
    )
    words = [sys.executable, "-c", code, str(folder / "store")]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def whole_path(sent: list[dict[str, Any]], *, packed: bool = False) -> tuple[float, float, float]:
    """Events a second until queryable, until acknowledged, and bytes stored for each."""
    served = Served()
    waiting = requests(sent, served.write, packed=packed)
    try:
        started = time.perf_counter()
        asyncio.run(flood(served.address, waiting))
        acknowledged = len(sent) / (time.perf_counter() - started)
        served.wait_for(len(sent))
        whole = len(sent) / (time.perf_counter() - started)
        served.process.terminate()
        served.process.wait(60)
        return whole, acknowledged, stored_bytes(served.folder)
    finally:
        served.stop()


def cuts(taken: list[float]) -> str:
    at = statistics.quantiles(taken, n=100)
    return f"p50 {at[49] * 1000:.1f} ms, p95 {at[94] * 1000:.1f} ms, p99 {at[98] * 1000:.1f} ms"


def single(count: int, connections: int) -> str:
    served = Served()
    try:
        waiting = requests(fresh(count, connections), served.write, 1)
        started = time.perf_counter()
        taken = asyncio.run(flood(served.address, waiting, connections))
        rate = len(taken) / (time.perf_counter() - started)
        return f"{rate:,.0f} acks/s, {cuts(taken)}, {connections} connections"
    finally:
        served.stop()


class Asking:
    """Four people who ask heavy questions one after the other."""

    def __init__(self, served: Served) -> None:
        self._served, self._ended = served, threading.Event()
        self.answered = 0
        self._threads = [threading.Thread(target=self._ask, args=(sql,)) for sql in HEAVY]

    def _ask(self, sql: str) -> None:
        while not self._ended.is_set():
            self._served.sql(sql)
            self.answered += 1

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


class Watching:
    """Sends an event of its own now and then and waits until it can be asked for."""

    def __init__(self, served: Served) -> None:
        self._served, self._ended = served, threading.Event()
        self.taken: list[float] = []
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        seed = 1 << 20
        while not self._ended.wait(0.2):
            seed += 1
            (event,) = fresh(1, seed)
            started = time.perf_counter()
            asyncio.run(flood(self._served.address, [Request([event], self._served.write)], 1))
            found = f"SELECT count() FROM analytics.events WHERE event_id = '{event['event_id']}'"
            while not self._served.sql(found)[0][0]:
                time.sleep(0.02)
            self.taken.append(time.perf_counter() - started)

    def __enter__(self) -> "Watching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def half_load(rate: float, seconds: float) -> None:
    served = Served()
    try:
        for name in ("alone", "beside four heavy questions"):
            parts = [fresh(int(rate), seed) for seed in range(int(seconds))]
            waiting = list(chain.from_iterable(requests(part, served.write) for part in parts))
            if name == "alone":
                with Watching(served) as watching:
                    taken = asyncio.run(offer(served.address, waiting, rate))
                print(f"half load  {rate:,.0f} events/s, {name}: {cuts(taken)}", flush=True)
                print(f"queryable  {cuts(watching.taken)} after sending, {len(watching.taken)} events")
            else:
                with Asking(served) as asking:
                    taken = asyncio.run(offer(served.address, waiting, rate))
                print(f"half load  {rate:,.0f} events/s, {name} ({asking.answered} answered): {cuts(taken)}")
        service, engine = megabytes(served.process.pid)
        print(f"resident   service {service:.0f} MB, engine {engine:.0f} MB")
    finally:
        served.stop()


def main() -> None:
    total, rounds = int(os.environ.get("BENCH_EVENTS", "200000")), int(os.environ.get("BENCH_ROUNDS", "3"))
    names = ("chdb", "clickhouse-connect", "msgspec", "uvicorn", "lmdb", "google-re2")
    print(f"machine    {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    print("versions   " + ", ".join(f"{name} {version(name)}" for name in names))
    print(
        f"command    make bench (BENCH_EVENTS={total} BENCH_ROUNDS={rounds}), batches of {BATCH}, {CONNECTIONS} senders"
    )
    seen: list[tuple[Bare, float, float]] = []
    for number in range(rounds):
        sent = fresh(total, number)
        a = bare(sent)
        plain, acknowledged, size = whole_path(sent)
        packed, _, _ = whole_path(sent, packed=True)
        seen.append((a, plain, packed))
        print(
            f"round {number + 1}    bare {a.rows_per_second:,.0f} rows/s; whole path {plain:,.0f} events/s,"
            f" ratio {plain / a.rows_per_second:.2f} (acknowledged {acknowledged:,.0f}/s);"
            f" gzip {packed:,.0f} events/s, ratio {packed / a.rows_per_second:.2f};"
            f" bytes {size:.1f} of {a.bytes_per_row:.1f}, {size / a.bytes_per_row:.2f}",
            flush=True,
        )
    print(f"ratio      plain, median {statistics.median(plain / a.rows_per_second for a, plain, _ in seen):.2f}")
    print(f"ratio      gzip, median {statistics.median(packed / a.rows_per_second for a, _, packed in seen):.2f}")
    print(f"single     {single(3000, 1)}")
    print(f"single     {single(20_000, 32)}", flush=True)
    half_load(min(plain for _, plain, _ in seen) / 2, float(os.environ.get("BENCH_SECONDS", "20")))


if __name__ == "__main__":
    main()
