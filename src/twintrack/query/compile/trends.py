"""Trends: numbers over time. One pass over the events serves every series, each bucket, the range's total and the rest.

Each bucket of each group becomes aggregate states; a state is then given to every step that its bucket belongs to: its
own, the later ones of a rolling or cumulative series, and -1 for the whole range. So a rolling count of persons counts
nobody twice, and a total is the number over the range, not the sum of its steps.
"""

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from twintrack.clock import iso
from twintrack.query import formula, period, words
from twintrack.query.catalog import property_of
from twintrack.query.compile.statement import Parameters, Plan, Statement
from twintrack.query.filters import asks_person, condition
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
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
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
# What is 0, not unknown, where nothing happened.
_COUNTED = frozenset({"count", "persons", "sessions", "sum"})
TOTAL = -1
OTHER = ["*"]
_MOST_CELLS = 200_000


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

    series: list[Series] = Field(default_factory=lambda: [Series.model_validate({})], min_length=1, max_length=10)
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


class _Span(NamedTuple):
    """A period with its buckets, and how many more are read before them."""

    period: Period
    unit: Unit
    buckets: list[Bucket]
    lead: int

    @property
    def start(self) -> int:
        return self.buckets[0].start

    @property
    def first(self) -> int:
        """The start of the first bucket that is read: a rolling series looks back from its first step."""
        return period.following(self.start, self.unit, self.period.zone, -self.lead)

    @property
    def read(self) -> Period:
        return self.period._replace(start=self.first) if self.lead else self.period


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
    letters = _LETTERS[: len(asked.series)]
    trees = [formula.parse(f.formula, set(letters)) for f in asked.formulas]
    main = _span(asked, asked.period(scope), scope)
    if len(main.buckets) * (asked.top + 1 if asked.breakdown else 1) * len(asked.series) > _MOST_CELLS:
        raise refused(
            "the answer would hold too many numbers", "fewer groups, or a longer interval", "too_many_buckets"
        )
    statements = {"main": _statement(asked, scope, main, main)}
    other = _other(asked, main, scope)
    if other is not None:
        statements["comparison"] = _statement(asked, scope, other, main)

    def shape(rows: Any) -> dict[str, Any]:
        order = _ranked(asked, rows["main"], rows.get("comparison", []))
        answer = {
            "interval": main.unit,
            "zone": asked.zone,
            "range": {"from": iso(main.period.start), "to": iso(main.period.end)},
            "buckets": shown(main.buckets),
            "series": _series(asked, trees, main, rows["main"], order),
        }
        if other is not None:
            answer["comparison"] = {
                "range": {"from": iso(other.period.start), "to": iso(other.period.end)},
                "buckets": shown(other.buckets),
                "series": _series(asked, trees, other, rows["comparison"], order),
            }
        return answer

    spans = [span.read for span in (main, other) if span is not None]
    reads = (min(span.start for span in spans), max(span.end for span in spans))
    return Plan(statements, words.trends(asked, main.period, main.unit, letters), shape, reads=reads)


def _span(asked: Trends, of: Period, scope: Scope) -> _Span:
    unit = asked.interval or period.fitting(of)
    found = period.buckets(of, unit, scope.now_milliseconds, scope.first_milliseconds)
    return _Span(of, unit, found, asked.rolling - 1)


def _other(asked: Trends, main: _Span, scope: Scope) -> _Span | None:
    """The period to compare with: as many buckets of the same unit, so that the n-th stands beside the n-th."""
    zone, count = main.period.zone, len(main.buckets)
    if asked.compare is None:
        return None
    if asked.compare == "previous period":
        start = period.following(main.start, main.unit, zone, -count)
    elif asked.compare == "year ago":
        start = period.year_before(main.start, main.unit, zone)
    else:
        given = Range.model_validate({"from": asked.compare.since, "to": iso(scope.now_milliseconds)})
        start = period.floor(period.resolve(given, zone, scope.now_milliseconds).start, main.unit, zone)
    end = period.following(start, main.unit, zone, count)
    return _span(asked.model_copy(update={"interval": main.unit}), Period(start, end, zone), scope)


