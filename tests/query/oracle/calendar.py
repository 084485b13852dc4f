"""Buckets of time by the wall clock of a zone, with pandas' calendar."""

from datetime import datetime
from typing import Any

import pandas as pd


def day_starts(first: Any, count: int, unit: str, zone: str) -> list[pd.Timestamp]:
    """Local dates from the unit's first day around `first`, as the instants at which they begin."""
    day = pd.Timestamp(first).normalize()
    if unit == "week":
        day -= pd.Timedelta(days=day.weekday())
    if unit == "month":
        day = day.replace(day=1)
    step = {"day": pd.DateOffset(days=1), "week": pd.DateOffset(days=7), "month": pd.DateOffset(months=1)}[unit]
    days = [day + n * step for n in range(count)]
    return [d.tz_localize(zone, nonexistent="shift_forward", ambiguous=True).tz_convert("UTC") for d in days]


def span(asked: dict[str, Any], zone: str, now: datetime) -> tuple[pd.Timestamp, pd.Timestamp]:
    """[start, end) of a range."""
    if "last" not in asked:
        first = day_starts(asked["from"], 1, "day", zone)[0]
        last = day_starts(asked["to"], 2, "day", zone)[1]
        return first, last
    unit, count = asked.get("unit", "day"), asked["last"]
    here = pd.Timestamp(now).tz_convert(zone)
    if unit in ("minute", "hour"):
        size = pd.Timedelta(1, unit)
        inside = pd.Timedelta(
            minutes=here.minute if unit == "hour" else 0, seconds=here.second, microseconds=here.microsecond
        )
        start = here.tz_convert("UTC") - inside
        end = start if asked.get("complete") else start + size
        return end - count * size, end
    back = {"day": pd.DateOffset(days=1), "week": pd.DateOffset(days=7), "month": pd.DateOffset(months=1)}[unit]
    local = here.tz_localize(None).normalize()
    ends = local if asked.get("complete") else local + back
    first = local
    if unit == "week":
        ends, first = (d - pd.Timedelta(days=local.weekday()) for d in (ends, first))
    if unit == "month":
        ends, first = (d.replace(day=1) for d in (ends, first))
    starts = ends
    for _ in range(count):
        starts = starts - back
    return day_starts(starts, 1, "day", zone)[0], day_starts(ends, 1, "day", zone)[0]


def starts(start: pd.Timestamp, end: pd.Timestamp, unit: str, zone: str) -> list[pd.Timestamp]:
    """The starts of the buckets that cover [start, end), and the end of the last one."""
    local = start.tz_convert(zone)
    if unit in ("minute", "hour"):
        inside = pd.Timedelta(
            minutes=local.minute if unit == "hour" else 0, seconds=local.second, microseconds=local.microsecond
        )
        found, size = [start.tz_convert("UTC") - inside], pd.Timedelta(1, unit)
        while found[-1] < end:
            found.append(found[-1] + size)
        return found
    count = 2
    while True:
        found = day_starts(local.tz_localize(None), count, unit, zone)
        if found[-1] >= end:
            return found
        count += 1


def shifted(start: pd.Timestamp, count: int, unit: str, zone: str) -> list[pd.Timestamp]:
    """The starts of `count` buckets that end where the one at `start` begins, and that start."""
    if unit in ("minute", "hour"):
        return [start - pd.Timedelta(1, unit) * n for n in range(count, -1, -1)]
    local = start.tz_convert(zone).tz_localize(None).normalize()
    back = {"day": pd.DateOffset(days=1), "week": pd.DateOffset(days=7), "month": pd.DateOffset(months=1)}[unit]
    first = local
    for _ in range(count):
        first = first - back
    return day_starts(first, count + 1, unit, zone)
