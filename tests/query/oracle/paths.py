"""Paths, one walk after another.

A walk is what one session did (or one person, in the whole range) in order: the names of its events inside the range that
the question's filter takes, without the excluded ones; the same name several times in a row is there once. `from` keeps a
walk from the first event of that name on, `to` up to the first event of that name; a walk without it is left out. Of what
is kept the first `steps` names count (with `to` the last).

With `top` the most frequent names of the range (by events; equally frequent ones by name) are shown; every other name
counts as other, None, where it stands. A link is (place, source, target): so many walks pass from one to the next there.
Places count from 0 at the beginning; with `to` the asked event is 0 and those before it -1, -2 and so on. A walk leaves at
its last place if nothing of it was cut off; with `to` it enters at its first place, if nothing was cut off there.
"""

from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

from tests.query.oracle import calendar
from tests.query.oracle.order import known

Walk = tuple[str, str, list[str | None], bool]  # unit, the person of its first event, the places, whether that is all


def walks(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> list[Walk]:
    start, end = calendar.span(asked["range"], asked.get("zone", "UTC"), now)
    rows = [
        row
        for row in known(all_rows, asked)
        if start <= row["event_timestamp"] < end and row["event_name"] not in asked.get("exclude", [])
    ]
    by = "person" if asked.get("per") == "person" else "session_id"
    rows = [row for row in rows if row[by]]
    often = Counter(row["event_name"] for row in rows)
    shown = sorted(often, key=lambda name: (-often[name], name.encode()))[: asked.get("top", 20)]
    units: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        units[row[by]].append(row)
    found = []
    for unit, events in units.items():
        names: list[str] = []
        for row in events:
            if not names or names[-1] != row["event_name"]:
                names.append(row["event_name"])
        anchor = asked.get("from") or asked.get("to")
        if anchor and anchor not in names:
            continue
        if asked.get("from"):
            names = names[names.index(anchor) :]
        elif asked.get("to"):
            names = names[: names.index(anchor) + 1]
        steps = asked.get("steps", 5)
        uncut = len(names) <= steps
        names = names[-steps:] if asked.get("to") else names[:steps]
        found.append((unit, events[0]["person"], [n if n in shown or n == anchor else None for n in names], uncut))
    return found


def answer(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """`links` by (place, source, target); `nodes` by (place, name): walks, and those that leave or enter here; `walks`."""
    found = walks(all_rows, asked, now)
    links: Counter[Any] = Counter()
    nodes: Counter[Any] = Counter()
    ends: Counter[Any] = Counter()
    whole: Counter[Any] = Counter()
    for _, _, names, uncut in found:
        first = 1 - len(names) if asked.get("to") else 0
        for n, name in enumerate(names):
            nodes[first + n, name] += 1
            if n + 1 < len(names):
                links[first + n, name, names[n + 1]] += 1
        if uncut:
            edge = 0 if asked.get("to") else len(names) - 1
            ends[first + edge, names[edge]] += 1
        whole[tuple(names)] += 1
    return {
        "links": dict(links),
        "nodes": {node: (count, ends[node]) for node, count in nodes.items()},
        "walks": len(found),
        "whole": dict(whole),
    }
