"""Cohorts that an environment keeps under a name: a definition each, or a list of persons in their stored form."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from twintrack.clock import Clock
from twintrack.control.tables import metadata
from twintrack.errors import RequestError
from twintrack.event import Tenancy

MOST_COHORTS = 200  # of one environment: each question reads them all
_NAME = re.compile(r"\w[\w .\-]{0,99}")

cohorts = Table(
    "cohorts",
    metadata,
    Column("project", String(100), primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("definition", Text, nullable=False),  # JSON, as `query/cohort.py` reads it
    Column("changed_at", BigInteger, nullable=False),  # milliseconds
)


class Cohorts:
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def all(self, tenancy: Tenancy) -> dict[str, Any]:
        """Definitions by name."""
        with self._engine.connect() as db:
            rows = db.execute(select(cohorts.c.name, cohorts.c.definition).where(_of(tenancy)).order_by(cohorts.c.name))
            return {row.name: json.loads(row.definition) for row in rows}

    def put(self, tenancy: Tenancy, name: str, definition: Mapping[str, Any]) -> None:
        """Keeps it, in the place of what had that name. Raises: RequestError for a name that is none, or one too many."""
        if not _NAME.fullmatch(name):
            raise RequestError(
                "a cohort's name has 1 to 100 letters, digits, spaces, dots, - or _",
                hint="such as `loyal buyers`",
                code="bad_name",
            )
        values = {"definition": json.dumps(definition), "changed_at": self._clock.milliseconds()}
        here = _of(tenancy) & (cohorts.c.name == name)
        with self._engine.begin() as db:
            if db.execute(update(cohorts).where(here).values(values)).rowcount:
                return
            count = select(func.count()).select_from(cohorts).where(_of(tenancy))
            if db.execute(count).scalar_one() >= MOST_COHORTS:
                raise RequestError(
                    f"an environment keeps {MOST_COHORTS} cohorts", hint="delete one", code="too_many_cohorts"
                )
        try:
            with self._engine.begin() as db:
                db.execute(insert(cohorts).values(**tenancy._asdict(), name=name, **values))
        except IntegrityError:  # somebody was faster; the last one holds
            with self._engine.begin() as db:
                db.execute(update(cohorts).where(here).values(values))

    def remove(self, tenancy: Tenancy, name: str) -> None:
        """Raises: RequestError 404."""
        with self._engine.begin() as db:
            if not db.execute(delete(cohorts).where(_of(tenancy) & (cohorts.c.name == name))).rowcount:
                raise RequestError(
                    "there is no such cohort", hint="GET /api/analytics/cohorts", code="unknown_cohort", status=404
                )

    def forget(self, project: str, persons: Iterable[str]) -> int:
        """Takes persons off every list of a project: for their erasure. The number of lists that held one."""
        gone, changed = set(persons), 0
        with self._engine.begin() as db:
            for row in db.execute(select(cohorts).where(cohorts.c.project == project)).all():
                kept = _without(json.loads(row.definition), gone)
                if json.dumps(kept) == row.definition:
                    continue
                here = (
                    (cohorts.c.project == project)
                    & (cohorts.c.environment == row.environment)
                    & (cohorts.c.name == row.name)
                )
                db.execute(update(cohorts).where(here).values(definition=json.dumps(kept)))
                changed += 1
        return changed


def _of(tenancy: Tenancy) -> Any:
    return (cohorts.c.project == tenancy.project) & (cohorts.c.environment == tenancy.environment)


def _without(part: Any, gone: set[str]) -> Any:
    """The definition without these persons, wherever in it a list of them stands."""
    if isinstance(part, dict):
        return {
            key: [one for one in value if one not in gone] if key == "persons" else _without(value, gone)
            for key, value in part.items()
        }
    return [_without(one, gone) for one in part] if isinstance(part, list) else part
