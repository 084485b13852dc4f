"""Files of events, row by row: CSV and JSON lines, plain or gzipped, with a mapping of columns to event fields.

Pure reading: what the rows mean is decided here, what becomes of them by the pipeline.
"""

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twintrack.clock import milliseconds_of
from twintrack.errors import RequestError

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


class Row(NamedTuple):
    number: int  # line in the file, from 1, for messages
    milliseconds: int
    occurrence: int  # n-th row with this content
    event: dict[str, Any]


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
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def kind_of(path: Path) -> str:
    """`csv` or `jsonl`, by name."""
    name = path.name.lower().removesuffix(".gz")
    for ending, kind in ((".csv", "csv"), (".jsonl", "jsonl"), (".ndjson", "jsonl")):
        if name.endswith(ending):
            return kind
    raise RequestError(
        "the file is neither CSV nor JSON lines by its name", hint="name it .csv or .jsonl, with .gz if zipped"
    )


def read_rows(path: Path, given: dict[str, str], zone: tzinfo) -> Iterator[Row | BadRow]:
    """Rows in file order. Equal rows stay apart by their occurrence, which no batch size changes."""
    seen: Counter[bytes] = Counter()
    mapping: dict[str, str] | None = None
    with _open(path) as file:
        for number, raw in _records(file, kind_of(path)):
            if isinstance(raw, str):
                yield BadRow(number, raw)
                continue
            if mapping is None or not mapping.keys() <= raw.keys():
                try:
                    mapping = mapping_of(list(raw), given)
                except RequestError as error:
                    if mapping is None:
                        raise
                    yield BadRow(number, error.message)
                    continue
            try:
                moment = parse_time(raw[next(c for c, f in mapping.items() if f == "client_timestamp")], zone)
            except (ValueError, OverflowError, OSError):
                yield BadRow(number, "the time cannot be read; ISO 8601 or seconds since 1970")
                continue
            event = _event(raw, mapping, moment)
            content = hashlib.blake2b(json.dumps(event, sort_keys=True).encode(), digest_size=16).digest()
            seen[content] += 1
            yield Row(number, milliseconds_of(moment), seen[content], event)


def _records(file: IO[bytes], kind: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    if kind == "csv":
        reader = csv.DictReader(text)
        for row in reader:
            bad = None in row or None in row.values()
            yield reader.line_num, "the row has another number of columns than the header" if bad else dict(row)
        return
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            yield number, "the line is not JSON"
            continue
        yield number, value if isinstance(value, dict) else "the line is not a JSON object"


def _event(raw: dict[str, Any], mapping: dict[str, str], moment: datetime) -> dict[str, Any]:
    event: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for column, value in raw.items():
        field = mapping.get(column)
        if field == "client_timestamp":
            event[field] = moment.isoformat(timespec="milliseconds")
        elif field == "sequence":
            event[field] = int(value) if str(value).isdigit() else 0
        elif field is not None:
            if value not in (None, ""):
                event[field] = str(value)
        elif column in ("event_metadata", "metadata", "properties") and isinstance(value, dict):
            metadata.update(value)
        elif value not in (None, ""):
            metadata[column] = value
    if metadata:
        event["event_metadata"] = metadata
    return event
