"""Cohorts, one person after another.

`persons`  exactly those named.
`did`      at least `at_least` events of the selection, in the range (without one: ever).
`has`      the condition holds of the property's last value: of the person's last event that has the property set. A person
           who never had it set is judged as an event without it: `!=`, `not in` and `is not set` hold.
`funnel`   the person's best attempt reached step `step` (`reached`), or reached it and went no further (`dropped`).
`all`, `any`, `not` combine them; the whole of which `not` is the rest are the people with any event.
"""

from datetime import datetime
from typing import Any

from tests.query.oracle import calendar, funnel
from tests.query.oracle.filters import takes, text
from tests.query.oracle.order import in_order, selected
from tests.query.oracle.people import persons


def members(all_rows: list[dict[str, Any]], definition: dict[str, Any], now: datetime) -> set[str]:
    rows = [{**row, "person": person} for row, person in zip(all_rows, persons(all_rows), strict=True)]
    rows = [row for row in in_order(rows) if row["person"]]
    everyone = {row["person"] for row in rows}
    if "all" in definition:
        found = everyone
        for part in definition["all"]:
            found = found & members(all_rows, part, now)
        return found
    if "any" in definition:
        return set().union(*(members(all_rows, part, now) for part in definition["any"]))
    if "not" in definition:
        return everyone - members(all_rows, definition["not"], now)
    if "persons" in definition:
        return everyone & set(definition["persons"])
    if "did" in definition:
        if "range" in definition:
            start, end = calendar.span(definition["range"], definition.get("zone", "UTC"), now)
            rows = [row for row in rows if start <= row["event_timestamp"] < end]
        times: dict[str, int] = dict.fromkeys(everyone, 0)
        for row in rows:
            if selected(definition["did"], row):
                times[row["person"]] += 1
        return {person for person, n in times.items() if n >= definition.get("at_least", 1)}
    if "has" in definition:
        last: dict[str, dict[str, Any]] = {person: {"event_metadata": {}} for person in everyone}
        for row in rows:
            if text(row, definition["has"]["property"]) is not None:
                last[row["person"]] = row
        return {person for person, row in last.items() if takes(definition["has"], row)}
    asked = definition["funnel"]
    start, end = calendar.span(asked["range"], asked.get("zone", "UTC"), now)
    depths = {person: best[0] for person, best in funnel.results(all_rows, asked, start, end).items()}
    step, dropped = definition["step"], definition.get("state", "reached") == "dropped"
    return {person for person, depth in depths.items() if (depth == step if dropped else depth >= step)}


def judged(all_rows: list[dict[str, Any]], cohorts: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    """The rows, each with the names of the `cohorts` its person is in: what `{"cohort": name}` asks."""
    inside = {name: members(all_rows, definition, now) for name, definition in cohorts.items()}
    return [
        {**row, "cohorts": {name for name, people in inside.items() if person in people}}
        for row, person in zip(all_rows, persons(all_rows), strict=True)
    ]
