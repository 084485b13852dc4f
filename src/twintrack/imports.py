"""Files of events, row by row: CSV, JSON lines and Parquet, plain or zipped, with a mapping of columns to event fields.

Pure reading: what the rows mean is decided here, what becomes of them by the pipeline. A row that cannot be read
costs itself alone; a file that cannot be read to its end says so.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from twintrack.clock import milliseconds_of
from twintrack.errors import RequestError
from twintrack.event import limits
from twintrack.ingest.scan import mend

_FIELDS = (
    "event_name",
    "client_timestamp",
    "user_id",
    "anonymous_id",
    "session_id",
    "event_value",
    "message_content",
    "thread_id",
    "sequence",
)
_GUESSES = {
    "event": "event_name",
    "name": "event_name",
    "event_name": "event_name",
    "timestamp": "client_timestamp",
    "time": "client_timestamp",
    "ts": "client_timestamp",
    "event_timestamp": "client_timestamp",
    "client_timestamp": "client_timestamp",
    "user": "user_id",
    "distinct_id": "user_id",
    "session": "session_id",
    "value": "event_value",
    "message": "message_content",
    "thread": "thread_id",
}

# Columns that say where an event happened: they stand in the event's context, under these names.
_CONTEXT = {
    "page_url": ("page", "url"),
    "page_path": ("page", "path"),
    "page_title": ("page", "title"),
    "referrer": ("referrer",),
    "locale": ("locale",),
    "viewport_width": ("viewport", "width"),
    "viewport_height": ("viewport", "height"),
}
# What the service itself said of an event that `twintrack export` wrote; it will say it again.
_SAID_BY_US = frozenset(
    {
        *("project", "environment", "date", "identity", "message_length", "server_timestamp", "loaded_at"),
        *("ip_address", "user_agent", "is_bot", "source", "masked", "masking_version", "schema_version"),
        *("expires_at", "message_expires_at"),
    }
)
_NULL = "\\N"  # as the engine writes it into CSV
_EXPORTED = frozenset({"event_id", "masking_version", "loaded_at", "schema_version", *_CONTEXT})
_PARQUET_ROWS = 5_000  # read at once
_MOST_MAPPINGS = 1_000  # of JSON lines whose columns differ; more are worked out again


class Row(NamedTuple):
    number: int  # line in the file, from 1, for messages
    milliseconds: int
    occurrence: int  # n-th row with this content
    event: dict[str, Any]
    event_id: str | None = None  # of a file that `twintrack export` wrote
    sender: dict[str, Any] | None = None  # of such a file too: who sent the event, as the service saw it then


class BadRow(NamedTuple):
    number: int
    message: str


def mapping_of(columns: list[str], given: dict[str, str]) -> dict[str, str]:
    """Column to event field; columns that map to none become metadata.

    Raises: RequestError where a given column or field does not exist, or name or time have no column.
    """
    mapping = {c: _GUESSES.get(c.lower(), c.lower()) for c in columns if _GUESSES.get(c.lower(), c.lower()) in _FIELDS}
    for field, column in given.items():
        if field not in _FIELDS:
            raise RequestError(f"{field} is no field of an event", hint=f"fields: {', '.join(_FIELDS)}", code="bad_map")
        if column not in columns:
            raise RequestError(
                f"the file has no column {column}", hint=f"columns: {', '.join(columns)}", code="bad_map"
            )
        mapping = {c: f for c, f in mapping.items() if f != field}
        mapping[column] = field
    for needed in ("event_name", "client_timestamp"):
        if needed not in mapping.values():
            raise RequestError(
                f"no column is the {needed}",
                hint=f"--map {needed}=COLUMN; columns: {', '.join(columns)}",
                code="bad_map",
            )
    return mapping


def zone_of(name: str) -> tzinfo:
    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise RequestError(
            "the time zone is unknown", hint="an IANA name such as Europe/Paris", code="bad_zone"
        ) from error


def parse_time(text: Any, zone: tzinfo) -> datetime:
    """An ISO 8601 time; without an offset it is in `zone`. A number is seconds, or milliseconds beyond 10^11, since 1970."""
    if isinstance(text, int | float) or (isinstance(text, str) and text.replace(".", "", 1).isdigit()):
        number = float(text)
        return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
    moment = datetime.fromisoformat(str(text).strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        first = file.read(4)
    if first[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if first == b"\x28\xb5\x2f\xfd":
        # Not by zstandard: its reader takes a file that breaks off for one that ends.
        from pyarrow import input_stream  # where it is needed: it takes the third of a second to load

        return io.BufferedReader(input_stream(path, compression="zstd"))
    return path.open("rb")


def kind_of(path: Path) -> str:
    """`csv`, `jsonl` or `parquet`, by name."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    kinds = ((".csv", "csv"), (".jsonl", "jsonl"), (".ndjson", "jsonl"), (".parquet", "parquet"))
    for ending, kind in kinds:
        if name.endswith(ending):
            return kind
    raise RequestError(
        "the file is neither CSV, JSON lines nor Parquet by its name",
        hint="name it .csv, .jsonl or .parquet, the first two with .gz or .zst if zipped",
    )


