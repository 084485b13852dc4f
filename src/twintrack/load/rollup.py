"""Rollups from raw: made again month by month, and compared.

What a rollup holds is said once, by the view that feeds it; here its own query is read from the engine. A month is made
in a table beside and put in place as one partition, so that a reader sees the old one or the new one. Nobody may insert
meanwhile: only the loader's thread calls `rebuild` and `fold`, and only when no insert is in doubt, because the tokens
that the replaced parts remembered go with them.

Of what has expired from raw a rollup keeps counts alone: no column that names somebody, and no state, since a state is
a set of hashes that a guess can be tried on.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from twintrack.errors import StoreUnavailable
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

_RAW = f"{DATABASE}.events"
_TARGET = re.compile(rf" TO `?{DATABASE}`?\.`?(\w+)`?")
_STATE = re.compile(r"AggregateFunction\((\w+)")
_TIME = re.compile(r"toYYYYMM\((\w+)\)")
_NAMING = ("user_id", "anonymous_id", "session_id", "thread_id")  # columns by which a row is somebody's
_AS_IT_IS = "SETTINGS insert_deduplicate = 0, deduplicate_insert_select = 'disable'"


class Feed(NamedTuple):
    """A rollup: its table, the query that feeds it, and how its cells are read."""

    table: str
    query: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    cells: tuple[str, ...]  # an aggregate for each column that is no key
    month: str  # the expression of its partitions; 0 where it has none

    def select(self, where: str) -> str:
        """The feeding query over a part of raw."""
        return self.query.replace(f"FROM {_RAW}", f"FROM (SELECT * FROM {_RAW} WHERE {where})")

    @property
    def names(self) -> list[str]:
        """The keys by which a row is somebody's."""
        return [key for key in self.keys if key in _NAMING]

    @property
    def counts(self) -> list[str]:
        """The columns that add up."""
        return [name for name in self.columns if f"sum({name})" in self.cells]

    @property
    def day(self) -> str:
        """The expression of a row's day, where it has months."""
        time = _TIME.fullmatch(self.month)
        assert time is not None, f"{self.table} is not parted by months"
        return f"toDate({time.group(1)})"


def feeds(store: Store) -> list[Feed]:
    """Every rollup that is fed from events. Raises: StoreError."""
    found = []
    views = store.select(
        "SELECT as_select, create_table_query FROM system.tables"
        f" WHERE database = '{DATABASE}' AND engine = 'MaterializedView' ORDER BY name"
    ).rows
    for query, created in views:
        target = _TARGET.search(created)
        if target is None or f"FROM {_RAW}" not in query:
            continue
        table = target.group(1)
        ((order, partition),) = store.select(
            f"SELECT sorting_key, partition_key FROM system.tables WHERE database = '{DATABASE}' AND name = '{table}'"
        ).rows
        columns = store.select(
            f"SELECT name, type FROM system.columns WHERE database = '{DATABASE}' AND table = '{table}' ORDER BY position"
        ).rows
        keys = tuple(order.split(", "))
        cells = tuple(_cell(name, kind) for name, kind in columns if name not in keys)
        found.append(Feed(table, query, tuple(name for name, _ in columns), keys, cells, partition or "0"))
    return found


def _cell(name: str, kind: str) -> str:
    state = _STATE.search(kind)
    if state is None:
        return f"sum({name})"
    return f"{state.group(1)}({name})" if kind.startswith("Simple") else f"{state.group(1)}Merge({name})"


def months(store: Store) -> list[int]:
    """Months that raw or a rollup has something of. Raises: StoreError."""
    tables = ", ".join(f"'{feed.table}'" for feed in feeds(store) if feed.month != "0")
    rows = store.select(
        "SELECT DISTINCT toUInt32(partition) AS month FROM system.parts WHERE active"
        f" AND database = '{DATABASE}' AND table IN ('events', {tables}) ORDER BY month"
    ).rows
    return [int(month) for (month,) in rows]


