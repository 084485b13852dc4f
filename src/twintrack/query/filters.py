"""Conditions on an event: typed operators in boolean groups, as they are sent and as SQL.

Every condition is true or false, never unknown: an event without the property fails `=`, `<`, `contains` and the like,
and passes `!=` and `not in`, so that `not` is always the whole rest. A number asks the property as a number, a text as a
text (case counts; `matches` takes RE2, where `(?i)` ignores it), `"type": "time"` as an instant, which without an offset is
one of the question's zone.
"""

import math
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import re2
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    field_validator,
)

from twintrack.clock import milliseconds_of
from twintrack.query.catalog import IDENTIFIERS, Property, property_of
from twintrack.query.compile.statement import Parameters
from twintrack.query.scope import Scope, refused

_PATTERN_CHARACTERS = 200
_PATTERN_BYTES = 1 << 18
_MOST_VALUES = 1_000
_MOST_CONDITIONS = 100
_DEEPEST = 8
_FLOATS_ALONE, _LARGEST = 1 << 53, 10**75

Scalar = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=2_000)]
Operator = Literal[
    "=", "!=", "in", "not in", "contains", "matches", "is set", "is not set", "<", "<=", ">", ">=", "between"
]
_ORDER = {"<", "<=", ">", ">="}
_EQUALITY = {"=", "!=", "in", "not in"}


class Condition(BaseModel):
    """`{"property": "event_metadata.plan", "operator": "=", "value": "pro"}`."""

    model_config = ConfigDict(extra="forbid")
    property: str = Field(max_length=220, description="A column, `person`, or `event_metadata.path`.")
    operator: Operator = "="
    value: Scalar | list[Scalar] | None = Field(None, description="A list for `in`, `not in` and `between`.")
    type: Literal["text", "number", "bool", "time"] | None = Field(None, description="Default: as the value is.")

    @field_validator("value")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                raise ValueError("a number must be finite")
        return value


class InCohort(BaseModel):
    """`{"cohort": "name"}`: the person of the event belongs to it."""

    model_config = ConfigDict(extra="forbid")
    cohort: str = Field(max_length=200)


class All(BaseModel):
    model_config = ConfigDict(extra="forbid")
    all: "list[Filter]" = Field(max_length=_MOST_CONDITIONS)


class Either(BaseModel):
    model_config = ConfigDict(extra="forbid")
    any: "list[Filter]" = Field(max_length=_MOST_CONDITIONS)