def read_rows(path: Path, given: dict[str, str], zone: tzinfo) -> Iterator[Row | BadRow]:
    """Rows in file order. Equal rows stay apart by their occurrence, which no batch size changes.

    Raises: RequestError where the mapping does not fit the first row, or the file breaks off.
    """
    try:
        with _open(path) as file:
            yield from _rows(file, kind_of(path), given, zone)
    except (EOFError, zlib.error, OSError) as error:
        raise RequestError(
            "the file is zipped and breaks off", hint="copy it again; rows before the break are brought in already"
        ) from error


def _rows(file: IO[bytes], kind: str, given: dict[str, str], zone: tzinfo) -> Iterator[Row | BadRow]:
    seen: Counter[bytes] = Counter()
    mappings: dict[tuple[str, ...], dict[str, str]] = {}
    begun = False
    for number, raw in _records(file, kind):
        if isinstance(raw, str):
            yield BadRow(number, raw)
            continue
        columns = tuple(raw)
        if columns not in mappings:
            if len(mappings) >= _MOST_MAPPINGS:
                mappings.clear()
            # JSON lines leave out what they have no value for, so after the first row a column may be missing.
            fitting = {field: column for field, column in given.items() if column in raw} if begun else given
            try:
                mappings[columns] = mapping_of(list(columns), fitting)
            except RequestError as error:
                if not begun:
                    raise
                yield BadRow(number, error.message)
                continue
        mapping, begun = mappings[columns], True
        try:
            moment = parse_time(raw[next(c for c, f in mapping.items() if f == "client_timestamp")], zone)
        except (ValueError, OverflowError, OSError):
            yield BadRow(number, "the time cannot be read; ISO 8601 or seconds since 1970")
            continue
        exported = raw.keys() >= _EXPORTED
        try:
            event = _event(raw, mapping, moment, exported)
        except (ValueError, OverflowError, OSError):
            yield BadRow(
                number, "`consent_at` or `consent_denied` cannot be read; write them as `twintrack export` does"
            )
            continue
        content = hashlib.blake2b(json.dumps(event, sort_keys=True).encode(), digest_size=16).digest()
        seen[content] += 1
        own = (str(raw["event_id"]), _sender(raw)) if exported else (None, None)
        yield Row(number, milliseconds_of(moment), seen[content], event, *own)


def _records(file: IO[bytes], kind: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    if kind == "parquet":
        yield from _parquet_records(file)
        return
    if kind == "csv":
        yield from _csv_records(
            csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline=""))
        )
        return
    for number, line in enumerate(file, 1):
        line = line.strip(b" \t\r\n\xef\xbb\xbf")
        if line:
            yield number, _object(line)


