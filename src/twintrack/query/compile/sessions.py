"""Sessions: how many, how long, where they begin and end. A session is what range and filter show of one `session_id`.

It belongs to the step of its first event. Its duration is the time from its first event to its last one, so that of a
single event is 0, and such a session bounced. Events without a session are in none.
"""

from typing import Any

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import period as periods
from twintrack.query import words
from twintrack.query.catalog import property_of
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.filters import condition
from twintrack.query.period import Bucket, Unit
from twintrack.query.question import RangedQuestion, shown
from twintrack.query.scope import Scope
from twintrack.query.source import events

_NUMBERS = (
    "count() AS sessions, countIf(events = 1) AS bounced, avg(seconds) AS average_seconds,"
    " quantileExactInclusive(0.5)(seconds) AS median_seconds, avg(events) AS average_events,"
    " uniqExactIf(who, who != '') AS people"
)
_NAMES = ("sessions", "bounced", "average_seconds", "median_seconds", "average_events")


class Sessions(RangedQuestion):
    """Sessions over time: number, duration, events, bounces, and what they begin and end with."""

    interval: Unit | None = Field(None, description="Default: what fits the range.")
    by: str = Field("event_name", max_length=220, description="The property told of first and last events.")
    top: int = Field(10, ge=1, le=100)

    def plan(self, scope: Scope) -> Plan:
        of = self.period(scope)
        unit = self.interval or periods.fitting(of)
        steps = periods.buckets(of, unit, scope.now_milliseconds, scope.first_milliseconds)
        statements = {}
        for name in ("steps", "total", "entry", "exit"):
            p = Parameters(scope.tenancy)
            each = self._each(scope, p)
            if name == "steps":
                step = periods.index(p, unit, steps[0].start, self.zone, "began")
                sql = f"SELECT {step} AS step, {_NUMBERS} FROM ({each}) GROUP BY step ORDER BY step"
            elif name == "total":
                sql = f"SELECT {_NUMBERS} FROM ({each})"
            else:
                sql = (
                    f"SELECT {name}, count() AS sessions, uniqExactIf(who, who != '') FROM ({each})"
                    f" GROUP BY {name} ORDER BY sessions DESC, {name} LIMIT {self.top}"
                )
            statements[name] = p.statement(sql)
        definition = (
            f"Sessions by {unit} of their first event: their number, those of one event (bounced), seconds from first to"
            f" last event, events; the {self.top} commonest {self.by} of first and last events;"
            f" {words.conditions(self, of)}."
        )
        return Plan(statements, definition, lambda rows: self._shape(rows, unit, steps), reads=(of.start, of.end))

    def _each(self, scope: Scope, p: Parameters) -> str:
        """A SELECT with a row for each session."""
        by = property_of(self.by, scope).text
        where = [self.period(scope).within(p), condition(self.filter, scope, p), "session_id != ''"]
        columns = ["session_id", "event_timestamp", f"ifNull(concat('=', {by}), '') AS told"]
        # The order of events as one text: the engine compares tuples cell by cell, twenty times slower.
        columns.append(
            "concat(leftPad(toString(toUnixTimestamp64Milli(event_timestamp)), 14, '0'),"
            " leftPad(toString(sequence), 20, '0'), toString(event_id)) AS place"
        )
        return (
            "SELECT session_id, min(event_timestamp) AS began, count() AS events,"
            " (toUnixTimestamp64Milli(max(event_timestamp)) - toUnixTimestamp64Milli(began)) / 1000 AS seconds,"
            " argMin(told, place) AS entry, argMax(told, place) AS exit, argMax(person, place) AS who"
            f" FROM ({events(p, columns, where)}) GROUP BY session_id"
        )

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        return f"SELECT DISTINCT who AS person FROM ({self._each(scope, p)}) WHERE who != ''"

    def _shape(self, rows: Any, unit: Unit, steps: list[Bucket]) -> dict[str, Any]:
        known = {row[0]: row[1:] for row in rows["steps"]}
        numbers: dict[str, list[Any]] = {name: [] for name in _NAMES}
        for step, bucket in enumerate(steps):
            cells = self._told(known.get(step, (0, 0, None, None, None, 0)))
            for name, cell in zip(_NAMES, cells, strict=True):
                numbers[name].append(None if bucket.state == "gap" else cell)
        total = self._told(rows["total"][0])
        return {
            "interval": unit,
            "zone": self.zone,
            "range": {"from": iso(steps[0].start), "to": iso(steps[-1].end)},
            "buckets": shown(steps),
            "series": [
                {"name": name, "values": values, "total": t}
                for (name, values), t in zip(numbers.items(), total, strict=True)
            ],
            **{
                side: [[value[1:] if value else None, n] for value, n, people in rows[side] if people >= self.floor]
                for side in ("entry", "exit")
            },
        }

    def _told(self, row: Any) -> list[Any]:
        """The numbers of one step; those of fewer people than the floor are withheld."""
        sessions, people = row[0], row[5]
        if sessions == 0:
            return [0, 0, None, None, None]
        return [None] * 5 if self.floor and people < self.floor else list(row[:5])
