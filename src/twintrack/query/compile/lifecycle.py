"""Lifecycle and stickiness: both ask in which buckets of time each person was active."""

from typing import Any, Literal

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import period, words
from twintrack.query.compile.earlier import earlier
from twintrack.query.compile.order import place_of, selected
from twintrack.query.compile.statement import Parameters, Plan
from twintrack.query.filters import condition
from twintrack.query.floor import Floor
from twintrack.query.period import Bucket, Period
from twintrack.query.question import EventSelection, RangedQuestion, shown
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events

State = Literal["new", "returning", "resurrecting", "dormant"]
STATES: tuple[State, ...] = ("new", "returning", "resurrecting", "dormant")


class Lifecycle(RangedQuestion):
    """Who is new, who stays, who comes back after a pause, and who stays away: people by bucket of time."""

    selection: EventSelection = Field(
        default_factory=lambda: EventSelection.model_validate({}), description="What counts as being active."
    )
    interval: Literal["day", "week", "month"] = "week"

    def plan(self, scope: Scope) -> Plan:
        return _lifecycle(self, scope)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """`step` is a place in `buckets`, `outcome` a state."""
        found = whole(self, scope)
        step = place_of(point.step, len(found), "bucket")
        if point.outcome not in STATES:
            raise refused("there is no such state", f"an outcome is one of {', '.join(STATES)}", "no_actors")
        state = STATES.index(point.outcome)
        return f"SELECT person FROM ({states(self, scope, p, found)}) WHERE bucket_shown = {step} AND state = {state}"

    def stretch(self, scope: Scope, point: Any) -> Period | None:
        """From the bucket before the first on: who is dormant there was active in that one."""
        found = whole(self, scope)
        return Period(period.following(found[0].start, self.interval, self.zone, -1), found[-1].end, self.zone)


class Stickiness(RangedQuestion):
    """On how many days, weeks or months of the range people were active."""

    selection: EventSelection = Field(
        default_factory=lambda: EventSelection.model_validate({}), description="What counts as being active."
    )
    interval: Literal["hour", "day", "week", "month"] = "day"

    def plan(self, scope: Scope) -> Plan:
        return _stickiness(self, scope)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """`step` is a place in `exactly`, or in `at_least` with the outcome `at_least`; without it: `persons`."""
        found = stick_buckets(self, scope)
        if point.step is None:
            return f"SELECT person FROM ({active(self, scope, p, found)})"
        step = place_of(point.step, len(found), "number of buckets")
        least = ">=" if point.outcome == "at_least" else "="
        return f"SELECT person FROM ({active(self, scope, p, found)}) WHERE n {least} {step + 1}"


def whole(asked: Lifecycle, scope: Scope) -> list[Bucket]:
    """The range's buckets, widened to whole ones.

    Raises: RequestError.
    """
    edges = period.edges(asked.period(scope), asked.interval)
    before = period.following(edges[0], asked.interval, asked.zone, -1)
    found = period.between(edges, Period(edges[0], edges[-1], asked.zone), scope)
    # Who returned and who stays away is told from the bucket before, too.
    expired = [start < scope.complete_milliseconds for start in (before, *edges)]
    return [b._replace(state="expired") if e and b.state != "gap" else b for b, e in zip(found, expired, strict=False)]


def states(asked: Lifecycle, scope: Scope, p: Parameters, found: list[Bucket]) -> str:
    """A SELECT of (person, bucket_shown, state): a row for each bucket that a person was active in, or in the one before.

    Shape: a state is its place in `STATES`.
    """
    before = period.following(found[0].start, asked.interval, asked.zone, -1)
    span = Period(before, found[-1].end, asked.zone)
    bucket = period.index(p, asked.interval, before, asked.zone)
    where = [span.within(p), condition(asked.filter, scope, p), selected(asked.selection, scope, p)]
    if asked.selection.names:
        where.insert(0, f"event_name IN {p.texts(asked.selection.names)}")
    ahead = earlier(asked.selection, asked.filter, scope, p, span)
    rows = f"{events(p, [f'{bucket} AS bucket'], where)} UNION ALL SELECT person, -1 AS bucket FROM ({ahead})"
    new, returning, resurrecting, dormant = range(len(STATES))
    of = (
        f"arrayMap((b, before) -> (b, multiIf(b = first, {new}, before = b - 1, {returning}, {resurrecting})),"
        " buckets, arrayPopBack(arrayPushFront(buckets, -2)))"
    )
    # Dormant is the bucket behind each one that is not followed by activity.
    away = (
        f"arrayMap(b -> (b + 1, {dormant}),"
        " arrayFilter((b, next) -> next != b + 1, buckets, arrayPushBack(arrayPopFront(buckets), -2)))"
    )
    return (
        "SELECT person, of.1 - 1 AS bucket_shown, of.2 AS state FROM"
        # A list of small numbers takes a tenth of a set of large ones.
        " (SELECT person, arrayCompact(arraySort(groupArrayIf(toInt16(bucket), bucket >= 0))) AS buckets,"
        " if(max(bucket < 0), -1, buckets[1]) AS first"
        f" FROM ({rows}) WHERE person != '' GROUP BY person HAVING notEmpty(buckets))"
        f" ARRAY JOIN arrayConcat({of}, {away}) AS of WHERE of.1 BETWEEN 1 AND {len(found)}"
    )


