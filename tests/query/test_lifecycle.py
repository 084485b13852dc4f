"""Lifecycle and stickiness equal the slow computation."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import lifecycle as oracle
from tests.query.oracle.crowd import STEPS
from tests.query.questions import ZONES, maybe, sent, shop_filters
from tests.query.test_funnel import CROWD_FILTERS, few, many
from twintrack.query.kinds import KINDS

RANGES: list[tuple[dict[str, Any], str]] = [
    ({"from": "2024-03-28", "to": "2024-04-02"}, "day"),
    ({"from": "2024-10-25", "to": "2024-11-05"}, "day"),
    ({"from": "2024-02-28", "to": "2024-04-30"}, "week"),
    ({"from": "2024-02-20", "to": "2024-11-03"}, "month"),
    ({"last": 5, "unit": "week"}, "week"),
    ({"last": 9}, "week"),
]
SHOP_RANGES = [
    ({"from": "2024-01-01", "to": "2024-06-30"}, "week"),
    ({"from": "2024-03-01", "to": "2024-03-31"}, "day"),
]


@st.composite
def questions(draw: st.DrawFn, names: list[str], filters: Any, ranges: list[Any]) -> Any:
    name = st.one_of(st.sampled_from(names), st.lists(st.sampled_from(names), min_size=1, max_size=2), st.none())
    selection = st.fixed_dictionaries({"event": name, "filter": maybe(filters)}).map(sent)
    asked_range, interval = draw(st.sampled_from(ranges))
    return sent(
        {
            "range": asked_range,
            "interval": interval,
            "zone": draw(st.sampled_from(ZONES)),
            "selection": draw(selection),
            "filter": draw(maybe(filters)),
        }
    )


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, expected = of.stage.ask("lifecycle", asked, kinds=kinds), oracle.states(of.rows, asked, of.now)
    assert len(answer["buckets"]) == len(expected)
    for n, found in enumerate(expected):
        told = {name: values[n] for name, values in answer["states"].items()}
        if answer["buckets"][n]["state"] == "gap":
            assert set(told.values()) == {None}
            assert found is None or not any(found.values())
        else:
            assert found is not None
            assert told == {name: len(people) for name, people in found.items()}
    for n in range(1, len(expected)):
        # Who was there a bucket ago either is there again or is dormant.
        now, before = ({name: values[at] for name, values in answer["states"].items()} for at in (n, n - 1))
        if None not in now.values() and None not in before.values():
            assert now["returning"] + now["dormant"] == before["new"] + before["returning"] + before["resurrecting"]


def check_stickiness(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, expected = of.stage.ask("stickiness", asked, kinds=kinds), oracle.stickiness(of.rows, asked, of.now)
    assert answer["exactly"] == [len(expected[n]) for n in sorted(expected)]
    assert answer["at_least"] == [sum(len(expected[m]) for m in expected if m >= n) for n in sorted(expected)]
    assert answer["persons"] == sum(answer["exactly"])
    assert [bucket["state"] for bucket in answer["buckets"]] == oracle.bucket_states(of.rows, asked, of.now)


@many
@given(asked=questions(STEPS, CROWD_FILTERS, RANGES))
def test_lifecycle_of_a_crowd_equals_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check(many_people, asked)


@few
@given(asked=questions(["home", "catalog", "purchase"], shop_filters(), SHOP_RANGES))
def test_lifecycle_of_the_shop_equals_the_slow_computation(shop: Asked, asked: dict[str, Any]) -> None:
    check(shop, asked)


@many
@given(asked=questions(STEPS, CROWD_FILTERS, [*RANGES, ({"from": "2024-03-30", "to": "2024-03-31"}, "hour")]))
def test_stickiness_of_a_crowd_equals_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check_stickiness(many_people, asked)


@few
@given(asked=questions(["home", "catalog", "purchase"], shop_filters(), SHOP_RANGES))
def test_stickiness_of_the_shop_equals_the_slow_computation(shop: Asked, asked: dict[str, Any]) -> None:
    check_stickiness(shop, asked)
