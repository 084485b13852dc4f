"""Funnels equal the slow computation: every order, window, unit and breakdown."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import funnel as oracle
from tests.query.oracle.crowd import STEPS
from tests.query.questions import SHOP_PROPERTIES, ZONES, maybe, sent, shop_filters
from twintrack.query.kinds import KINDS

# Shrinking takes minutes, and a question that fails is small enough.
many = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
few = settings(many, max_examples=10)
# What the crowd's events can be asked by; the same for every kind that it judges.
CROWD_FILTERS = st.sampled_from(
    [
        {"property": "event_metadata.plan", "value": "pro"},
        {"property": "event_metadata.amount", "operator": ">", "value": 2},
        {"property": "event_metadata.plan", "operator": "is set"},
        {"not": {"property": "event_metadata.amount", "operator": "in", "value": [0, 1]}},
        {"any": [{"property": "user_id", "operator": "is set"}, {"property": "session_id", "operator": "is not set"}]},
        {"property": "person", "operator": "!=", "value": "u3"},
    ]
)
CROWD_RANGES: list[tuple[dict[str, Any], str]] = [
    ({"from": "2024-03-30", "to": "2024-04-01"}, "hour"),
    ({"from": "2024-02-28", "to": "2024-04-30"}, "day"),
    ({"from": "2024-02-20", "to": "2024-11-03"}, "month"),
    ({"from": "2024-10-20", "to": "2024-11-20"}, "day"),
    ({"from": "2024-10-27", "to": "2024-10-27"}, "hour"),
    ({"last": 8, "unit": "week"}, "week"),
]


@st.composite
def questions(draw: st.DrawFn, names: list[str], properties: list[str], filters: Any, ranges: list[Any]) -> Any:
    name = st.one_of(st.sampled_from(names), st.lists(st.sampled_from(names), min_size=1, max_size=2), st.none())
    step = st.fixed_dictionaries({"event": name, "filter": maybe(filters)}).map(sent)
    asked_range, interval = draw(st.sampled_from(ranges))
    return sent(
        {
            "range": asked_range,
            "zone": draw(st.sampled_from(ZONES)),
            "steps": draw(st.lists(step, min_size=2, max_size=4)),
            "window_seconds": draw(st.sampled_from([1, 30, 31, 600, 3_600, 86_400, 14 * 86_400])),
            "order": draw(st.sampled_from(["ordered", "ordered", "strict", "any"])),
            "per": draw(st.sampled_from(["person", "session"])),
            "filter": draw(maybe(filters)),
            "breakdown": draw(st.one_of(st.just([]), st.lists(st.sampled_from(properties), max_size=2, unique=True))),
            "top": draw(st.sampled_from([1, 3, 10])),
            "interval": draw(maybe(st.just(interval))),
        }
    )


def _told(steps: dict[str, Any]) -> dict[str, Any]:
    """An answer's numbers as the oracle has them."""

    def spread(found: Any) -> Any:
        return None if found is None else pytest.approx((found["average"], found["median"], found["p90"]))

    return {
        "counts": [step["count"] for step in steps["steps"]],
        "waits": [spread(step["seconds_from_previous"]) for step in steps["steps"][1:]],
        "whole": spread(steps["seconds"]),
    }


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, expected = of.stage.ask("funnel", asked, kinds=kinds), oracle.answer(of.rows, asked, of.now)
    assert expected["total"] == _told(answer)
    if asked.get("breakdown"):
        groups = {"other" if g["other"] else tuple(g["breakdown"]): _told(g) for g in answer["groups"]}
        assert expected["groups"] == groups
        for k, step in enumerate(answer["steps"]):
            assert sum(g["steps"][k]["count"] for g in answer["groups"]) == step["count"]
    if asked.get("interval"):
        shown = [(n or 0, b["state"]) for n, b in zip(answer["trend"], answer["buckets"], strict=True)]
        assert [n for n, state in shown if state != "gap"] == [
            n for n, (_, state) in zip(expected["trend"], shown, strict=True) if state != "gap"
        ]
    counts = [step["count"] for step in answer["steps"]]
    assert counts == sorted(counts, reverse=True)


@many
@given(asked=questions(STEPS, ["event_metadata.plan", "event_metadata.amount"], CROWD_FILTERS, CROWD_RANGES))
def test_funnel_of_a_crowd_equals_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check(many_people, asked)


@few
@given(
    asked=questions(
        ["catalog", "product_view", "add_to_cart", "cart", "purchase"],
        SHOP_PROPERTIES,
        shop_filters(),
        [({"from": "2024-01-01", "to": "2024-06-30"}, "month"), ({"from": "2024-03-01", "to": "2024-03-14"}, "day")],
    )
)
def test_funnel_of_the_shop_equals_the_slow_computation(shop: Asked, asked: dict[str, Any]) -> None:
    check(shop, asked)
