"""Funnels: how far people get through steps. Exact for equal moments, repeated steps and overlapping ones.

The events of a unit lie in one array, in order. From the last step back to the first, each place of the array is given the
chain that begins there: its own moment and the chain of the next event of the following step. So each attempt knows its
earliest way through all steps after one linear pass for each step, whatever was tried before or after it.
"""

from typing import Any, Literal

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import period, words
from twintrack.query.compile.order import (
    NEVER,
    PLACE,
    Per,
    check_breakdown,
    check_floor,
    keys,
    largest,
    moment,
    needs_person,
    of_group,
    place_of,
    selected,
    shown_group,
    sorted_by_place,
    unit,
)
from twintrack.query.compile.statement import Parameters, Plan, Statement
from twintrack.query.filters import condition
from twintrack.query.floor import Floor
from twintrack.query.period import Period, Range, Unit
from twintrack.query.question import EventSelection, RangedQuestion, shown
from twintrack.query.scope import Scope, refused
from twintrack.query.source import NOBODY, events

_MOST_STEPS = 20
_MOST_WINDOW_SECONDS = 366 * 86_400
_QUANTILES = "quantilesExactInclusiveIf(0.5, 0.9)"


class Step(EventSelection):
    label: str = Field("", max_length=100)


class Funnel(RangedQuestion):
    """How many get from the first step to the last, where the others stop, and how long it takes."""

    steps: list[Step] = Field(description="2 to 20; each an event's name or alternatives, with a filter of its own.")
    window_seconds: int = Field(14 * 86_400, description="From the first event to the last at most; up to 366 days.")
    order: Literal["ordered", "strict", "any"] = Field(
        "ordered", description="`strict`: no other event in between. `any`: the steps in whatever order."
    )
    per: Per = "person"
    breakdown: list[str] = Field(default_factory=list, description="Of up to three properties of the first event.")
    top: int = Field(10, ge=1, le=100)
    interval: Unit | None = Field(None, description="Also the funnel of each such bucket, by the first event.")

    def plan(self, scope: Scope) -> Plan:
        return _plan(self, scope)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        return _actors(self, scope, p, point)


def _check(asked: Funnel) -> None:
    if not 2 <= len(asked.steps) <= _MOST_STEPS:
        raise refused(
            f"a funnel has 2 to {_MOST_STEPS} steps, not {len(asked.steps)}",
            "one step is a trend of persons" if len(asked.steps) < 2 else "leave steps out",
            "bad_funnel",
        )
    if not 1 <= asked.window_seconds <= _MOST_WINDOW_SECONDS:
        raise refused(
            "the window is 1 second to 366 days", f"window_seconds is 1 to {_MOST_WINDOW_SECONDS}", "bad_funnel"
        )
    check_breakdown(asked.breakdown)
    check_floor(asked.per, asked.floor)


def attempts(asked: Funnel, scope: Scope, p: Parameters, of: Period, *, whose: bool = False) -> str:
    """A SELECT of (unit, tries): the attempts of each unit in order, each a tuple of a moment for each step and the values
    of the breakdown at its first event; with `whose` the person of that too, which is empty where nobody asks.

    Raises: RequestError.
    """
    _check(asked)
    count, window = len(asked.steps), asked.window_seconds * 1000
    mask = " + ".join(f"{1 << k} * {selected(step, scope, p)}" for k, step in enumerate(asked.steps))
    names = sorted({name for step in asked.steps for name in step.names})
    read = of._replace(end=of.end + window + 1)
    where = [read.within(p), condition(asked.filter, scope, p)]
    if asked.order != "strict":
        where.append("mask != 0")
        if all(step.names for step in asked.steps):
            where.insert(0, f"event_name IN {p.texts(names)}")
    filters = [asked.filter, *(step.filter for step in asked.steps)]
    by = unit(asked.per)
    person = whose or needs_person(asked.per, asked.breakdown, *filters)
    columns = [f"{PLACE} AS place", f"toUInt32({mask}) AS mask", f"{keys(asked.breakdown, scope)} AS keys"]
    rows = events(p, [*(["session_id"] if by == "session_id" else []), *columns], where, person=person)
    # A unit by 16 bytes in the place of its name: nobody reads the name, and names fill the memory.
    gathered = (
        f"SELECT sipHash128({by}) AS unit, arrayMap(place -> {moment('place')}, arraySort(groupArray(place))) AS ats,"
        f" {sorted_by_place('mask')} AS masks,"
        f" {sorted_by_place('keys') if asked.breakdown else 'arrayMap(at -> []::Array(String), ats)'} AS all_keys,"
        f" {sorted_by_place('person') if whose else f'arrayMap(at -> {NOBODY}, ats)'} AS whose"
        f" FROM ({rows}) WHERE {by} != '' GROUP BY unit"
    )
    begins = "mask != 0" if asked.order == "any" else "bitTest(mask, 0)"
    chain = _any(count) if asked.order == "any" else _chain(count, fill=asked.order == "ordered")
    made = (
        f"arrayFilter((try, mask) -> {begins} AND try.1 < {p.whole(of.end)},"
        f" arrayMap((at, ahead, keys, who) -> ({_links('at', 'ahead', count)}, keys, who),"
        f" ats, {chain}, all_keys, whose), masks)"
    )
    return f"SELECT unit, {made} AS tries FROM ({gathered}) WHERE notEmpty(tries)"


