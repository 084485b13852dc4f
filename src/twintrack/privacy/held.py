"""Where the store holds a person: found from its schema, so that a table of tomorrow is not forgotten.

A table with `user_id` or `anonymous_id` holds people; one with `event_id` and neither belongs to events of people. Which
person is asked about stands in `analytics.erasing`, so that no statement, and no file that the engine makes of one,
names anybody.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from twintrack.clock import iso
from twintrack.control.erasures import Subject
from twintrack.errors import StoreUnavailable
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

ABOUT = f"{DATABASE}.erasing"
_BATCH = 10_000


class Held(NamedTuple):
    """A table that has a person's rows, and the condition that finds them."""

    table: str
    where: str
    by_event: bool  # only by the ids of their events
    columns: tuple[str, ...]


class Who(NamedTuple):
    """Whom a condition means, as sets of SQL."""

    users: str
    anonymous: str  # (environment, anonymous id)
    browsers: str  # anonymous ids alone, for a table that knows no environments
    events: str  # event ids


# Where a statement may be kept: the ids stand in a table.
IN_TABLE = Who(
    f"(SELECT id FROM {ABOUT} WHERE kind = 'user')",
    f"(SELECT environment, id FROM {ABOUT} WHERE kind = 'anonymous')",
    f"(SELECT id FROM {ABOUT} WHERE kind = 'anonymous')",
    f"(SELECT toUUIDOrZero(id) FROM {ABOUT} WHERE kind = 'event')",
)


def in_words(subject: Subject) -> Who:
    """For a question, which nothing keeps: the ids stand in it."""
    users = [quoted(user) for user in subject.users]
    anonymous = [f"({quoted(environment)}, {quoted(found)})" for environment, found in subject.anonymous]
    browsers = [quoted(found) for _, found in subject.anonymous]
    return Who(
        f"({', '.join(users) or 'NULL'})",
        f"({', '.join(anonymous) or _NO_PAIR})",
        f"({', '.join(browsers) or 'NULL'})",
        _NO_EVENT,
    )


_NO_PAIR = "('', '')"  # no environment has no name
_NO_EVENT = "(SELECT generateUUIDv4() WHERE 0)"


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def tables(store: Store) -> dict[str, list[str]]:
    """Columns of every table that keeps rows. Raises: StoreError."""
    found: dict[str, list[str]] = {}
    rows = store.select(
        f"SELECT table, name FROM system.columns WHERE database = '{DATABASE}' AND table IN"
        f" (SELECT name FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree'"
        " AND name NOT LIKE '%\\_rebuilt') ORDER BY table, position"
    ).rows
    for table, name in rows:
        found.setdefault(table, []).append(name)
    return found


def held(store: Store, project: str, until_milliseconds: int | None, who: Who = IN_TABLE) -> list[Held]:
    """Every table with rows of a person, those found by events first: they are gone when the events are.

    Only what is older than the bound, where a table says when its rows were. Raises: StoreError.
    """
    found = []
    columns = tables(store)
    events = _where(columns["events"], project, until_milliseconds, who)
    assert events is not None
    for table, names in columns.items():
        where = _where(names, project, until_milliseconds, who)
        if where is not None:
            found.append(Held(table, where, False, tuple(names)))
        elif "event_id" in names:
            ids = f"SELECT event_id FROM {DATABASE}.events WHERE {events}"
            where = f"{_scope(names, project)} AND (event_id IN ({ids}) OR event_id IN {who.events})"
            found.append(Held(table, where, True, tuple(names)))
    return sorted(found, key=lambda one: (not one.by_event, one.table == "events", one.table))


def _scope(names: Sequence[str], project: str) -> str:
    return f"project = '{project}'" if "project" in names else "1"


