"""What can be asked about: names of events and properties with their types, and the frequent values of one property."""

from typing import Any

from pydantic import Field

from twintrack.query import words
from twintrack.query.catalog import COLUMNS, METADATA, hidden, property_of
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.filters import condition
from twintrack.query.question import EventSelection, RangedQuestion
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events

_WORDS = {"Int64": "number", "UInt64": "number", "Float64": "number", "String": "text", "Bool": "bool"}


class Properties(RangedQuestion, EventSelection):
    """Names and types of what can be asked about, or the frequent values of one property."""

    property: str | None = Field(None, max_length=220, description="Whose values; without it: the names.")
    contains: str = Field("", max_length=200, description="Only values that hold this, whatever their case.")
    limit: int = Field(50, ge=1, le=1_000)

    def plan(self, scope: Scope) -> Plan:
        period = self.period(scope)
        p = Parameters(scope.tenancy)
        where = [period.within(p), condition(self.filter, scope, p)]
        if self.names:
            where.append(f"event_name IN {p.texts(self.names)}")
        if self.property is None:
            read = events(p, ["event_metadata"], where)
            main = p.statement(f"SELECT distinctJSONPathsAndTypes(event_metadata) FROM ({read})")
            definition = f"Properties of {words.selection(self)}; {words.conditions(self, period)}."
            return Plan(
                {"main": main}, definition, lambda rows: _names(rows["main"], scope), reads=(period.start, period.end)
            )
        text = property_of(self.property, scope).text
        read = events(p, [f"{text} AS value"], where)
        found = f"positionCaseInsensitiveUTF8(value, {p.text(self.contains)}) > 0" if self.contains else "true"
        # Values of few people would tell about those people.
        people = f"HAVING uniqExactIf(person, person != '') >= {self.floor}" if self.floor else ""
        main = p.statement(
            f"SELECT assumeNotNull(value) AS name, count() AS events FROM ({read}) WHERE isNotNull(value) AND {found}"
            f" GROUP BY name {people} ORDER BY events DESC, name LIMIT {self.limit}"
        )
        of = f"Values of {self.property} in {words.selection(self)}"
        definition = f"{of}, the frequent ones first; {words.conditions(self, period)}."
        return Plan(
            {"main": main},
            definition,
            lambda rows: {"values": [[v, n] for v, n in rows["main"]]},
            reads=(period.start, period.end),
        )

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """`group` is one of `values`."""
        value = point.group[0] if point.group and len(point.group) == 1 else None
        if self.property is None or value is None:
            raise refused("people stand behind a value of one property", "send it as `group`", "no_actors")
        where = [self.period(scope).within(p), condition(self.filter, scope, p)]
        if self.names:
            where.append(f"event_name IN {p.texts(self.names)}")
        rows = events(p, [f"{property_of(self.property, scope).text} AS value"], where)
        return f"SELECT DISTINCT person FROM ({rows}) WHERE person != '' AND value = {p.text(value)}"


def _names(rows: list[Any], scope: Scope) -> dict[str, Any]:
    ((paths,),) = rows
    columns = [{"name": name, "types": [kind]} for name, kind in COLUMNS.items() if name not in hidden(scope.role)]
    of_metadata = [
        {"name": METADATA + path, "types": sorted({_WORDS.get(kind, "list") for kind in kinds})}
        for path, kinds in sorted(paths.items())
    ]
    return {"properties": [*columns, *of_metadata]}
