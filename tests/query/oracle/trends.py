"""Trends, one bucket after another over all rows."""

from datetime import datetime
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.filters import number, takes, text
from tests.query.oracle.people import persons

_LEVELS = {"median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def chosen(series: dict[str, Any], row: dict[str, Any]) -> bool:
    names = series.get("event")
    names = [names] if isinstance(names, str) else names
    return (names is None or row["event_name"] in names) and takes(series.get("filter"), row)


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
        return len(rows) / len(people) if people else None
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
    rows = [row for row in rows if takes(asked.get("filter"), row)]
    first_hour = pd.Timestamp(min(row["event_timestamp"] for row in all_rows)).floor("h")
    starts = calendar.starts(start, end, unit, zone)
    shown = _ranked([r for r in rows if start <= r["event_timestamp"] < end], asked)
    found = {"main": _period(rows, asked, shown, start, end, starts, first_hour, now, zone)}
    compare = asked.get("compare")
    if compare is not None:
        count = len(starts) - 1
        if compare == "previous period":
            others = calendar.shifted(starts[0], count, unit, zone)
        elif compare == "year ago":
            local = starts[0].tz_convert(zone).tz_localize(None)
            back = pd.DateOffset(weeks=52) if unit == "week" else pd.DateOffset(years=1)
            others = calendar.day_starts(local - back, count + 1, unit, zone)
        else:
            others = calendar.day_starts(compare["from"], count + 1, unit, zone)
        found["comparison"] = _period(rows, asked, shown, others[0], others[-1], others, first_hour, now, zone)
    return found


def _group(asked: dict[str, Any], row: dict[str, Any]) -> tuple[str | None, ...]:
    return tuple(text(row, name) for name in asked.get("breakdown", []))


def _ranked(rows: list[dict[str, Any]], asked: dict[str, Any]) -> list[tuple[str | None, ...]]:
    rows = [row for row in rows if any(chosen(series, row) for series in asked["series"])]
    groups: dict[tuple[str | None, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_group(asked, row), []).append(row)

    def rank(group: tuple[str | None, ...]) -> Any:
        series = asked["series"][0]
        of = [row for row in groups[group] if chosen(series, row)]
        size = measured(series, of)
        if series.get("measure") == "sum" and not any(number(row, series["property"]) is not None for row in of):
            size = None
        return (size is None, -(size or 0), [b"" if part is None else b"=" + part.encode() for part in group])

    return sorted(groups, key=rank)[: asked.get("top", 10)]


def _period(
    rows: Any, asked: Any, shown: Any, start: Any, end: Any, starts: Any, first: Any, now: Any, zone: str
) -> Any:
    reach = asked.get("rolling", 1) - 1
    before = calendar.shifted(starts[0], reach, asked["interval"], zone)[:-1] if reach else []
    edges = [*before, *starts]
    inside = [row for row in rows if (before[0] if before else start) <= row["event_timestamp"] < end]
    groups: dict[Any, Any] = {}
    for row in inside:
        if any(chosen(series, row) for series in asked["series"]):
            group = _group(asked, row) if asked.get("breakdown") else ()
            group = group if not asked.get("breakdown") or group in shown else "other"
            groups.setdefault(group, []).append(row)
    if not asked.get("breakdown"):
        groups.setdefault((), [])
    found = {}
    for group, members in groups.items():
        for n, series in enumerate(asked["series"]):
            mine = [row for row in members if chosen(series, row)]
            values: list[float | None] = []
            for i in range(len(before), len(edges) - 1):
                low = edges[len(before)] if asked.get("cumulative") else edges[i - reach]
                if edges[i] > pd.Timestamp(now) or edges[i + 1] <= first:
                    values.append(None)
                else:
                    values.append(measured(series, [r for r in mine if low <= r["event_timestamp"] < edges[i + 1]]))
            total = measured(series, [r for r in mine if start <= r["event_timestamp"] < end])
            found[group, "ABCDEFGHIJ"[n]] = (values, total)
    return found