def _lifecycle(asked: Lifecycle, scope: Scope) -> Plan:
    found = whole(asked, scope)
    p = Parameters(scope.tenancy)
    main = p.statement(
        f"SELECT bucket_shown, state, count() FROM ({states(asked, scope, p, found)})"
        " GROUP BY bucket_shown, state ORDER BY bucket_shown, state"
    )

    def shape(rows: Any) -> dict[str, Any]:
        counts = {(bucket, STATES[state]): count for bucket, state, count in rows["main"]}

        floor = Floor(asked.floor)

        def value(bucket: int, state: str) -> int | None:
            n = counts.get((bucket, state), 0)
            told: int | None = floor.number(period.known(n, found[bucket].state), n)
            return told

        return {
            "interval": asked.interval,
            "zone": asked.zone,
            "range": {"from": iso(found[0].start), "to": iso(found[-1].end)},
            "buckets": shown(found),
            "states": {state: [value(n, state) for n in range(len(found))] for state in STATES},
            **floor.said(),
        }

    unit = asked.interval
    said = [
        f"persons with {words.selection(asked.selection)}, for each whole {unit}",
        f"new: for the first time ever; returning: also in the {unit} before; resurrecting: before, but not in the {unit}"
        f" before; dormant: in the {unit} before and not in this one",
        words.conditions(asked, Period(found[0].start, found[-1].end, asked.zone)),
    ]
    return Plan({"main": main}, "; ".join(said) + ".", shape)


def active(asked: Stickiness, scope: Scope, p: Parameters, found: list[Bucket]) -> str:
    """A SELECT of (person, n): in how many of the buckets each person was active."""
    of = asked.period(scope)
    bucket = period.index(p, asked.interval, found[0].start, asked.zone)
    where = [of.within(p), condition(asked.filter, scope, p), selected(asked.selection, scope, p)]
    if asked.selection.names:
        where.insert(0, f"event_name IN {p.texts(asked.selection.names)}")
    rows = events(p, [f"{bucket} AS bucket"], where)
    return (
        f"SELECT person, arrayUniq(groupArray(toInt16(bucket))) AS n FROM ({rows}) WHERE person != '' GROUP BY person"
    )


def stick_buckets(asked: Stickiness, scope: Scope) -> list[Bucket]:
    found = period.buckets(asked.period(scope), asked.interval, scope)
    if len(found) > 400:
        raise refused(
            f"{len(found)} steps of one {asked.interval} are too many", "ask for a longer interval", "too_many_buckets"
        )
    return found


def _stickiness(asked: Stickiness, scope: Scope) -> Plan:
    found = stick_buckets(asked, scope)
    of = asked.period(scope)
    p = Parameters(scope.tenancy)
    state = period.state_of(of, scope)
    main = p.statement(f"SELECT n, count() FROM ({active(asked, scope, p, found)}) GROUP BY n ORDER BY n")

    def shape(rows: Any) -> dict[str, Any]:
        counts = dict(rows["main"])
        exactly = [counts.get(n, 0) for n in range(1, len(found) + 1)]
        least = [sum(exactly[n:]) for n in range(len(found))]

        floor, everyone = Floor(asked.floor), sum(exactly)

        def kept(values: list[int]) -> list[int | None]:
            return [floor.number(period.known(n, state), n) for n in values]

        return {
            "interval": asked.interval,
            "zone": asked.zone,
            "range": {"from": iso(of.start), "to": iso(of.end)},
            "buckets": shown(found),
            "exactly": kept(exactly),
            "at_least": kept(least),
            "persons": kept([everyone])[0],
            "average": floor.number(sum(n * count for n, count in enumerate(exactly, 1)) / everyone, everyone)
            if everyone
            else None,
            **floor.said(),
        }

    said = [
        f"persons with {words.selection(asked.selection)} in exactly n (at least n) of the range's {len(found)}"
        f" {asked.interval}s; `buckets` says which of these are cut, unfinished, expired, or gaps",
        words.conditions(asked, of),
    ]
    return Plan({"main": main}, "; ".join(said) + ".", shape, reads=(of.start, of.end))
