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
    compare = st.sampled_from(["previous period", "year ago", {"from": "2024-03-01"}])
    return sent(
        {
            "range": period,
            "interval": interval,
            "zone": draw(st.sampled_from(ZONES)),
            "series": draw(st.lists(series(names, properties, filters), min_size=1, max_size=3)),
            "filter": draw(maybe(filters)),
            "breakdown": draw(st.one_of(st.just([]), st.lists(st.sampled_from(properties), max_size=3, unique=True))),
            "top": draw(st.sampled_from([1, 3, 10])),
            "compare": draw(maybe(compare)) if interval not in ("minute", "hour") else None,
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
    {"range": {"last": 40, "unit": "hour"}, "interval": "hour", "series": [{"measure": "persons"}]},
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_trends_in_every_shape_equal_the_slow_computation(made: Asked, case: int) -> None:
    check(made, CASES[case])
