"""Sessions: how many, how long, where they begin and end. A session is what range and filter show of one `session_id`.

It belongs to the step of its first event. Its duration is the time from its first event to its last one, so that of a
single event is 0, and such a session bounced. Events without a session are in none.
"""

from typing import Any

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import period as periods
from twintrack.query import words
from twintrack.query.catalog import PERSON, property_of
from twintrack.query.compile.order import PLACE, hashed, place_of
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.filters import asks_person, condition
from twintrack.query.floor import Floor, having
from twintrack.query.period import Bucket, Period, Unit
from twintrack.query.question import RangedQuestion, shown
from twintrack.query.scope import Scope, refused
from twintrack.query.source import NOBODY, events

_NUMBERS = (
    "count() AS sessions, countIf(events = 1) AS bounced, avg(seconds) AS average_seconds,"
    " quantileExactInclusive(0.5)(seconds) AS median_seconds, avg(events) AS average_events,"
    " uniqExactIf(who, who != '') AS people, uniqExactIf(who, who != '' AND events = 1) AS left_at_once"
)
_NONE = (0, 0, None, None, None, 0, 0)
# What `grouping(step, entry, exit)` says of the four tables: a bit for each column that a row is not about.
_STEP, _ENTRY, _EXIT, _TOTAL = 0b011, 0b101, 0b110, 0b111
_NAMES = ("sessions", "bounced", "average_seconds", "median_seconds", "average_events")


class Sessions(RangedQuestion):
    """Sessions over time: number, duration, events, bounces, and what they begin and end with."""

    interval: Unit | None = Field(None, description="Default: what fits the range.")
    by: str = Field("event_name", max_length=220, description="The property told of first and last events.")
    top: int = Field(10, ge=1, le=100)

    def plan(self, scope: Scope) -> Plan:
        of, unit, steps = self._steps(scope)
        p = Parameters(scope.tenancy)
        # What sessions begin and end with is told of enough people alone, so that those come up to `top`.
        enough = having(self.floor, f"table IN ({_STEP}, {_TOTAL}) OR people") if self.floor > 1 else ""
        # All tables of the answer in one pass: the sessions are what is dear.
        step = periods.index(p, unit, steps[0].start, self.zone, "began")
        main = p.statement(
            f"SELECT grouping(step, entry, exit) AS table, step, entry, exit, {_NUMBERS}"
            f" FROM (SELECT *, {step} AS step FROM ({self._each(scope, p)}))"
            f" GROUP BY GROUPING SETS ((step), (entry), (exit), ()){enough}"
            f" ORDER BY table, sessions DESC, entry, exit LIMIT {max(len(steps), self.top)} BY table"
        )
        definition = (
            f"Sessions by {unit} of their first event: their number, those of one event (bounced), seconds from first to"
            f" last event, events; the {self.top} commonest {self.by} of first and last events;"
            f" {words.conditions(self, of)}."
        )
        state = periods.state_of(of, scope)
        return Plan(
            {"main": main},
            definition,
            lambda rows: self._shape(rows["main"], unit, of, steps, state),
            reads=(of.start, of.end),
        )

    def _steps(self, scope: Scope) -> tuple[Period, Unit, list[Bucket]]:
        of = self.period(scope)
        unit = self.interval or periods.fitting(of)
        return of, unit, periods.buckets(of, unit, scope)

    def _each(self, scope: Scope, p: Parameters, *, whose: bool = False) -> str:
        """A SELECT with a row for each session; `who` is empty where nobody asks."""
        by = property_of(self.by, scope).text
        where = [self.period(scope).within(p), condition(self.filter, scope, p), "session_id != ''"]
        person = whose or self.floor > 0 or self.by == PERSON
        columns = ["session_id", "event_timestamp", f"ifNull(concat('=', {by}), '') AS told", f"{PLACE} AS place"]
        rows = events(p, columns, where, person=person or asks_person(self.filter))
        return (
            "SELECT min(event_timestamp) AS began, count() AS events,"
            " (toUnixTimestamp64Milli(max(event_timestamp)) - toUnixTimestamp64Milli(began)) / 1000 AS seconds,"
            f" argMin(told, place) AS entry, argMax(told, place) AS exit,"
            f" {'argMax(person, place)' if person else NOBODY} AS who"
            f" FROM ({rows}) GROUP BY {hashed('session_id')}"
        )

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """`step` is a place in `buckets`; the outcome `bounced`, or `entry` or `exit` with a value from there as `group`."""
        where = ["who != ''"]
        if point.step is not None:
            _, unit, steps = self._steps(scope)
            step = place_of(point.step, len(steps), "bucket")
            where.append(f"{periods.index(p, unit, steps[0].start, self.zone, 'began')} = {step}")
        told = point.outcome in ("entry", "exit")
        if point.outcome not in (None, "bounced", "entry", "exit") or len(point.group or []) != told:
            raise refused(
                "an outcome of sessions is `bounced`, or `entry` or `exit` with one value",
                "send what `entry` or `exit` shows as `group`",
                "no_actors",
            )
        if point.outcome == "bounced":
            where.append("events = 1")
        elif told:
            (value,) = point.group
            where.append(f"{point.outcome} = {p.text('' if value is None else '=' + value)}")
        return f"SELECT DISTINCT who AS person FROM ({self._each(scope, p, whose=True)}) WHERE {' AND '.join(where)}"

    def _shape(self, rows: Any, unit: Unit, of: Period, steps: list[Bucket], state: str) -> dict[str, Any]:
        tables: dict[int, list[Any]] = {table: [] for table in (_STEP, _ENTRY, _EXIT, _TOTAL)}
        for table, step, entry, exit_, *cells in rows:
            tables[table].append(({_STEP: step, _ENTRY: entry, _EXIT: exit_}.get(table), *cells))
        known = {row[0]: row[1:] for row in tables[_STEP]}
        floor = Floor(self.floor)
        numbers: dict[str, list[Any]] = {name: [] for name in _NAMES}
        for step, bucket in enumerate(steps):
            cells = _told(known.get(step, _NONE), floor, bucket.state)
            for name, cell in zip(_NAMES, cells, strict=True):
                numbers[name].append(cell)
        total = _told(tables[_TOTAL][0][1:] if tables[_TOTAL] else _NONE, floor, state)
        return {
            "interval": unit,
            "zone": self.zone,
            "range": {"from": iso(of.start), "to": iso(of.end)},
            "buckets": shown(steps),
            "series": [
                {"name": name, "values": values, "total": t}
                for (name, values), t in zip(numbers.items(), total, strict=True)
            ],
            **{
                side: [[value[1:] if value else None, sessions] for value, sessions, *_ in tables[table][: self.top]]
                for side, table in (("entry", _ENTRY), ("exit", _EXIT))
            },
            **floor.said(),
        }


def _told(row: Any, floor: Floor, state: str) -> list[Any]:
    """The numbers of one step."""
    sessions, bounced, *rest, people, left_at_once = row
    if periods.known(sessions, state) is None:
        return [None] * 5
    of = max(people, 1) if sessions else 0  # also of sessions of nobody
    return [
        floor.number(sessions, of),
        # None bounced: that is told of all of them.
        floor.number(bounced, max(left_at_once, 1) if bounced else of),
        *(floor.number(number, of) for number in rest),
    ]
