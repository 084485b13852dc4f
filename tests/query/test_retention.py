"""Retention equals the slow computation: first-time and recurring, bounded and not, in every zone."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import retention as oracle
from tests.query.oracle.crowd import STEPS
from tests.query.questions import SHOP_PROPERTIES, ZONES, maybe, sent, shop_filters
from tests.query.test_funnel import CROWD_FILTERS, few, many
from twintrack.query.kinds import KINDS

RANGES: list[tuple[dict[str, Any], str, int]] = [
    ({"from": "2024-03-28", "to": "2024-04-02"}, "day", 5),
    ({"from": "2024-10-25", "to": "2024-11-02"}, "day", 8),
    ({"from": "2024-02-28", "to": "2024-04-30"}, "week", 6),
    ({"from": "2024-02-20", "to": "2024-11-03"}, "month", 3),
    # The first event of all is of the 20th of February.
    ({"from": "2024-02-17", "to": "2024-02-22"}, "day", 3),
    ({"last": 5, "unit": "week"}, "week", 4),
    ({"last": 3, "unit": "month"}, "month", 1),
]
SHOP_RANGES = [
    ({"from": "2024-01-01", "to": "2024-06-30"}, "month", 5),
    ({"from": "2024-03-01", "to": "2024-03-31"}, "week", 12),
]


@st.composite
def questions(draw: st.DrawFn, names: list[str], properties: list[str], filters: Any, ranges: list[Any]) -> Any:
    name = st.one_of(st.sampled_from(names), st.lists(st.sampled_from(names), min_size=1, max_size=2), st.none())
    selection = st.fixed_dictionaries({"event": name, "filter": maybe(filters)}).map(sent)
    asked_range, interval, periods = draw(st.sampled_from(ranges))
    return sent(
        {
            "range": asked_range,
            "interval": interval,
            "periods": periods,
            "zone": draw(st.sampled_from(ZONES)),
            "start": draw(selection),
            "back": draw(selection),
            "entry": draw(st.sampled_from(["first-time", "recurring"])),
            "unbounded": draw(st.booleans()),
            "filter": draw(maybe(filters)),
            "breakdown": draw(st.one_of(st.just([]), st.lists(st.sampled_from(properties), max_size=2, unique=True))),
            "top": draw(st.sampled_from([1, 3, 10])),
        }
    )


def _told(table: dict[str, Any]) -> list[Any]:
    return [(line["size"], line["returned"]) for line in table["cohorts"]]


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, expected = of.stage.ask("retention", asked, kinds=kinds), oracle.answer(of.rows, asked, of.now)
    assert expected["cohorts"] == _told(answer)
    for size, cells in _told(answer):
        assert all(cell is None or (size is not None and cell <= size) for cell in cells)
    if asked.get("breakdown"):
        groups = {"other" if g["other"] else tuple(g["breakdown"]): _told(g) for g in answer["groups"]}
        assert expected["groups"] == groups
        for n, line in enumerate(answer["cohorts"]):
            parts = [g["cohorts"][n]["size"] for g in answer["groups"]]
            assert set(parts) <= {None} if line["size"] is None else sum(parts) == line["size"]


@many
@given(asked=questions(STEPS, ["event_metadata.plan", "event_metadata.amount"], CROWD_FILTERS, RANGES))
def test_retention_of_a_crowd_equals_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check(many_people, asked)


@few
@given(asked=questions(["home", "catalog", "purchase"], SHOP_PROPERTIES, shop_filters(), SHOP_RANGES))
def test_retention_of_the_shop_equals_the_slow_computation(shop: Asked, asked: dict[str, Any]) -> None:
    check(shop, asked)
