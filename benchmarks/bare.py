"""The plan's own table and rollup, and what a bare insert into them costs: the measure of everything else."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

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
BYTES = (
    "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'analytics' AND table NOT LIKE 'schema_%'"
)
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36"
_BLOCK_ROWS = 20_000


class Bare(NamedTuple):
    rows_per_second: float
    bytes_per_row: float


def bare(sent: list[dict[str, Any]]) -> Bare:
    """In a process of its own: an engine that nobody else uses."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"\n".join(map(_line, sent)))
        file.flush()
        words = [sys.executable, "-m", "benchmarks.bare", file.name]
        rate, size = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return Bare(float(rate), float(size))


def _line(event: dict[str, Any]) -> bytes:
    """An event as the plan's table takes it."""
    row = {
        name: event[name]
        for name in ("event_id", "event_name", "user_id", "session_id", "event_metadata", "client_timestamp")
    }
    row |= {"event_timestamp": event["client_timestamp"], "ip_address": "::ffff:127.0.0.0", "user_agent": _AGENT}
    if "message_content" in event:
        row |= {"message_content": event["message_content"], "message_length": 200, "thread_id": event["thread_id"]}
    return json.dumps(row, separators=(",", ":")).encode()


def main(path: str) -> None:
    import clickhouse_connect

    folder = tempfile.mkdtemp()
    client = clickhouse_connect.get_client(dsn=f"chdb://{folder}")
    for statement in PLAN:
        client.command(statement)
    lines = Path(path).read_bytes().splitlines()
    blocks = [b"\n".join(lines[i : i + _BLOCK_ROWS]) for i in range(0, len(lines), _BLOCK_ROWS)]
    started = time.perf_counter()
    for block in blocks:
        client.raw_insert(
            "analytics.events",
            insert_block=block,
            fmt="JSONEachRow",
            settings={"date_time_input_format": "best_effort"},
        )
    rate = len(lines) / (time.perf_counter() - started)
    for table in ("events", "daily_user_events"):
        client.command(f"OPTIMIZE TABLE analytics.{table} FINAL")
    print(rate, int(client.query(BYTES).result_rows[0][0]) / len(lines))
    client.close()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1])
