"""Retention: who comes back, so many days, weeks or months after they began. Buckets are whole ones of the zone.

One pass over the events: what each person did in each bucket. Then each bucket in which somebody began is joined with those
in which the same person came back.
"""

from typing import Any, Literal

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import period, words
from twintrack.query.compile.earlier import earlier
from twintrack.query.compile.order import (
    OTHER,
    PLACE,
    TOTAL,
    check_breakdown,
    keys,
    of_group,
    place_of,
    selected,
    shown_group,
)
from twintrack.query.compile.statement import Parameters, Plan, Statement
from twintrack.query.filters import condition
from twintrack.query.floor import Floor
from twintrack.query.period import Bucket, Period
from twintrack.query.question import EventSelection, RangedQuestion, shown
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events

_MOST_PERIODS = 366
_MOST_CELLS = 50_000


class Retention(RangedQuestion):
    """How many of those who began in a day, week or month come back in the ones after it."""

    start: EventSelection = Field(
        default_factory=lambda: EventSelection.model_validate({}),
        description="What makes a person belong to a bucket; by default any event.",
    )
    back: EventSelection = Field(
        default_factory=lambda: EventSelection.model_validate({}), description="What counts as coming back."
    )
    entry: Literal["first-time", "recurring"] = Field(
        "first-time", description="By the first start event ever, or by every bucket that holds one."
    )
    interval: Literal["day", "week", "month"] = "week"
    periods: int = Field(8, description="So many buckets after the first; 1 to 366.")
    unbounded: bool = Field(False, description="Back in that bucket or in any later one until now.")
    breakdown: list[str] = Field(default_factory=list, description="Of up to three properties of the start event.")
    top: int = Field(10, ge=1, le=100)

    def plan(self, scope: Scope) -> Plan:
        return _plan(self, scope)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        return _actors(self, scope, p, point)

    def stretch(self, scope: Scope, point: Any) -> Period | None:
        found = buckets(self, scope)
        return Period(found[0].start, found[-1].end, self.zone)


def buckets(asked: Retention, scope: Scope) -> list[Bucket]:
    """The cohorts' buckets, widened to whole ones, and behind them those in which people come back.

    Raises: RequestError.
    """
    if not 1 <= asked.periods <= _MOST_PERIODS:
        raise refused(f"`periods` is 1 to {_MOST_PERIODS}", "ask for fewer, or for a longer interval", "bad_retention")
    check_breakdown(asked.breakdown)
    of = asked.period(scope)
    found = period.edges(of, asked.interval)
    if (len(found) - 1) * (asked.periods + 1) * (asked.top + 2 if asked.breakdown else 1) > _MOST_CELLS:
        raise refused(
            "the answer would hold too many numbers", "fewer periods or groups, or a longer interval", "bad_retention"
        )
    end = period.following(found[-1], asked.interval, of.zone, asked.periods)
    return period.buckets(Period(found[0], end, of.zone), asked.interval, scope)


def _span(asked: Retention, scope: Scope, found: list[Bucket]) -> Period:
    """From the first bucket to the last one in which somebody can be back."""
    until = found[-1].end
    if asked.unbounded:
        running = period.floor(scope.now_milliseconds, asked.interval, asked.zone)
        until = max(until, period.following(running, asked.interval, asked.zone))
    return Period(found[0].start, until, asked.zone)


def members(asked: Retention, scope: Scope, p: Parameters, found: list[Bucket]) -> str:
    """A SELECT of (person, cohort, keys, after): a row for each bucket in which a person began; `after` are the numbers of
    the buckets of return, counted from it."""
    cohorts, zone = len(found) - asked.periods, asked.zone
    span = _span(asked, scope, found)
    bucket = period.index(p, asked.interval, found[0].start, zone)
    first = asked.entry == "first-time"
    # Who is in which bucket says it all where both events are the same: no order of events is needed.
    same = asked.start == asked.back and not asked.breakdown
    where = [span.within(p), condition(asked.filter, scope, p), "(started OR came)"]
    if asked.start.names and asked.back.names:
        where.insert(0, f"event_name IN {p.texts(sorted({*asked.start.names, *asked.back.names}))}")
    columns = [
        f"{bucket} AS bucket",
        f"{selected(asked.start, scope, p)} AS started",
        f"{selected(asked.back, scope, p)} AS came",
    ]
    if not same:
        columns += [f"{PLACE} AS place", f"{keys(asked.breakdown, scope)} AS keys"]
    rows = events(p, columns, where)
    if first:
        # Whoever began ahead of the span did so in a bucket of its own, in front of all others.
        more = "" if same else ", toUInt256(0) AS place, []::Array(String) AS keys"
        ahead = earlier(asked.start, asked.filter, scope, p, span)
        rows += f" UNION ALL SELECT person, -1 AS bucket, 1 AS started, 0 AS came{more} FROM ({ahead})"
    begun = _by_bucket(rows, first=first) if same else _by_place(rows, first=first, broken=bool(asked.breakdown))
    return f"SELECT * FROM ({begun}) WHERE cohort >= 0 AND cohort < {cohorts}"


