"""Trends: numbers over time. One pass over the events serves every series, each bucket, the range's total and the rest.

Each bucket of each group becomes aggregate states; a state is then given to every step that its bucket belongs to: its
own, the later ones of a rolling or cumulative series, and -1 for the whole range. So a rolling count of persons counts
nobody twice, and a total is the number over the range, not the sum of its steps.
"""

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from twintrack.clock import iso
from twintrack.query import beside, formula, period, words
from twintrack.query.beside import HERE, Move
from twintrack.query.catalog import property_of
from twintrack.query.compile.statement import Parameters, Plan, Statement, table
from twintrack.query.compile.trend_series import LETTERS, OTHER, TOTAL, ranked, series_of
from twintrack.query.filters import asks_person, condition
from twintrack.query.floor import having
from twintrack.query.period import Bucket, Period, Range, Unit
from twintrack.query.question import EventSelection, RangedQuestion, shown
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events

Measure = Literal[
    "count",
    "persons",
    "sessions",
    "per person",
    "sum",
    "average",
    "minimum",
    "maximum",
    "median",
    "p75",
    "p90",
    "p95",
    "p99",
]
_OF_PROPERTY: dict[str, tuple[str, str]] = {  # function with its -OrNull, and its parameter
    "sum": ("sumOrNull", ""),
    "average": ("avgOrNull", ""),
    "minimum": ("minOrNull", ""),
    "maximum": ("maxOrNull", ""),
    "median": ("quantileExactInclusiveOrNull", "(0.5)"),
    "p75": ("quantileExactInclusiveOrNull", "(0.75)"),
    "p90": ("quantileExactInclusiveOrNull", "(0.9)"),
    "p95": ("quantileExactInclusiveOrNull", "(0.95)"),
    "p99": ("quantileExactInclusiveOrNull", "(0.99)"),
}
_MOST_CELLS = 200_000
_MOST_SERIES = 10


class Series(EventSelection):
    measure: Measure = "count"
    property: str | None = Field(None, max_length=220, description="Whose sum, average or percentile.")
    label: str = Field("", max_length=100)


class Formula(BaseModel):
    model_config = ConfigDict(extra="forbid")
    formula: str = Field(max_length=200, description="Over the series by their letters: `A / B * 100`.")
    label: str = Field("", max_length=100)


