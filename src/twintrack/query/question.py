"""What every kind of question has in common: range, zone, filter, and what an answer says of itself."""

from abc import abstractmethod
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from twintrack.clock import iso
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.filters import Filter
from twintrack.query.period import Bucket, Period, Range, Zone, resolve
from twintrack.query.scope import Scope, refused


class Question(BaseModel):
    """A kind of question is a subclass in `compile/`, listed in `kinds.py`. Its state is small JSON, fit for a URL."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    @abstractmethod
    def plan(self, scope: Scope) -> Plan:
        """What to ask the engine and how to read what it says. Pure.

        Raises: RequestError with a hint for a question that cannot be answered.
        """

    def in_its_zone(self, scope: Scope) -> Scope:
        """The scope that it is planned in: instants in its filters that name no zone are of its own."""
        return scope

    def for_file(self) -> Self:
        """The question, of a list in an order in which nothing moves while a file of all its pages is written."""
        return self

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """A SELECT of one column `person`: each person behind one number of the answer, once.

        Shape: `point` is a `compile.actors.Point`. Raises: RequestError where the kind or the number has none.
        """
        raise refused("no people stand behind this kind of answer", "ask about trends, for one", "no_actors")

    def stretch(self, scope: Scope, point: Any) -> Period | None:
        """The time in which the people behind that number are looked at; None for ever. Raises: as `actors`."""
        return None


class RangedQuestion(Question):
    """A question about a range of time."""

    range: Range = Field(default_factory=lambda: Range.model_validate({"last": 30}))
    zone: Zone = "UTC"
    filter: Filter | None = Field(None, description="Which events count at all.")
    floor: int = Field(
        0, ge=0, le=1_000, description="Numbers of fewer people than this are withheld (k-anonymity); 0 for none."
    )

    def in_its_zone(self, scope: Scope) -> Scope:
        return scope._replace(zone=self.zone)

    def period(self, scope: Scope) -> Period:
        return resolve(self.range, self.zone, scope.now_milliseconds)

    def stretch(self, scope: Scope, point: Any) -> Period | None:
        return self.period(scope)


class EventSelection(BaseModel):
    """Events of one name, of one of several, or any event; and a filter of their own."""

    model_config = ConfigDict(extra="forbid")
    event: str | list[str] | None = Field(None, description="A name, alternatives, or nothing for any event.")
    filter: Filter | None = None

    @property
    def names(self) -> list[str]:
        given = self.event if isinstance(self.event, list) else [self.event] if self.event is not None else []
        if len(given) > 100 or any(not n or len(n) > 500 for n in given) or (given == [] and self.event is not None):
            raise refused(
                "an event's name is 1 to 500 characters, and there are at most 100",
                "leave `event` out for any event",
                "bad_event",
            )
        return given


def shown(buckets: list[Bucket]) -> list[dict[str, Any]]:
    """Buckets as an answer shows them."""
    return [{"start": iso(b.start), "end": iso(b.end), "state": b.state} for b in buckets]
