"""The people behind each number of a funnel, a retention table, a life cycle, a path and of threads: as many as it says."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.query.conftest import Asked
from tests.query.oracle import calendar, funnel, lifecycle, lists, paths, retention, threads
from tests.query.oracle.filters import text
from twintrack.errors import RequestError
from twintrack.query.kinds import KINDS

_YEAR = {"from": "2024-02-20", "to": "2024-11-03"}
_PLAN = "event_metadata.plan"
_STEPS = [{"event": "home"}, {"event": ["view", "it's"]}, {"event": "buy"}]


def people(of: Asked, kind: str, asked: dict[str, Any], point: dict[str, Any], kinds: Any = KINDS) -> set[str]:
    answer = of.stage.ask("actors", {"of": {"kind": kind, **asked}, "point": point, "limit": 1_000}, kinds=kinds)
    found = {row[0] for row in answer["rows"]}
    assert answer["total"] == len(found) == len(answer["rows"])
    return found


def check_funnel(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer = of.stage.ask("funnel", asked, kinds=kinds)
    zone = asked.get("zone", "UTC")
    found = funnel.results(of.rows, asked, *calendar.span(asked["range"], zone, of.now))

    def came(attempts: Any, k: int, *, dropped: bool = False) -> set[str]:
        return {person for person, (d, _, _) in attempts if (d == k + 1 if dropped else d > k)}

    def groups() -> Iterator[tuple[dict[str, Any], dict[str, Any], Any]]:
        yield answer, {}, found.items()
        for group in answer.get("groups", []):
            named = [tuple(g["breakdown"]) for g in answer["groups"] if not g["other"]]
            mine = [(p, a) for p, a in found.items() if _keys(a, asked) not in named]
            point: dict[str, Any] = {"other": True}
            if not group["other"]:
                point = {"group": group["breakdown"]}
                mine = [(p, a) for p, a in found.items() if list(_keys(a, asked)) == group["breakdown"]]
            yield group, point, mine

    for shown, point, attempts in groups():
        for k, step in enumerate(shown["steps"]):
            got = people(of, "funnel", asked, {**point, "step": k}, kinds)
            assert got == came(attempts, k)
            assert len(got) == step["count"]
            lost = people(of, "funnel", asked, {**point, "step": k, "outcome": "dropped"}, kinds)
            assert lost == came(attempts, k, dropped=True)
            if k + 1 < len(shown["steps"]):
                assert len(lost) == shown["steps"][k + 1]["dropped"]


def _keys(attempt: Any, asked: dict[str, Any]) -> tuple[str | None, ...]:
    return tuple(text(attempt[2], name) for name in asked["breakdown"])


def check_retention(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer = of.stage.ask("retention", asked, kinds=kinds)
    members, _, count = retention.members(of.rows, asked, of.now)
    unbounded = bool(asked.get("unbounded"))
    for row in range(count):
        mine = [m for m in members if m[1] == row]
        assert people(of, "retention", asked, {"row": row}, kinds) == {m[0] for m in mine}
        for n, number in enumerate(answer["cohorts"][row]["returned"]):
            back = people(of, "retention", asked, {"row": row, "step": n}, kinds)
            assert back == {m[0] for m in mine if retention.returned(m[3], n, unbounded)}
            assert number is None or len(back) == number
            away = people(of, "retention", asked, {"row": row, "step": n, "outcome": "dropped"}, kinds)
            assert away == {m[0] for m in mine} - back


def check_lifecycle(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer = of.stage.ask("lifecycle", asked, kinds=kinds)
    for n, expected in enumerate(lifecycle.states(of.rows, asked, of.now)):
        for state, numbers in answer["states"].items():
            if numbers[n] is not None:
                got = people(of, "lifecycle", asked, {"step": n, "outcome": state}, kinds)
                assert got == (expected or {})[state]
                assert len(got) == numbers[n]


def check_stickiness(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer = of.stage.ask("stickiness", asked, kinds=kinds)
    expected = lifecycle.stickiness(of.rows, asked, of.now)
    assert len(people(of, "stickiness", asked, {}, kinds)) == answer["persons"]
    for n, number in enumerate(answer["exactly"]):
        assert people(of, "stickiness", asked, {"step": n}, kinds) == expected[n + 1]
        assert number == len(expected[n + 1])
        least = people(of, "stickiness", asked, {"step": n, "outcome": "at_least"}, kinds)
        assert len(least) == answer["at_least"][n]


def check_paths(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer = of.stage.ask("paths", asked, kinds=kinds)
    walks = paths.walks(of.rows, asked, of.now)

    def passing(place: int, names: list[Any]) -> set[str]:
        found = set()
        for _, person, places, _ in walks:
            at = place if "to" not in asked else len(places) - 1 + place
            if at >= 0 and places[at : at + len(names)] == names and person:
                found.add(person)
        return found

    for link in answer["links"][:8]:
        names = [link["source"], link["target"]]
        got = people(of, "paths", asked, {"step": abs(link["place"]), "group": names}, kinds)
        assert got == passing(link["place"], names)
        assert asked["per"] == "session" or len(got) == link["walks"]
    for node in answer["nodes"][:5]:
        got = people(of, "paths", asked, {"step": abs(node["place"]), "group": [node["name"]]}, kinds)
        assert got == passing(node["place"], [node["name"]])
    assert people(of, "paths", asked, {}, kinds) == {person for _, person, _, _ in walks if person}
    edge, end = ("leave", -1) if "to" not in asked else ("enter", 0)
    for node in [node for node in answer["nodes"] if node[edge]][:4]:
        point = {"step": abs(node["place"]), "group": [node["name"]], "outcome": edge}
        there = {
            person
            for _, person, places, uncut in walks
            if uncut and person and places[end] == node["name"] and len(places) - 1 == abs(node["place"])
        }
        assert people(of, "paths", asked, point, kinds) == there
        assert asked["per"] == "session" or len(there) == node[edge]
    for path in answer["paths"][:3]:
        whole = {person for _, person, places, _ in walks if person and places == path["path"]}
        assert people(of, "paths", asked, {"outcome": "path", "group": path["path"]}, kinds) == whole


def check_threads(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    found = threads.threads(of.rows, asked, of.now)
    answer = of.stage.ask("threads", asked, kinds=kinds)
    everyone = people(of, "threads", asked, {}, kinds)
    assert everyone == {t["person"] for t in found if t["person"]}
    assert len(everyone) == answer["persons"]
    for outcome in threads.OUTCOMES:
        got = people(of, "threads", asked, {"outcome": outcome}, kinds)
        assert got == {t["person"] for t in found if t["outcome"] == outcome and t["person"]}
    for number in ("messages", "answers", "waiting"):
        got = people(of, "threads", asked, {"outcome": number}, kinds)
        assert got == {t["person"] for t in found if t[number] and t["person"]}


def check_sessions(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, found = of.stage.ask("sessions", asked, kinds=kinds), lists.visits(of.rows, asked, of.now)
    assert people(of, "sessions", asked, {}, kinds) == {person for *_, person in found if person}
    bounced = {person for _, count, *_, person in found if count == 1 and person}
    assert people(of, "sessions", asked, {"outcome": "bounced"}, kinds) == bounced
    counts = answer["series"][0]["values"]
    busy = sorted((n for n, count in enumerate(counts) if count), key=lambda n: -counts[n])
    for n in busy[:3]:
        low, high = (datetime.fromisoformat(answer["buckets"][n][edge]) for edge in ("start", "end"))
        mine = [visit for visit in found if low <= visit[0] < high]
        assert people(of, "sessions", asked, {"step": n}, kinds) == {person for *_, person in mine if person}
        left = {person for _, count, *_, person in mine if count == 1 and person}
        assert people(of, "sessions", asked, {"step": n, "outcome": "bounced"}, kinds) == left
    for place, side in ((3, "entry"), (4, "exit")):
        for value, _ in answer[side][:2]:
            there = {visit[5] for visit in found if visit[place] == value and visit[5]}
            assert people(of, "sessions", asked, {"outcome": side, "group": [value]}, kinds) == there


def check_users(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    found = {row[0] for row in of.stage.ask("users", asked, kinds=kinds)["rows"]}
    assert found and found == {row[0] for row in lists.people(of.rows, asked, of.now)}
    assert people(of, "users", asked, {}, kinds) == found
    one = min(found)
    assert people(of, "users", {**asked, "search": "", "person": one}, {}, kinds) == {one}


def check_properties(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    for value, _ in of.stage.ask("properties", asked, kinds=kinds)["values"][:4]:
        rows = [row for row in lists.inside(of.rows, asked, of.now) if text(row, asked["property"]) == value]
        there = {row["person"] for row in rows if row["person"]}
        assert there and people(of, "properties", asked, {"group": [value]}, kinds) == there


CASES: list[tuple[Any, dict[str, Any]]] = [
    (check_funnel, {"range": _YEAR, "steps": _STEPS, "window_seconds": 3_600}),
    (check_funnel, {"range": _YEAR, "steps": _STEPS, "order": "any", "breakdown": [_PLAN], "top": 2}),
    (
        check_retention,
        {
            "range": {"from": "2024-03-01", "to": "2024-04-30"},
            "interval": "month",
            "periods": 2,
            "start": {},
            "back": {"event": "buy"},
        },
    ),
    (
        check_retention,
        {
            "range": {"from": "2024-03-28", "to": "2024-04-02"},
            "interval": "day",
            "periods": 3,
            "start": {"event": "home"},
            "back": {},
            "entry": "recurring",
            "unbounded": True,
            "zone": "Asia/Tehran",
        },
    ),
    (check_lifecycle, {"range": _YEAR, "interval": "month", "zone": "Asia/Kathmandu"}),
    (check_stickiness, {"range": {"last": 9}, "interval": "day", "zone": "Europe/Berlin"}),
    (check_paths, {"range": _YEAR, "from": "home", "per": "person", "steps": 4, "top": 3}),
    (check_paths, {"range": _YEAR, "to": "buy", "per": "session", "steps": 3, "top": 3}),
    (check_threads, {"range": _YEAR, "idle_seconds": 20 * 86_400}),
    (check_sessions, {"range": _YEAR, "interval": "month", "zone": "Asia/Tehran", "by": _PLAN}),
    (check_users, {"range": _YEAR, "search": "u1"}),
    (check_properties, {"range": _YEAR, "property": _PLAN}),
]


@pytest.mark.parametrize("place", range(len(CASES)))
def test_people_behind_a_number_are_the_slow_computations(many_people: Asked, place: int) -> None:
    check, asked = CASES[place]
    check(many_people, asked)


_MARCH = {"from": "2024-03-25", "to": "2024-04-05"}
# A number, and the days of UTC from which it is told.
LOOKED_AT: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("trends", {"range": _MARCH, "interval": "day"}, {"step": 5}, "2024-03-25", "2024-04-06"),
    (
        "trends",
        {"range": _MARCH, "interval": "day", "compare": {"from": "2024-10-20"}},
        {"comparison": True},
        "2024-10-20",
        "2024-11-01",
    ),
    (
        "lifecycle",
        {"range": {"from": "2024-04-01", "to": "2024-05-31"}, "interval": "month"},
        {"step": 0, "outcome": "dormant"},
        "2024-03-01",
        "2024-06-01",
    ),
    (
        "retention",
        {"range": {"from": "2024-03-20", "to": "2024-03-20"}, "interval": "month", "periods": 1},
        {"row": 0},
        "2024-03-01",
        "2024-05-01",
    ),
    ("sessions", {"range": _MARCH}, {"outcome": "bounced"}, "2024-03-25", "2024-04-06"),
    ("cohorts", {"definition": {"did": {"event": "buy"}}}, {"outcome": "everyone"}, "2000-01-01", "2030-01-01"),
]


@pytest.mark.parametrize("place", range(len(LOOKED_AT)))
def test_people_behind_a_number_come_with_what_they_did_in_the_time_it_is_told_from(
    many_people: Asked, place: int
) -> None:
    kind, asked, point, first, last = LOOKED_AT[place]
    low, high = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last))
    rows = many_people.stage.ask("actors", {"of": {"kind": kind, **asked}, "point": point, "limit": 1_000})["rows"]
    times: dict[str, list[int]] = {}
    for row in lists.known_rows(many_people.rows):
        if low <= row["event_timestamp"] < high:
            times.setdefault(row["person"], []).append(round(row["event_timestamp"].timestamp() * 1000))
    assert rows
    for person, *told in rows:
        mine = times[person]
        assert told == [min(mine), max(mine), len(mine)], (kind, person)


def test_point_of_a_trend_is_the_funnel_of_its_bucket(many_people: Asked) -> None:
    asked = {"range": _YEAR, "steps": _STEPS, "interval": "month", "zone": "Asia/Kathmandu"}
    answer = many_people.stage.ask("funnel", asked)
    for row, counts in enumerate(answer["trend"]):
        for step, count in enumerate(counts or []):
            assert len(people(many_people, "funnel", asked, {"row": row, "step": step})) == count


@pytest.mark.parametrize(
    "kind,asked,point",
    [
        ("funnel", {"steps": _STEPS}, {}),
        ("funnel", {"steps": _STEPS}, {"step": 3}),
        ("funnel", {"steps": _STEPS}, {"step": 1, "row": 0}),
        ("funnel", {"steps": _STEPS, "interval": "day"}, {"step": 1, "row": 400}),
        ("funnel", {"steps": _STEPS}, {"step": 1, "outcome": "lost"}),
        ("funnel", {"steps": _STEPS, "breakdown": [_PLAN]}, {"step": 1, "group": ["a", "b"]}),
        ("retention", {}, {}),
        ("retention", {}, {"row": 0, "step": 9}),
        ("lifecycle", {}, {"step": 0, "outcome": "sleepy"}),
        ("stickiness", {}, {"step": 30}),
        ("paths", {}, {"group": ["home"]}),
        ("paths", {}, {"step": 1}),
        ("paths", {}, {"step": 1, "group": ["a"], "outcome": "enter"}),
        ("paths", {}, {"step": 1, "group": ["a", "b"], "outcome": "leave"}),
        ("sessions", {}, {"step": 90}),
        ("sessions", {}, {"outcome": "entry"}),
        ("sessions", {}, {"outcome": "left"}),
        ("sessions", {}, {"group": ["a"]}),
        ("properties", {"property": _PLAN}, {}),
        ("threads", {}, {"outcome": "happy"}),
        ("threads", {}, {"step": 0}),
    ],
)
def test_number_that_is_not_there_is_refused_with_a_hint(many_people: Asked, kind: str, asked: Any, point: Any) -> None:
    with pytest.raises(RequestError) as refused:
        many_people.stage.ask("actors", {"of": {"kind": kind, **asked}, "point": point})
    assert refused.value.status == 400
    assert refused.value.hint
