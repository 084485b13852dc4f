"""Raw rows, newest first, a page at a time. The cursor is the last row's time and id: pages neither skip nor repeat."""

from typing import Any

from pydantic import Field

from twintrack.query import cursor, words
from twintrack.query.catalog import COLUMNS, PERSON, covered
from twintrack.query.compile.statement import Parameters, Plan, Statement, named
from twintrack.query.filters import asks_person, condition
from twintrack.query.floor import check_no_floor
from twintrack.query.question import EventSelection, RangedQuestion
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events

SHOWN = (
    "event_id",
    "event_name",
    "event_timestamp",
    "person",
    "user_id",
    "anonymous_id",
    "session_id",
    "event_value",
    "page_path",
    "event_metadata",
)
# What can be shown though no filter compares it as one value.
_WHOLE = ("event_metadata", "masked", "consent_denied")


class Events(RangedQuestion, EventSelection):
    """The events themselves, newest first, page by page."""

    columns: list[str] = Field(default_factory=lambda: list(SHOWN), min_length=1, max_length=40)
    limit: int = Field(100, ge=1, le=1_000)
    after: str = Field("", max_length=200, description="`next` of the page before.")

    def plan(self, scope: Scope) -> Plan:
        check_no_floor(self.floor)
        period = self.period(scope)
        p = Parameters(scope.tenancy)
        where = [period.within(p), condition(self.filter, scope, p)]
        if self.names:
            where.append(f"event_name IN {p.texts(self.names)}")
        statement = page(self.columns, where, self.after, self.limit, scope, p, by_person=asks_person(self.filter))
        definition = f"The {words.selection(self)}, newest first; {words.conditions(self, period)}."
        return Plan(
            {"main": statement},
            definition,
            lambda rows: paged(self.columns, rows["main"], self.limit),
            reads=(period.start, period.end),
        )

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        where = [self.period(scope).within(p), condition(self.filter, scope, p)]
        if self.names:
            where.append(f"event_name IN {p.texts(self.names)}")
        return f"SELECT DISTINCT person FROM ({events(p, [], where)}) WHERE person != ''"


def page(
    columns: list[str], where: list[str], after: str, limit: int, scope: Scope, p: Parameters, *, by_person: bool
) -> Statement:
    """One page of events under these conditions; one row more than the page tells whether there is a next one.

    `by_person` says whether a condition names the person.
    """
    unknown = [name for name in columns if name not in COLUMNS and name not in (PERSON, *_WHOLE)]
    if unknown:
        raise refused(
            f"there is no column {unknown[0][:60]!r}", "name columns of events, or `person`", "unknown_property"
        )
    instead = covered(scope.role)
    shown = [f"{instead.get(c) or named(c)} AS {named('shown_' + c)}" for c in columns]
    shown += ["toUnixTimestamp64Milli(event_timestamp) AS place_moment", "toString(event_id) AS place_id"]
    if after:
        moment, event_id = cursor.read(after, int, str)
        where = [
            *where,
            f"(event_timestamp < {p.moment(moment)}"
            f" OR (event_timestamp = {p.moment(moment)} AND toString(event_id) < {p.text(event_id)}))",
        ]
    # First the places alone, then the rows of one page: the other columns are dear, and most rows are on other pages.
    places = events(p, ["event_timestamp AS at", "event_id AS id"], where, person=by_person)
    kept = f"SELECT at, id FROM ({places}) ORDER BY at DESC, toString(id) DESC LIMIT {limit + 1}"
    rows = events(p, [*shown, "event_timestamp", "event_id"], where)
    names = ", ".join(named("shown_" + c) for c in columns)
    return p.statement(
        f"SELECT {names}, place_moment, place_id FROM ({rows}) WHERE (event_timestamp, event_id) IN ({kept})"
        f" ORDER BY place_moment DESC, place_id DESC LIMIT {limit + 1}"
    )


def paged(columns: list[str], rows: list[Any], limit: int) -> dict[str, Any]:
    further = len(rows) > limit
    rows = rows[:limit]
    return {
        "columns": columns,
        "rows": [row[:-2] for row in rows],
        "next": cursor.made(rows[-1][-2], rows[-1][-1]) if further else None,
    }