def rebuild(store: Store, month: int, still: Callable[[], bool] = lambda: True) -> None:
    """Makes a month of each rollup again from raw; 0 makes those again that have no months.

    Shape: `still` says whether nobody inserts meanwhile, and is asked again before anything is replaced.
    Raises: StoreError.
    """
    for feed in feeds(store):
        if (feed.month == "0") != (month == 0):
            continue
        where = "1" if month == 0 else f"toYYYYMM(date) = {month}"
        with _beside(store, feed, month, still) as beside:
            # By days: a statement has to end within the driver's patience.
            for (day,) in store.select(f"SELECT DISTINCT date FROM {_RAW} WHERE {where} ORDER BY date").rows:
                _from_raw(store, feed, beside, f"date = '{day}'")


def fold(store: Store, month: int, still: Callable[[], bool] = lambda: True) -> None:
    """Makes a month again from which rows have expired: who is in raw stands in its rollups as before, of everybody else
    they keep counts. May be repeated.

    Shape and raises: as `rebuild`.
    """
    for feed in feeds(store):
        lost = [] if feed.month == "0" else _lost_days(store, feed, month)
        if not lost:
            continue
        table = f"{DATABASE}.{feed.table}"
        with _beside(store, feed, month, still) as beside:
            days = store.select(
                f"SELECT DISTINCT {feed.day} AS day FROM {table} WHERE {feed.month} = {month} ORDER BY day"
            )
            for (day,) in days.rows:
                if day in lost:
                    _from_raw(store, feed, beside, f"date = '{day}'")
                    _gone(store, feed, beside, str(day))
                else:
                    names = ", ".join(feed.columns)
                    store.command(
                        f"INSERT INTO {beside} ({names}) SELECT {names} FROM {table} WHERE {feed.day} = '{day}' {_AS_IT_IS}"
                    )


def outlived(store: Store, before_month: int) -> list[int]:
    """Months before that one whose rollups name somebody by a row that raw has nothing of. Raises: StoreError."""
    naming = [feed for feed in feeds(store) if feed.month != "0" and feed.names]
    # By months: a statement has to end within the driver's patience.
    asked = [month for month in months(store) if 0 < month < before_month]
    return [month for month in asked if any(_names_more(store, feed, month) for feed in naming)]


def _names_more(store: Store, feed: Feed, month: int) -> bool:
    named = " OR ".join(f"{name} != ''" for name in feed.names)
    rolled, raw = (
        store.select(
            f"SELECT count() FROM (SELECT {', '.join(feed.keys)} FROM {source}"
            f" WHERE {feed.month} = {month} AND ({named}) GROUP BY {', '.join(feed.keys)})"
        ).rows[0][0]
        for source in (f"{DATABASE}.{feed.table}", f"({feed.select(f'toYYYYMM(date) = {month}')})")
    )
    return bool(rolled > raw)


@contextmanager
def _beside(store: Store, feed: Feed, month: int, still: Callable[[], bool]) -> Iterator[str]:
    """A new table like a rollup's, whose rows take the place of the month's in the end."""
    beside = f"{DATABASE}.{feed.table}_rebuilt"
    store.command(f"DROP TABLE IF EXISTS {beside} SYNC")
    store.command(f"CREATE TABLE {beside} AS {DATABASE}.{feed.table}")
    yield beside
    partition = "tuple()" if month == 0 else str(month)
    # The engine refuses to replace a partition by nothing, which is what raw without such rows makes of it.
    made = store.select(f"SELECT count() FROM {beside}").rows[0][0]
    change = f"REPLACE PARTITION {partition} FROM {beside}" if made else f"DROP PARTITION {partition}"
    if not still():
        raise StoreUnavailable("another loader has taken this work over", hint="it makes the rollups again")
    store.command(f"ALTER TABLE {DATABASE}.{feed.table} {change}")
    store.command(f"DROP TABLE {beside} SYNC")


