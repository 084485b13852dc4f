"""A year of a shop's events in three places: Twintrack's tables, the plan's own schema, Parquet files for DuckDB.

Made inside the engine from hashes, so a year is the same on every machine. One person in ten is not signed in during the
first month; a person has one conversation a day at most. The other two places get the person resolved already, which is in
their favour.
"""

import time
from datetime import date, timedelta
from pathlib import Path

from benchmarks.bare import PLAN
from twintrack.settings import load_settings
from twintrack.store.clickhouse import ClickHouse
from twintrack.store.embedded import open_store
from twintrack.store.migrate import migrate

FIRST_DAY, DAYS = date(2025, 11, 1), 365
PROJECT, ENVIRONMENT = "shop", "production"
# Name and how many of a hundred events have it.
NAMES = {
    "page": 45,
    "view_item": 20,
    "search": 10,
    "add_to_cart": 8,
    "message_sent": 6,
    "checkout": 4,
    "error_occurred": 3,
    "thread_completed": 2,
    "conversion_purchase": 2,
}
_PARQUET_COLUMNS = (
    "toString(event_id) AS event_id, event_name, event_timestamp, person, session_id, sequence,"
    " toString(event_metadata.plan) AS plan, event_metadata.price::Nullable(Float64) AS price,"
    " toString(event_metadata.feature) AS feature, thread_id, toString(event_metadata.role) AS role"
)


def _day(index: int, rows: int, people: int) -> str:
    """The events of one day as a SELECT: visits of six events within ten minutes, each visit of a person whose share falls
    with the square of a number in [0, 1)."""
    names = [name for name, share in NAMES.items() for _ in range(share)]
    start = f"toDateTime64('{FIRST_DAY + timedelta(days=index)} 00:00:00', 3, 'UTC')"
    chunk = f"toUUID('0190a1b2-0000-7000-8000-{index:012d}')"
    return (
        "WITH cityHash64(number, {i}) AS h, intDiv(number, 6) AS visit, cityHash64(visit, {i}, 7) AS v,"
        " toUInt64(pow((v % 1000003) / 1000003, 2) * {people}) AS who,"
        " {start} + toIntervalMillisecond(cityHash64(v, 1) % 85800000 + cityHash64(h, 1) % 600000) AS at,"
        " {names}[1 + cityHash64(h, 2) % 100] AS name, name IN ('message_sent', 'thread_completed') AS said,"
        " who % 10 = 0 AND {i} < 30 AS unknown"
        " SELECT {chunk}, '{project}', '{environment}', generateUUIDv7(number),"
        " name, at,"
        " if(unknown, '', concat('user-', toString(who))), concat('anon-', toString(who)),"
        " concat('s-', toString(who), '-{i}-', toString(visit)), number,"
        " concat('{{\"plan\":\"', ['free','free','pro','team'][1 + who % 4], '\",\"price\":',"
        " toString(cityHash64(h, 3) % 20000 / 100),"
        " ',\"feature\":\"f', toString(cityHash64(h, 4) % 12), '\"',"
        " if(name = 'message_sent', if(h % 2 = 0, ',\"role\":\"user\"', ',\"role\":\"assistant\"'), ''),"
        " '}}')::JSON, at, at,"
        " if(said, concat('t-', toString(who), '-{i}'), NULL), if(name = 'message_sent', h % 400, NULL)"
        " FROM numbers({rows})"
    ).format(
        i=index,
        people=people,
        start=start,
        chunk=chunk,
        project=PROJECT,
        environment=ENVIRONMENT,
        names="[" + ",".join(f"'{name}'" for name in names) + "]",
        rows=rows,
    )


def fill(data: Path, events: int, people: int) -> None:
    """Makes all three below `data`: the service's folder itself, database `plan` in its engine, `data/parquet`."""
    store = open_store(load_settings(data=data))
    try:
        migrate(store)
        started = time.perf_counter()
        for index in range(DAYS):
            store.command(
                "INSERT INTO analytics.events (chunk_id, project, environment, event_id, event_name, event_timestamp,"
                " user_id, anonymous_id, session_id, sequence, event_metadata, client_timestamp, server_timestamp,"
                " thread_id, message_length) " + _day(index, events // DAYS, people)
            )
            if index % 30 == 29:
                print(
                    f"filled    {(index + 1) * (events // DAYS):,} events, {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
        for table in ("events_hourly", "events_daily", "identities"):
            store.command(f"OPTIMIZE TABLE analytics.{table} FINAL")
        _fill_plan(store)
        _write_parquet(store, data / "parquet")
    finally:
        store.close()


# An anonymous past belongs to the user whom the same browser named later; without one to the browser.
_NAMED = "anonymous_id IN (SELECT anonymous_id FROM analytics.identities)"
_PERSON = f"multiIf(user_id != '', user_id, {_NAMED}, concat('user-', substring(anonymous_id, 6)), anonymous_id)"


def _fill_plan(store: ClickHouse) -> None:
    for statement in PLAN:
        store.command(statement.replace("analytics", "plan"))
    for month in _months(store):
        store.command(
            "INSERT INTO plan.events (event_id, event_name, event_timestamp, user_id, session_id, event_metadata,"
            " thread_id, message_length, client_timestamp, server_timestamp, ip_address, user_agent)"
            f" SELECT event_id, event_name, event_timestamp, {_PERSON}, session_id, event_metadata, thread_id,"
            f" message_length, client_timestamp, server_timestamp,"
            f" ip_address, user_agent FROM analytics.events WHERE toYYYYMM(date) = {month}"
        )


def _write_parquet(store: ClickHouse, folder: Path) -> None:
    folder.mkdir()
    for month in _months(store):
        sql = (
            f"SELECT {_PARQUET_COLUMNS} FROM (SELECT *, {_PERSON} AS person FROM analytics.events"
            f" WHERE toYYYYMM(date) = {month}) ORDER BY event_timestamp"
        )
        (folder / f"{month}.parquet").write_bytes(
            b"".join(store.blocks(sql, "Parquet", None, {"output_format_parquet_compression_method": "zstd"}))
        )


def _months(store: ClickHouse) -> list[int]:
    return [row[0] for row in store.select("SELECT DISTINCT toYYYYMM(date) AS m FROM analytics.events ORDER BY m").rows]
