"""Answers of typed questions as files: csv, JSON lines and Parquet, page by page, and as Arrow in memory."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from twintrack.query.flat import Answer, Column, Row, shape_of

if TYPE_CHECKING:
    import pyarrow

ABOUT = "X-Twintrack-About"
MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
# Of an answer, what says how to read it; no name of a person and nothing that was typed, since it becomes a header.
_SAID = (
    "as_of",
    "zone",
    "interval",
    "range",
    "source",
    "complete_from",
    "cached",
    "limits",
    "withheld",
    "total",
)
_ROWS_AT_ONCE = 1_000


def about(answer: Answer) -> str:
    """What a file of this answer cannot say in its rows, as JSON in ASCII."""
    return json.dumps({name: answer[name] for name in _SAID if name in answer}, separators=(",", ":"))


async def answered(answer: Mapping[str, Any]) -> Response:
    """The answer as JSON, made on a thread and in pieces: none of them holds up events for long."""
    return Response(await asyncio.to_thread(_as_json, answer), media_type="application/json")


def _as_json(answer: Mapping[str, Any]) -> bytes:
    rows = answer.get("rows")
    if not isinstance(rows, list) or len(rows) <= _ROWS_AT_ONCE:
        return msgspec.json.encode(answer)
    rest = msgspec.json.encode({name: value for name, value in answer.items() if name != "rows"})
    # The interpreter lets another thread in between two pieces, never inside of one.
    pieces = [msgspec.json.encode(rows[n : n + _ROWS_AT_ONCE])[1:-1] for n in range(0, len(rows), _ROWS_AT_ONCE)]
    return b"".join((rest[:-1], b',"rows":[', b",".join(pieces), b"]}"))


def arrow(kind: str, answer: Answer) -> "pyarrow.Table":
    """The answer as one table; its schema's metadata `twintrack` says what it means, as JSON."""
    shape = shape_of(kind, answer)
    columns = shape.columns_of(answer)
    return _table(columns, shape.rows(answer), _schema(columns, answer))


async def written(
    kind: str, first: Mapping[str, Any], further: AsyncIterator[Mapping[str, Any]], output: str
) -> AsyncIterator[bytes]:
    """The file in pieces. A page becomes text on a thread of its own: it would hold up events meanwhile."""
    shape = shape_of(kind, first)
    columns = shape.columns_of(first)
    pen = _PENS[output](columns, first)
    yield await asyncio.to_thread(pen.write, shape.rows(first))
    async for page in further:
        yield await asyncio.to_thread(pen.write, shape.rows(page))
    yield pen.end()


class _Lines:
    """JSON lines: each row with all of its columns, cells as the answer has them."""

    def __init__(self, columns: list[Column], _: Answer) -> None:
        self._names = [column.name for column in columns]

    def write(self, rows: Iterable[Row]) -> bytes:
        encode = msgspec.json.Encoder().encode_lines
        return encode({name: row.get(name) for name in self._names} for row in rows)

    def end(self) -> bytes:
        return b""


class _Csv:
    def __init__(self, columns: list[Column], answer: Answer) -> None:
        self._columns, self._schema, self._begun = columns, _schema(columns, answer), False

    def write(self, rows: Iterable[Row]) -> bytes:
        from pyarrow.csv import WriteOptions, write_csv

        sink = io.BytesIO()
        write_csv(_table(self._columns, rows, self._schema), sink, WriteOptions(include_header=not self._begun))
        self._begun = True
        return sink.getvalue()

    def end(self) -> bytes:
        return b""


class _Parquet:
    def __init__(self, columns: list[Column], answer: Answer) -> None:
        from pyarrow.parquet import ParquetWriter

        self._columns, self._schema, self._sink = columns, _schema(columns, answer), io.BytesIO()
        self._writer = ParquetWriter(self._sink, self._schema, compression="zstd")

    def write(self, rows: Iterable[Row]) -> bytes:
        self._writer.write_table(_table(self._columns, rows, self._schema))
        return self._taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        """What was written since the last time. The writer keeps places of its own and never goes back."""
        piece = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return piece


_PENS: dict[str, Callable[[list[Column], Answer], Any]] = {"csv": _Csv, "json": _Lines, "parquet": _Parquet}


def _schema(columns: list[Column], answer: Answer) -> "pyarrow.Schema":
    import pyarrow  # where it is needed: it takes the third of a second to load

    kinds = {
        "text": pyarrow.string(),
        "number": pyarrow.float64(),
        "whole": pyarrow.int64(),
        "bool": pyarrow.bool_(),
        "time": pyarrow.timestamp("ms", "UTC"),
        "json": pyarrow.string(),
    }
    said = {"definition": answer.get("definition"), **json.loads(about(answer))}
    fields = [pyarrow.field(column.name, kinds[column.kind]) for column in columns]
    return pyarrow.schema(fields, {"twintrack": json.dumps(said)})


def _table(columns: list[Column], rows: Iterable[Row], schema: "pyarrow.Schema") -> "pyarrow.Table":
    import pyarrow

    cells: Iterator[list[Any]] = ([_cell(column, row.get(column.name)) for column in columns] for row in rows)
    by_column = list(zip(*cells, strict=True)) or [()] * len(columns)
    arrays = [pyarrow.array(list(values), field.type) for values, field in zip(by_column, schema, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def _cell(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.kind == "json":
        return msgspec.json.encode(value).decode()
    return datetime.fromisoformat(value) if column.kind == "time" else value
