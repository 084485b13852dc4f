"""Cohorts as a question: how many people a definition, or one that is kept under a name, takes in; and what it means."""

from typing import Any

from pydantic import Field

from twintrack.query.cohort import Definition, belongs, words
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.floor import Floor
from twintrack.query.period import known
from twintrack.query.question import Question
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events


class Cohorts(Question):
    """How many people a cohort has: one that is kept under a name, or a definition that is tried out."""

    cohort: str | None = Field(None, max_length=100, description="The name of one that is kept.")
    definition: Definition | None = None
    floor: int = Field(0, ge=0, le=1_000, description="Numbers of fewer people than this are withheld; 0 for none.")

    def plan(self, scope: Scope) -> Plan:
        p = Parameters(scope.tenancy)
        counted = p.statement(
            f"SELECT countIf(person != ''), countIf({self._belongs(scope, p)})"
            f" FROM (SELECT DISTINCT person FROM ({events(p, [], [])}))"
        )

        def shape(rows: Any) -> dict[str, Any]:
            everyone, inside = rows["main"][0]
            # It is asked of ever: where some of that has expired, nobody left does not mean that there was nobody.
            kept, floor = known(inside, "expired" if scope.complete_milliseconds else "whole"), Floor(self.floor)
            return {"persons": floor.number(kept, inside), "everyone": floor.number(everyone, everyone), **floor.said()}

        said = f"the cohort {self.cohort}" if self.definition is None else words(self.definition)
        return Plan({"main": counted}, f"Persons with any event: {said}.", shape)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """With the outcome `everyone` all who have an event."""
        belongs = "true" if point.outcome == "everyone" else self._belongs(scope, p)
        rows = events(p, ["event_name"], ["person != ''", belongs])
        return f"SELECT DISTINCT person FROM ({rows})"

    def _belongs(self, scope: Scope, p: Parameters) -> str:
        if (self.cohort is None) == (self.definition is None):
            raise refused("say `cohort` or `definition`", "GET /api/analytics/cohorts lists those that are kept")
        if self.definition is not None:
            return belongs(self.definition, scope, p)
        of = scope.cohorts.get(self.cohort or "")
        if of is None:
            raise refused("there is no such cohort", "GET /api/analytics/cohorts lists them", "unknown_cohort")
        return of(scope, p)
