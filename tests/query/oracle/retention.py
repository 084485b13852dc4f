"""Retention, one person after another.

The range is widened to whole buckets (days, weeks from Monday, months of the zone). A person belongs to the cohort of a
bucket who has a start event in it: with `first-time` only the bucket of their first start event of all, ever; with
`recurring` every bucket that holds one. The event that puts them there is their first start event in the bucket; a
breakdown takes its properties.

Cell (cohort, n): how many of the cohort have a return event in the n-th bucket after the cohort's own; for n = 0 one that
comes after the event that put them there. Unbounded: in that bucket, or in any later one until now. Of a bucket that begins
after now, or ended before the hour of the first event of all, nothing is known (None), nor of a cohort of such a bucket.
"""

from collections import defaultdict
from datetime import datetime
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.filters import text
from tests.query.oracle.order import known, selected


def widened(asked: dict[str, Any], now: datetime, more: int) -> tuple[list[pd.Timestamp], int]:
    """The edges of the range's whole buckets and of `more` after them; and how many buckets are the range's."""
    zone, unit = asked.get("zone", "UTC"), asked["interval"]
    start, end = calendar.span(asked["range"], zone, now)
    edges = calendar.starts(start, end, unit, zone)
    count = len(edges) - 1
    local = edges[0].tz_convert(zone).tz_localize(None)
    return calendar.day_starts(local, count + more + 1, unit, zone), count


def bucket_of(moment: Any, edges: list[pd.Timestamp]) -> int | None:
    return next((n for n in range(len(edges) - 1) if edges[n] <= moment < edges[n + 1]), None)


def members(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> Any:
    """[(person, cohort, its event, the numbers of the buckets with a return)], the edges, and the number of cohorts."""
    periods = asked["periods"]
    edges, count = widened(asked, now, 2_000 if asked.get("unbounded") else periods)
    people: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in known(all_rows, asked):
        if row["person"]:
            people[row["person"]].append(row)
    found = []
    for person, rows in people.items():
        starts: dict[int, int] = {}
        for place, row in enumerate(rows):
            if selected(asked["start"], row):
                bucket = bucket_of(row["event_timestamp"], edges)
                if asked.get("entry", "first-time") == "first-time":
                    if bucket is not None:
                        starts[bucket] = place
                    break
                if bucket is not None and bucket not in starts:
                    starts[bucket] = place
        returns = [
            (p, bucket_of(r["event_timestamp"], edges)) for p, r in enumerate(rows) if selected(asked["back"], r)
        ]
        for bucket, place in starts.items():
            if bucket < count:
                after = {
                    b - bucket for p, b in returns if b is not None and (b > bucket or (b == bucket and p > place))
                }
                found.append((person, bucket, rows[place], after))
    return found, edges, count


def returned(after: set[int], n: int, unbounded: bool) -> bool:
    return any(b >= n for b in after) if unbounded else n in after


def answer(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """`cohorts`: [(size, cells)]; `groups`: the same by the shown values of the breakdown."""
    found, edges, count = members(all_rows, asked, now)
    unbounded = bool(asked.get("unbounded"))
    first = pd.Timestamp(min(row["event_timestamp"] for row in all_rows)).floor("h")

    def unknown(n: int) -> bool:
        return bool(edges[n] > pd.Timestamp(now) or edges[n + 1] <= first)

    def table(of: Any) -> list[tuple[int | None, list[int | None]]]:
        lines = []
        for cohort in range(count):
            mine = [m for m in of if m[1] == cohort]
            cells = [
                None if unknown(cohort) or unknown(cohort + n) else sum(returned(m[3], n, unbounded) for m in mine)
                for n in range(asked["periods"] + 1)
            ]
            lines.append((None if unknown(cohort) else len(mine), cells))
        return lines

    groups: dict[Any, list[Any]] = defaultdict(list)
    for member in found:
        groups[tuple(text(member[2], name) for name in asked.get("breakdown", []))].append(member)
    ranked = sorted(
        groups, key=lambda g: (-len(groups[g]), [b"" if part is None else b"=" + part.encode() for part in g])
    )
    shown: dict[Any, list[Any]] = defaultdict(list)
    for place, group in enumerate(ranked):
        shown[group if place < asked.get("top", 10) else "other"] += groups[group]
    return {"cohorts": table(found), "groups": {group: table(of) for group, of in shown.items()}}
