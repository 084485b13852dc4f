"""Takes a person's rows out of the store for good: rows deleted, rollups' months named, old files gone.

A deletion makes new parts without the rows; the old ones stay on the disk until the engine's cleaner comes by, eight
minutes later unless it is told otherwise. It is told, once what shall replace them is synced.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog

from twintrack.clock import Clock
from twintrack.errors import StoreUnavailable
from twintrack.load.rollup import Feed, feeds
from twintrack.privacy.held import Held
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

log = structlog.get_logger()
# The cleaner looks each few seconds in place of each half a minute and more; it costs nothing where nothing is old.
_CLEANER = "cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0"
_SYNCED = "min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1"
# As the loader inserts: a text stays a text, whatever it looks like.
_AS_TEXT = (
    "input_format_try_infer_dates = 0, input_format_try_infer_datetimes = 0, type_json_skip_duplicated_paths = 0,"
    " insert_deduplicate = 0, deduplicate_insert_select = 'disable'"
)
# Of a server we cannot ask that everything be on disk, but systems write back within half a minute.
_SERVER_PARTS_SECONDS = 60


def events_by_place(store: Store, where: str) -> dict[tuple[str, str], int]:
    """Events that will go, by (project, environment). Raises: StoreError."""
    rows = store.select(
        f"SELECT project, environment, count() FROM {DATABASE}.events WHERE {where} GROUP BY project, environment"
    ).rows
    return {(project, environment): int(events) for project, environment, events in rows}


def count(store: Store, table: str, where: str) -> int:
    """Raises: StoreError."""
    return int(store.select(f"SELECT count() FROM {DATABASE}.{table} WHERE {where}").rows[0][0])


def touched_months(store: Store, found: list[Held], rolled: list[Feed], first: int) -> list[int]:
    """Months, from the first whole one on, whose rollups will not be those of raw any more. Raises: StoreError."""
    months: set[int] = set()
    sources = {"events": "toYYYYMM(date)"} | {feed.table: feed.month for feed in rolled if feed.month != "0"}
    for one in found:
        if one.table in sources:
            rows = store.select(
                f"SELECT DISTINCT {sources[one.table]} FROM {DATABASE}.{one.table} WHERE {one.where}"
            ).rows
            months.update(int(month) for (month,) in rows)
    return sorted(month for month in months if month >= first)


def delete(store: Store, found: list[Held], first: int) -> Iterator[bool]:
    """Deletes; comes back with False while the engine is at it. May be cut short and run again.

    A rollup of months is made again from raw elsewhere, except where raw has lost a part: there its rows go one by one.
    What a rollup without months has of newer events is put back from raw. Raises: StoreError.
    """
    rolled = {feed.table: feed for feed in feeds(store)}
    yield from mutations_end(store)
    for by_event in (True, False):
        for one in (one for one in found if one.by_event is by_event):
            where, feed = one.where, rolled.get(one.table)
            if feed is not None and feed.month != "0":
                where = f"({where}) AND {feed.month} < {first}"
            if count(store, one.table, where):
                # Its answer may take longer than a driver waits, so it is asked for and looked after.
                store.command(f"ALTER TABLE {DATABASE}.{one.table} MODIFY SETTING {_CLEANER}, {_SYNCED}")
                store.command(f"ALTER TABLE {DATABASE}.{one.table} DELETE WHERE {where} SETTINGS mutations_sync = 0")
        yield from mutations_end(store)
    for one in found:
        feed = rolled.get(one.table)
        if feed is not None and feed.month == "0":
            names = ", ".join(feed.columns)
            again = feed.select(f"user_id != '' AND {one.where}")
            store.command(
                f"INSERT INTO {DATABASE}.{one.table} ({names}) SELECT {names} FROM ({again})"
                " SETTINGS insert_deduplicate = 0, deduplicate_insert_select = 'disable'"
            )


def months_of_own_keys(store: Store, where: str) -> list[int]:
    """Months where the person's metadata has a key, at any depth, that nobody else's has. Raises: StoreError.

    A part keeps the paths of its JSON column also when no row has them any more, through mutations and merges.
    """
    keys: dict[int, set[str]] = {}
    for month, metadata in store.stream(
        f"SELECT toYYYYMM(date), toJSONString(event_metadata) FROM {DATABASE}.events WHERE {where}"
    ):
        _gather(msgspec.json.decode(metadata), keys.setdefault(int(month), set()))
    return sorted(month for month, mine in keys.items() if not _all_shared(store, where, month, mine))


def _gather(value: Any, keys: set[str]) -> None:
    if isinstance(value, dict):
        keys.update(value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _gather(item, keys)


def _all_shared(store: Store, where: str, month: int, keys: set[str]) -> bool:
    others = f"toYYYYMM(date) = {month} AND NOT ({where})"
    for key in sorted(keys):
        found = store.select(
            f"SELECT 1 FROM {DATABASE}.events WHERE {others}"
            " AND position(toJSONString(event_metadata), {name:String}) > 0 LIMIT 1",
            {"name": msgspec.json.encode(key).decode() + ":"},
        ).rows
        if not found:
            return False
    return True


def copy_month(store: Store, month: int, still: Callable[[], bool]) -> None:
    """Makes a month of raw again from its own rows, so that nothing is left of keys that no row has any more.

    Shape: `still` says whether nobody inserts meanwhile, and is asked again before the month is replaced.
    Raises: StoreError; RuntimeError where the copy is not the same, which then is dropped.
    """
    beside, raw = f"{DATABASE}.events_rebuilt", f"{DATABASE}.events"
    columns = store.select(
        f"SELECT name, type FROM system.columns WHERE database = '{DATABASE}' AND table = 'events' ORDER BY position"
    ).rows
    names = ", ".join(name for name, _ in columns)
    cells = ", ".join(
        f"CAST(toJSONString({name}) AS {kind}) AS {name}" if kind.startswith("JSON") else name for name, kind in columns
    )
    read = ", ".join(f"toJSONString({name})" if kind.startswith("JSON") else name for name, kind in columns)
    digest = f"SELECT count(), groupBitXor(cityHash64({read}))"
    store.command(f"DROP TABLE IF EXISTS {beside} SYNC")
    store.command(f"CREATE TABLE {beside} AS {raw}")
    for (day,) in store.select(f"SELECT DISTINCT date FROM {raw} WHERE toYYYYMM(date) = {month} ORDER BY date").rows:
        store.command(
            f"INSERT INTO {beside} ({names}) SELECT {cells} FROM {raw} WHERE date = '{day}' SETTINGS {_AS_TEXT}"
        )
    before = store.select(f"{digest} FROM {raw} WHERE toYYYYMM(date) = {month}").rows[0]
    if before != store.select(f"{digest} FROM {beside}").rows[0]:
        store.command(f"DROP TABLE {beside} SYNC")
        raise RuntimeError("the copy of a month is not what it was made of")
    change = f"REPLACE PARTITION {month} FROM {beside}" if before[0] else f"DROP PARTITION {month}"
    if not still():
        raise StoreUnavailable("another loader has taken this work over", hint="it goes on with the erasure")
    store.command(f"ALTER TABLE {raw} {change}")
    store.command(f"DROP TABLE {beside} SYNC")


def mutations_end(store: Store) -> Iterator[bool]:
    """Comes back with False while rows are being deleted. Raises: StoreError."""
    while store.select(f"SELECT count() FROM system.mutations WHERE database = '{DATABASE}' AND NOT is_done").rows[0][
        0
    ]:
        yield False


def purge(store: Store, clock: Clock, tables: Iterable[str]) -> Iterator[bool]:
    """Until no part of these that was replaced before now is on the disk; comes back with False meanwhile.

    Raises: StoreError.
    """
    lifetime = _SERVER_PARTS_SECONDS
    if store.engine == "chdb":
        os.sync()  # what replaces them was synced, but merges of before were not
        lifetime = 0
    named = sorted(tables)
    for table in named:
        store.command(
            f"ALTER TABLE {DATABASE}.{table} MODIFY SETTING {_CLEANER}, {_SYNCED}, old_parts_lifetime = {lifetime}"
        )
    old, started = _old_parts(store, named), clock.monotonic_seconds()
    while old & _old_parts(store, named):
        yield False
    for table in named:
        store.command(
            # As migration 0005 has them.
            f"ALTER TABLE {DATABASE}.{table} MODIFY SETTING old_parts_lifetime = 30, min_rows_to_fsync_after_merge = 1"
        )
    log.info("old_parts_gone", parts=len(old), seconds=round(clock.monotonic_seconds() - started, 1))


def _old_parts(store: Store, tables: list[str]) -> set[tuple[str, str]]:
    """(table, part) of what is on the disk and no query reads.

    Of the embedded engine the folders say so: after a start it knows of old parts only when it has come to them.
    """
    named = ", ".join(f"'{table}'" for table in tables)
    parts = store.select(
        f"SELECT table, name, active FROM system.parts WHERE database = '{DATABASE}' AND table IN ({named})"
    ).rows
    old = {(table, part) for table, part, active in parts if not active}
    if store.engine == "chdb":
        alive = {(table, part) for table, part, active in parts if active}
        paths = store.select(
            f"SELECT name, arrayJoin(data_paths) FROM system.tables WHERE database = '{DATABASE}' AND name IN ({named})"
        ).rows
        old |= {(table, part.name) for table, path in paths for part in _part_folders(Path(path))} - alive
    return old


def _part_folders(path: Path) -> list[Path]:
    return [one for one in path.iterdir() if one.is_dir() and one.name not in ("detached", "deduplication_logs")]


def detached(store: Store) -> int:
    """Parts that the engine has put aside because they were broken; nobody can say whose rows they hold."""
    return int(store.select(f"SELECT count() FROM system.detached_parts WHERE database = '{DATABASE}'").rows[0][0])
