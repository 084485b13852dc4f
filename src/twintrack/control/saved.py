"""Queries that a project keeps under a name. Whoever may write SQL in a project sees and changes all of its queries."""

import re
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from twintrack.clock import Clock
from twintrack.control.tables import metadata
from twintrack.errors import RequestError

MOST_SAVED = 500
_NAME = re.compile(r"[\w][\w .\-]{0,99}")

saved_queries = Table(
    "saved_queries",
    metadata,
    Column("project", String(100), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("sql", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("changed_at", BigInteger, nullable=False),  # milliseconds
)


class Saved(NamedTuple):
    name: str
    sql: str
    description: str


class SavedQueries:
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def all(self, project: str) -> list[Saved]:
        with self._engine.connect() as db:
            found = db.execute(
                select(saved_queries).where(saved_queries.c.project == project).order_by(saved_queries.c.name)
            )
            return [Saved(row.name, row.sql, row.description) for row in found]

    def get(self, project: str, name: str) -> Saved | None:
        return next((one for one in self.all(project) if one.name == name), None)

    def put(self, saved: Saved, project: str) -> Saved:
        """Keeps it, in the place of what had that name. Raises: RequestError for a name that is none, or too many."""
        if not _NAME.fullmatch(saved.name):
            raise RequestError(
                "a name has 1 to 100 letters, digits, spaces, dots, - or _",
                hint="such as `weekly signups`",
                code="bad_name",
            )
        values = {"sql": saved.sql, "description": saved.description, "changed_at": self._clock.milliseconds()}
        here = (saved_queries.c.project == project) & (saved_queries.c.name == saved.name)
        with self._engine.begin() as db:
            if db.execute(update(saved_queries).where(here).values(values)).rowcount:
                return saved
            count = select(func.count()).select_from(saved_queries).where(saved_queries.c.project == project)
            if db.execute(count).scalar_one() >= MOST_SAVED:
                raise RequestError(f"a project keeps {MOST_SAVED} queries", hint="delete one", code="too_many_saved")
        try:
            with self._engine.begin() as db:
                db.execute(insert(saved_queries).values(project=project, name=saved.name, **values))
        except IntegrityError:  # somebody was faster; the last one holds
            with self._engine.begin() as db:
                db.execute(update(saved_queries).where(here).values(values))
        return saved

    def remove(self, project: str, name: str) -> None:
        """Raises: RequestError 404."""
        here = (saved_queries.c.project == project) & (saved_queries.c.name == name)
        with self._engine.begin() as db:
            if not db.execute(delete(saved_queries).where(here)).rowcount:
                raise RequestError("there is no saved query of that name", hint="GET /api/analytics/saved", status=404)
