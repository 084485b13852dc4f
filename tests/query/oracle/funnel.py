"""Funnels, one attempt after another.

A unit is a person, or a session (events without one count for none). An attempt begins at an event inside the range and
goes as far as it can; all its events lie within the window, which both ends belong to: the last at most `window_seconds`
after the first. The later events of an attempt may lie behind the range's end.

ordered   begins at an event of step 1; step k+1 is the first event of that step that comes after the one of step k.
strict    the same, but step k+1 is the very next event of the unit (of those the question's filter takes), or nothing.
any       begins at an event of any step; a step is done by its first event at or after the beginning; one event does
          every step that it fits. Step k is done when any k of the steps are.

A unit's result is its attempt that went furthest; of several the one that began first. With a breakdown the group is the
value of the properties at the first event of that attempt. A bucket of the trend is the funnel asked for that bucket.
"""

from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.filters import text
from tests.query.oracle.order import known, milliseconds, selected

Attempt = tuple[int, list[int], dict[str, Any]]  # depth, milliseconds of each step reached, the first event


def attempts(unit: list[dict[str, Any]], asked: dict[str, Any], start: Any, end: Any) -> list[Attempt]:
    steps, window = asked["steps"], asked.get("window_seconds", 14 * 86_400) * 1000
    order = asked.get("order", "ordered")
    found = []
    for i, first in enumerate(unit):
        if not start <= first["event_timestamp"] < end:
            continue
        began = milliseconds(first["event_timestamp"])
        if order == "any":
            if not any(selected(step, first) for step in steps):
                continue
            times = []
            for step in steps:
                done = next((row for row in unit[i:] if selected(step, row)), None)
                if done is not None and milliseconds(done["event_timestamp"]) - began <= window:
                    times.append(milliseconds(done["event_timestamp"]))
            found.append((len(times), sorted(times), first))
            continue
        if not selected(steps[0], first):
            continue
        times, at = [began], i
        for step in steps[1:]:
            rest = range(at + 1, len(unit)) if order == "ordered" else range(at + 1, min(at + 2, len(unit)))
            following = next((j for j in rest if selected(step, unit[j])), None)
            if following is None or milliseconds(unit[following]["event_timestamp"]) - began > window:
                break
            at = following
            times.append(milliseconds(unit[at]["event_timestamp"]))
        found.append((len(times), times, first))
    return found


def results(all_rows: list[dict[str, Any]], asked: dict[str, Any], start: Any, end: Any) -> dict[str, Attempt]:
    """The best attempt of each unit that made one."""
    by = "session_id" if asked.get("per") == "session" else "person"
    units: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in known(all_rows, asked):
        if row[by]:
            units[row[by]].append(row)
    best = {}
    for name, unit in units.items():
        made = attempts(unit, asked, start, end)
        if made:
            best[name] = max(made, key=lambda attempt: attempt[0])  # the first of the furthest
    return best


def counted(found: list[Attempt], steps: int) -> dict[str, Any]:
    counts = [sum(depth > k for depth, _, _ in found) for k in range(steps)]
    waits: list[Any] = []
    for k in range(1, steps):
        since = pd.Series([(times[k] - times[k - 1]) / 1000 for depth, times, _ in found if depth > k], dtype=float)
        waits.append(None if since.empty else (since.mean(), since.median(), since.quantile(0.9)))
    whole = pd.Series([(times[-1] - times[0]) / 1000 for depth, times, _ in found if depth == steps], dtype=float)
    return {
        "counts": counts,
        "waits": waits,
        "whole": None if whole.empty else (whole.mean(), whole.median(), whole.quantile(0.9)),
    }


def answer(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """`total`, `groups` by the shown values and "other", `trend` as counts by bucket."""
    zone = asked.get("zone", "UTC")
    start, end = calendar.span(asked["range"], zone, now)
    steps = len(asked["steps"])
    found = results(all_rows, asked, start, end)
    groups: dict[Any, list[Attempt]] = defaultdict(list)
    for attempt in found.values():
        groups[tuple(text(attempt[2], name) for name in asked.get("breakdown", []))].append(attempt)
    ranked = sorted(
        groups, key=lambda g: (-len(groups[g]), [b"" if part is None else b"=" + part.encode() for part in g])
    )
    shown: dict[Any, list[Attempt]] = defaultdict(list)
    for place, group in enumerate(ranked):
        shown[group if place < asked.get("top", 10) else "other"] += groups[group]
    answered: dict[str, Any] = {
        "total": counted(list(found.values()), steps),
        "groups": {group: counted(members, steps) for group, members in shown.items()},
    }
    if asked.get("interval"):
        edges = calendar.starts(start, end, asked["interval"], zone)
        answered["trend"] = [
            counted(list(results(all_rows, asked, max(a, start), min(b, end)).values()), steps)["counts"]
            for a, b in pairwise(edges)
        ]
    return answered
