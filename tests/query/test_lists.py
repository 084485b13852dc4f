"""Sessions, people, rows, properties and the people behind a number equal the slow computation."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import calendar, lists
from tests.query.oracle.rows import NAMES
from tests.query.questions import GENERATED_PROPERTIES, RANGES, ZONES, generated_filters, maybe, sent
from tests.query.test_trends import close, few, questions
from twintrack.auth import Role
from twintrack.errors import RequestError
from twintrack.query.kinds import KINDS

YEAR = {"from": "2024-02-15", "to": "2024-11-10"}
_NAMES = ["sessions", "bounced", "average_seconds", "median_seconds", "average_events"]


@st.composite
def ranged(draw: st.DrawFn, **more: Any) -> Any:
    period, interval = draw(st.sampled_from([pair for pair in RANGES if pair[1] != "minute"]))
    parts = {name: draw(part) for name, part in more.items()}
    question = {
        "range": period,
        "zone": draw(st.sampled_from(ZONES)),
        "filter": draw(maybe(generated_filters())),
        **parts,
    }
    return sent(question), interval


def check_sessions(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    expected = lists.sessions(of.rows, asked, of.now)
    got = of.stage.ask("sessions", asked, kinds=kinds)
    for n, name in enumerate(_NAMES):
        series = got["series"][n]
        assert series["name"] == name
        assert close([*series["values"], series["total"]], [v[n] for v in [*expected["values"], expected["total"]]]), (
            asked
        )
    assert got["entry"] == expected["entry"] and got["exit"] == expected["exit"], asked
    start, end = calendar.span(asked["range"], asked.get("zone", "UTC"), of.now)
    assert [pd.Timestamp(got["range"][edge]) for edge in ("from", "to")] == [start, end]


SESSIONS: list[dict[str, Any]] = [
    {"range": YEAR, "interval": "month", "zone": "Asia/Tehran"},
    {
        "range": {"from": "2024-03-29", "to": "2024-04-02"},
        "interval": "day",
        "zone": "Europe/Berlin",
        "by": "page_path",
    },
    {"range": YEAR, "interval": "month", "by": "person"},
    {"range": {"from": "2024-03-10", "to": "2024-03-31"}, "interval": "month"},
]


@few
@given(
    pair=ranged(
        by=st.sampled_from(["event_name", "page_path", "event_metadata.plan", "person"]),
        top=st.sampled_from([1, 3, 10]),
    )
)
def test_sessions_equal_the_slow_computation(made: Asked, pair: Any) -> None:
    check_sessions(made, {**pair[0], "interval": pair[1]})


def pages(of: Asked, kind: str, asked: dict[str, Any], kinds: Any = KINDS) -> list[Any]:
    rows: list[Any] = []
    after = ""
    while True:
        page = of.stage.ask(kind, {**asked, "after": after}, kinds=kinds)
        assert len(page["rows"]) <= asked["limit"]
        rows += page["rows"]
        if page["next"] is None:
            return rows
        after = page["next"]


def check_users(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    assert pages(of, "users", asked, kinds) == lists.people(of.rows, asked, of.now), asked


USERS: list[dict[str, Any]] = [
    {"range": YEAR, "search": "A", "limit": 2},
    {"range": {"last": 3}, "limit": 3},
    {"range": YEAR, "search": "U1", "limit": 9},
    # One who signed in under it long before.
    {"range": {"last": 3}, "search": "a1", "limit": 9},
]


@few
@given(pair=ranged(search=st.sampled_from(["", "u", "A1", "%", "7"]), limit=st.sampled_from([1, 3, 100])))
def test_people_equal_the_slow_computation(made: Asked, pair: Any) -> None:
    check_users(made, pair[0])


@pytest.mark.parametrize("person", ["u1", "u6", "u7", "a0", "a3", "nobody has this"])
def test_timeline_of_a_person_holds_the_anonymous_past_and_nothing_else(made: Asked, person: str) -> None:
    asked = {"range": YEAR, "person": person, "limit": 40}
    mine = [row for row in lists.inside(made.rows, asked, made.now) if row["person"] == person]
    mine.sort(key=lambda r: (r["event_timestamp"], str(r["event_id"])), reverse=True)
    assert [row[0] for row in pages(made, "users", asked)] == [str(row["event_id"]) for row in mine]
    summary = made.stage.ask("users", asked)["summary"]
    assert summary["events"] == len(mine)
    assert summary["anonymous_ids"] == sorted({row["anonymous_id"] for row in mine if row["anonymous_id"]})


def check_events(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    mine = [row for row in lists.inside(of.rows, asked, of.now) if lists.chosen({"event": asked.get("event")}, row)]
    mine.sort(key=lambda r: (r["event_timestamp"], str(r["event_id"])), reverse=True)
    got = [(row[0], row[3]) for row in pages(of, "events", asked, kinds)]
    assert got == [(str(row["event_id"]), row["person"]) for row in mine], asked


EVENTS: list[dict[str, Any]] = [
    {"range": {"last": 7}, "limit": 10, "zone": "Asia/Kathmandu"},
    {"range": YEAR, "event": "buy", "limit": 200},
]


@few
@given(pair=ranged(event=maybe(st.sampled_from(NAMES)), limit=st.sampled_from([7, 300])))
def test_pages_of_events_hold_each_row_once_in_order(made: Asked, pair: Any) -> None:
    check_events(made, {**pair[0], "limit": max(pair[0]["limit"], 40)})


def check_properties(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    got = of.stage.ask("properties", asked, kinds=kinds)
    if "property" in asked:
        assert got["values"] == lists.values(of.rows, asked, of.now), asked
        return
    found = {one["name"]: set(one["types"]) for one in got["properties"] if one["name"].startswith("event_metadata.")}
    assert found == lists.types(of.rows, asked, of.now)


PROPERTIES: list[dict[str, Any]] = [
    {"range": YEAR},
    {"range": YEAR, "property": "event_metadata.plan", "contains": "PRO"},
    {"range": {"last": 10}, "property": "event_value", "event": "buy", "limit": 3},
]


@few
@given(
    pair=ranged(
        property=maybe(st.sampled_from(GENERATED_PROPERTIES)),
        event=maybe(st.sampled_from(NAMES)),
        contains=st.sampled_from(["", "R", "/"]),
    )
)
def test_properties_equal_the_slow_computation(made: Asked, pair: Any) -> None:
    asked = pair[0] if "property" in pair[0] else {**pair[0], "event": None}
    check_properties(made, sent(asked))


def check_actors(of: Asked, asked: dict[str, Any], kinds: Any = KINDS, limit: int = 3) -> None:
    expected = lists.actors(of.rows, asked["of"], of.now, asked["point"])
    got = pages(of, "actors", {**asked, "limit": limit}, kinds)
    assert [row[0] for row in got] == sorted(expected, key=str.encode), asked


ACTORS: list[dict[str, Any]] = [
    {
        "of": {
            "kind": "trends",
            "range": {"from": "2024-03-29", "to": "2024-04-02"},
            "interval": "hour",
            "zone": "Asia/Kathmandu",
            "series": [{}, {"event": "buy"}],
        },
        "point": {"series": "B", "step": 53},
    },
    {
        "of": {
            "kind": "trends",
            "range": YEAR,
            "interval": "month",
            "series": [{}],
            "breakdown": ["event_metadata.plan"],
        },
        "point": {"series": "A", "group": ["pro"]},
    },
]


@pytest.mark.parametrize("case", range(2))
def test_actors_equal_the_slow_computation(made: Asked, case: int) -> None:
    check_actors(made, ACTORS[case])


@few
@given(asked=questions(NAMES, GENERATED_PROPERTIES, generated_filters(), RANGES), data=st.data())
def test_as_many_actors_stand_behind_a_number_of_persons_as_it_says(
    made: Asked, asked: Any, data: st.DataObject
) -> None:
    for series in asked["series"]:
        series.pop("property", None)
        series["measure"] = "persons"
    answer = made.stage.ask("trends", asked)
    comparison = "comparison" in answer and data.draw(st.booleans())
    side = answer["comparison"] if comparison else answer
    if not side["series"]:
        return
    one = data.draw(st.sampled_from(side["series"]))
    step = data.draw(st.sampled_from([None, *range(len(side["buckets"]))]))
    number = one["total"] if step is None else one["values"][step]
    point = {"series": one["name"], "step": step, "comparison": comparison, "other": one.get("other", False)}
    if not point["other"]:
        point["group"] = one.get("breakdown")
    question = {"of": {"kind": "trends", **asked}, "point": point}
    if number is not None:
        assert made.stage.ask("actors", question)["total"] == number, question


def test_breakdown_of_counts_adds_up_to_the_whole(made: Asked) -> None:
    asked = {"range": YEAR, "interval": "week", "series": [{}]}
    whole = made.stage.ask("trends", asked)["series"][0]
    whole["values"] = [v for v in whole["values"] if v is not None]  # the last week begins after now
    parts = made.stage.ask("trends", {**asked, "breakdown": ["event_metadata.plan", "page_path"], "top": 4})["series"]
    assert [p["other"] for p in parts] == [False] * 4 + [True]
    steps = zip(*(p["values"] for p in parts), strict=True)
    assert [sum(v) for v in steps if None not in v] == whole["values"]
    assert sum(p["total"] for p in parts) == whole["total"] == sum(whole["values"])


@pytest.mark.parametrize("role", [Role.READ, Role.VIEWER])
def test_role_without_text_sees_none_and_cannot_filter_by_it(made: Asked, role: Role) -> None:
    from tests.query.stage import ASKER

    asker = ASKER._replace(role=role)
    shown = made.stage.ask("events", {"range": YEAR, "columns": ["message_content", "ip_address"], "limit": 1}, asker)
    assert shown["rows"] == [[None, "::"]]
    named = {p["name"] for p in made.stage.ask("properties", {"range": YEAR}, asker)["properties"]}
    assert "event_name" in named and not named & {"message_content", "ip_address"}
    for question in (
        {"filter": {"property": "message_content", "operator": "contains", "value": "x"}},
        {"breakdown": ["ip_address"]},
    ):
        with pytest.raises(RequestError) as refused:
            made.stage.ask("trends", {"range": YEAR, **question}, asker)
        assert refused.value.code == "hidden_property"
