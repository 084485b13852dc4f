"""Tables of the control data that name people: found from the schema, like those of the store."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, false, or_, select

from twintrack.control.cohorts import cohorts, forget, touched
from twintrack.control.erasures import Subject
from twintrack.control.saved import saved_queries
from twintrack.control.tables import metadata
from twintrack.control.tombstones import ANONYMOUS, USER, subject_hash

# These are about erasures themselves: hashes, and subjects that are blanked at the end.
_OURS = ("tombstones", "erasures")


def _tables() -> list[Table]:
    named = {"user_id", "anonymous_id"}
    return [t for t in metadata.sorted_tables if t.name not in _OURS and named & {c.name for c in t.columns}]


def _mine(table: Table, project: str, subject: Subject) -> ColumnElement[bool]:
    columns = table.columns
    who: list[ColumnElement[bool]] = [false()]
    if "user_id" in columns:
        who.append(columns["user_id"].in_(subject.users))
    if "anonymous_id" in columns:
        own = columns["anonymous_id"].in_(sorted({anonymous_id for _, anonymous_id in subject.anonymous}))
        who.append(
            and_(own, or_(columns["user_id"].is_(None), columns["user_id"] == "")) if "user_id" in columns else own
        )
    return and_(columns["project"] == project if "project" in columns else True, or_(*who))


def _hashed() -> list[Table]:
    """Tables that know people by a keyed hash alone, such as the history of consent: told to them, kept when they go."""
    named = {"project", "environment", "kind", "hash"}  # a link to sign in has a kind and a hash too
    return [t for t in metadata.sorted_tables if t.name not in _OURS and named <= {c.name for c in t.columns}]


def _by_hash(table: Table, project: str, subject: Subject, secret: bytes) -> ColumnElement[bool]:
    users = [subject_hash(secret, user) for user in subject.users]
    columns, mine = table.columns, [and_(table.columns["kind"] == USER, table.columns["hash"].in_(users))]
    for environment, anonymous_id in subject.anonymous:
        place = columns["environment"] == environment
        own = columns["hash"] == subject_hash(secret, anonymous_id)
        mine.append(and_(columns["kind"] == ANONYMOUS, place, own))
    return and_(columns["project"] == project, or_(*mine))


def rows_of(engine: Engine, project: str, subject: Subject, secret: bytes) -> dict[str, list[dict[str, Any]]]:
    """Every row about a person, by table. Of what was kept under a name only that: its text may name others too."""
    asked = {table: _mine(table, project, subject) for table in _tables()}
    asked |= {table: _by_hash(table, project, subject, secret) for table in _hashed()}
    with engine.connect() as db:
        rows = {
            table.name: [dict(row._mapping) for row in db.execute(select(table).where(where))]
            for table, where in asked.items()
        }
        rows[saved_queries.name] = [{"name": name} for name in _naming(db, project, subject)]
        rows[cohorts.name] = [
            {"environment": row.environment, "name": row.name} for row, _ in touched(db, project, subject)
        ]
        return rows


def remove(db: Connection, project: str, subject: Subject) -> dict[str, int]:
    """Deletes them, and what was kept under a name and names the person; how many, by table."""
    gone = {table.name: db.execute(delete(table).where(_mine(table, project, subject))).rowcount for table in _tables()}
    naming = _naming(db, project, subject)
    if naming:
        mine = saved_queries.c.project == project
        db.execute(delete(saved_queries).where(mine, saved_queries.c.name.in_(naming)))
        gone[saved_queries.name] = len(naming)
    lists = forget(db, project, subject)
    if lists:
        gone[cohorts.name] = lists
    return gone


def _naming(db: Connection, project: str, subject: Subject) -> list[str]:
    saved = db.execute(select(saved_queries).where(saved_queries.c.project == project)).all()
    return [
        row.name
        for row in saved
        if row.name in subject.ids or any(map(subject.named_in, (row.name, row.sql, row.description)))
    ]
