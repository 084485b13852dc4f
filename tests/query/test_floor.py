"""Under a floor no number, name or list tells of fewer people than it, and none is made of one that is withheld."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.query.conftest import Asked
from tests.query.oracle import calendar, lists, retention, threads
from tests.query.oracle.filters import number
from tests.query.stage import staged
from twintrack.errors import RequestError

_YEAR = {"from": "2024-02-20", "to": "2024-11-03"}
_STEPS: Any = [{"event": "home"}, {"event": "view"}, {"event": "cart"}, {"event": "buy"}, {"event": "it's"}]
_PLAN = "event_metadata.plan"


def both(of: Asked, kind: str, floor: int, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer without a floor and the one under it."""
    return of.stage.ask(kind, asked), of.stage.ask(kind, {**asked, "floor": floor})


def test_trend_of_a_property_is_withheld_by_the_people_who_have_it(made: Asked) -> None:
    series = [{"measure": m, "property": "event_metadata.amount"} for m in ("average", "sum", "minimum")]
    asked = {"range": _YEAR, "interval": "day", "series": series}
    free, held = both(made, "trends", 4, **asked)
    rows = [row for row in lists.inside(made.rows, asked, made.now) if number(row, "event_metadata.amount") is not None]
    edges = calendar.starts(*calendar.span(_YEAR, "UTC", made.now), "day", "UTC")
    zeros = 0
    for n in range(len(free["buckets"])):
        mine = [row for row in rows if edges[n] <= row["event_timestamp"] < edges[n + 1]]
        enough = len({row["person"] for row in mine if row["person"]}) >= 4 or not mine
        for a, b in zip(free["series"], held["series"], strict=True):
            assert b["values"][n] == (a["values"][n] if enough else None)
            zeros += not enough and a["values"][n] == 0
    # Also a number that is 0, which is no number of nobody.
    assert zeros and held["series"][0]["withheld"]


def test_group_of_too_few_people_is_in_the_rest_and_has_no_name(made: Asked, many_people: Asked) -> None:
    breakdown: Any = {"range": _YEAR, "breakdown": ["person"], "floor": 2}
    for of in (made, many_people):
        asked = {**breakdown, "interval": "month", "series": [{"measure": "persons"}]}
        assert {one["other"] for one in of.stage.ask("trends", asked)["series"]} == {True}
    steps = {**breakdown, "steps": _STEPS[:2]}
    for kind, question in (("funnel", steps), ("retention", {**breakdown, "interval": "month", "entry": "recurring"})):
        assert [group["other"] for group in many_people.stage.ask(kind, question)["groups"]] == [True]
    free, held = both(many_people, "funnel", 8, range=_YEAR, steps=_STEPS[:2], breakdown=[_PLAN])
    shown = [g["breakdown"] for g in free["groups"] if g["steps"][0]["count"] >= 8]
    assert [g["breakdown"] for g in held["groups"] if not g["other"]] == shown != []
    assert held["groups"][-1]["other"]
    point = {"step": 0, "other": True}
    behind = {"of": {"kind": "funnel", "range": _YEAR, "steps": _STEPS[:2], "breakdown": [_PLAN], "floor": 8}}
    rest = held["groups"][-1]["steps"][0]["count"]
    assert rest is not None and many_people.stage.ask("actors", {**behind, "point": point})["total"] == rest


def test_those_who_drop_out_of_a_funnel_are_a_number_of_people_themselves(many_people: Asked) -> None:
    free, held = both(many_people, "funnel", 6, range=_YEAR, steps=_STEPS, interval="month")
    few = 0
    for a, b in zip(free["steps"], held["steps"], strict=True):
        for name in ("count", "dropped"):
            assert b[name] == (a[name] if a[name] == 0 or a[name] >= 6 else None)
        few += 0 < a["dropped"] < 6
        assert b["seconds_from_previous"] is None or b["count"]
    assert few and held["withheld"]
    for counts, told in zip(free["trend"], held["trend"], strict=True):
        assert told == (None if counts is None else [c if c == 0 or c >= 6 else None for c in counts])


