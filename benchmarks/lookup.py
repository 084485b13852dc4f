"""How long one id takes in a large table: `python -m benchmarks.lookup --rows 50000000`.

Fills the service's own `analytics.events` (its order, its indexes; the feeds of the rollups are left out, since no
look-up reads them) with rows made inside the engine, a day at a time, then asks what the service asks:

- one id, as "where is my event?" does: `SELECT *` by project, environment and id, ids that are there and ids that are not
- the ids of a late chunk, as the loader does: 1, 10, 100, 1,000, 5,000 and 20,000 at once, over all months and within one

The folder is deleted at the end, whatever happens.
"""

import argparse
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

from twintrack.load.lookup import found
from twintrack.settings import load_settings
from twintrack.spool.protocol import Chunk, Kind
from twintrack.store.clickhouse import ClickHouse
from twintrack.store.embedded import open_store
from twintrack.store.migrate import migrate
from twintrack.testing import uuid7

_FIRST_DAY = date(2026, 9, 1)
_ROWS_A_DAY = 1_000_000
_ONE = (
    "SELECT * FROM analytics.events WHERE event_id = {id:UUID} AND project = {project:String}"
    " AND environment = {environment:String} LIMIT 1"
)


def fill(store: ClickHouse, rows: int) -> None:
    """One part a day, which the engine merges meanwhile as it does under load."""
    for (feed,) in store.select(
        "SELECT name FROM system.tables WHERE database = 'analytics' AND engine = 'MaterializedView'"
    ).rows:
        store.command(f"DROP VIEW analytics.{feed} SYNC")
    names = "arrayElement(['click_send','page','open_panel','search','scroll','conversion_trial','error_occurred'], "
    for day in range(rows // _ROWS_A_DAY):
        start = f"toDateTime('{_FIRST_DAY + timedelta(days=day)} 00:00:00', 'UTC')"
        store.command(
            "INSERT INTO analytics.events (chunk_id, project, environment, event_id, event_name, event_timestamp,"
            " user_id, anonymous_id, session_id, event_metadata, client_timestamp, server_timestamp)"
            f" SELECT toUUID('0190a1b2-0000-7000-8000-{day:012d}'), 'shop', 'production',"
            f" dateTimeToUUIDv7({start} + intDiv(number * 864, 10000)), {names}1 + cityHash64(number) % 7),"
            f" {start} + intDiv(number * 864, 10000) AS at, concat('user_', toString(cityHash64(number, 1) % 200000)),"
            " toString(cityHash64(number, 2) % 300000), toString(cityHash64(number, 3) % 500000),"
            ' concat(\'{"feature":"chat","position":\', toString(number % 50), \'}\')::JSON, at, at'
            f" FROM numbers({_ROWS_A_DAY}) SETTINGS max_insert_block_size = {_ROWS_A_DAY},"
            f" min_insert_block_size_rows = {_ROWS_A_DAY}, max_threads = 1, max_block_size = {_ROWS_A_DAY}"
        )
        if day % 10 == 9:
            print(f"filled    {(day + 1) * _ROWS_A_DAY:,} rows", flush=True)


def settled(store: ClickHouse, deadline_seconds: float = 900) -> int:
    """Waits until nothing merges; how many parts there are then."""
    until, quiet = time.monotonic() + deadline_seconds, 0
    while quiet < 5 and time.monotonic() < until:
        merging = store.select("SELECT count() FROM system.merges").rows[0][0]
        quiet = 0 if merging else quiet + 1
        time.sleep(1)
    where = "active AND database = 'analytics' AND table = 'events'"
    return int(store.select(f"SELECT count() FROM system.parts WHERE {where}").rows[0][0])


def timed(what: str, asks: list[Callable[[], int]], expected: int) -> None:
    """Prints p50 and p95 of questions whose answer is known."""
    taken = []
    for ask in asks:
        started = time.perf_counter()
        got = ask()
        taken.append((time.perf_counter() - started) * 1000)
        if got != expected:
            raise SystemExit(f"{what}: {got} rows where there are {expected}")
    most = statistics.quantiles(taken, n=20)[18] if len(taken) >= 20 else max(taken)
    print(f"{what:<52} p50 {statistics.median(taken):9.1f} ms   {'p95' if len(taken) >= 20 else 'most'} {most:9.1f} ms"
          f"   ({len(taken)} questions)", flush=True)  # fmt: skip


def measure(store: ClickHouse) -> None:
    source = random.Random(5)
    there = [
        row[0]
        for row in store.select("SELECT event_id FROM analytics.events ORDER BY cityHash64(event_id) LIMIT 60000").rows
    ]
    source.shuffle(there)
    born = int(time.mktime(_FIRST_DAY.timetuple())) * 1000
    absent = [UUID(uuid7(born + source.randrange(40 * 86_400_000), source)) for _ in range(60_000)]
    place = {"project": "shop", "environment": "production"}

    def one(event_id: UUID) -> Callable[[], int]:
        return lambda: len(store.select(_ONE, {**place, "id": str(event_id)}).rows)

    for _ in range(3):
        one(there[0])()  # marks and index into memory: the first question after a start pays for them
    timed("one id that is there, SELECT *", [one(i) for i in there[:100]], 1)
    timed("one id that is not", [one(i) for i in absent[:100]], 0)
    one_month = [i for i in there if _born(i) < _next_month(_FIRST_DAY)]
    for count in (1, 10, 100, 1_000, 5_000, 20_000):
        rounds = 20 if count <= 100 else 5 if count <= 1_000 else 3
        for pool, expected, name in ((there, count, "there"), (absent, 0, "absent")):
            asks = [_late(store, [pool[(r * count + i) % len(pool)] for i in range(count)], "") for r in range(rounds)]
            timed(f"look-up of {count:,} ids, {name}, all months", asks, expected)
        if len(one_month) >= count:
            asks = [_late(store, one_month[:count], "an import")] * min(rounds, 5)
            timed(f"look-up of {count:,} ids, there, one month (import)", asks, count)


def _late(store: ClickHouse, ids: list[UUID], import_id: str) -> Callable[[], int]:
    month = _FIRST_DAY.year * 100 + _FIRST_DAY.month
    chunk = Chunk("", Kind.EVENTS, month, len(ids), "", True, import_id, 0)
    return lambda: len(found(store, chunk, [("shop", i.bytes) for i in ids]))


def _born(event_id: UUID) -> date:
    return date(1970, 1, 1) + timedelta(milliseconds=event_id.int >> 80)


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="parent of the folder that is made and deleted")
    given = parser.parse_args()
    names = ("chdb", "clickhouse-connect")
    print(f"machine   {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    print("versions  " + ", ".join(f"{name} {version(name)}" for name in names))
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    store = open_store(load_settings(data=folder, store_answer_seconds=600))
    try:
        migrate(store)
        started = time.perf_counter()
        fill(store, given.rows)
        filled = time.perf_counter() - started
        parts = settled(store)
        rows, size, index = store.select(
            "SELECT sum(rows), sum(bytes_on_disk), sum(secondary_indices_compressed_bytes) FROM system.parts"
            " WHERE active AND database = 'analytics' AND table = 'events'"
        ).rows[0]
        print(f"table     {rows:,} rows in {parts} parts, {size / rows:.1f} bytes a row ({size / 1e9:.2f} GB), skip"
              f" indexes {index / rows:.2f} bytes a row; filled in {filled:.0f} s", flush=True)  # fmt: skip
        measure(store)
    finally:
        store.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