def _links(first: str, rest: str, count: int) -> str:
    return ", ".join([first, *(f"{rest}.{k}" for k in range(1, count))])


def _chain(count: int, *, fill: bool) -> str:
    """For each place the moments of steps 2 to the last on the way from there, NEVER from where there is none."""
    ahead = ""
    for step in range(count - 1, 0, -1):
        nothing = "tuple(" + ", ".join(f"toInt64({NEVER})" for _ in range(count - step)) + ")"
        if ahead:
            here = (
                f"arrayMap((at, mask, ahead) -> if(bitTest(mask, {step}),"
                f" ({_links('at', 'ahead', count - step)}), {nothing}), ats, masks, {ahead})"
            )
        else:
            here = f"arrayMap((at, mask) -> if(bitTest(mask, {step}), tuple(at), {nothing}), ats, masks)"
        if fill:
            here = f"arrayReverseFill(link -> link.1 != {NEVER}, {here})"
        ahead = f"arrayPushBack(arrayPopFront({here}), {nothing})"
    return ahead


def _any(count: int) -> str:
    """For each place the moments at which a second, a third step is done from there on, whichever they are."""
    done = [
        f"arrayReverseFill(at -> at != {NEVER},"
        f" arrayMap((at, mask) -> if(bitTest(mask, {step}), at, toInt64({NEVER})), ats, masks))"
        for step in range(count)
    ]
    given = ", ".join(f"n{step}" for step in range(count))
    links = ", ".join(f"s[{k}]" for k in range(2, count + 1))
    return f"arrayMap(s -> tuple({links}), arrayMap(({given}) -> arraySort([{given}]), {', '.join(done)}))"


def _depth(attempt: str, asked: Funnel, p: Parameters) -> str:
    window = p.whole(asked.window_seconds * 1000)
    return "1 + " + " + ".join(f"({attempt}.{k} - {attempt}.1 <= {window})" for k in range(2, len(asked.steps) + 1))


def best(asked: Funnel, scope: Scope, p: Parameters, of: Period, *, whose: bool = False) -> str:
    """A SELECT of (unit, keys, person, depth, try): the attempt of each unit that went furthest, of several the first."""
    depths = f"arrayMap(try -> {_depth('try', asked, p)}, tries)"
    return (
        f"SELECT unit, arrayMax(depths) AS depth, tries[indexOf(depths, depth)] AS try,"
        f" try.{len(asked.steps) + 1} AS keys, try.{len(asked.steps) + 2} AS person"
        f" FROM (SELECT unit, tries, {depths} AS depths FROM ({attempts(asked, scope, p, of, whose=whose)}))"
    )


def reached(asked: Funnel, scope: Scope, p: Parameters, step: int, *, dropped: bool = False) -> str:
    """A SELECT of (person, keys): those whose attempt reached step 1, 2, ..., or reached it and went no further.

    Raises: RequestError.
    """
    if not 1 <= step <= len(asked.steps):
        raise refused("the funnel has no such step", f"its steps are 1 to {len(asked.steps)}", "bad_funnel")
    found = best(asked, scope, p, asked.period(scope), whose=True)
    return f"SELECT person, keys FROM ({found}) WHERE person != '' AND depth {'=' if dropped else '>='} {step}"


def _actors(asked: Funnel, scope: Scope, p: Parameters, point: Any) -> str:
    """`step` is a place in `steps`; `row` one in `buckets`, for a point of the trend; dropped: came here and no further."""
    if point.outcome not in (None, "converted", "dropped"):
        raise refused(
            "an outcome is `converted` or `dropped`", "leave it out for those who came to the step", "no_actors"
        )
    step = place_of(point.step, len(asked.steps), "step") + 1
    if point.row is not None:
        if asked.interval is None:
            raise refused("the answer has no trend", "ask with an `interval`", "no_actors")
        of = asked.period(scope)
        found = period.buckets(of, asked.interval, scope)
        bucket = found[place_of(point.row, len(found), "bucket")]
        until = Range.model_validate({"from": iso(max(bucket.start, of.start)), "to": iso(min(bucket.end, of.end))})
        asked = asked.model_copy(update={"range": until})
    group = of_group(best(asked, scope, p, asked.period(scope)), asked.breakdown, asked.top, p, point, asked.floor)
    people = reached(asked, scope, p, step, dropped=point.outcome == "dropped")
    return f"SELECT DISTINCT person FROM ({people}) WHERE {group}"