@pytest.mark.parametrize("entry", ["first-time", "recurring"])
def test_share_of_retention_counts_each_of_its_people_once(many_people: Asked, entry: str) -> None:
    asked: Any = {
        "range": {"from": "2024-03-01", "to": "2024-09-30"},
        "interval": "month",
        "periods": 5,
        "entry": entry,
    }
    asked |= {"start": {"event": "it's"}, "back": {"event": "buy"}}
    free, held = both(many_people, "retention", 7, **asked)
    members, _, count = retention.members(many_people.rows, asked, many_people.now)
    for row in range(count):
        a, b = free["cohorts"][row], held["cohorts"][row]
        assert b["size"] == (a["size"] if not a["size"] or a["size"] >= 7 else None)
        assert b["returned"] == [n if not n or n >= 7 else None for n in a["returned"]]
    for n, share in enumerate(held["shares"]):
        back = {m[0] for m in members if retention.returned(m[3], n, False)}
        assert share in (None, free["shares"][n])
        assert share is None or share == 0 or len(back) >= 7


def test_group_of_one_busy_person_takes_no_place_of_one_that_may_be_told(tmp_path: Path) -> None:
    """Who begins in every month stands in many cells: the largest group may be of one person."""
    now = datetime(2024, 11, 3, tzinfo=UTC)
    begun = [("ann", "gold", month) for month in range(1, 10)] + [(f"p{n}", "silver", 3) for n in range(4)]
    rows = [
        {
            "event_id": UUID(int=n + 1),
            "event_name": "buy",
            "event_timestamp": datetime(2024, month, 5, tzinfo=UTC),
            "user_id": person,
            "event_metadata": {"plan": plan},
        }
        for n, (person, plan, month) in enumerate(begun)
    ]
    asked = {"range": {"from": "2024-01-01", "to": "2024-10-31"}, "interval": "month", "periods": 1}
    asked |= {"entry": "recurring", "breakdown": [_PLAN], "top": 1}
    with staged(tmp_path / "store", now, rows) as stage:
        free, held = (stage.ask("retention", {**asked, "floor": floor}) for floor in (1, 3))
    assert [group["breakdown"] for group in free["groups"] if not group["other"]] == [["gold"]]
    assert [group["breakdown"] for group in held["groups"] if not group["other"]] == [["silver"]]


def test_what_is_made_of_a_withheld_number_is_withheld_with_it(many_people: Asked) -> None:
    free, held = both(many_people, "stickiness", 1_000, range=_YEAR, interval="month")
    assert free["average"] and held["persons"] is None and held["average"] is None
    series = [{"measure": "persons"}, {"measure": "per person"}]
    asked = {"range": _YEAR, "interval": "month", "series": series, "formulas": [{"formula": "A * 1"}]}
    assert {one["total"] for one in many_people.stage.ask("trends", {**asked, "floor": 1_000})["series"]} == {None}
    states = many_people.stage.ask("lifecycle", {"range": _YEAR, "interval": "month", "floor": 1_000})["states"]
    assert {n for values in states.values() for n in values} <= {0, None}
    cohort = {"definition": {"did": {"event": "it's"}}, "floor": 1_000}
    assert many_people.stage.ask("cohorts", cohort)["persons"] is None
    with pytest.raises(RequestError) as refused:
        many_people.stage.ask("actors", {"of": {"kind": "cohorts", **cohort}})
    assert refused.value.code == "withheld"


