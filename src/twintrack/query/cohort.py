"""What a cohort is: a list of persons, or what they did, have, or reached; and the condition that a person belongs to it.

A condition is about the column `person`; an event of nobody belongs to no cohort, and so to no `not` of one either.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from twintrack.event import limits
from twintrack.query.catalog import PERSON, property_of
from twintrack.query.compile.funnel import Funnel, reached
from twintrack.query.compile.order import PLACE, selected
from twintrack.query.compile.statement import Parameters
from twintrack.query.filters import Condition, condition
from twintrack.query.filters import words as filter_words
from twintrack.query.period import Range, Zone, resolve
from twintrack.query.question import EventSelection
from twintrack.query.scope import CohortOf, Scope, refused
from twintrack.query.source import events
from twintrack.query.words import selection

MOST_PERSONS = 10_000
_DEEPEST = 5


class Listed(BaseModel):
    """`{"persons": ["ada", "grace"]}`: exactly these, by `user_id` or, who has none, by `anonymous_id`."""

    model_config = ConfigDict(extra="forbid")
    persons: list[Annotated[str, Field(max_length=limits().identifier_characters)]] = Field(max_length=MOST_PERSONS)


class Did(BaseModel):
    """`{"did": {"event": "purchase"}, "at_least": 2, "range": {"last": 30}}`; without a range: ever."""

    model_config = ConfigDict(extra="forbid")
    did: EventSelection
    at_least: int = Field(1, ge=1, le=1_000_000)
    range: Range | None = None
    zone: Zone = "UTC"


class Has(BaseModel):
    """`{"has": {"property": "event_metadata.plan", "value": "pro"}}`: the last value that the person's events set."""

    model_config = ConfigDict(extra="forbid")
    has: Condition


class Reached(BaseModel):
    """`{"funnel": {"steps": [...]}, "step": 2, "state": "dropped"}`: came to a step, or came to it and went no further."""

    model_config = ConfigDict(extra="forbid")
    funnel: Funnel
    step: int = Field(ge=1, le=20)
    state: Literal["reached", "dropped"] = "reached"


class Every(BaseModel):
    model_config = ConfigDict(extra="forbid")
    all: "list[Definition]" = Field(max_length=20)


class Some(BaseModel):
    model_config = ConfigDict(extra="forbid")
    any: "list[Definition]" = Field(max_length=20)


