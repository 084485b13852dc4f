"""Trends equal the slow computation, whatever is asked."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import trends as oracle
from tests.query.oracle.rows import NAMES
from tests.query.questions import (
    GENERATED_PROPERTIES,
    RANGES,
    SHOP_PROPERTIES,
    SHOP_RANGES,
    ZONES,
    generated_filters,
    maybe,
    sent,
    shop_filters,
)
from twintrack.query.kinds import KINDS

many = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
few = settings(many, max_examples=12)
_PLAIN = ["count", "persons", "sessions", "per person"]
_OF_PROPERTY = ["sum", "average", "minimum", "maximum", "median", "p75", "p90", "p99"]


def series(names: list[str], properties: list[str], filters: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    event = maybe(st.one_of(st.sampled_from(names), st.lists(st.sampled_from(names), min_size=1, max_size=3)))
    plain = st.fixed_dictionaries({"event": event, "measure": st.sampled_from(_PLAIN), "filter": maybe(filters)})
    valued = st.fixed_dictionaries(
        {"event": event, "measure": st.sampled_from(_OF_PROPERTY), "property": st.sampled_from(properties)}
    )
    return st.one_of(plain, valued).map(sent)


@st.composite
def questions(draw: st.DrawFn, names: list[str], properties: list[str], filters: Any, ranges: list[Any]) -> Any:
    period, interval = draw(st.sampled_from(ranges))
    shape = draw(st.sampled_from([{}, {}, {"cumulative": True}, {"rolling": 3}, {"rolling": 7}]))
    compare = st.sampled_from(["previous period", "year ago", {"from": "2024-03-01"}, {"from": "2024-02-21"}])
    return sent(
        {
            "range": period,
            "interval": interval,
            "zone": draw(st.sampled_from(ZONES)),
            "series": draw(st.lists(series(names, properties, filters), min_size=1, max_size=3)),
            "filter": draw(maybe(filters)),
            "breakdown": draw(st.one_of(st.just([]), st.lists(st.sampled_from(properties), max_size=3, unique=True))),
            "top": draw(st.sampled_from([1, 3, 10])),
            "compare": draw(maybe(compare)),
            **shape,
        }
    )


def same(answer: dict[str, Any], expected: dict[str, Any], asked: dict[str, Any]) -> None:
    """Each number of an answer is the oracle's, and nothing of the oracle's is missing."""
    for period in expected:
        got = answer if period == "main" else answer["comparison"]
        seen = set()
        for one in got["series"]:
            group: Any = ()
            if "breakdown" in one:
                group = "other" if one["other"] else tuple(one["breakdown"])
            key = (group, one["name"])
            seen.add(key)
            values, total = expected[period].get(key) or nothing(asked, got, one["name"])
            assert close([*one["values"], one["total"]], [*values, total]), (key, period, one, values, total, asked)
        # Beside each other stand equally many buckets, of ranges of one length where the calendar has it.
        assert len(got["buckets"]) == len(answer["buckets"])
        assert seen >= set(expected[period])


def close(got: list[float | None], expected: list[float | None]) -> bool:
    return len(got) == len(expected) and all(
        a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
        for a, b in zip(got, expected, strict=True)
    )


def nothing(asked: dict[str, Any], got: dict[str, Any], name: str) -> tuple[list[float | None], float | None]:
    """What a group without any event has to show."""
    empty = oracle.measured(asked["series"]["ABC".index(name)], [])
    return [None if b["state"] == "gap" else empty for b in got["buckets"]], empty


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    same(of.stage.ask("trends", asked, kinds=kinds), oracle.answer(of.rows, asked, of.now), asked)


@many
@given(asked=questions(NAMES, GENERATED_PROPERTIES, generated_filters(), RANGES))
def test_trends_of_generated_events_equal_the_slow_computation(made: Asked, asked: dict[str, Any]) -> None:
    check(made, asked)


@few
@given(asked=questions(["purchase", "cart", "home"], SHOP_PROPERTIES, shop_filters(), SHOP_RANGES))
def test_trends_of_the_shop_equal_the_slow_computation(shop: Asked, asked: dict[str, Any]) -> None:
    check(shop, asked)


_SPRING = {"from": "2024-03-29", "to": "2024-04-02"}
_YEAR = {"from": "2024-02-15", "to": "2024-11-10"}
_CUT = {"from": "2024-10-27T00:20:00Z", "to": "2024-11-01T00:20:00Z"}
# Questions that between them touch every part; the mutants are told by these.
CASES: list[dict[str, Any]] = [
    {
        "range": _YEAR,
        "interval": "week",
        "zone": "Asia/Kathmandu",
        "series": [{"measure": "persons"}, {"event": "buy", "measure": "per person"}],
        "rolling": 3,
    },
    {
        "range": _SPRING,
        "interval": "day",
        "zone": "Europe/Berlin",
        "series": [{"measure": "sessions", "event": ["buy", "it's"]}, {"measure": "persons"}],
        "breakdown": ["event_metadata.plan"],
        "top": 2,
        "cumulative": True,
    },
    {
        "range": _YEAR,
        "interval": "month",
        "zone": "Asia/Tehran",
        "series": [
            {"measure": "sum", "property": "event_metadata.amount"},
            {"measure": "median", "property": "event_value", "filter": {"property": "is_bot", "value": False}},
        ],
        "compare": "previous period",
    },
    {
        "range": {"last": 10},
        "interval": "day",
        "zone": "America/New_York",
        "series": [{}],
        "compare": {"from": "2024-10-24"},
    },
    {"range": _YEAR, "interval": "month", "series": [{"event": ["view", "buy"]}], "breakdown": ["person"], "top": 20},
    # Much happens on the evening of its last day, after that day has ended there.
    {"range": {"from": "2024-10-25", "to": "2024-10-26"}, "interval": "day", "zone": "Asia/Kathmandu", "series": [{}]},
    {"range": {"last": 40, "unit": "hour"}, "interval": "hour", "series": [{"measure": "persons"}]},
    {
        "range": {"from": "2024-10-26", "to": "2024-10-27"},
        "interval": "hour",
        "zone": "Asia/Kathmandu",
        "series": [
            {"event": "buy", "measure": "persons", "filter": {"property": "person", "value": "not there"}},
            {"measure": "persons"},
        ],
        "rolling": 5,
    },
    {"range": _SPRING, "interval": "day", "series": [{"measure": "persons"}]},
    # Much happens on the day on which the range begins, before it does.
    {
        "range": _CUT,
        "interval": "day",
        "series": [{"measure": "persons"}, {"measure": "persons", "event": "buy"}],
        "rolling": 2,
    },
    {
        "range": _CUT,
        "interval": "week",
        "zone": "Asia/Kathmandu",
        "series": [{"measure": "sessions"}, {"measure": "per person"}],
        "rolling": 3,
        "breakdown": ["event_metadata.plan"],
        "top": 2,
        "compare": "previous period",
    },
    {"range": {"last": 100}, "interval": "week", "series": [{}], "compare": "previous period"},
    {
        "range": {"from": "2024-10-10", "to": "2024-10-28"},
        "interval": "month",
        "series": [{"measure": "persons"}],
        "compare": "previous period",
    },
    {
        "range": {"from": "2024-03-01", "to": "2024-04-30"},
        "interval": "month",
        "series": [{}],
        "compare": "previous period",
    },
    {"range": _CUT, "interval": "day", "series": [{}], "compare": "previous period", "zone": "Europe/Berlin"},
    {
        "range": {"from": "2024-10-31T06:00:00Z", "to": "2024-11-02T01:00:00Z"},
        "interval": "day",
        "series": [{"measure": "persons"}, {}],
        "compare": "previous period",
        "zone": "Asia/Tehran",
    },
    {
        "range": {"from": "2024-11-01", "to": "2024-11-02"},
        "interval": "hour",
        "series": [{"measure": "persons"}],
        "compare": {"from": "2024-10-26"},
        "zone": "Europe/Berlin",
    },
    # Beside the 28th of a February stands the 29th of the year before too, and beside the 1st of March the 1st.
    {
        "range": {"from": "2025-02-26", "to": "2025-03-02"},
        "interval": "day",
        "zone": "Asia/Tehran",
        "series": [{"measure": "persons"}, {"measure": "per person"}],
        "compare": "year ago",
    },
    # An object is set, and so is what lies in it.
    {
        "range": _YEAR,
        "interval": "month",
        "series": [
            {"filter": {"property": name, "operator": "is set"}}
            for name in ("event_metadata.deep", "event_metadata.deep.level")
        ],
    },
    {
        "range": {"last": 7},
        "interval": "day",
        "zone": "America/New_York",
        "series": [
            {},
            {"filter": {"property": "event_timestamp", "operator": "<", "value": "2024-11-01T20:00", "type": "time"}},
        ],
    },
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_trends_in_every_shape_equal_the_slow_computation(made: Asked, case: int) -> None:
    check(made, CASES[case])


_COUNTS = {"range": _YEAR, "interval": "day", "series": [{}, {"event": "buy"}], "compare": "previous period"}


@pytest.mark.parametrize(
    "more,source",
    [
        ({}, "rollup"),
        ({"zone": "Europe/Berlin", "rolling": 7}, "rollup"),
        ({"interval": "month", "breakdown": ["event_name"], "top": 2, "cumulative": True}, "rollup"),
        ({"range": {"from": "2024-10-27T03:00:00Z", "to": "2024-11-01T03:00:00Z"}, "rolling": 3}, "rollup"),
        # Days there do not begin with an hour of UTC; nobody can cut an hour of the rollup in two.
        ({"zone": "Asia/Kathmandu"}, "raw"),
        (
            {
                "interval": "hour",
                "range": {"from": "2024-10-27T00:30:00Z", "to": "2024-10-27T04:00:00Z"},
                "compare": None,
            },
            "raw",
        ),
        ({"series": [{"measure": "persons"}]}, "raw"),
        ({"series": [{"measure": "sessions"}]}, "raw"),
        ({"series": [{"filter": {"property": "is_bot", "value": False}}]}, "raw"),
        ({"filter": {"property": "event_name", "value": "buy"}}, "raw"),
        ({"breakdown": ["page_path"]}, "raw"),
        ({"floor": 1}, "raw"),
    ],
)
def test_rollup_answers_only_where_it_is_exact_and_the_answer_says_so(made: Asked, more: Any, source: str) -> None:
    asked = sent({**_COUNTS, **more})
    answer = made.stage.ask("trends", asked)
    assert answer["source"] == source
    if "floor" not in asked:
        same(answer, oracle.answer(made.rows, asked, made.now), asked)


def test_number_of_fewer_people_than_the_floor_is_withheld(made: Asked) -> None:
    asked = {"range": _YEAR, "interval": "month", "series": [{}], "breakdown": ["event_metadata.plan"], "top": 100}
    people = made.stage.ask("trends", {**asked, "series": [{"measure": "persons"}]})["series"]
    count = {str(one["breakdown"]): one for one in people}
    held = 0
    for one in made.stage.ask("trends", {**asked, "floor": 9})["series"]:
        if one["breakdown"] is None:
            continue  # groups of few, together
        behind = count[str(one["breakdown"])]
        for value, persons in zip([*one["values"], one["total"]], [*behind["values"], behind["total"]], strict=True):
            assert (value is None or value == 0) if persons is None or persons < 9 else value >= persons
            held += value is None and bool(persons)
    assert held > 5


def test_formula_is_computed_over_the_series_and_is_nothing_where_it_cannot_be(made: Asked) -> None:
    series = [{"event": "buy"}, {"event": "view"}, {"event": "nothing has this name"}]
    formulas = [{"formula": "A / (A + B) * 100"}, {"formula": "A / C"}, {"formula": "-C + 2.5"}]
    answer = made.stage.ask("trends", {"range": _YEAR, "interval": "month", "series": series, "formulas": formulas})
    a, b, _, share, nothing_known, constant = answer["series"]
    for n, bucket in enumerate(answer["buckets"]):
        if bucket["state"] == "gap":
            assert share["values"][n] is None
        elif a["values"][n] + b["values"][n]:
            assert share["values"][n] == pytest.approx(a["values"][n] / (a["values"][n] + b["values"][n]) * 100)
            assert constant["values"][n] == 2.5
    assert nothing_known["values"] == [None] * len(answer["buckets"]) and nothing_known["total"] is None


def test_buckets_say_whether_they_are_whole_cut_unfinished_or_gaps(made: Asked) -> None:
    def states(**asked: Any) -> list[str]:
        return [b["state"] for b in made.stage.ask("trends", {"series": [{}], **asked})["buckets"]]

    # Now is 2024-11-03 10:17; the first event is of 2024-02-19, the hour of 9.
    assert states(range={"from": "2024-11-01", "to": "2024-11-05"}, interval="day") == [
        "whole",
        "whole",
        "unfinished",
        "gap",
        "gap",
    ]
    assert states(range={"from": "2024-02-18", "to": "2024-02-20"}, interval="day") == ["gap", "whole", "whole"]
    assert states(range={"from": "2024-02-20T12:00:00Z", "to": "2024-02-21T12:00:00Z"}, interval="day") == [
        "cut",
        "cut",
    ]
    assert states(range={"last": 2, "unit": "hour"}, interval="hour") == ["whole", "unfinished"]
    assert states(range={"last": 2, "unit": "hour", "complete": True}, interval="hour") == ["whole", "whole"]


def test_other_period_is_as_long_as_the_range_and_its_buckets_stand_beside_the_ranges(made: Asked) -> None:
    def beside(**asked: Any) -> tuple[dict[str, str], list[str]]:
        found = made.stage.ask("trends", {"series": [{}], **asked})["comparison"]
        return {e: v[:16] for e, v in found["range"].items()}, [b["start"][:10] for b in found["buckets"]]

    # Now is 2024-11-03. A hundred days, the week of the first of them cut in the middle.
    found, starts = beside(range={"last": 100}, interval="week", compare="previous period")
    assert found == {"from": "2024-04-18T00:00", "to": "2024-07-27T00:00"} and len(starts) == 15
    eleven = {"from": "2024-03-10", "to": "2024-03-20"}
    found, _ = beside(range=eleven, interval="month", compare="previous period")
    assert found == {"from": "2024-02-28T00:00", "to": "2024-03-10T00:00"}
    noon = {"from": "2024-03-10T12:00:00Z", "to": "2024-03-11T12:00:00Z"}
    found, starts = beside(range=noon, interval="day", compare="previous period")
    assert found == {"from": "2024-03-09T12:00", "to": "2024-03-10T12:00"} and starts == ["2024-03-09", "2024-03-10"]
    months = {"from": "2024-03-01", "to": "2024-04-30"}
    found, starts = beside(range=months, interval="month", compare="previous period")
    assert found == {"from": "2024-01-01T00:00", "to": "2024-03-01T00:00"} and starts == ["2024-01-01", "2024-02-01"]
    # The 29th of February has no day beside it.
    found, starts = beside(range={"from": "2024-02-28", "to": "2024-03-02"}, interval="day", compare="year ago")
    assert found == {"from": "2023-02-28T00:00", "to": "2023-03-03T00:00"}
    assert starts == ["2023-02-28", "2023-03-01", "2023-03-01", "2023-03-02"]


def test_answer_shows_its_definition_and_a_statement_that_gives_its_rows(made: Asked) -> None:
    asked = {"range": _SPRING, "interval": "day", "series": [{"event": "buy"}], "breakdown": ["page_path"]}
    asked["filter"] = {"property": "event_metadata.plan", "operator": "!=", "value": "pro"}
    answer = made.stage.ask("trends", asked)
    for word in ("buy", "page_path", "event_metadata.plan != pro", "day", "2024-03-29", "UTC"):
        assert word in answer["definition"]
    (statement,) = answer["statements"]
    rows = made.stage.store.select(statement["sql"], statement["parameters"]).rows
    assert sum(row[2] for row in rows if row[1] >= 0) == sum(sum(s["values"]) for s in answer["series"])
    assert answer["as_of"] == "2024-11-03T10:17:30.000Z"
    # More than the rows of the answer: those that the engine went through.
    assert answer["rows_read"] > len(rows)
