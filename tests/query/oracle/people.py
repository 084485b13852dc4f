"""Whose an event is."""

from typing import Any


def persons(rows: list[dict[str, Any]]) -> list[str]:
    """The person of each row, from all rows of the project."""
    first: dict[str, tuple[Any, str]] = {}
    for row in rows:
        if row["user_id"] and row["anonymous_id"]:
            link = (row["event_timestamp"], row["user_id"])
            first[row["anonymous_id"]] = min(first.get(row["anonymous_id"], link), link)
    return [
        row["user_id"] or (first[row["anonymous_id"]][1] if row["anonymous_id"] in first else row["anonymous_id"])
        for row in rows
    ]