class Custom(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    since: str = Field(alias="from", max_length=40, description="Where the other period begins.")


class Trends(RangedQuestion):
    """How often, by how many, how much: over time, by up to three properties, beside another period."""

    series: list[Series] = Field(
        default_factory=lambda: [Series.model_validate({})], min_length=1, max_length=_MOST_SERIES
    )
    formulas: list[Formula] = Field(default_factory=list, max_length=10)
    interval: Unit | None = Field(None, description="Default: what fits the range.")
    breakdown: list[str] = Field(default_factory=list, max_length=3)
    top: int = Field(10, ge=1, le=100, description="Largest groups of the breakdown that are shown; the rest is other.")
    compare: Literal["previous period", "year ago"] | Custom | None = None
    cumulative: bool = False
    rolling: int = Field(1, ge=1, le=366, description="Each step covers so many buckets that end with it.")

    def plan(self, scope: Scope) -> Plan:
        return _plan(self, scope)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        return _actors(self, scope, p, point)

    def stretch(self, scope: Scope, point: Any) -> Period | None:
        return _pointed(self, scope, point).read


class _Span(NamedTuple):
    """A period with its buckets, how many more are read before them, and where it lies from the question's own."""

    period: Period
    unit: Unit
    buckets: list[Bucket]
    lead: int
    first: int  # the start of the first bucket that is read: a rolling series looks back from its first step
    origin: int  # the same of the question's own period
    move: Move

    @property
    def read(self) -> Period:
        return self.period._replace(start=self.first) if self.lead else self.period

    @property
    def _parted(self) -> bool:
        """Whether rows of the first bucket are read that lie before the period."""
        return bool(self.lead) and self.buckets[0].start < self.period.start

    def bucket(self, p: Parameters, moment: str = "event_timestamp") -> str:
        """A row's number: of the bucket it counts for in the period, below 0 before that. What of the first bucket lies
        before the period is -1, and the bucket before it then -2."""
        of = period.index(p, self.unit, self.origin, self.period.zone, self.move.moment(moment), self.move.days)
        early = f" - ({moment} < {p.moment(self.period.start)})" if self._parted else ""
        return f"toInt64({of} - {self.lead}{early})"

    @property
    def place(self) -> str:
        """The place in `buckets`, from what `bucket` gave; below 0 before them."""
        return "(bucket + (bucket < 0))" if self._parted else "bucket"


def _plan(asked: Trends, scope: Scope) -> Plan:
    if asked.cumulative and asked.rolling > 1:
        raise refused("a series is either cumulative or rolling", "leave one of them out", "bad_trend")
    for series in asked.series:
        if (series.property is None) == (series.measure in _OF_PROPERTY):
            raise refused(
                f"the measure `{series.measure}` {'needs a' if series.property is None else 'takes no'} `property`",
                "sum, average, minimum, maximum and percentiles are of a property",
                "bad_trend",
            )
    letters = LETTERS[: len(asked.series)]
    trees = [formula.parse(f.formula, set(letters)) for f in asked.formulas]
    main, other, rolled = _spans(asked, scope)
    if len(main.buckets) * (asked.top + 1 if asked.breakdown else 1) * len(asked.series) > _MOST_CELLS:
        raise refused(
            "the answer would hold too many numbers", "fewer groups, or a longer interval", "too_many_buckets"
        )
    spans = [span for span in (main, other) if span is not None]
    statements = {"main": _statement(asked, scope, main, main, rolled=rolled)}
    if other is not None:
        statements["comparison"] = _statement(asked, scope, other, main, rolled=rolled)

    def state(of: _Span) -> str:
        return "whole" if rolled else period.state_of(of.period, scope)

    def shape(rows: Any) -> dict[str, Any]:
        order = ranked(asked, rows["main"], rows.get("comparison", []))
        answer = {
            "interval": main.unit,
            "zone": asked.zone,
            "range": {"from": iso(main.period.start), "to": iso(main.period.end)},
            "buckets": shown(main.buckets),
            "series": series_of(asked, trees, main.buckets, rows["main"], order, state(main)),
        }
        if other is not None:
            answer["comparison"] = {
                "range": {"from": iso(other.period.start), "to": iso(other.period.end)},
                "buckets": shown(other.buckets),
                "series": series_of(asked, trees, other.buckets, rows["comparison"], order, state(other)),
            }
        return answer

    reads = (min(span.read.start for span in spans), max(span.read.end for span in spans))
    source = "rollup" if rolled else "raw"
    return Plan(statements, words.trends(asked, main.period, main.unit, letters), shape, source, reads)


def _spans(asked: Trends, scope: Scope) -> tuple[_Span, _Span | None, bool]:
    """The period and the one beside it; and whether the rollup answers, which has what raw has lost."""
    main = _main(asked, scope)
    other = _other(asked, main, scope)
    rolled = all(_hourly(asked, span) for span in (main, other) if span is not None)
    if rolled and scope.complete_milliseconds:
        return *_spans(asked, scope._replace(complete_milliseconds=0))[:2], rolled
    return main, other, rolled


def _main(asked: Trends, scope: Scope) -> _Span:
    of = asked.period(scope)
    unit = asked.interval or period.fitting(of)
    return _span(asked, of, unit, period.edges(of, unit), HERE, scope)


def _span(asked: Trends, main: Period, unit: Unit, edges: list[int], move: Move, scope: Scope) -> _Span:
    """Shape: `main` and `edges` are the question's own, `move` leads from there to this one."""
    zone, lead = main.zone, asked.rolling - 1
    origin = period.following(edges[0], unit, zone, -lead)
    of = Period(move.back(main.start, zone), move.back(main.end, zone), zone)
    found = period.between([move.back(edge, zone) for edge in edges], of, scope)
    first = move.back(origin, zone)
    looks_back = scope.complete_milliseconds and (asked.cumulative or lead)
    for n, bucket in enumerate(found if looks_back else ()):
        # Such a step is of earlier buckets too.
        start = of.start if asked.cumulative else move.back(period.following(edges[n], unit, zone, -lead), zone)
        if bucket.state != "gap" and start < scope.complete_milliseconds:
            found[n] = bucket._replace(state="expired")
    return _Span(of, unit, found, lead, first, origin, move)


def _other(asked: Trends, main: _Span, scope: Scope) -> _Span | None:
    """The period to compare with, its n-th bucket as long as the n-th of this one."""
    of, unit = main.period, main.unit
    edges = period.edges(of, unit)
    if asked.compare is None:
        return None
    if asked.compare == "previous period":
        move = beside.before(of, unit, edges)
    elif asked.compare == "year ago":
        move = beside.year_before(of, unit)
    else:
        given = Range.model_validate({"from": asked.compare.since, "to": iso(scope.now_milliseconds)})
        move = beside.since(period.resolve(given, of.zone, scope.now_milliseconds).start, of, unit)
    return _span(asked, of, unit, edges, move, scope)


def _hourly(asked: Trends, span: _Span) -> bool:
    """Whether the hourly rollup answers exactly: counts by name, in steps made of whole hours of UTC.

    Not persons, whom a link may join across hours, nor sessions, of which the rollup counts the empty one too.
    """
    edges = [span.first, span.period.start, span.period.end, *(edge for b in span.buckets for edge in (b.start, b.end))]
    return (
        all(series.measure == "count" and series.filter is None for series in asked.series)
        and asked.filter is None
        and asked.floor == 0
        and set(asked.breakdown) <= {"event_name"}
        and all(edge % 3_600_000 == 0 for edge in edges)
    )


def _statement(asked: Trends, scope: Scope, span: _Span, ranked_by: _Span, *, rolled: bool) -> Statement:
    p = Parameters(scope.tenancy)
    if not asked.breakdown and not asked.floor and all(series.measure == "persons" for series in asked.series):
        return _of_persons(asked, scope, span, p)
    columns, wanted = _columns(asked, scope, p)
    if rolled:
        columns[0] = "event_count"
    moment = "toDateTime64(hour, 3, 'UTC')" if rolled else "event_timestamp"
    bucket = f"{span.bucket(p, moment)} AS bucket"
    rows = _source(asked, scope, p, [*columns, bucket], wanted, span.read, rolled=rolled)
    keys = "keys"
    if asked.breakdown:
        largest = _largest(asked, scope, p, columns, wanted, ranked_by.period, rolled=rolled)
        other = f"'{OTHER[0]}'" if len(asked.breakdown) == 1 else f"{OTHER}"
        keys = f"if(keys IN ({largest}), keys, {other})"
    states = [
        f"{s} AS state_{n}_{m}"
        for n, a in enumerate(asked.series)
        for m, s in enumerate(_states(asked, a, n, rolled=rolled))
    ]
    merged = [m for n, a in enumerate(asked.series) for m in _merges(asked, a, n, rolled=rolled)]
    steps = f"arrayConcat(if(bucket >= 0, [{TOTAL}], []), {_covering(asked, span)})"
    return p.statement(
        f"SELECT {_told(asked)}, step, {', '.join(merged)} FROM"
        f" (SELECT {keys} AS group, bucket, {', '.join(states)} FROM ({rows}) GROUP BY group, bucket)"
        f" ARRAY JOIN {steps} AS step GROUP BY group, step ORDER BY group, step"
    )


def _told(asked: Trends) -> str:
    """The group as a list of its values: while rows are gathered one value stands for itself, and none is a number, since
    the engine groups by those several times as fast as by lists."""
    return {0: "[]::Array(String)", 1: "[group]"}.get(len(asked.breakdown), "group")


def _covering(asked: Trends, span: _Span) -> str:
    """The steps that a bucket belongs to."""
    last, place = len(span.buckets), span.place
    end = f"{last}" if asked.cumulative else f"least({place} + {span.lead + 1}, {last})"
    return f"range(greatest({place}, 0), {end})"


def _of_persons(asked: Trends, scope: Scope, span: _Span, p: Parameters) -> Statement:
    """Persons alone: the buckets of each person in a list, and the lists counted. A set of persons for each bucket takes
    several times the room, and each row a look into another one."""
    columns, wanted = _columns(asked, scope, p)
    bucket = f"toInt16({span.bucket(p)}) AS bucket"
    rows = events(p, [*columns, bucket], [*_where(asked, scope, p, wanted, span.read), "person != ''"])
    lists, codes = [], []
    for n in range(len(asked.series)):
        lists.append(f"arrayCompact(arraySort(groupArrayIf(bucket, in_{n}))) AS of_{n}")
        steps = f"of_{n}"
        if asked.cumulative or span.lead:
            steps = f"arrayDistinct(arrayFlatten(arrayMap(bucket -> {_covering(asked, span)}, of_{n})))"
        total = f"if(notEmpty(of_{n}) AND of_{n}[-1] >= 0, [{TOTAL}], [])"
        codes.append(f"arrayMap(step -> toInt32(step + 1) * {_MOST_SERIES} + {n}, arrayConcat({total}, {steps}))")
    told = ", ".join(f"sumIf(people, code % {_MOST_SERIES} = {n})" for n in range(len(asked.series)))
    return p.statement(
        f"SELECT []::Array(String) AS group, toInt64(intDiv(code, {_MOST_SERIES})) - 1 AS step, {told} FROM"
        f" (SELECT code, count() AS people FROM (SELECT {', '.join(lists)} FROM ({rows}) GROUP BY person)"
        f" ARRAY JOIN arrayConcat({', '.join(codes)}) AS code GROUP BY code) GROUP BY step ORDER BY step"
    )


def _pointed(asked: Trends, scope: Scope, point: Any) -> _Span:
    """The period that a point lies in."""
    main = _main(asked, scope)
    return (_other(asked, main, scope) if point.comparison else main) or main


def _actors(asked: Trends, scope: Scope, p: Parameters, point: Any) -> str:
    """The persons of the rows behind one cell."""
    number = LETTERS[: len(asked.series)].find(point.series)
    if len(point.series) != 1 or number < 0:
        raise refused("there is no such series", "name one by its letter; a formula has no people", "no_actors")
    main, span = _main(asked, scope), _pointed(asked, scope, point)
    columns, wanted = _columns(asked, scope, p)
    bucket = f"{span.bucket(p)} AS bucket"
    rows = events(p, [*columns, bucket], _where(asked, scope, p, wanted, span.read))
    where = [f"in_{number}", "person != ''", "bucket >= 0"]
    if point.step is not None:
        if point.step >= len(span.buckets):
            raise refused("there is no such step", f"the answer has {len(span.buckets)}", "no_actors")
        least = 0 if asked.cumulative else point.step - span.lead
        where[2] = f"{span.place} BETWEEN {least} AND {point.step}"
    if asked.breakdown and (point.group is not None or point.other):
        if not point.other:
            group = ["" if key is None else "=" + key for key in point.group]
            single = len(asked.breakdown) == 1 and len(group) == 1
            where.append(f"keys = {p.text(group[0]) if single else p.texts(group)}")
        else:
            where.append(f"keys NOT IN ({_largest(asked, scope, p, columns, wanted, main.period)})")
    return f"SELECT DISTINCT person FROM ({rows}) WHERE {' AND '.join(where)}"


def _largest(
    asked: Trends,
    scope: Scope,
    p: Parameters,
    columns: list[str],
    wanted: list[str],
    of: Period,
    *,
    rolled: bool = False,
) -> str:
    """A SELECT of the groups that are shown by name."""
    counted = _source(asked, scope, p, columns, wanted, of, rolled=rolled)
    first = _merged(asked.series[0], 0, "", rolled=rolled)[0]
    enough = having(asked.floor, "uniqExactIf(person, person != '')")
    return (
        f"SELECT keys FROM ({counted}) GROUP BY keys{enough} ORDER BY {first} DESC NULLS LAST, keys LIMIT {asked.top}"
    )


def _source(
    asked: Trends, scope: Scope, p: Parameters, columns: list[str], wanted: list[str], of: Period, *, rolled: bool
) -> str:
    if rolled:
        where = [p.tenancy, f"hour >= {p.moment(of.start)}", f"hour < {p.moment(of.end)}", f"({' OR '.join(wanted)})"]
        return f"SELECT {', '.join(columns)} FROM {table('events_hourly')} WHERE {' AND '.join(where)}"
    return events(p, columns, _where(asked, scope, p, wanted, of), person=_needs_person(asked))


def _where(asked: Trends, scope: Scope, p: Parameters, wanted: list[str], of: Period) -> list[str]:
    where = [of.within(p), condition(asked.filter, scope, p), "(" + " OR ".join(wanted) + ")"]
    if all(series.names for series in asked.series):
        names = {name for series in asked.series for name in series.names}
        where.insert(0, f"event_name IN {p.texts(sorted(names))}")
    return where


def _needs_person(asked: Trends) -> bool:
    return (
        asked.floor > 0
        or asks_person(asked.filter)
        or "person" in asked.breakdown
        or any(s.measure in ("persons", "per person") or asks_person(s.filter) for s in asked.series)
        or any(s.property == "person" for s in asked.series)
    )


def _columns(asked: Trends, scope: Scope, p: Parameters) -> tuple[list[str], list[str]]:
    """Columns of the rows that are counted, and the names of those that say whether a row belongs to a series."""
    columns = ["session_id"]
    for n, series in enumerate(asked.series):
        one = condition(series.filter, scope, p)
        named = f"event_name IN {p.texts(series.names)} AND " if series.names else ""
        columns.append(f"({named}{one}) AS in_{n}")
        if series.property is not None:
            columns.append(f"{property_of(series.property, scope).number} AS value_{n}")
    # A value is told from one that is not set, and both from the rest.
    keys = [f"ifNull(concat('=', {property_of(name, scope).text}), '')" for name in asked.breakdown]
    several = "[" + ", ".join(keys) + "]"
    columns.append(f"{keys[0] if len(keys) == 1 else several if keys else '0'} AS keys")
    return columns, [f"in_{n}" for n in range(len(asked.series))]


def _merged(series: Series, n: int, combined: str, *, rolled: bool = False) -> list[str]:
    """Aggregates of one series; `combined` is State or Merge for the two halves, nothing for both at once."""

    def of(function: str, parameter: str, arguments: str, m: int) -> str:
        given = f"state_{n}_{m}" if combined == "Merge" else arguments
        return f"{function}If{combined}{parameter}({given})"

    count = ("sum", "", f"event_count, in_{n}") if rolled else ("count", "", f"in_{n}")
    persons = ("uniqExact", "", f"person, in_{n} AND person != ''")
    match series.measure:
        case "count":
            parts = [count]
        case "persons":
            parts = [persons]
        case "sessions":
            parts = [("uniqExact", "", f"session_id, in_{n} AND session_id != ''")]
        case "per person":
            # Per person who had one: an event of nobody is no person's.
            parts = [(*count[:2], f"{count[2]} AND person != ''"), persons]
        case measure:
            function, parameter = _OF_PROPERTY[measure]
            parts = [(function, parameter, f"value_{n}, in_{n}")]
    made = [of(*part, m) for m, part in enumerate(parts)]
    return [f"{made[0]} / nullIf({made[1]}, 0)"] if series.measure == "per person" and combined != "State" else made


def _states(asked: Trends, series: Series, n: int, *, rolled: bool) -> list[str]:
    states = _merged(series, n, "State", rolled=rolled)
    if asked.floor:
        # Those of whom the number is told: who has no session, or no value, does not stand behind it.
        of = (
            f"isNotNull(value_{n})"
            if series.property
            else "session_id != ''"
            if series.measure == "sessions"
            else "true"
        )
        states.append(f"uniqExactIfState(person, in_{n} AND person != '' AND {of})")
    return states


def _merges(asked: Trends, series: Series, n: int, *, rolled: bool) -> list[str]:
    merges = _merged(series, n, "Merge", rolled=rolled)
    if asked.floor:
        merges.append(f"uniqExactIfMerge(state_{n}_{len(_merged(series, n, 'State'))})")
    return merges
