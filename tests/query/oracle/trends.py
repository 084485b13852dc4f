"""Trends, one bucket after another over all rows."""

from datetime import datetime
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.filters import number, takes, text
from tests.query.oracle.people import persons

_LEVELS = {"median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def chosen(series: dict[str, Any], row: dict[str, Any], zone: str = "UTC") -> bool:
    names = series.get("event")
    names = [names] if isinstance(names, str) else names
    return (names is None or row["event_name"] in names) and takes(series.get("filter"), row, zone)


def measured(series: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    measure = series.get("measure", "count")
    people = {row["person"] for row in rows if row["person"]}
    if measure == "count":
        return len(rows)
    if measure == "persons":
        return len(people)
    if measure == "sessions":
        return len({row["session_id"] for row in rows if row["session_id"]})
    if measure == "per person":
        return sum(bool(row["person"]) for row in rows) / len(people) if people else None
    values = pd.Series([v for row in rows if (v := number(row, series["property"])) is not None], dtype=float)
    if measure == "sum":
        return float(values.sum())
    if values.empty:
        return None
    if measure in _LEVELS:
        return float(values.quantile(_LEVELS[measure]))
    return float({"average": values.mean, "minimum": values.min, "maximum": values.max}[measure]())


def answer(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """{(group, series): (values, total)} of the asked period and of the one it is compared with."""
    zone, unit = asked.get("zone", "UTC"), asked["interval"]
    rows = [{**row, "person": person} for row, person in zip(all_rows, persons(all_rows), strict=True)]
    start, end = calendar.span(asked["range"], zone, now)
    rows = [row for row in rows if takes(asked.get("filter"), row, zone)]
    first_hour = pd.Timestamp(min(row["event_timestamp"] for row in all_rows)).floor("h")
    starts = calendar.starts(start, end, unit, zone)
    reach = asked.get("rolling", 1) - 1
    edges = [*calendar.shifted(starts[0], reach, unit, zone)[:-1], *starts]
    shown = _ranked([r for r in rows if start <= r["event_timestamp"] < end], asked)
    found = {"main": _period(rows, asked, shown, start, end, edges, first_hour, now)}
    if asked.get("compare") is not None:
        moved = calendar.beside(asked["compare"], [*edges, start, end], (start, end), unit, zone)
        found["comparison"] = _period(rows, asked, shown, *moved[-2:], moved[:-2], first_hour, now)
    return found


def _group(asked: dict[str, Any], row: dict[str, Any]) -> tuple[str | None, ...]:
    return tuple(text(row, name) for name in asked.get("breakdown", []))


def _ranked(rows: list[dict[str, Any]], asked: dict[str, Any]) -> list[tuple[str | None, ...]]:
    rows = [row for row in rows if any(chosen(series, row, asked.get("zone", "UTC")) for series in asked["series"])]
    groups: dict[tuple[str | None, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_group(asked, row), []).append(row)

    def rank(group: tuple[str | None, ...]) -> Any:
        series = asked["series"][0]
        of = [row for row in groups[group] if chosen(series, row, asked.get("zone", "UTC"))]
        size = measured(series, of)
        if series.get("measure") == "sum" and not any(number(row, series["property"]) is not None for row in of):
            size = None
        return (size is None, -(size or 0), [b"" if part is None else b"=" + part.encode() for part in group])

    return sorted(groups, key=rank)[: asked.get("top", 10)]


def _period(rows: Any, asked: Any, shown: Any, start: Any, end: Any, edges: Any, first: Any, now: Any) -> Any:
    """Shape: `edges` are those of the buckets, and before them of those that a rolling series looks back to."""
    reach = asked.get("rolling", 1) - 1
    inside = [row for row in rows if (edges[0] if reach else start) <= row["event_timestamp"] < end]
    groups: dict[Any, Any] = {}
    for row in inside:
        if any(chosen(series, row, asked.get("zone", "UTC")) for series in asked["series"]):
            group = _group(asked, row) if asked.get("breakdown") else ()
            group = group if not asked.get("breakdown") or group in shown else "other"
            groups.setdefault(group, []).append(row)
    if not asked.get("breakdown"):
        groups.setdefault((), [])
    found = {}
    for group, members in groups.items():
        for n, series in enumerate(asked["series"]):
            mine = [row for row in members if chosen(series, row, asked.get("zone", "UTC"))]
            values: list[float | None] = []
            for i in range(reach, len(edges) - 1):
                low = edges[reach] if asked.get("cumulative") else edges[i - reach]
                if edges[i] > pd.Timestamp(now) or edges[i + 1] <= first or edges[i] == edges[i + 1]:
                    values.append(None)
                else:
                    values.append(measured(series, [r for r in mine if low <= r["event_timestamp"] < edges[i + 1]]))
            total = measured(series, [r for r in mine if start <= r["event_timestamp"] < end])
            found[group, "ABCDEFGHIJ"[n]] = (values, total)
    return found
