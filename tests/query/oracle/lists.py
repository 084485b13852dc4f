"""Sessions, people, rows and properties, one by one."""

from collections import Counter
from datetime import datetime
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.filters import takes, text
from tests.query.oracle.people import persons
from tests.query.oracle.trends import chosen

Rows = list[dict[str, Any]]


def known_rows(all_rows: Rows) -> Rows:
    """The rows with their person."""
    return [{**row, "person": person} for row, person in zip(all_rows, persons(all_rows), strict=True)]


def inside(all_rows: Rows, asked: dict[str, Any], now: datetime) -> Rows:
    """The rows of range and filter, with their person."""
    start, end = calendar.span(asked["range"], asked.get("zone", "UTC"), now)
    return [
        row
        for row in known_rows(all_rows)
        if start <= row["event_timestamp"] < end and takes(asked.get("filter"), row, asked.get("zone", "UTC"))
    ]


def visits(all_rows: Rows, asked: dict[str, Any], now: datetime) -> list[Any]:
    """Of each session: when it began, events, seconds, what it begins and ends with, and whose its last event is."""
    by = asked.get("by", "event_name")
    grouped: dict[str, Rows] = {}
    for row in inside(all_rows, asked, now):
        if row["session_id"]:
            grouped.setdefault(row["session_id"], []).append(row)
    told = []
    for rows in grouped.values():
        rows.sort(key=lambda r: (r["event_timestamp"], r.get("sequence", 0), str(r["event_id"])))
        first, last = rows[0], rows[-1]
        seconds = (last["event_timestamp"] - first["event_timestamp"]).total_seconds()
        told.append((first["event_timestamp"], len(rows), seconds, text(first, by), text(last, by), last["person"]))
    return told


def sessions(all_rows: Rows, asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    zone, told = asked.get("zone", "UTC"), visits(all_rows, asked, now)
    start, end = calendar.span(asked["range"], zone, now)
    edges = calendar.starts(start, end, asked["interval"], zone)
    first_hour = pd.Timestamp(min(row["event_timestamp"] for row in all_rows)).floor("h")
    values = []
    for low, high in pairwise(edges):
        gap = low > pd.Timestamp(now) or high <= first_hour
        values.append([None] * 5 if gap else _numbers([t for t in told if low <= t[0] < high]))
    top = asked.get("top", 10)
    return {
        "values": values,
        "total": _numbers(told),
        "entry": _frequent([t[3] for t in told], top),
        "exit": _frequent([t[4] for t in told], top),
    }


def _numbers(told: list[Any]) -> list[float | None]:
    if not told:
        return [0, 0, None, None, None]
    bounced = sum(count == 1 for _, count, *_ in told)
    seconds = [t[2] for t in told]
    return [len(told), bounced, fmean(seconds), median(seconds), fmean(t[1] for t in told)]


def _frequent(values: list[str | None], top: int) -> list[list[Any]]:
    counted = Counter(values).items()
    ranked = sorted(counted, key=lambda v: (-v[1], b"" if v[0] is None else b"=" + v[0].encode()))
    return [[value, count] for value, count in ranked[:top]]


def people(all_rows: Rows, asked: dict[str, Any], now: datetime) -> list[list[Any]]:
    part = asked.get("search", "").lower()
    # A person is meant by their own id, or by one that they ever signed in under, whenever that was.
    meant = {row["user_id"] for row in all_rows if row["user_id"] and part in row["anonymous_id"].lower()}
    grouped: dict[str, Rows] = {}
    for row in inside(all_rows, asked, now):
        if row["person"] and (part in row["person"].lower() or row["person"] in meant):
            grouped.setdefault(row["person"], []).append(row)
    found = []
    for person, rows in grouped.items():
        times = [round(row["event_timestamp"].timestamp() * 1000) for row in rows]
        visits = len({row["session_id"] for row in rows if row["session_id"]})
        found.append([person, min(times), max(times), len(rows), visits, any(row["user_id"] for row in rows)])
    return sorted(found, key=lambda p: (p[2], p[0].encode()), reverse=True)


def values(all_rows: Rows, asked: dict[str, Any], now: datetime) -> list[list[Any]]:
    found = [
        text(row, asked["property"])
        for row in inside(all_rows, asked, now)
        if chosen({"event": asked.get("event")}, row)
    ]
    part = asked.get("contains", "").lower()
    counted = Counter(v for v in found if v is not None and part in v.lower())
    return [[v, n] for v, n in sorted(counted.items(), key=lambda v: (-v[1], v[0].encode()))[: asked.get("limit", 50)]]


def types(all_rows: Rows, asked: dict[str, Any], now: datetime) -> dict[str, set[str]]:
    """Paths of metadata with the kinds of their values."""
    found: dict[str, set[str]] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{path}.{name}", inner)
        elif value is not None:
            kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
            found.setdefault(path, set()).add(kind)

    for row in inside(all_rows, asked, now):
        walk("event_metadata", row["event_metadata"])
    return found


def actors(all_rows: Rows, asked: dict[str, Any], now: datetime, point: dict[str, Any]) -> set[str]:
    """The people behind one number of trends without rolling or comparison."""
    rows = [row for row in inside(all_rows, asked, now) if chosen(asked["series"]["ABC".index(point["series"])], row)]
    zone = asked.get("zone", "UTC")
    if "step" in point:
        start, end = calendar.span(asked["range"], zone, now)
        edges = calendar.starts(start, end, asked["interval"], zone)
        low, high = edges[point["step"]], edges[point["step"] + 1]
        rows = [row for row in rows if low <= row["event_timestamp"] < high]
    if "group" in point:
        rows = [row for row in rows if [text(row, name) for name in asked["breakdown"]] == point["group"]]
    return {row["person"] for row in rows if row["person"]}
