"""Tables of the control data that name people: found from the schema, like those of the store."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, false, or_, select

from twintrack.control.erasures import Subject
from twintrack.control.tables import metadata

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


def rows_of(engine: Engine, project: str, subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """Every row about a person, by table."""
    with engine.connect() as db:
        return {
            table.name: [dict(row._mapping) for row in db.execute(select(table).where(_mine(table, project, subject)))]
            for table in _tables()
        }


def remove(db: Connection, project: str, subject: Subject) -> dict[str, int]:
    """Deletes them; how many, by table."""
    return {table.name: db.execute(delete(table).where(_mine(table, project, subject))).rowcount for table in _tables()}
