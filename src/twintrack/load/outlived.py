"""Which rows beside events are somebody's of whom raw has nothing any more: found from the schema, said as conditions.

A table that is fed from events and has no months holds links: one stays while raw has an event of both ids, and the one
that says whose a browser is while raw has events of that browser without a user. A table of events' ids alone follows
events too, but its rows may come before their event is loaded: they stay for as long as the shortest rule of the project
says, from when they came, and then while their event does.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from twintrack.clock import iso
from twintrack.control.retention import Policies
from twintrack.load.rollup import feeds
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

_RAW = f"{DATABASE}.events"
_DAY_MILLISECONDS = 86_400_000


class Lone(NamedTuple):
    """Rows that nothing in raw stands for."""

    table: str
    where: str


def lone(store: Store, policies: Policies, complete_since: Mapping[str, int], now: int) -> Iterator[Lone]:
    """Of every project that has lost events to a rule.

    Shape: `complete_since` is since when raw has every event, by project, milliseconds as `now`. Raises: StoreError.
    """
    for feed in feeds(store):
        if feed.month == "0" and {"user_id", "anonymous_id", "first_linked_at"} <= {*feed.columns}:
            for project, since in sorted(complete_since.items()):
                yield Lone(feed.table, _links(feed.table, project, since))
    for table in _of_events(store):
        for project, lives in sorted(policies.projects.items()):
            days = [rule.days for rule in lives.rules if not rule.field and rule.days is not None]
            if days:
                yield Lone(table, _without_event(table, project, now - min(days) * _DAY_MILLISECONDS))


def _links(table: str, project: str, since: int) -> str:
    """Links that began before raw was complete: of those that began later every event is there."""
    old = f"project = '{project}' AND first_linked_at < {_moment(since)}"
    link = "environment, anonymous_id, user_id"
    candidates = f"(SELECT anonymous_id FROM {DATABASE}.{table} WHERE {old})"
    raw = f"FROM {_RAW} WHERE project = '{project}' AND anonymous_id != '' AND anonymous_id IN {candidates}"
    # Two links of a time: the lesser user, as everywhere.
    owners = (
        f"SELECT environment, anonymous_id, argMin(user_id, (first_linked_at, user_id)) FROM {DATABASE}.{table}"
        f" WHERE project = '{project}' AND (environment, anonymous_id) IN"
        f" (SELECT environment, anonymous_id {raw} AND user_id = '') GROUP BY environment, anonymous_id"
    )
    return f"{old} AND ({link}) NOT IN (SELECT {link} {raw} AND user_id != '') AND ({link}) NOT IN ({owners})"


def _without_event(table: str, project: str, until: int) -> str:
    old = f"project = '{project}' AND server_timestamp <= {_moment(until)}"
    return (
        f"{old} AND event_id NOT IN (SELECT event_id FROM {_RAW} WHERE project = '{project}'"
        f" AND event_id IN (SELECT event_id FROM {DATABASE}.{table} WHERE {old}))"
    )


def _of_events(store: Store) -> list[str]:
    """Tables that keep rows by the ids of events alone."""
    rows = store.select(
        f"SELECT table, groupArray(name) FROM system.columns WHERE database = '{DATABASE}' AND table IN"
        f" (SELECT name FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree')"
        " GROUP BY table ORDER BY table"
    ).rows
    wanted, known_otherwise = {"project", "event_id", "server_timestamp"}, {"user_id", "anonymous_id"}
    return [table for table, names in rows if wanted <= {*names} and not known_otherwise & {*names}]


def _moment(milliseconds: int) -> str:
    return f"toDateTime64('{iso(milliseconds)[:-1]}', 3, 'UTC')"
