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
        first, last = (
            pd.Timestamp(edge).tz_convert("UTC") if "T" in edge else day_starts(edge, 2, "day", zone)[n]
            for n, edge in enumerate((asked["from"], asked["to"]))
        )
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


def _day(moment: pd.Timestamp, zone: str) -> Any:
    """The local date of a moment that begins its day; None for any other."""
    local = moment.tz_convert(zone).tz_localize(None).normalize()
    return local if day_starts(local, 1, "day", zone)[0] == moment else None


def beside(
    compare: Any, moments: list[pd.Timestamp], span: tuple[Any, Any], unit: str, zone: str
) -> list[pd.Timestamp]:
    """Where moments of a range lie in the period that it is compared with.

    `previous period` ends where the range begins and is as long: in months where it is whole months shown by month, in days
    where it begins at a time of day and ends at the same one, else in hours and minutes. `year ago` is the same dates (29
    February, where there is none, is the 1st of March), of weeks 52 weeks ago. `{"from": day}` begins there.
    """
    start, end = span
    begun = start.tz_convert(zone).tz_localize(None)
    whole = begun.day == 1 and _day(start, zone) is not None
    if compare == "previous period":
        months = unit == "month" and whole and _day(end, zone) is not None and _day(end, zone).day == 1
        until, since = end.tz_convert(zone).tz_localize(None), start
    elif compare == "year ago":
        if unit == "week":
            return [_back(m, pd.DateOffset(days=364), zone) for m in moments]
        if unit in ("minute", "hour"):
            return [m - (start - _back(start, pd.DateOffset(years=1), zone)) for m in moments]
        return [_back(m, pd.DateOffset(years=1), zone) for m in moments]
    else:
        since = day_starts(compare["from"], 1, "day", zone)[0]
        first = pd.Timestamp(compare["from"])
        months, until = unit == "month" and whole and first.day == 1, begun
        begun = first
    if months:
        count = (until.year - begun.year) * 12 + until.month - begun.month
        return [_back(m, pd.DateOffset(months=count), zone) for m in moments]
    apart = end - start if compare == "previous period" else start - since
    day_like = (until - until.normalize()) == (begun - begun.normalize())
    if unit in ("minute", "hour") or not day_like:
        return [m - apart for m in moments]
    return [_back(m, pd.DateOffset(days=(until.normalize() - begun.normalize()).days), zone) for m in moments]


def _back(moment: pd.Timestamp, by: pd.DateOffset, zone: str) -> pd.Timestamp:
    local = moment.tz_convert(zone).tz_localize(None)
    if (local.month, local.day) == (2, 29) and "years" in by.kwds:
        local = local.normalize() + pd.DateOffset(days=1)
        return day_starts(local - by, 1, "day", zone)[0]
    day = _day(moment, zone)
    if day is not None:
        return day_starts(day - by, 1, "day", zone)[0]
    return (local - by).tz_localize(zone).tz_convert("UTC")
