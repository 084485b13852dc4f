"""Paths equal the slow computation: from an event, to one, and from the beginning."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import paths as oracle
from tests.query.oracle.crowd import STEPS
from tests.query.questions import ZONES, maybe, sent, shop_filters
from tests.query.test_funnel import CROWD_FILTERS, CROWD_RANGES, few, many
from twintrack.query.kinds import KINDS

SHOP_RANGES = [({"from": "2024-01-01", "to": "2024-06-30"}, ""), ({"from": "2024-03-01", "to": "2024-03-14"}, "")]


@st.composite
def questions(draw: st.DrawFn, names: list[str], filters: Any, ranges: list[Any]) -> Any:
    anchor = draw(st.sampled_from(["from", "to", "none"]))
    asked = {
        "range": draw(st.sampled_from(ranges))[0],
        "zone": draw(st.sampled_from(ZONES)),
        "steps": draw(st.integers(2, 10)),
        "per": draw(st.sampled_from(["person", "session"])),
        "exclude": draw(st.lists(st.sampled_from(names), max_size=1)),
        "top": draw(st.sampled_from([1, 2, 3, 20])),
        "filter": draw(maybe(filters)),
    }
    if anchor != "none":
        asked[anchor] = draw(st.sampled_from(names))
    return sent(asked)


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, expected = of.stage.ask("paths", asked, kinds=kinds), oracle.answer(of.rows, asked, of.now)
    assert answer["walks"] == expected["walks"]
    assert expected["links"] == {(e["place"], e["source"], e["target"]): e["walks"] for e in answer["links"]}
    edge = "enter" if "to" in asked else "leave"
    assert expected["nodes"] == {(n["place"], n["name"]): (n["walks"], n[edge]) for n in answer["nodes"]}
    most = sorted(expected["whole"].values(), reverse=True)[:20]
    assert most == [whole["walks"] for whole in answer["paths"]]
    assert all(expected["whole"][tuple(whole["path"])] == whole["walks"] for whole in answer["paths"])
    # What comes to a place leaves it by a link, or the walk ends there.
    for node in answer["nodes"]:
        onward = sum(e["walks"] for e in answer["links"] if (e["place"], e["source"]) == (node["place"], node["name"]))
        assert onward <= node["walks"]


@many
@given(asked=questions([*STEPS, "message_sent"], CROWD_FILTERS, CROWD_RANGES))
def test_paths_of_a_crowd_equal_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check(many_people, asked)


@few
@given(asked=questions(["home", "catalog", "cart", "purchase"], shop_filters(), SHOP_RANGES))
def test_paths_of_the_shop_equal_the_slow_computation(shop: Asked, asked: dict[str, Any]) -> None:
    check(shop, asked)