def _by_bucket(rows: str, *, first: bool) -> str:
    """`members` where one event both starts and returns: a second one in a bucket is back in it."""
    begins = "if(earlier, [], arraySlice(returns, 1, 1))" if first else "returns"
    gathered = (
        "SELECT person, max(bucket < 0) AS earlier, arraySort(groupArrayIf(toInt16(bucket), bucket >= 0)) AS all,"
        " arrayCompact(all) AS returns,"
        " arrayCompact(arrayFilter((b, before) -> b = before, all, arrayPopBack(arrayPushFront(all, -1)))) AS again"
        f" FROM ({rows}) WHERE person != '' GROUP BY person HAVING notEmpty(all)"
    )
    return (
        "SELECT person, cohort, []::Array(String) AS keys, arrayMap(b -> b - cohort, arrayConcat("
        "if(has(again, cohort), [cohort], []), arrayFilter(b -> b > cohort, returns))) AS after"
        f" FROM ({gathered}) ARRAY JOIN {begins} AS cohort"
    )


def _by_place(rows: str, *, first: bool, broken: bool) -> str:
    values = "argMinIf(keys, place, started)" if broken else "[]::Array(String)"
    by_bucket = (
        "SELECT person, bucket, max(started) AS starts, minIf(place, started) AS began,"
        f" {values} AS keys, max(came) AS comes, maxIf(place, came) AS last"
        f" FROM ({rows}) WHERE person != '' GROUP BY person, bucket"
    )
    # The bucket of the start itself counts as one of return only by an event behind the one that began it.
    by_person = (
        "SELECT person, groupArrayIf((bucket, began, last, comes, keys), starts) AS all_begins,"
        f" {'arraySlice(arraySort(b -> b.2, all_begins), 1, 1)' if first else 'all_begins'} AS begins,"
        " groupArrayIf(bucket, comes AND bucket >= 0) AS returns"
        f" FROM ({by_bucket}) GROUP BY person"
    )
    return (
        "SELECT person, begin.1 AS cohort, begin.5 AS keys,"
        " arrayMap(b -> b - cohort, arrayFilter(b -> b > cohort OR (b = cohort AND begin.3 > begin.2), returns)) AS after"
        f" FROM ({by_person}) ARRAY JOIN begins AS begin"
    )


def _actors(asked: Retention, scope: Scope, p: Parameters, point: Any) -> str:
    """`row` is a place in `cohorts`; `step` one in `returned`, without it all of the cohort; dropped: not back there."""
    found = buckets(asked, scope)
    row = place_of(point.row, len(found) - asked.periods, "cohort")
    all_members = members(asked, scope, p, found)
    group = of_group(all_members, asked.breakdown, asked.top, p, point, asked.floor, "uniqExact(person)")
    where = [f"cohort = {row}", group]
    if point.step is not None:
        step = place_of(point.step, asked.periods + 1, "period")
        back = f"arrayMax(after) >= {step} AND notEmpty(after)" if asked.unbounded else f"has(after, {step})"
        where.append(f"NOT ({back})" if point.outcome == "dropped" else f"({back})")
    return f"SELECT DISTINCT person FROM ({all_members}) WHERE {' AND '.join(where)}"


def _plan(asked: Retention, scope: Scope) -> Plan:
    found = buckets(asked, scope)
    cohorts = len(found) - asked.periods

    def shape(rows: Any) -> dict[str, Any]:
        floor = Floor(asked.floor)
        sizes: dict[tuple[str, ...], dict[int, int]] = {}
        cells: dict[tuple[str, ...], dict[tuple[int, int], int]] = {}
        for grouped, cohort, after, count in rows["main"]:
            group = tuple(grouped)
            sizes.setdefault(group, {}), cells.setdefault(group, {})
            if after < 0:
                sizes[group][cohort] = count
            else:
                cells[group][cohort, after] = count
        total = tuple(TOTAL)
        answer: dict[str, Any] = {
            "interval": asked.interval,
            "zone": asked.zone,
            "range": {"from": iso(found[0].start), "to": iso(found[cohorts - 1].end)},
            **_table(asked, found, sizes.get(total, {}), cells.get(total, {}), floor),
        }
        if asked.breakdown:
            groups = sorted(sizes.keys() - {total}, key=lambda g: (g == tuple(OTHER), -sum(sizes[g].values()), g))
            answer["groups"] = [
                {**shown_group(list(g)), **_table(asked, found, sizes[g], cells[g], floor)} for g in groups
            ]
        return answer | floor.said()

    span = _span(asked, scope, found)
    # Who is there for the first time ever is told from all that came before.
    reads = None if asked.entry == "first-time" else (span.start, span.end)
    return Plan({"main": _main(asked, scope, found)}, _definition(asked, found), shape, reads=reads)