class Not(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    negated: "Filter" = Field(alias="not")


_BY_KEY: dict[str, type[BaseModel]] = {"cohort": InCohort, "all": All, "any": Either, "not": Not}


def _meant(value: Any) -> str:
    """Which of them it is meant to be, by its key: so that what is wrong with one is told of that one alone."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    keys = value if isinstance(value, dict) else ()
    return next((model.__name__ for key, model in _BY_KEY.items() if key in keys), Condition.__name__)


Filter = Annotated[
    Annotated[Condition, Tag("Condition")]
    | Annotated[InCohort, Tag("InCohort")]
    | Annotated[All, Tag("All")]
    | Annotated[Either, Tag("Either")]
    | Annotated[Not, Tag("Not")],
    Discriminator(_meant),
]
for _model in (All, Either, Not):
    _model.model_rebuild()


def condition(asked: Filter | None, scope: Scope, p: Parameters, depth: int = 0) -> str:
    """The SQL of a filter, true or false for each row. `person` must be a column of the source where it is asked.

    Raises: RequestError for what cannot be asked.
    """
    if depth > _DEEPEST:
        raise refused(f"the filter is nested deeper than {_DEEPEST}", "flatten its groups", "bad_filter")
    if asked is not None:
        p.part()
    match asked:
        case None:
            return "true"
        case All():
            return _joined(" AND ", "true", [condition(f, scope, p, depth + 1) for f in asked.all])
        case Either():
            return _joined(" OR ", "false", [condition(f, scope, p, depth + 1) for f in asked.any])
        case Not():
            return f"NOT ({condition(asked.negated, scope, p, depth + 1)})"
        case InCohort():
            if asked.cohort not in scope.cohorts:
                raise refused("there is no such cohort", "GET /api/analytics/cohorts lists them", "unknown_cohort")
            return scope.cohorts[asked.cohort](scope, p)
    only_whether_set = asked.operator in ("is set", "is not set")
    return _compared(asked, property_of(asked.property, scope, only_whether_set=only_whether_set), scope, p)


def asks_person(asked: Filter | None) -> bool:
    """Whether the filter needs to know the person of an event."""
    match asked:
        case All():
            return any(map(asks_person, asked.all))
        case Either():
            return any(map(asks_person, asked.any))
        case Not():
            return asks_person(asked.negated)
        case Condition():
            return asked.property == "person"
    return asked is not None


def words(asked: Filter | None) -> str:
    """The filter as a person says it."""
    match asked:
        case None:
            return ""
        case All() if not asked.all:
            return "anything"
        case Either() if not asked.any:
            return "nothing"
        case All():
            return _phrase(" and ", asked.all)
        case Either():
            return _phrase(" or ", asked.any)
        case Not():
            return f"not ({words(asked.negated)})"
        case InCohort():
            return f"the person is in the cohort {asked.cohort}"
    if asked.operator in ("is set", "is not set"):
        return f"{asked.property} {asked.operator}"
    if asked.operator == "between" and isinstance(asked.value, list) and len(asked.value) == 2:
        return f"{asked.property} between {asked.value[0]} and {asked.value[1]} (both included)"
    value = ", ".join(map(str, asked.value)) if isinstance(asked.value, list) else asked.value
    return f"{asked.property} {asked.operator} {value}"


def _phrase(joint: str, parts: "list[Filter]") -> str:
    said = [words(part) for part in parts]
    return said[0] if len(said) == 1 else "(" + joint.join(said) + ")"


def _joined(joint: str, none: str, parts: list[str]) -> str:
    return "(" + joint.join(parts) + ")" if parts else none


def _compared(asked: Condition, of: Property, scope: Scope, p: Parameters) -> str:
    operator, value = asked.operator, asked.value
    if operator in ("is set", "is not set"):
        if value is not None:
            raise refused(f"`{operator}` takes no value", "leave `value` out", "bad_filter")
        return of.is_set if operator == "is set" else f"NOT {of.is_set}"
    several = operator in ("in", "not in", "between")
    if value is None or isinstance(value, list) != several:
        raise refused(
            f"`{operator}` takes {'a list' if several else 'one value'}",
            f'send "value": {"[...]" if several else "..."}; `is set` and `is not set` take none',
            "bad_filter",
        )
    values: list[Any] = value if isinstance(value, list) else [value]
    if len(values) > _MOST_VALUES or (operator == "between" and len(values) != 2):
        raise refused(
            f"`{operator}` takes {'two values' if operator == 'between' else f'at most {_MOST_VALUES} values'}",
            "a cohort holds more",
            "bad_filter",
        )
    if operator in ("contains", "matches"):
        if not isinstance(value, str):
            raise refused(f"`{operator}` takes a text", "put the value in quotes", "bad_filter")
        if operator == "contains":
            return f"ifNull(position({of.text}, {p.text(value)}) > 0, false)"
        return f"ifNull(match({of.text}, {p.text(_pattern(value))}), false)"
    kind = asked.type or _kind(values, of)
    if kind == "text" and of.name in IDENTIFIERS and operator in _EQUALITY:
        values, several = scope.stored([_as_text(v) for v in values]), True
    if kind == "text" and of.never_null and operator in ("=", "!=", "in", "not in") and all(values):
        # The bare column: the engine's order and indexes serve it.
        said = f"{of.raw} IN {p.texts([_as_text(v) for v in values])}" if values else "false"
        return f"NOT ({said})" if operator in ("!=", "not in") else said
    sides = _sides(kind, values, of, p, scope.zone)
    if operator == "between":
        (low, least), (high, most) = sides
        return f"ifNull({low} >= {least} AND {high} <= {most}, false)"
    if operator in _ORDER:
        return f"ifNull({sides[0][0]} {operator} {sides[0][1]}, false)"
    equal = _member(kind, sides, values, of, p) if several else f"ifNull({sides[0][0]} = {sides[0][1]}, false)"
    return f"NOT ({equal})" if operator in ("!=", "not in") else equal


def _member(kind: str, sides: list[tuple[str, str]], values: list[Any], of: Property, p: Parameters) -> str:
    if not values:
        return "false"
    if kind in ("text", "bool"):
        given = p.texts([_as_text(v) for v in values])
        return f"ifNull(has({given}, assumeNotNull({of.text})) AND isNotNull({of.text}), false)"
    return "(" + " OR ".join(f"ifNull({side} = {one}, false)" for side, one in sides) + ")"


def _kind(values: list[Any], of: Property) -> str:
    if of.kept == "time":
        return "time"
    if values and all(isinstance(v, bool) for v in values):
        return "bool"
    if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return "number"
    return "text"


def _sides(kind: str, values: list[Any], of: Property, p: Parameters, zone: str) -> list[tuple[str, str]]:
    """For each value what is compared: the property's side and the value's."""
    if kind == "number":
        if any(isinstance(v, bool | str) for v in values):
            raise refused("a number is compared with a number", "take the quotes away", "bad_filter")
        return [_number(v, of, p) for v in values]
    if kind == "time":
        if not all(isinstance(v, str) for v in values):
            raise refused("an instant is written as ISO 8601", "write 2026-01-31T09:00:00Z", "bad_filter")
        return [(of.moment, _moment(v, p, zone)) for v in values]
    return [(of.text, p.text(_as_text(v))) for v in values]


def _number(value: int | float, of: Property, p: Parameters) -> tuple[str, str]:
    """From 2**53 on several whole numbers are one float, and all floats are whole."""
    if _FLOATS_ALONE <= abs(value) < _LARGEST:
        return of.whole, p.large(int(value))
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise refused("a whole number has at most 75 digits", "compare it as a text: in quotes", "bad_filter")
    return of.number, p.number(float(value))


def _moment(text: str, p: Parameters, zone: str) -> str:
    """Without a zone it is the question's, as in its range."""
    try:
        moment = datetime.fromisoformat(text)
        return p.moment(milliseconds_of(moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))))
    except (ValueError, OverflowError):
        raise refused("an instant is written as ISO 8601", "write 2026-01-31T09:00:00Z", "bad_filter") from None


def _as_text(value: Any) -> str:
    """A value as the engine shows it as a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _pattern(text: str) -> str:
    if len(text) > _PATTERN_CHARACTERS:
        raise refused(f"the pattern is longer than {_PATTERN_CHARACTERS} characters", "shorten it", "bad_pattern")
    options = re2.Options()
    options.max_mem = _PATTERN_BYTES
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as error:
        words = error.args[0] if error.args else ""
        said = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        raise refused(
            f"the pattern cannot be used: {said[:100]}",
            "RE2's syntax: no look-around, repeats up to 1000",
            "bad_pattern",
        ) from None
    return text