def _plan(asked: Funnel, scope: Scope) -> Plan:
    of = asked.period(scope)
    statements = {"main": _main(asked, scope, of)}
    found = None
    if asked.interval is not None:
        found = period.buckets(of, asked.interval, scope)
        statements["trend"] = _trend(asked, scope, of, found[0].start)

    state = period.state_of(of, scope)

    def shape(rows: Any) -> dict[str, Any]:
        total, *groups = rows["main"] or [None]
        floor = Floor(asked.floor)
        answer: dict[str, Any] = {
            "zone": asked.zone,
            "range": {"from": iso(of.start), "to": iso(of.end)},
            **_shaped(asked, total, floor, state),
        }
        if asked.breakdown:
            answer["groups"] = [{**shown_group(g[0]), **_shaped(asked, g, floor, state)} for g in groups]
        if found is not None:
            counts = {row[0]: row[1:] for row in rows["trend"]}
            answer["interval"] = asked.interval
            answer["buckets"] = shown(found)
            answer["trend"] = [
                None
                if b.state == "gap"
                else [floor.number(period.known(c, b.state), c) for c in counts.get(n, [0] * len(asked.steps))]
                for n, b in enumerate(found)
            ]
        return answer | floor.said()

    until = of.end + asked.window_seconds * 1000
    return Plan(statements, _definition(asked, of), shape, reads=(of.start, until))


def _main(asked: Funnel, scope: Scope, of: Period) -> Statement:
    p = Parameters(scope.tenancy)
    count = len(asked.steps)
    columns = {f"c{k}": ("countIf", f"depth >= {k}") for k in range(1, count + 1)}
    for k in range(2, count + 1):
        wait = f"(try.{k} - try.{k - 1}) / 1000, depth >= {k}"
        columns |= {f"a{k}": ("avgIf", wait), f"q{k}": (_QUANTILES, wait)}
    whole = f"(try.{count} - try.1) / 1000, depth >= {count}"
    columns |= {"whole": ("avgIf", whole), "wholes": (_QUANTILES, whole)}
    return p.statement(largest(best(asked, scope, p, of), columns, asked.top, asked.floor))


def _trend(asked: Funnel, scope: Scope, of: Period, first: int) -> Statement:
    p = Parameters(scope.tenancy)
    assert asked.interval is not None
    bucket = period.index(p, asked.interval, first, of.zone, "fromUnixTimestamp64Milli(try.1, 'UTC')")
    counts = ", ".join(f"countIf(depth >= {k})" for k in range(1, len(asked.steps) + 1))
    return p.statement(
        f"SELECT bucket, {counts} FROM (SELECT unit, {bucket} AS bucket, max({_depth('try', asked, p)}) AS depth"
        f" FROM ({attempts(asked, scope, p, of)}) ARRAY JOIN tries AS try GROUP BY unit, bucket)"
        " GROUP BY bucket ORDER BY bucket"
    )


def _shaped(asked: Funnel, row: list[Any] | None, floor: Floor, state: str) -> dict[str, Any]:
    count = len(asked.steps)
    cells: list[Any] = row[1:] if row is not None else [*[0] * count, *[None, [None, None]] * count]
    counts = [floor.number(period.known(n, state), n) for n in cells[:count]]
    waits = cells[count:]
    steps = []
    for k, step in enumerate(asked.steps):
        n, before, first = counts[k], counts[k - 1] if k else counts[0], counts[0]
        told: dict[str, Any] = {"label": step.label or words.selection(step), "count": n}
        told["of_first"] = n / first if n is not None and first else None
        told["of_previous"] = n / before if n is not None and before else None
        told["dropped"] = None if n is None or before is None else floor.number(before - n, before - n)
        told["seconds_from_previous"] = _spread(waits[2 * k - 2 : 2 * k]) if k and n else None
        steps.append(told)
    return {"steps": steps, "seconds": _spread(waits[-2:]) if counts[-1] else None}


def _spread(cells: list[Any]) -> dict[str, float]:
    return {"average": cells[0], "median": cells[1][0], "p90": cells[1][1]}


def _definition(asked: Funnel, of: Period) -> str:
    who = "persons" if asked.per == "person" else "sessions"
    steps = "; ".join(f"step {k}: {words.selection(step)}" for k, step in enumerate(asked.steps, 1))
    order = {
        "ordered": "each step by an event that comes after the one of the step before",
        "strict": "each step by the very next event after the one of the step before",
        "any": "in any order, where step n is any n of the steps, and one event does each step that it fits",
    }[asked.order]
    said = [
        f"{who} that reached each step; {steps}; {order}",
        f"the first event in the range, all of them within {asked.window_seconds} seconds, both ends included",
        "each counted once, by the attempt that went furthest, of several the first",
        "events at one moment are ordered by sequence, then by id",
    ]
    if asked.breakdown:
        said.append(
            f"for each {' and '.join(asked.breakdown)} of the first event: the {asked.top} largest, others as one"
        )
    if asked.interval:
        said.append(f"and the same for each {asked.interval}, by the first event")
    return "; ".join([*said, words.conditions(asked, of)]) + "."
