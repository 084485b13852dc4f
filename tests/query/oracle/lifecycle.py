"""Lifecycle and stickiness: in which buckets a person was active.

Active in a bucket: a person with an event of the selection in it. The range is widened to whole buckets.

Lifecycle of a bucket: `new` are those active whose first such event of all, ever, lies in it; `returning` those active who
are not new and were active in the bucket before; `resurrecting` the rest of those active; `dormant` those active in the
bucket before and not in this one. Nothing is known of a bucket that begins after now.

Stickiness: how many people were active in exactly n of the range's buckets (the first and the last may be cut short by the
range), and in n or more.
"""

from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.order import known, selected


def states(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> list[dict[str, set[str]] | None]:
    zone, unit = asked.get("zone", "UTC"), asked["interval"]
    start, end = calendar.span(asked["range"], zone, now)
    edges = calendar.starts(start, end, unit, zone)
    edges = [*calendar.shifted(edges[0], 1, unit, zone)[:-1], *edges]
    moments: dict[str, list[Any]] = defaultdict(list)
    for row in known(all_rows, asked):
        if row["person"] and selected(asked.get("selection", {}), row):
            moments[row["person"]].append(row["event_timestamp"])
    found: list[dict[str, set[str]] | None] = []
    for n in range(1, len(edges) - 1):
        if edges[n] > pd.Timestamp(now):
            found.append(None)
            continue
        state: dict[str, set[str]] = {name: set() for name in ("new", "returning", "resurrecting", "dormant")}
        for person, of in moments.items():
            before = any(edges[n - 1] <= m < edges[n] for m in of)
            if not any(edges[n] <= m < edges[n + 1] for m in of):
                if before:
                    state["dormant"].add(person)
            elif min(of) >= edges[n]:
                state["new"].add(person)
            else:
                state["returning" if before else "resurrecting"].add(person)
        found.append(state)
    return found


def stickiness(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> dict[int, set[str]]:
    """The people of each number of active buckets."""
    zone = asked.get("zone", "UTC")
    start, end = calendar.span(asked["range"], zone, now)
    edges = calendar.starts(start, end, asked["interval"], zone)
    active: dict[str, set[int]] = defaultdict(set)
    for row in known(all_rows, asked):
        moment = row["event_timestamp"]
        if row["person"] and start <= moment < end and selected(asked.get("selection", {}), row):
            active[row["person"]].add(next(n for n in range(len(edges) - 1) if edges[n] <= moment < edges[n + 1]))
    found: dict[int, set[str]] = {n: set() for n in range(1, len(edges))}
    for person, buckets in active.items():
        found[len(buckets)].add(person)
    return found


def bucket_states(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> list[str]:
    """Of each bucket of stickiness whether it is a gap, still runs, is cut by the range, or whole."""
    zone = asked.get("zone", "UTC")
    start, end = calendar.span(asked["range"], zone, now)
    edges = calendar.starts(start, end, asked["interval"], zone)
    first, found = pd.Timestamp(min(row["event_timestamp"] for row in all_rows)).floor("h"), []
    for low, high in pairwise(edges):
        gap = low > pd.Timestamp(now) or high <= first
        cut = "cut" if low < start or high > end else "whole"
        found.append("gap" if gap else "unfinished" if high > pd.Timestamp(now) else cut)
    return found