class Rest(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    negated: "Definition" = Field(alias="not")


Definition = Listed | Did | Has | Reached | Every | Some | Rest
for _model in (Every, Some, Rest):
    _model.model_rebuild()
_DEFINITION: TypeAdapter[Definition] = TypeAdapter(Definition)


def parse(definition: Any) -> Definition:
    """Raises: RequestError that says what is wrong with it."""
    try:
        return _DEFINITION.validate_python(definition)
    except ValidationError as error:
        said = "; ".join(sorted({e["msg"] for e in error.errors()})[:3])
        raise refused(
            f"the definition of the cohort cannot be read: {said}"[:300],
            "it is one of persons, did, has, funnel, all, any, not",
            "bad_cohort",
        ) from None


def belongs(definition: Definition, scope: Scope, p: Parameters, depth: int = 0) -> str:
    """The condition that `person` is of the cohort.

    Raises: RequestError for what cannot be asked, or not by this role: whoever uses a cohort could have written each of its
    conditions, so that neither its numbers nor its values tell more than that.
    """
    if depth > _DEEPEST:
        raise refused(f"the cohort is nested deeper than {_DEEPEST}", "flatten its groups", "bad_cohort")
    p.part()
    match definition:
        case Every():
            parts = [belongs(part, scope, p, depth + 1) for part in definition.all]
            return "(" + " AND ".join(["person != ''", *parts]) + ")"
        case Some():
            return "(" + " OR ".join(["false", *(belongs(part, scope, p, depth + 1) for part in definition.any)]) + ")"
        case Rest():
            return f"(person != '' AND NOT {belongs(definition.negated, scope, p, depth + 1)})"
        case Listed():
            # To name a person is to ask who somebody is, under whatever name the list is kept.
            property_of(PERSON, scope)
            return f"(person != '' AND person IN {p.texts(scope.stored(definition.persons))})"
        case Did():
            return f"person IN ({_did(definition, scope, p)})"
        case Has():
            return _has(definition.has, scope, p)
    if definition.funnel.per != "person":
        raise refused("a cohort is of persons", "ask the funnel per person", "bad_cohort")
    dropped = definition.state == "dropped"
    scope = definition.funnel.in_its_zone(scope)
    return f"person IN (SELECT person FROM ({reached(definition.funnel, scope, p, definition.step, dropped=dropped)}))"


def _did(definition: Did, scope: Scope, p: Parameters) -> str:
    where = ["person != ''", selected(definition.did, scope._replace(zone=definition.zone), p)]
    if definition.range is not None:
        where.insert(0, resolve(definition.range, definition.zone, scope.now_milliseconds).within(p))
    rows = events(p, ["event_name"], where)
    return f"SELECT person FROM ({rows}) GROUP BY person HAVING count() >= {definition.at_least}"


def _has(asked: Condition, scope: Scope, p: Parameters) -> str:
    """Judged by the last event that has the property; who never had it is judged as an event without it."""
    of = property_of(asked.property, scope)
    holds = condition(asked, scope, p)
    without = asked.operator in ("!=", "not in", "is not set")
    if without:
        holds = f"NOT ({holds})"
    rows = events(p, [f"{PLACE} AS place", f"({holds}) AS holds"], ["person != ''", of.is_set])
    found = f"person IN (SELECT person FROM ({rows}) GROUP BY person HAVING argMax(holds, place))"
    return f"(person != '' AND NOT {found})" if without else found


def members(definition: Definition, scope: Scope, p: Parameters) -> str:
    """A SELECT of the persons of a cohort, each once: of all who have an event."""
    return (
        f"SELECT DISTINCT person FROM ({events(p, ['event_name'], [belongs(definition, scope, p)])}) WHERE person != ''"
    )


def named(definitions: Mapping[str, Any]) -> dict[str, CohortOf]:
    """The cohorts that a question may filter by, from their definitions as they are kept."""

    read: dict[str, Definition] = {}

    def cohort(name: str) -> CohortOf:
        def of(scope: Scope, p: Parameters) -> str:
            # Without itself: a cohort cannot be made of itself, however many others stand between. And the same people
            # whoever asks: an instant without a zone is not of the question's.
            others = {other: one for other, one in scope.cohorts.items() if other != name}
            if len(definitions) - len(others) > _DEEPEST:
                raise refused(
                    f"more than {_DEEPEST} cohorts are made of each other",
                    "write out what one is made of",
                    "bad_cohort",
                )
            if name not in read:
                read[name] = parse(definitions[name])
            # Told with the answer: whoever may not ask about it gets none.
            p.cohort(name, words(read[name]))
            return belongs(read[name], scope._replace(cohorts=others, zone="UTC"), p)

        return of

    return {name: cohort(name) for name in definitions}


def words(definition: Definition) -> str:
    """The cohort as a person says it."""
    match definition:
        case Listed():
            return f"{len(definition.persons)} named persons"
        case Did():
            when = "ever" if definition.range is None else _when(definition.range, zone=definition.zone)
            return f"at least {definition.at_least} {selection(definition.did)} {when}"
        case Has():
            return f"whose last set value fits {filter_words(definition.has)}"
        case Reached():
            only = "" if definition.state == "reached" else " and no further"
            return f"who came to step {definition.step}{only} of {_way(definition.funnel)}"
        case Every():
            return "all of (" + "; ".join(map(words, definition.all)) + ")"
        case Some():
            return "any of (" + "; ".join(map(words, definition.any)) + ")"
    return f"not ({words(definition.negated)})"


def _way(of: Funnel) -> str:
    parted, head = (", ", "these in any order: ") if of.order == "any" else (", then ", "")
    steps = head + parted.join(selection(step) for step in of.steps)
    strict = ", with no other event in between" if of.order == "strict" else ""
    only = "" if of.filter is None else f", only where {filter_words(of.filter)}"
    return f"{steps}{strict}, within {of.window_seconds} seconds, begun {_when(of.range, of.zone)}{only}"


def _when(asked: Range, zone: str) -> str:
    of = "" if zone == "UTC" else f" of {zone}"
    if asked.last is not None:
        return f"in the last {asked.last} {'complete ' if asked.complete else ''}{asked.unit}s{of}"
    return f"from {asked.since} to {asked.until or 'now'}{of}"
