"""`make bench`: bare inserts beside the whole path, alternating in one run, on this machine.

(a) `INSERT ... FORMAT JSONEachRow` of the mix into the plan's own table and rollup, nothing else running.
(b) HTTP to queryable rows with durable acks: a served process on the embedded store, a load generator of its own
process on the same cores; the clock stops when `count()` has every event.
Then acknowledgements per second and latency of single events and of batches of 100.
"""

import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.mix import events

BATCH = 100
CONNECTIONS = 8
PLAN = (
    "CREATE DATABASE IF NOT EXISTS analytics",
    "CREATE TABLE analytics.events (event_id UUID DEFAULT generateUUIDv4(), event_name String,"
    " event_timestamp DateTime64(3) DEFAULT now64(3), user_id String, session_id String,"
    " event_value Nullable(String), event_metadata JSON, message_content Nullable(String),"
    " message_length Nullable(UInt32), thread_id Nullable(String), client_timestamp DateTime64(3),"
    " server_timestamp DateTime64(3) DEFAULT now64(3), ip_address IPv6, user_agent String,"
    " date Date DEFAULT toDate(event_timestamp)) ENGINE = MergeTree() PARTITION BY toYYYYMM(date)"
    " ORDER BY (user_id, event_timestamp)",
    "CREATE MATERIALIZED VIEW analytics.daily_user_events ENGINE = SummingMergeTree() PARTITION BY date"
    " ORDER BY (date, user_id, event_name) AS SELECT date, user_id, event_name, count() AS event_count,"
    " uniq(session_id) AS session_count FROM analytics.events GROUP BY date, user_id, event_name",
)
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36"


def bare(path: str) -> None:
    """Child process: the rate of bare inserts of the JSON lines in a file, rows per second on stdout."""
    import clickhouse_connect

    folder = tempfile.mkdtemp()
    client = clickhouse_connect.get_client(dsn=f"chdb://{folder}")
    for statement in PLAN:
        client.command(statement)
    lines = Path(path).read_bytes().splitlines()
    blocks = [b"\n".join(lines[i : i + 20_000]) for i in range(0, len(lines), 20_000)]
    started = time.perf_counter()
    for block in blocks:
        client.raw_insert(
            "analytics.events",
            insert_block=block,
            fmt="JSONEachRow",
            settings={"date_time_input_format": "best_effort"},
        )
    print(len(lines) / (time.perf_counter() - started))
    client.close()
    shutil.rmtree(folder)


async def post(address: tuple[str, int], bodies: list[bytes], key: str, connections: int) -> list[float]:
    """Sends bodies over keep-alive connections, one request in flight on each; seconds to each answer."""
    waiting = iter(bodies)
    taken: list[float] = []

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(*address)
        for body in waiting:
            head = (
                f"POST /api/analytics/events HTTP/1.1\r\nHost: bench\r\nX-Write-Key: {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            started = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.split(b"\r\n")[0].decode())
            taken.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(worker() for _ in range(connections)))
    return taken


class Served:
    """A `twintrack serve` in a folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp()) / "data"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline().rstrip().rsplit(":", 1)[1])
        self.address = ("127.0.0.1", port)
        self.write = self._key("write")
        self.owner = self._key("owner")

    def _key(self, role: str) -> str:
        words = [sys.executable, "-m", "twintrack", "keys", "create", "--role", role, "--data", str(self.folder)]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    def count(self) -> int:
        import httpx2 as httpx

        answer = httpx.post(
            f"http://127.0.0.1:{self.address[1]}/api/analytics/sql",
            json={"sql": "SELECT count() FROM analytics.events"},
            headers={"Authorization": f"Bearer {self.owner}"},
            timeout=60,
        )
        return int(answer.json()["rows"][0][0])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.folder.parent)


def plan_line(event: dict[str, Any]) -> bytes:
    row = {
        name: event[name]
        for name in ("event_id", "event_name", "user_id", "session_id", "event_metadata", "client_timestamp")
    }
    row |= {"event_timestamp": event["client_timestamp"], "ip_address": "::ffff:127.0.0.0", "user_agent": _AGENT}
    if "message_content" in event:
        row |= {"message_content": event["message_content"], "message_length": 200, "thread_id": event["thread_id"]}
    return json.dumps(row, separators=(",", ":")).encode()


def whole_path(sent: list[dict[str, Any]]) -> float:
    bodies = [json.dumps(sent[i : i + BATCH]).encode() for i in range(0, len(sent), BATCH)]
    served = Served()
    try:
        started = time.perf_counter()
        asyncio.run(post(served.address, bodies, served.write, CONNECTIONS))
        while served.count() < len(sent):
            time.sleep(0.02)
        return len(sent) / (time.perf_counter() - started)
    finally:
        served.stop()


def latency(count: int, batch: int, connections: int) -> str:
    sent = events(count * batch, seed=batch, start_milliseconds=time.time_ns() // 1_000_000 - 60_000)
    bodies = [json.dumps(sent[i : i + batch]).encode() for i in range(0, len(sent), batch)]
    served = Served()
    try:
        started = time.perf_counter()
        taken = asyncio.run(post(served.address, bodies, served.write, connections))
        rate = len(taken) / (time.perf_counter() - started)
    finally:
        served.stop()
    cuts = statistics.quantiles(taken, n=100)
    return (
        f"{rate:,.0f} acks/s ({rate * batch:,.0f} events/s), p50 {cuts[49] * 1000:.1f} ms, "
        f"p95 {cuts[94] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, {connections} connections"
    )


def main() -> None:
    from importlib.metadata import version

    total, rounds = int(os.environ.get("BENCH_EVENTS", "100000")), int(os.environ.get("BENCH_ROUNDS", "3"))
    names = ("chdb", "clickhouse-connect", "msgspec", "uvicorn", "lmdb", "google-re2")
    print(f"machine   {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    print("versions  " + ", ".join(f"{name} {version(name)}" for name in names))
    print(f"command   make bench (BENCH_EVENTS={total} BENCH_ROUNDS={rounds}), batches of {BATCH}")
    ratios = []
    for number in range(rounds):
        sent = events(total, seed=number, start_milliseconds=time.time_ns() // 1_000_000 - 60_000)
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            file.write(b"\n".join(map(plan_line, sent)))
            file.flush()
            words = [sys.executable, "-m", "benchmarks.ingest", "--bare", file.name]
            a = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        b = whole_path(sent)
        ratios.append(b / a)
        print(f"round {number + 1}   bare {a:,.0f} rows/s, whole path {b:,.0f} events/s, ratio {b / a:.2f}", flush=True)
    print(f"ratio     median {statistics.median(ratios):.2f}")
    print(f"single    {latency(3000, 1, 1)}")
    print(f"single    {latency(5000, 1, 32)}")
    print(f"batches   {latency(500, BATCH, CONNECTIONS)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(sys.argv[2])
    else:
        main()