def _from_raw(store: Store, feed: Feed, beside: str, where: str) -> None:
    names = ", ".join(feed.columns)
    store.command(f"INSERT INTO {beside} ({names}) SELECT {names} FROM ({feed.select(where)})")


def _lost_days(store: Store, feed: Feed, month: int) -> list[dt.date]:
    """Days of which the rollup has counted more than raw has."""
    totals = ", ".join(f"sum({name})" for name in feed.counts) or "0"
    of_raw = feed.select(f"toYYYYMM(date) = {month}")
    rolled, raw = (
        {
            day: counted
            for day, *counted in store.select(
                f"SELECT {feed.day} AS day, {totals} FROM {source} WHERE {feed.month} = {month} GROUP BY day"
            ).rows
        }
        for source in (f"{DATABASE}.{feed.table}", f"({of_raw})")
    )
    return [day for day, counted in rolled.items() if not feed.counts or counted != raw.get(day)]


def _gone(store: Store, feed: Feed, beside: str, day: str) -> None:
    """What a day has counted beyond raw, under nobody's name."""
    if not feed.counts:
        return
    kept, of_raw = [key for key in feed.keys if key not in _NAMING], feed.select(f"date = '{day}'")
    rolled = ", ".join([*kept, *(f"toInt64({name}) AS {name}_" for name in feed.counts)])
    raw = ", ".join([*kept, *(f"-toInt64({name}) AS {name}_" for name in feed.counts)])
    more = [f"greatest(sum({name}_), 0)" for name in feed.counts]
    store.command(
        f"INSERT INTO {beside} ({', '.join([*kept, *feed.counts])}) SELECT {', '.join([*kept, *more])} FROM"
        f" (SELECT {rolled} FROM {DATABASE}.{feed.table} WHERE {feed.day} = '{day}'"
        f" UNION ALL SELECT {raw} FROM ({of_raw}))"
        f" GROUP BY {', '.join(kept)} HAVING {' + '.join(more)} > 0 {_AS_IT_IS}"
    )


def first_whole_month(complete_since: Mapping[str, int]) -> int:
    """The first month that raw holds all of, for every project; 0 where nothing was ever removed from raw."""
    latest = max(complete_since.values(), default=0)
    if not latest:
        return 0
    day = dt.datetime.fromtimestamp(latest / 1000, dt.UTC)
    month = day.year * 100 + day.month
    if (day.day, day.hour, day.minute, day.second, day.microsecond) == (1, 0, 0, 0, 0):
        return month
    return month + (89 if day.month == 12 else 1)


class Difference(NamedTuple):
    table: str
    month: int


def compare(store: Store, since_month: int = 0) -> list[Difference]:
    """Rollups and months whose cells are not those of raw, from a month on. Raises: StoreError."""
    different = []
    for feed in feeds(store):
        if feed.month == "0" and since_month:
            continue  # it cannot be told from the part of raw that is complete
        rolled = _digests(store, feed, f"{DATABASE}.{feed.table}", since_month)
        raw = _digests(store, feed, f"({feed.select(f'toYYYYMM(date) >= {since_month}')})", since_month)
        different += [Difference(feed.table, m) for m in sorted({*rolled, *raw}) if rolled.get(m) != raw.get(m)]
    return different


def _digests(store: Store, feed: Feed, source: str, since_month: int) -> dict[int, tuple[int, int]]:
    """Cells and their checksum by month."""
    cells = ", ".join(f"{cell} AS cell_{i}" for i, cell in enumerate(feed.cells))
    names = ", ".join([*feed.keys, *(f"cell_{i}" for i in range(len(feed.cells)))])
    rows = store.select(
        f"SELECT {feed.month} AS month, count(), groupBitXor(cityHash64({names})) FROM"
        f" (SELECT {', '.join(feed.keys)}, {cells} FROM {source} GROUP BY {', '.join(feed.keys)})"
        f" WHERE month >= {since_month} GROUP BY month"
    ).rows
    return {int(month): (int(count), int(digest)) for month, count, digest in rows}
