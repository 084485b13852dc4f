"""What came first: the events of each person or session in their order, and whole units to count by.

Of two events the earlier moment comes first, then the smaller `sequence`, then the smaller `event_id`: no tie is left to
the engine's mood. The three stand in one number of 256 bits, since the engine gathers, compares and sorts numbers several
times as fast as tuples. Below them it has 20 bits to carry what is asked of the event along. An id counts by its number: the
engine orders the type UUID by its second half.
"""

from typing import Any, Literal

from twintrack.query.catalog import property_of
from twintrack.query.compile.statement import Parameters
from twintrack.query.filters import asks_person, condition
from twintrack.query.floor import having
from twintrack.query.question import EventSelection
from twintrack.query.scope import Scope, refused

# A moment that never comes, in milliseconds; twice of it still fits.
NEVER = 1 << 61
AT = "toUnixTimestamp64Milli(event_timestamp)"
PLACE = (
    f"bitShiftLeft(toUInt256(toUInt64(greatest({AT}, 0))), 212) + bitShiftLeft(toUInt256(sequence), 148)"
    " + bitShiftLeft(toUInt256(toUInt128(event_id)), 20)"
)
MOST_TAGS = (1 << 20) - 1
TOTAL, OTHER = ["+"], ["*"]

Per = Literal["person", "session"]


def moment(place: str) -> str:
    """The milliseconds in a place."""
    return f"toInt64(bitShiftRight({place}, 212))"


def tagged(number: str) -> str:
    """A place that carries a number below 2**20."""
    return f"({PLACE} + toUInt32({number}))"


def tag(place: str) -> str:
    """The number that a place carries."""
    return f"toUInt32(bitAnd({place}, {MOST_TAGS}))"


def hashed(column: str) -> str:
    """A text as a number of 128 bits, to group by: the engine finds it twice as fast as the text, or as `sipHash128`."""
    return f"(bitShiftLeft(toUInt128(cityHash64({column})), 64) + xxh3({column}))"


def sorted_by_place(column: str) -> str:
    """A column's values in order, as an aggregate of the rows of a unit; `place` is one of their columns."""
    return f"arraySort((value, place) -> place, groupArray({column}), groupArray(place))"


def unit(per: Per) -> str:
    """The column that events are gathered by; rows where it is empty belong to nothing that is counted."""
    return "person" if per == "person" else "session_id"


def selected(of: EventSelection, scope: Scope, p: Parameters) -> str:
    """Whether a row is of the selection: 0 or 1."""
    one = condition(of.filter, scope, p)
    return f"(event_name IN {p.texts(of.names)} AND {one})" if of.names else f"({one})"


def keys(breakdown: list[str], scope: Scope) -> str:
    """The values of a breakdown as one array: '' where nothing is set, else '=' and the value."""
    texts = [property_of(name, scope).text for name in breakdown]
    return "[" + ", ".join(f"ifNull(concat('=', {text}), '')" for text in texts) + "]::Array(String)"


def needs_person(per: Per, breakdown: list[str], *filters: Any) -> bool:
    return per == "person" or "person" in breakdown or any(map(asks_person, filters))


def largest(units: str, columns: dict[str, tuple[str, str]], top: int, floor: int = 0) -> str:
    """Aggregates of the rows of `units` in all, and by `keys`: the `top` largest groups, and the others as one.

    Shape: `columns` are functions and their arguments by name; the answer has `grouped` and those: `TOTAL` first, then the
    largest, `OTHER` last. One pass: groups become states, and states are merged. A unit is a person where there is a floor.
    """
    states = ", ".join(f"{_combined(f, 'State')}({given}) AS {name}" for name, (f, given) in columns.items())
    merged = ", ".join(f"{_combined(f, 'Merge')}({name})" for name, (f, _) in columns.items())
    return (
        f"SELECT grouped, {merged} FROM (SELECT *, row_number() OVER (ORDER BY size DESC, keys) AS place FROM"
        f" (SELECT keys, count() AS size, {states} FROM ({units}) GROUP BY keys))"
        f" ARRAY JOIN [{TOTAL}, if(place <= {top} AND size >= {floor}, keys, {OTHER})] AS grouped"
        f" GROUP BY grouped ORDER BY grouped = {TOTAL} DESC, grouped = {OTHER}, max(size) DESC, grouped"
    )


def _combined(function: str, combinator: str) -> str:
    """`quantilesIf(0.5)` with `State`: the combinator stands before the parameters."""
    name, mark, parameters = function.partition("(")
    return f"{name}{combinator}{mark}{parameters}"


def of_group(
    units: str, breakdown: list[str], top: int, p: Parameters, point: Any, floor: int = 0, people: str = "count()"
) -> str:
    """The condition on `keys` that a row belongs to the group of a `compile.actors.Point`; `units` are all rows,
    and `people` counts those of a group.

    Raises: RequestError.
    """
    if not breakdown or (point.group is None and not point.other):
        return "true"
    if point.other:
        enough = having(floor, people)
        largest = f"SELECT keys FROM ({units}) GROUP BY keys{enough} ORDER BY count() DESC, keys LIMIT {top}"
        return f"keys NOT IN ({largest})"
    if len(point.group) != len(breakdown):
        raise refused(
            "the group has another number of values than the breakdown", "send `breakdown` as shown", "no_actors"
        )
    return f"keys = {p.texts(['' if key is None else '=' + key for key in point.group])}"


def place_of(given: int | None, count: int, what: str) -> int:
    """A place in the answer that a point names. Raises: RequestError where there is none."""
    if given is None or given >= count:
        raise refused(f"there is no such {what}", f"the answer has {count}, from 0", "no_actors")
    return given


def check_floor(per: Per, floor: int) -> None:
    if floor and per == "session":
        raise refused("a floor is of people", "ask per person, or without a floor", "bad_floor")


def check_breakdown(breakdown: list[str]) -> None:
    if len(breakdown) > 3 or len(set(breakdown)) != len(breakdown):
        raise refused("a breakdown is of up to three different properties", "leave some out", "bad_breakdown")


def shown_group(group: list[str]) -> dict[str, Any]:
    if group == OTHER:
        return {"breakdown": None, "other": True}
    return {"breakdown": [key[1:] if key else None for key in group], "other": False}
