"""Cohorts that an environment keeps under a name: a definition each, or a list of persons in their stored form."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from twintrack.clock import Clock
from twintrack.control.erasures import Subject
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


def touched(db: Connection, project: str, subject: Subject) -> list[tuple[Row[Any], Any]]:
    """Cohorts that name a person, each with what stays of its definition without them.

    None stays where a condition or the cohort's name does it: without the condition it would be another cohort.
    """
    found = []
    for row in db.execute(select(cohorts).where(cohorts.c.project == project)).all():
        definition = json.loads(row.definition)
        kept = _without(definition, set(subject.ids))
        if row.name in subject.ids or subject.named_in(row.name) or _names(kept, subject):
            kept = None
        if kept != definition:
            found.append((row, kept))
    return found


def forget(db: Connection, project: str, subject: Subject) -> int:
    """Takes a person off every list of a project, and cohorts away that name them otherwise: for their erasure.

    The number of cohorts that did."""
    found = touched(db, project, subject)
    for row, kept in found:
        here = _of(Tenancy(project, row.environment)) & (cohorts.c.name == row.name)
        if kept is None:
            db.execute(delete(cohorts).where(here))
        else:
            db.execute(update(cohorts).where(here).values(definition=json.dumps(kept)))
    return len(found)


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


def _names(part: Any, subject: Subject, of_person: bool = False) -> bool:
    """Whether a condition names the person; a short identifier counts only where a property is one."""
    if isinstance(part, str):
        return (of_person and part in subject.ids) or subject.named_in(part)
    if isinstance(part, dict):
        of_person = of_person or part.get("property") in ("user_id", "anonymous_id")
    inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return any(_names(one, subject, of_person) for one in inside)