def _statement(asked: Trends, scope: Scope, span: _Span, ranked_by: _Span) -> Statement:
    p = Parameters(scope.tenancy)
    columns, wanted = _columns(asked, scope, p)
    bucket = f"{period.index(p, span.unit, span.first, span.period.zone)} - {span.lead} AS bucket"
    rows = _source(asked, scope, p, [*columns, bucket], wanted, span.read)
    keys = "keys"
    if asked.breakdown:
        largest = _largest(asked, scope, p, columns, wanted, ranked_by.period)
        keys = f"if(keys IN ({largest}), keys, {OTHER})"
    states = [f"{s} AS state_{n}_{m}" for n, a in enumerate(asked.series) for m, s in enumerate(_states(asked, a, n))]
    merged = [m for n, a in enumerate(asked.series) for m in _merges(asked, a, n)]
    last = len(span.buckets)
    end = f"{last}" if asked.cumulative else f"least(bucket + {span.lead + 1}, {last})"
    steps = f"arrayConcat(if(bucket >= 0, [{TOTAL}], []), range(greatest(bucket, 0), {end}))"
    return p.statement(
        f"SELECT group, step, {', '.join(merged)} FROM"
        f" (SELECT {keys} AS group, bucket, {', '.join(states)} FROM ({rows}) GROUP BY group, bucket)"
        f" ARRAY JOIN {steps} AS step GROUP BY group, step ORDER BY group, step"
    )


def _actors(asked: Trends, scope: Scope, p: Parameters, point: Any) -> str:
    """The persons of the rows behind one cell."""
    number = _LETTERS[: len(asked.series)].find(point.series)
    if len(point.series) != 1 or number < 0:
        raise refused("there is no such series", "name one by its letter; a formula has no people", "no_actors")
    main = _span(asked, asked.period(scope), scope)
    span = (_other(asked, main, scope) if point.comparison else main) or main
    columns, wanted = _columns(asked, scope, p)
    bucket = f"{period.index(p, span.unit, span.first, span.period.zone)} - {span.lead} AS bucket"
    rows = events(p, [*columns, bucket], _where(asked, scope, p, wanted, span.read))
    where = [f"in_{number}", "person != ''", "bucket >= 0"]
    if point.step is not None:
        if point.step >= len(span.buckets):
            raise refused("there is no such step", f"the answer has {len(span.buckets)}", "no_actors")
        least = 0 if asked.cumulative else point.step - span.lead
        where[2] = f"bucket BETWEEN {least} AND {point.step}"
    if asked.breakdown and (point.group is not None or point.other):
        if not point.other:
            where.append(f"keys = {p.texts(['' if key is None else '=' + key for key in point.group])}")
        else:
            where.append(f"keys NOT IN ({_largest(asked, scope, p, columns, wanted, main.period)})")
    return f"SELECT DISTINCT person FROM ({rows}) WHERE {' AND '.join(where)}"


def _largest(asked: Trends, scope: Scope, p: Parameters, columns: list[str], wanted: list[str], of: Period) -> str:
    """A SELECT of the groups that are shown by name."""
    counted = _source(asked, scope, p, columns, wanted, of)
    first = _merged(asked.series[0], 0, "")[0]
    return f"SELECT keys FROM ({counted}) GROUP BY keys ORDER BY {first} DESC NULLS LAST, keys LIMIT {asked.top}"


def _source(asked: Trends, scope: Scope, p: Parameters, columns: list[str], wanted: list[str], of: Period) -> str:
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
            columns.append(f"{property_of(series.property, scope.role).number} AS value_{n}")
    # A value is told from one that is not set, and both from the rest.
    keys = [property_of(name, scope.role).text for name in asked.breakdown]
    columns.append("[" + ", ".join(f"ifNull(concat('=', {text}), '')" for text in keys) + "] AS keys")
    return columns, [f"in_{n}" for n in range(len(asked.series))]


