"""The people behind a number: whose events made it. Each kind says who they are; here they are listed."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twintrack.query import cursor, kinds
from twintrack.query.catalog import check_sees_people
from twintrack.query.compile.cohorts import Cohorts
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.question import Question, RangedQuestion
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events


class Of(BaseModel):
    """A question as it was asked, with the kind it was asked under."""

    model_config = ConfigDict(extra="allow")
    kind: str = Field(max_length=50)

    def question(self) -> Question:
        """Raises: RequestError for a question that cannot be asked."""
        model = kinds.KINDS.get(self.kind)
        if model is None or model is Actors:
            raise refused(
                "there is no such kind of question", f"the kinds are {', '.join(kinds.KINDS)}", "unknown_kind"
            )
        try:
            return model.model_validate(self.model_extra)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise refused(f"of {self.kind}: {said}", "send the question as it was asked", "invalid") from None


class Point(BaseModel):
    """Which number of the answer; what a kind has no use for is left out."""

    model_config = ConfigDict(extra="forbid")
    series: str = Field("A", max_length=50)
    step: int | None = Field(None, ge=0, description="Place in `buckets` or `steps`; without it the whole range.")
    group: list[str | None] | None = Field(
        None, max_length=10, description="`breakdown` of the series, a value, or the names of a path."
    )
    other: bool = Field(False, description="The group of the rest.")
    comparison: bool = False
    outcome: str | None = Field(
        None, max_length=50, description="Such as `converted`, `dropped` or `bounced`, where a kind has them."
    )
    row: int | None = Field(None, ge=0, description="Place of the row, where a kind has rows and steps.")


class Actors(Question):
    """The people behind a number of another answer, page by page.

    `first`, `last` and `events` are of all that a person did in the time that the number is told from.
    """

    of: Of
    point: Point = Field(default_factory=lambda: Point.model_validate({}))
    limit: int = Field(100, ge=1, le=1_000)
    after: str = Field("", max_length=800, description="`next` of the page before.")

    def plan(self, scope: Scope) -> Plan:
        check_sees_people(scope.role)
        asked = self.of.question()
        scope = asked.in_its_zone(scope)
        p = Parameters(scope.tenancy)
        people = asked.actors(scope, p, self.point)
        after = ""
        if self.after:
            (person,) = cursor.read(self.after, str)
            after = f"WHERE person > {p.text(person)}"
        stretch = asked.stretch(scope, self.point)
        seen = [stretch.within(p)] if stretch is not None else []
        detail = (
            "SELECT person, toUnixTimestamp64Milli(min(event_timestamp)) AS first,"
            " toUnixTimestamp64Milli(max(event_timestamp)) AS last, count() AS events"
            f" FROM ({events(p, ['event_timestamp'], [*seen, 'person IN (SELECT person FROM listed)'])}) GROUP BY person"
        )
        listed = p.statement(
            f"WITH listed AS (SELECT person FROM ({people}) {after} ORDER BY person LIMIT {self.limit + 1})"
            f" SELECT person, first, last, events FROM listed LEFT JOIN ({detail}) AS detail USING (person) ORDER BY person"
        )
        q = Parameters(scope.tenancy)
        count = q.statement(f"SELECT count() FROM ({asked.actors(scope, q, self.point)})")
        definition = f"The people behind one number. {asked.plan(scope).definition}"
        floor = asked.floor if isinstance(asked, RangedQuestion | Cohorts) else 0
        return Plan({"main": listed, "count": count}, definition, lambda rows: self._shape(rows, floor))

    def _shape(self, rows: Any, floor: int) -> dict[str, Any]:
        ((total,),) = rows["count"]
        if total < floor > 1:
            raise refused(f"fewer than {floor} people stand behind this number", "the floor withholds them", "withheld")
        further, found = len(rows["main"]) > self.limit, rows["main"][: self.limit]
        return {
            "columns": ["person", "first_milliseconds", "last_milliseconds", "events"],
            "rows": [list(row) for row in found],
            "total": total,
            "next": cursor.made(found[-1][0]) if further else None,
        }