def _parquet_records(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """A few thousand rows at a time. A column that is named twice would hide one of its values.

    Raises: RequestError.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        whole = ParquetFile(file)
        yield from _batches(whole)
    except ArrowException as error:
        raise RequestError("the file is no whole Parquet file", hint="copy it again") from error


def _batches(whole: Any) -> Iterator[tuple[int, dict[str, Any] | str]]:
    names = whole.schema_arrow.names
    if len(set(names)) != len(names):
        raise RequestError("the file has two columns of one name", hint="rename one", code="bad_map")
    number = 0
    for batch in whole.iter_batches(batch_size=_PARQUET_ROWS):
        for row in batch.to_pylist():
            number += 1
            yield number, {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A cell as JSON would have it."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _csv_records(reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, Any] | str]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield (
                reader.reader.line_num,
                f"a cell is longer than {csv.field_size_limit()} characters, or has a stray quote",
            )
            continue
        bad = None in row or None in row.values()
        yield reader.line_num, "the row has another number of columns than the header" if bad else dict(row)


def _object(line: bytes) -> dict[str, Any] | str:
    """The object of a JSON line, read as the door reads an event; or what is wrong with it."""
    most = limits().metadata_depth + 2
    try:
        value = msgspec.json.decode(mend(line))
    except (msgspec.DecodeError, RecursionError):
        return "the line is not JSON"
    if not isinstance(value, dict):
        return "the line is not a JSON object"
    if line.count(b"[") + line.count(b"{") > most and _deeper(value, most):
        return f"the line is nested deeper than {limits().metadata_depth} levels (metadata_depth); flatten it"
    return value


def _deeper(value: Any, most: int) -> bool:
    """Whether a value nests deeper, found without recursion."""
    level: list[Any] = [value]
    for _ in range(most):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _event(raw: dict[str, Any], mapping: dict[str, str], moment: datetime, exported: bool) -> dict[str, Any]:
    event: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    context: dict[str, Any] = {}
    for column, value in raw.items():
        field = mapping.get(column)
        if field == "client_timestamp":
            event[field] = moment.isoformat(timespec="milliseconds")
        elif field == "sequence":
            event[field] = int(value) if str(value).isdecimal() and len(str(value)) < 20 else 0
        elif field is not None:
            if value not in (None, ""):
                event[field] = str(value)
        elif column in ("event_metadata", "metadata", "properties") and isinstance(found := _metadata(value), dict):
            metadata.update(found)
        elif exported and column in _CONTEXT:
            *place, name = _CONTEXT[column]
            (context.setdefault(place[0], {}) if place else context)[name] = value
        elif exported and (column in _SAID_BY_US or column == "event_id"):
            pass
        elif exported and column == "consent":
            event["consent"] = _consent(raw) if value else None
        elif exported and column in ("consent_at", "consent_denied"):
            pass
        elif value not in (None, ""):
            metadata[column] = value
    if context:
        event["context"] = context
    if metadata:
        event["event_metadata"] = metadata
    return event


def _sender(raw: dict[str, Any]) -> dict[str, Any]:
    """What only the service could tell of the sender. A user id that nobody verified then is not verified by an import."""
    return {
        "ip_address": str(raw.get("ip_address") or "::"),
        "user_agent": str(raw.get("user_agent") or ""),
        "is_bot": str(raw.get("is_bot")).lower() in ("true", "1"),
        "claimed": raw.get("identity") == "claimed",
    }


def _consent(raw: dict[str, Any]) -> Any:
    """The state alone, or with when it was given and which vendors it does not hold for. Raises: as `parse_time`."""
    at, denied = raw.get("consent_at"), raw.get("consent_denied")
    if at == _NULL:
        at = None
    if isinstance(denied, str):
        denied = _listed(denied)
    if not at and not denied:
        return raw["consent"]
    said: dict[str, Any] = {"state": raw["consent"], "denied": denied or []}
    if at:
        said["at"] = parse_time(at, UTC).isoformat(timespec="milliseconds")
    return said


def _listed(text: str) -> list[str]:
    """A list as the engine writes it into CSV, `['statsig','gtm']`, or as JSON. Raises: ValueError."""
    found = json.loads(text.replace("'", '"') or "[]")
    if not isinstance(found, list) or any(not isinstance(one, str) for one in found):
        raise ValueError("no list of texts")
    return found


def _metadata(value: Any) -> Any:
    """Metadata that stand in a cell as JSON, as CSV and Parquet have to write them."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    found = _object(value.encode())
    return value if isinstance(found, str) else found