def _merged(series: Series, n: int, combined: str) -> list[str]:
    """Aggregates of one series; `combined` is State or Merge for the two halves, nothing for both at once."""

    def of(function: str, parameter: str, arguments: str, m: int) -> str:
        given = f"state_{n}_{m}" if combined == "Merge" else arguments
        return f"{function}If{combined}{parameter}({given})"

    count = ("count", "", f"in_{n}")
    persons = ("uniqExact", "", f"person, in_{n} AND person != ''")
    match series.measure:
        case "count":
            parts = [count]
        case "persons":
            parts = [persons]
        case "sessions":
            parts = [("uniqExact", "", f"session_id, in_{n} AND session_id != ''")]
        case "per person":
            parts = [count, persons]
        case measure:
            function, parameter = _OF_PROPERTY[measure]
            parts = [(function, parameter, f"value_{n}, in_{n}")]
    made = [of(*part, m) for m, part in enumerate(parts)]
    return [f"{made[0]} / nullIf({made[1]}, 0)"] if series.measure == "per person" and combined != "State" else made


def _states(asked: Trends, series: Series, n: int) -> list[str]:
    states = _merged(series, n, "State")
    if asked.floor:
        states.append(f"uniqExactIfState(person, in_{n} AND person != '')")
    return states


def _merges(asked: Trends, series: Series, n: int) -> list[str]:
    merges = _merged(series, n, "Merge")
    if asked.floor:
        merges.append(f"uniqExactIfMerge(state_{n}_{len(_merged(series, n, 'State'))})")
    return merges


def _ranked(asked: Trends, main: list[Any], comparison: list[Any]) -> list[tuple[str, ...]]:
    """The groups that are shown, the largest by the first series first, the rest last."""
    if not asked.breakdown:
        return [()]
    groups = {tuple(row[0]) for row in [*main, *comparison]}
    totals = {tuple(row[0]): row[2] for row in main if row[1] == TOTAL}

    def rank(group: tuple[str, ...]) -> Any:
        total = totals.get(group)
        return total is None, -(total or 0), [key.encode() for key in group]

    ranked = sorted(groups - {tuple(OTHER)}, key=rank)
    return ranked + [group for group in groups if group == tuple(OTHER)]


def _series(asked: Trends, trees: list[Any], span: _Span, rows: list[Any], order: list[tuple[str, ...]]) -> list[Any]:
    width = 2 if asked.floor else 1
    cells = {(tuple(row[0]), row[1]): row[2:] for row in rows}
    steps = [*range(len(span.buckets)), TOTAL]
    answer = []
    for group in order:
        known: dict[str, list[float | None]] = {}
        withheld = dict.fromkeys(_LETTERS, 0)
        for n, series in enumerate(asked.series):
            values = known[_LETTERS[n]] = []
            for step in steps:
                cell = cells.get((group, step))
                value = cell[n * width] if cell is not None else None
                if value is None and series.measure in _COUNTED:
                    value = 0
                if step != TOTAL and span.buckets[step].state == "gap":
                    value = None
                elif asked.floor and cell is not None and value and cell[n * width + 1] < asked.floor:
                    value, withheld[_LETTERS[n]] = None, withheld[_LETTERS[n]] + 1
                values.append(value)
        shown_as = _group(asked, group)
        for n, series in enumerate(asked.series):
            letter = _LETTERS[n]
            held = {"withheld": withheld[letter]} if asked.floor else {}
            label = series.label or words.series(series)
            answer.append({"name": letter, "label": label, **shown_as, **held, **_values(known[letter])})
        for tree, asked_formula in zip(trees, asked.formulas, strict=True):
            made = [formula.value(tree, {a: v[i] for a, v in known.items()}) for i in range(len(steps))]
            name = asked_formula.formula
            answer.append({"name": name, "label": asked_formula.label or name, **shown_as, **_values(made)})
    return answer


def _values(values: list[float | None]) -> dict[str, Any]:
    return {"values": values[:-1], "total": values[-1]}


def _group(asked: Trends, group: tuple[str, ...]) -> dict[str, Any]:
    if not asked.breakdown:
        return {}
    if list(group) == OTHER:
        return {"breakdown": None, "other": True}
    return {"breakdown": [key[1:] if key else None for key in group], "other": False}
