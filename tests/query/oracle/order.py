"""The order of events, and whose they are: every oracle that asks what came first begins here.

Of two events the earlier moment comes first, then the smaller `sequence`, then the smaller `event_id` (as a number).
"""

from datetime import datetime
from typing import Any

from tests.query.oracle.filters import takes
from tests.query.oracle.people import persons


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["event_timestamp"], row.get("sequence", 0), row["event_id"].int))


def known(all_rows: list[dict[str, Any]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows in order that the question's filter takes, each with its `person`."""
    found = [{**row, "person": person} for row, person in zip(all_rows, persons(all_rows), strict=True)]
    return [row for row in in_order(found) if takes(asked.get("filter"), row, asked.get("zone", "UTC"))]


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def selected(selection: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a row is of a name (or one of the alternatives) and passes the selection's own filter."""
    names = selection.get("event")
    names = [names] if isinstance(names, str) else names
    return (names is None or row["event_name"] in names) and takes(selection.get("filter"), row)
