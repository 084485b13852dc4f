"""How fast a backlog drains: `python -m benchmarks.drain --seconds 60 --rate 4000`.

A service of its own process loads into a server of its own process (ClickHouse's HTTP interface over chDB). The server
is halted (SIGSTOP) while events of the mix come in at a fixed rate, then goes on; the clock stops when it has them all.
Prints what the backlog was, in events, bytes and lag, and how fast it went.
"""

import argparse
import asyncio
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx

from benchmarks.resident import Stream
from benchmarks.service import BATCH, Served, offer
from twintrack.settings import load_settings
from twintrack.store.embedded import EngineProcess, open_store
from twintrack.store.migrate import migrate


def state(served: Served) -> dict[str, Any]:
    metrics = httpx.get(f"http://127.0.0.1:{served.address[1]}/metrics", timeout=30).text
    found = {line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics.splitlines() if line[:1] not in "#"}
    return {"events": found["twintrack_spool_events"], "lag": found["twintrack_load_lag_seconds"]}


def spool_bytes(folder: Path) -> int:
    return sum(f.stat().st_size for name in ("log", "chunks") for f in (folder / "spool" / name).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=4000, help="events per second offered during the outage")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    engine = EngineProcess(folder / "engine")
    store = open_store(load_settings(store=engine.url))
    migrate(store)
    os.environ |= {"TWINTRACK_STORE": engine.url, "TWINTRACK_STORE_ANSWER_SECONDS": "5"}
    served = Served()
    try:
        asyncio.run(offer(served.address, Stream(served.write, given.rate, 3), given.rate))
        os.kill(engine.process_id, signal.SIGSTOP)
        try:
            stream = Stream(served.write, given.rate, given.seconds)
            sent = BATCH * len(asyncio.run(offer(served.address, stream, given.rate)))
            before, size = state(served), spool_bytes(served.folder)
        finally:
            os.kill(engine.process_id, signal.SIGCONT)
        started = time.monotonic()
        print(
            f"outage    {given.seconds:.0f} s, {sent:,} events accepted; {before['events']:,.0f} wait,"
            f" {size / max(1, before['events']):.0f} bytes each in log and chunks, lag {before['lag']:.0f} s",
            flush=True,
        )
        while state(served)["events"]:
            if time.monotonic() - started > 600:
                raise SystemExit("not drained within 600 s")
            time.sleep(0.05)
        taken = time.monotonic() - started
        count, unique = store.select("SELECT count(), uniqExact(event_id) FROM analytics.events").rows[0]
        print(f"drained   in {taken:.1f} s: {before['events'] / taken:,.0f} events/s; {count:,} rows, {unique:,} ids")
    finally:
        served.stop()
        store.close()
        engine.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