def _main(asked: Retention, scope: Scope, found: list[Bucket]) -> Statement:
    p = Parameters(scope.tenancy)
    # -1 stands for belonging to the cohort at all, the last number of return for all up to it where it is unbounded.
    reach = f"arrayFilter(n -> n <= {asked.periods}, after)"
    if asked.unbounded:
        reach = f"if(empty(after), [], range(0, toUInt64(least(arrayMax(after), {asked.periods}) + 1)))"
    # Keys of a list that is always empty would make each row's key a text.
    of, told = ("keys, ", "keys") if asked.breakdown else ("", "[]::Array(String) AS keys")
    # Of a group that is told by its values, the people count, each once.
    who, enough, first = "", "", ""
    if asked.floor > 1:
        who, enough = ", uniqExactState(person) AS who", f" AND whose >= {asked.floor}"
        first = f"whose >= {asked.floor} DESC, "
    ranked = f"SELECT *, row_number() OVER (ORDER BY {first}arraySum(c -> c.3, cells) DESC, keys) AS rank"
    grouped = (
        "SELECT keys, groupArray((cohort, n, people)) AS every, arrayFilter(c -> c.2 < 0, every) AS cells"
        f"{', uniqExactMerge(who) AS whose' if who else ''} FROM"
        f" (SELECT {told}, cohort, n, count() AS people{who}"
        f" FROM ({members(asked, scope, p, found)})"
        f" ARRAY JOIN arrayConcat([toInt64(-1)], arrayMap(n -> toInt64(n), {reach})) AS n GROUP BY {of}cohort, n)"
        " GROUP BY keys"
    )
    return p.statement(
        f"SELECT grouped, cell.1 AS cohort, cell.2 AS n, sum(cell.3) AS people FROM ({ranked} FROM ({grouped}))"
        f" ARRAY JOIN [{TOTAL}, if(rank <= {asked.top}{enough}, keys, {OTHER})] AS grouped"
        " ARRAY JOIN every AS cell GROUP BY grouped, cohort, n ORDER BY grouped, cohort, n"
    )


def _table(
    asked: Retention, found: list[Bucket], sizes: dict[int, int], cells: dict[tuple[int, int], int], floor: Floor
) -> dict[str, Any]:
    lines = []
    whole: list[list[tuple[int, int]]] = [[] for _ in range(asked.periods + 1)]

    for cohort in range(len(found) - asked.periods):
        size = sizes.get(cohort, 0)
        told, states = [], []
        for n in range(asked.periods + 1):
            state = found[cohort + n].state
            count = cells.get((cohort, n), 0)
            if state == "whole" == found[cohort].state:
                whole[n].append((count, size))
            states.append(state)
            # Of a cohort that lost people, nobody back is nobody known.
            of = next((s for s in ("gap", "expired") if s in (state, found[cohort].state)), state)
            told.append(floor.number(period.known(count, of), count))
        first = shown([found[cohort]])[0]
        kept = floor.number(period.known(size, found[cohort].state), size)
        lines.append({**first, "size": kept, "returned": told, "states": states})
    # Of whole buckets only: one that still runs would pull the share down.
    return {"cohorts": lines, "shares": [_share(asked, cells, floor) for cells in whole]}


def _share(asked: Retention, cells: list[tuple[int, int]], floor: Floor) -> float | None:
    """Of all who began those who were back. Who begins in several buckets stands in several cells, and is one person."""
    backs, sizes = [back for back, _ in cells], [size for _, size in cells]
    if not sum(sizes):
        return None
    people = sum if asked.entry == "first-time" else max
    told: float | None = floor.number(sum(backs) / sum(sizes), people(backs if any(backs) else sizes))
    return told


def _definition(asked: Retention, found: list[Bucket]) -> str:
    whole = Period(found[0].start, found[len(found) - asked.periods - 1].end, asked.zone)
    unit = asked.interval
    begin = "for the first time ever" if asked.entry == "first-time" else "at all"
    again = f"in that {unit} or a later one until now" if asked.unbounded else f"in that {unit}"
    said = [
        f"of the persons who had {words.selection(asked.start)} {begin} in a {unit}, those with"
        f" {words.selection(asked.back)} so many {unit}s later, {again}; 0 is the same {unit}, after the first start event",
        f"shares are of all whole {unit}s together, people who could not yet be back left out",
    ]
    if asked.breakdown:
        said.append(
            f"for each {' and '.join(asked.breakdown)} of the start event: the {asked.top} largest, others as one"
        )
    return "; ".join([*said, words.conditions(asked, whole)]) + "."
