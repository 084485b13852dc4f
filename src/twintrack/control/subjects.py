"""Tables of the control data that name people: found from the schema, like those of the store."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, and_, delete, false, or_, select

from twintrack.control.erasures import Subject
from twintrack.control.saved import saved_queries
from twintrack.control.tables import metadata

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


def rows_of(engine: Engine, project: str, subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """Every row about a person, by table."""
    with engine.connect() as db:
        return {
            table.name: [dict(row._mapping) for row in db.execute(select(table).where(_mine(table, project, subject)))]
            for table in _tables()
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
