"""Tables of the control data that name people: found from the schema, like those of the store."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, and_, delete, false, or_, select

from twintrack.control.erasures import Subject
from twintrack.control.saved import saved_queries
from twintrack.control.tables import metadata
from twintrack.control.tombstones import ANONYMOUS, USER, subject_hash

# These are about erasures themselves: hashes, and subjects that are blanked at the end.
_OURS = ("tombstones", "erasures")
_LONG = 6  # characters


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
    """Every row about a person, by table."""
    asked = {table: _mine(table, project, subject) for table in _tables()}
    asked |= {table: _by_hash(table, project, subject, secret) for table in _hashed()}
    with engine.connect() as db:
        return {
            table.name: [dict(row._mapping) for row in db.execute(select(table).where(where))]
            for table, where in asked.items()
        }


def remove(db: Connection, project: str, subject: Subject) -> dict[str, int]:
    """Deletes them, and saved queries that name the person; how many, by table."""
    gone = {table.name: db.execute(delete(table).where(_mine(table, project, subject))).rowcount for table in _tables()}
    mine = saved_queries.c.project == project
    naming = [row.name for row in db.execute(select(saved_queries).where(mine)) if _names(row, subject)]
    if naming:
        db.execute(delete(saved_queries).where(mine, saved_queries.c.name.in_(naming)))
        gone[saved_queries.name] = len(naming)
    return gone


def _names(saved: Row[Any], subject: Subject) -> bool:
    """Whether an identifier stands in it; a short one, which stands in many words, only as a whole text of SQL."""
    said = "\n".join((saved.name, saved.sql, saved.description))
    ids = [*subject.users, *(anonymous_id for _, anonymous_id in subject.anonymous)]
    return any((found if len(found) >= _LONG else f"'{found}'") in said for found in ids)