def _where(names: Sequence[str], project: str, until: int | None, who: Who) -> str | None:
    user, anonymous = "user_id" in names, "anonymous_id" in names
    if not user and not anonymous:
        return None
    owned = f"(environment, anonymous_id) IN {who.anonymous}"
    if "environment" not in names:
        owned = f"anonymous_id IN {who.browsers}"
    if user and anonymous:
        owned = f"(user_id = '' AND {owned})"
    either = [f"user_id IN {who.users}"] if user else []
    where = f"{_scope(names, project)} AND ({' OR '.join([*either, *([owned] if anonymous else [])])})"
    if until is not None and {"event_timestamp", "server_timestamp"} <= set(names):
        bound = f"toDateTime64('{iso(until)[:-1]}', 3, 'UTC')"
        where += f" AND (event_timestamp <= {bound} OR server_timestamp <= {bound})"
    return where


@contextlib.contextmanager
def meaning(store: Store, subject: Subject, event_ids: Iterable[str] = ()) -> Iterator[None]:
    """Whom the questions inside mean.

    Raises: StoreUnavailable at its end where somebody else has changed that meanwhile: another loader that slept, or a
    server that began anew. Then no answer counts, and the step is begun again. StoreError.
    """
    meant = _about(store, subject, event_ids)
    yield
    if {tuple(row) for row in store.select(f"SELECT kind, environment, id FROM {ABOUT}").rows} != meant:
        raise StoreUnavailable("whom an erasure is about was changed meanwhile", hint="its step is begun again")
    store.command(f"TRUNCATE TABLE {ABOUT}")


def _about(store: Store, subject: Subject, event_ids: Iterable[str]) -> set[tuple[str, ...]]:
    store.command(f"TRUNCATE TABLE {ABOUT}")
    rows = [("user", "", user) for user in subject.users]
    rows += [("anonymous", environment, anonymous_id) for environment, anonymous_id in subject.anonymous]
    rows += [("event", "", event_id) for event_id in event_ids]
    for start in range(0, len(rows), _BATCH):
        data = msgspec.json.Encoder().encode_lines(rows[start : start + _BATCH]).decode()
        store.command(f"INSERT INTO {ABOUT} (kind, environment, id) FORMAT JSONCompactEachRow\n{data}")
    return set(rows)


def environments(store: Store, project: str) -> list[str]:
    """Where a project has events; an import needs no key, so keys do not name them all. Raises: StoreError."""
    rows = store.select(f"SELECT DISTINCT environment FROM {DATABASE}.events WHERE project = '{project}'").rows
    return sorted(environment for (environment,) in rows)


def links(store: Store, project: str, who: Who = IN_TABLE) -> list[tuple[str, str, str, float]]:
    """(environment, anonymous id, user, seconds) of every link of the anonymous ids that a person has any link to, or
    that are named."""
    return [
        (environment, anonymous_id, user_id, float(at))
        for environment, anonymous_id, user_id, at in store.select(
            "SELECT environment, anonymous_id, user_id, toFloat64(min(first_linked_at))"
            f" FROM {DATABASE}.identities WHERE project = '{project}' AND ((environment, anonymous_id) IN"
            f" (SELECT environment, anonymous_id FROM {DATABASE}.identities WHERE project = '{project}'"
            f" AND user_id IN {who.users}) OR (environment, anonymous_id) IN {who.anonymous})"
            " GROUP BY environment, anonymous_id, user_id"
        ).rows
    ]


def identifiers(store: Store, project: str) -> set[tuple[str, str, str]]:
    """(environment, user, "") of every user that any table has, and (environment, "", anonymous id). Raises: StoreError.

    A user is one person in all environments and stands without one.
    """
    found: set[tuple[str, str, str]] = set()
    for table, names in tables(store).items():
        scope = _scope(names, project)
        if "user_id" in names:
            sql = f"SELECT DISTINCT user_id FROM {DATABASE}.{table} WHERE {scope}"
            found.update(("", user_id, "") for (user_id,) in store.stream(sql) if user_id)
        if "anonymous_id" in names:
            place = "environment" if "environment" in names else "''"
            sql = f"SELECT DISTINCT {place}, anonymous_id FROM {DATABASE}.{table} WHERE {scope}"
            found.update(
                (environment, "", anonymous_id) for environment, anonymous_id in store.stream(sql) if anonymous_id
            )
    return found