def test_ways_that_too_few_people_took_are_not_told(many_people: Asked) -> None:
    free, held = both(many_people, "paths", 6, range=_YEAR, per="person", steps=4)
    whole = [path for path in free["paths"] if path["walks"] >= 6]
    assert [p for p in held["paths"] if None not in p["path"]] == [p for p in whole if "it's" not in p["path"]]
    assert min(line["walks"] for part in ("nodes", "links") for line in held[part]) >= 6 and held["withheld"]
    assert any(line["walks"] < 6 for line in free["links"])
    # A name that too few people sent is one of the others.
    people = many_people.stage.ask(
        "trends", {"range": _YEAR, "series": [{"measure": "persons"}], "breakdown": ["event_name"]}
    )
    rare, number_of = min(((s["breakdown"][0], s["total"]) for s in people["series"]), key=lambda one: one[1])
    named = many_people.stage.ask("paths", {"range": _YEAR, "per": "person", "floor": number_of + 1})
    assert rare not in {node["name"] for node in named["nodes"]}
    assert {"limit": "paths", "most": 20, "reached": True, "rest": "left out of `paths`"} in held["limits"]


def test_sessions_that_bounced_are_a_number_of_people_and_what_is_left_out_is_said(many_people: Asked) -> None:
    asked: Any = {"range": _YEAR, "interval": "month", "by": "person", "top": 100}
    free, held = both(many_people, "sessions", 5, **asked)
    found, few = lists.visits(many_people.rows, asked, many_people.now), 0
    edges = calendar.starts(*calendar.span(_YEAR, "UTC", many_people.now), "month", "UTC")
    for n in range(len(free["buckets"])):
        mine = [visit for visit in found if edges[n] <= visit[0] < edges[n + 1]]
        for name, of in (("sessions", mine), ("bounced", [visit for visit in mine if visit[1] == 1])):
            a, b = (next(s["values"][n] for s in one["series"] if s["name"] == name) for one in (free, held))
            people = len({visit[5] for visit in of if visit[5]})
            assert b == (a if people >= 5 or (not of and len({v[5] for v in mine if v[5]}) >= 5) or not mine else None)
            few += name == "bounced" and bool(of) and people < 5
    assert few and held["withheld"]
    for place, side in ((3, "entry"), (4, "exit")):
        enough = [v for v, _ in free[side] if len({t[5] for t in found if t[place] == v and t[5]}) >= 5]
        assert [value for value, _ in held[side]] == enough and len(enough) < len(free[side])
    assert [limit["reached"] for limit in free["limits"]] == [False]
    assert [limit["reached"] for limit in held["limits"]] == [True]


def test_numbers_of_threads_are_each_of_the_people_behind_it(many_people: Asked) -> None:
    asked = {"range": _YEAR, "interval": "month", "idle_seconds": 200 * 86_400}
    free, held = both(many_people, "threads", 9, **asked)
    found = threads.threads(many_people.rows, asked, many_people.now)

    def people(of: list[Any]) -> int:
        return len({thread["person"] for thread in of if thread["person"]})

    for name in ("messages", "answers", "waiting"):
        assert held[name] == (free[name] if people([t for t in found if t[name]]) >= 9 else None)
    for outcome, count in free["outcomes"].items():
        of = [t for t in found if t["outcome"] == outcome]
        assert held["outcomes"][outcome] == (count if people(of) >= 9 or not of else None)
    for name, whose in (("seconds_to_answer", "waits"), ("characters_per_message", "lengths")):
        assert held[name] == (free[name] if people([t for t in found if t[whose]]) >= 9 else None)
    assert held["withheld"] and "rows" not in held


@pytest.mark.parametrize(
    "kind,asked", [("users", {}), ("users", {"person": "u1"}), ("events", {}), ("threads", {"thread": "t1-0"})]
)
def test_answer_of_single_people_keeps_no_floor_and_says_so(many_people: Asked, kind: str, asked: Any) -> None:
    with pytest.raises(RequestError) as refused:
        many_people.stage.ask(kind, {"range": _YEAR, "floor": 2, **asked})
    assert refused.value.code == "bad_floor" and refused.value.hint
