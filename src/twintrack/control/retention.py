"""How long a project keeps its rows, its message texts and single fields of metadata. Without a rule: for ever.

A rule names an event or all of them, and a field or the whole row. The most specific one holds: `purchase` may be kept
for ten years in a project that keeps the rest for ninety days. Time counts from the event's own time; that of a row which
was past its deadline when it was imported, and kept all the same, from its arrival.
"""

import contextlib
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from twintrack.clock import Clock
from twintrack.control.tables import metadata, projects
from twintrack.errors import RequestError
from twintrack.event import limits

retention = Table(
    "retention",
    metadata,
    Column("project", String(100), ForeignKey("projects.name"), primary_key=True),
    Column("event", String(300), primary_key=True),  # empty: every event without a rule of its own
    Column("field", String(200), primary_key=True),  # empty: the whole row; `message`; `metadata.NAME`
    Column("days", Integer),  # NULL: for ever, against a wider rule
    Column("changed_at", BigInteger, nullable=False),  # milliseconds
)

KEPT = "import:kept"  # the source of such a row
MESSAGE = "message"
METADATA = "metadata."
MOST_DAYS = 36_500
MOST_RULES = 200  # of one project: each is a term of an expression that the store runs for every row
_DAY_SECONDS = 86_400
_CACHE_SECONDS = 1.0


class Rule(NamedTuple):
    event: str
    field: str
    days: int | None


class Lifetimes:
    """The rules of one project. Pure."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = sorted(rules)
        self._days = {(rule.event, rule.field): rule.days for rule in self.rules}
        self.fields = sorted({rule.field for rule in self.rules if rule.field.startswith(METADATA)})

    def days(self, event: str, field: str = "") -> int | None:
        """Days that a row of this event, or a field of it, is kept; None for ever."""
        own = (event, field)
        return self._days[own] if own in self._days else self._days.get(("", field))

    def expired(self, event: str, event_seconds: int, now_seconds: int) -> bool:
        """Whether a row of that time is past its deadline on arrival."""
        days = self.days(event)
        return days is not None and deadline(event_seconds, now_seconds, "", days) <= now_seconds


class Policies(NamedTuple):
    """What holds in every project that has a rule, and a number that changes with any of them."""

    projects: Mapping[str, Lifetimes]
    version: int  # 0 where there are no rules

    def of(self, project: str) -> Lifetimes | None:
        return self.projects.get(project)

    def rules_of(self, project: str) -> list[Rule]:
        lives = self.projects.get(project)
        return lives.rules if lives else []


NONE = Policies({}, 0)


def deadline(event_seconds: int, received_seconds: int, source: str, days: int) -> int:
    """When it expires, seconds since 1970. The store says the same in SQL: load/deadlines.py. Pure."""
    return (received_seconds if source == KEPT else event_seconds) + days * _DAY_SECONDS


def policies_of(rows: Iterable[tuple[str, str, str, int | None]]) -> Policies:
    """Shape: (project, event, field, days)."""
    by_project: dict[str, list[Rule]] = {}
    for project, *rule in sorted(rows, key=str):
        by_project.setdefault(project, []).append(Rule(*rule))  # type: ignore[arg-type]
    if not by_project:
        return NONE
    digest = blake2b(repr(sorted(by_project.items())).encode(), digest_size=8).digest()
    # As a number that SQLite keeps, and never that of no rules.
    return Policies(
        {project: Lifetimes(rules) for project, rules in by_project.items()}, int.from_bytes(digest, "big") >> 1 | 1
    )


def check(event: str, field: str, days: int | None) -> None:
    """Raises: RequestError that names the limit."""
    name = field.removeprefix(METADATA) if field.startswith(METADATA) else ""
    if field not in ("", MESSAGE) and not name:
        raise _refused(
            "a field is `message` or `metadata.NAME`", "leave it out for the whole row; other columns go with their row"
        )
    if len(name) > limits().metadata_key_characters or "." in name:
        raise _refused(
            f"a metadata field is one key of the outermost level, at most {limits().metadata_key_characters} characters",
            "name the outermost key; what is nested in it goes with it",
        )
    if len(event) > limits().event_name_characters:
        raise _refused(
            f"an event name has at most {limits().event_name_characters} characters (event_name_characters)",
            "write it as the events carry it",
        )
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise _refused(f"days must lie in 1..{MOST_DAYS}", "or `forever`, against a wider rule")


class RetentionRules:
    """The rules of all projects, with a cache that is at most one second old."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        self._policies = NONE
        self._read_at = 0.0
        self._read()

    def policies(self) -> Policies:
        """What holds now. Where the database is away, what held last: loading goes on without it."""
        now = self._clock.monotonic_seconds()
        if now - self._read_at >= _CACHE_SECONDS:
            self._read_at = now
            with contextlib.suppress(SQLAlchemyError):
                self._read()
        return self._policies

    def _read(self) -> None:
        columns = (retention.c.project, retention.c.event, retention.c.field, retention.c.days)
        with self._engine.connect() as db:
            rows = [(row[0], row[1], row[2], row[3]) for row in db.execute(select(*columns))]
        found = policies_of(rows)
        if found.version != self._policies.version:
            self._policies = found
        self._read_at = self._clock.monotonic_seconds()

    def set(self, project: str, event: str, field: str, days: int | None) -> None:
        """Puts a rule in the place of the one with the same event and field. None: for ever.

        Raises: RequestError for a project that is not there, and for what is out of its limits.
        """
        check(event, field, days)
        with self._engine.begin() as db:
            known = db.execute(select(projects.c.name).where(projects.c.name == project)).first()
            if known is None:
                raise _refused(f"there is no project {project}", "a key makes one: twintrack keys create", 404)
            self._remove(db, project, event, field)
            held = db.execute(select(retention.c.event).where(retention.c.project == project)).all()
            if len(held) >= MOST_RULES:
                raise _refused(f"a project has at most {MOST_RULES} rules", "let one rule for all events do more")
            db.execute(
                insert(retention).values(
                    project=project, event=event, field=field, days=days, changed_at=self._clock.milliseconds()
                )
            )
        self._read()

    def off(self, project: str, event: str, field: str) -> None:
        """Takes one rule away; what has expired stays gone.

        Raises: RequestError where there is no such rule.
        """
        with self._engine.begin() as db:
            if not self._remove(db, project, event, field):
                raise _refused("there is no such rule", "`twintrack retention show` names them", 404)
        self._read()

    @staticmethod
    def _remove(db: Connection, project: str, event: str, field: str) -> bool:
        here = (retention.c.project == project) & (retention.c.event == event) & (retention.c.field == field)
        return db.execute(delete(retention).where(here)).rowcount > 0


def _refused(message: str, hint: str, status: int = 400) -> RequestError:
    return RequestError(message, hint=hint, code="bad_retention", status=status)
