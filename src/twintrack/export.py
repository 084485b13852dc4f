"""Raw events by range as Parquet files: which files there will be, and the bytes of each. Asks the store, writes nothing.

Files follow the hours of the events, so no sort is needed and a file is read by its range alone; inside a file the rows
stand in no order. Every column but the chunk, which means nothing elsewhere, is in.
"""

import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from math import isqrt
from typing import Any, NamedTuple

from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

FORMAT = "twintrack-export/1"
# Types that Parquet lacks are texts: ids, addresses, the metadata as JSON.
_AS_TEXT = {"event_id": "toString(event_id)", "ip_address": "toString(ip_address)"}
_PARQUET = {"output_format_parquet_compression_method": "zstd", "output_format_parquet_string_as_string": 1}


class Wanted(NamedTuple):
    """Which events: times of the events, aware; `until` is not in. None for all."""

    since: datetime | None = None
    until: datetime | None = None
    project: str | None = None
    environment: str | None = None


# A number of each event that is as good as drawn by lot, and the highest there is: what an hour is dealt out by.
_MARK = "cityHash64(project, environment, event_id)"
_HIGHEST = (1 << 64) - 1


class Piece(NamedTuple):
    """One file: events of [first hour, last hour] with a mark in [low, high]; `rows` are how many that will be, about."""

    first: int  # hours since 1970
    last: int
    rows: int
    low: int = 0
    high: int = _HIGHEST

    @property
    def whole(self) -> bool:
        """Whether it cannot be cut: all that it holds is copies of one event, however many they are."""
        return self.low == self.high

    def halved(self) -> "tuple[Piece, Piece]":
        """For one that is not `whole` and turns out to hold more than a file may."""
        middle = (self.low + self.high) // 2
        rows = self.rows // 2
        return self._replace(rows=self.rows - rows, high=middle), self._replace(rows=rows, low=middle + 1)


def pieces_of(hours: Iterable[tuple[int, int]], most_rows: int) -> list[Piece]:
    """Files of whole hours, of one month each, with at most so many rows; an hour above that is dealt out by mark. Pure.

    Such a share may turn out larger, though hardly ever: it is cut in halves then.
    Shape: (hour since 1970, rows), ascending.
    """
    pieces: list[Piece] = []
    # What falls to a share by lot spreads by the root of it; four of those are passed once in thirty thousand times.
    usual = most_rows - min(most_rows // 2, 4 * isqrt(most_rows))
    for hour, rows in hours:
        if rows > most_rows:
            shares = -(-rows // usual)
            edges = [(share << 64) // shares for share in range(shares + 1)]
            counts = [rows * (share + 1) // shares - rows * share // shares for share in range(shares)]
            pieces += [Piece(hour, hour, counts[n], edges[n], edges[n + 1] - 1) for n in range(shares)]
        elif pieces and _fits(pieces[-1], hour, rows, most_rows):
            pieces[-1] = pieces[-1]._replace(last=hour, rows=pieces[-1].rows + rows)
        else:
            pieces.append(Piece(hour, hour, rows))
    return pieces


def _fits(piece: Piece, hour: int, rows: int, most_rows: int) -> bool:
    whole = (piece.low, piece.high) == (0, _HIGHEST)
    return whole and piece.rows + rows <= most_rows and month_of(piece.first) == month_of(hour)


def month_of(hour: int) -> str:
    """Negative hours too: a clock may have stood before 1970."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).strftime("%Y-%m")


def count_hours(store: Store, wanted: Wanted, as_of_milliseconds: int) -> list[tuple[int, int]]:
    """How many events each hour has that were in the store at that time. Raises: StoreError."""
    where, parameters = _where(wanted, as_of_milliseconds)
    answer = store.select(
        f"SELECT {_HOUR} AS hour, count() FROM {DATABASE}.events WHERE {where} GROUP BY hour ORDER BY hour", parameters
    )
    return [(int(hour), int(rows)) for hour, rows in answer.rows]


def parquet_of(store: Store, wanted: Wanted, as_of_milliseconds: int, piece: Piece, most_rows: int) -> bytes:
    """One file; where there are more rows than it may hold, one more of them than that: it is to be thrown away then, but
    for a piece that is `whole`.

    Raises: StoreError.
    """
    where, parameters = _where(wanted, as_of_milliseconds)
    where += " AND date BETWEEN {first_day:Date32} AND {last_day:Date32}"
    where += f" AND {_HOUR} BETWEEN {{first:Int64}} AND {{last:Int64}}"
    where += f" AND {_MARK} BETWEEN {{low:UInt64}} AND {{high:UInt64}}"
    parameters |= piece._asdict()
    parameters |= {"first_day": _day(piece.first), "last_day": _day(piece.last), "most": most_rows + 1}
    limit = "" if piece.whole else " LIMIT {most:UInt64}"
    asked = f"SELECT {', '.join(_columns(store))} FROM {DATABASE}.events WHERE {where}{limit}"
    return b"".join(store.blocks(asked, "Parquet", parameters, _PARQUET))


def rows_in(content: bytes) -> int:
    """Of a Parquet file."""
    from pyarrow.parquet import read_metadata  # where it is needed: it takes the third of a second to load

    return int(read_metadata(io.BytesIO(content)).num_rows)


def columns_of(store: Store) -> list[str]:
    """The columns of a file, in order. Raises: StoreError."""
    return [column.rpartition(" AS ")[2] for column in _columns(store)]


def _columns(store: Store) -> list[str]:
    asked = (
        f"SELECT name, type FROM system.columns WHERE database = '{DATABASE}' AND table = 'events' ORDER BY position"
    )
    columns = []
    for name, kind in store.select(asked).rows:
        if name == "chunk_id":
            continue
        if str(kind).startswith("JSON"):
            columns.append(f"toJSONString({name}) AS {name}")
        else:
            columns.append(f"{_AS_TEXT[name]} AS {name}" if name in _AS_TEXT else str(name))
    return columns


_HOUR = "intDiv(toUnixTimestamp64Milli(event_timestamp), 3600000)"


def _day(hour: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).date().isoformat()


def _where(wanted: Wanted, as_of_milliseconds: int) -> tuple[str, dict[str, Any]]:
    where = ["loaded_at <= fromUnixTimestamp64Milli({as_of:Int64})"]
    parameters: dict[str, Any] = {"as_of": as_of_milliseconds}
    for name, moment, sign in (("since", wanted.since, ">="), ("until", wanted.until, "<")):
        if moment is not None:
            where.append(f"event_timestamp {sign} fromUnixTimestamp64Milli({{{name}:Int64}})")
            parameters[name] = round(moment.timestamp() * 1000)
    for name, value in (("project", wanted.project), ("environment", wanted.environment)):
        if value is not None:
            where.append(f"{name} = {{{name}:String}}")
            parameters[name] = value
    return " AND ".join(where), parameters
