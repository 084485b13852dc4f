"""Cohorts equal the slow computation, by themselves and as a filter of every kind."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.query import test_funnel, test_lifecycle, test_lists, test_paths, test_retention, test_threads, test_trends
from tests.query.conftest import Asked
from tests.query.oracle import cohorts as oracle
from tests.query.oracle.crowd import STEPS
from tests.query.questions import ZONES, maybe, sent
from tests.query.stage import ASKER, staged
from tests.query.test_funnel import CROWD_FILTERS, CROWD_RANGES, many
from twintrack.auth import Role
from twintrack.control.control import Control
from twintrack.control.erasures import Subject
from twintrack.control.subjects import remove, rows_of
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.query import cohort
from twintrack.query.answer import Answers
from twintrack.query.kinds import KINDS
from twintrack.testing import ManualClock

_NAME = st.one_of(st.sampled_from(STEPS), st.lists(st.sampled_from(STEPS), min_size=1, max_size=2), st.none())
_SELECTION = st.fixed_dictionaries({"event": _NAME, "filter": maybe(CROWD_FILTERS)}).map(sent)
_PROPERTY = st.sampled_from(["event_metadata.plan", "event_metadata.amount", "session_id"])


def _did() -> st.SearchStrategy[Any]:
    ranges = st.sampled_from([asked for asked, _ in CROWD_RANGES])
    return st.fixed_dictionaries(
        {
            "did": _SELECTION,
            "at_least": st.sampled_from([1, 2, 5, 20]),
            "range": maybe(ranges),
            "zone": st.sampled_from(ZONES),
        }
    ).map(sent)


def _has() -> st.SearchStrategy[Any]:
    values = st.sampled_from(["pro", "free", "a,b", "7"])
    texts = st.fixed_dictionaries({"property": _PROPERTY, "operator": st.sampled_from(["=", "!="]), "value": values})
    numbers = st.fixed_dictionaries(
        {"property": _PROPERTY, "operator": st.sampled_from(["<", ">="]), "value": st.sampled_from([1, 2.5])}
    )
    given_or_not = st.fixed_dictionaries({"property": _PROPERTY, "operator": st.sampled_from(["is set", "is not set"])})
    return st.fixed_dictionaries({"has": st.one_of(texts, numbers, given_or_not)})


def _reached() -> st.SearchStrategy[Any]:
    funnel = st.fixed_dictionaries(
        {
            "range": st.sampled_from([asked for asked, _ in CROWD_RANGES]),
            "steps": st.lists(_SELECTION, min_size=2, max_size=3),
            "window_seconds": st.sampled_from([30, 3_600, 86_400]),
        }
    )
    state = st.sampled_from(["reached", "dropped"])
    return st.fixed_dictionaries({"funnel": funnel, "step": st.integers(1, 2), "state": state})


DEFINITIONS = st.recursive(
    st.one_of(
        _did(),
        _has(),
        _reached(),
        st.lists(st.sampled_from(["u1", "u2", "u7", "a3", "a9", "nobody", ""]), max_size=4).map(
            lambda persons: {"persons": persons}
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda parts: {"all": parts}),
        st.lists(inner, max_size=2).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=3,
)


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    expected = oracle.members(of.rows, asked, of.now)
    answer = of.stage.ask("cohorts", {"definition": asked}, kinds=kinds)
    assert answer["persons"] == len(expected)
    people = of.stage.ask("actors", {"of": {"kind": "cohorts", "definition": asked}, "limit": 1_000}, kinds=kinds)
    assert {row[0] for row in people["rows"]} == expected


@many
@given(asked=DEFINITIONS)
def test_cohort_of_a_crowd_equals_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check(many_people, asked)


BUYERS = {"did": {"event": "buy"}, "at_least": 2}
LAST_PRO = {"has": {"property": "event_metadata.plan", "operator": "=", "value": "pro"}}
BOTH = {"all": [BUYERS, {"not": LAST_PRO}]}
# A cohort whose own definition filters by another one.
NESTED = {"did": {"event": "view", "filter": {"not": {"cohort": "buyers"}}}, "at_least": 3}
KEPT = {"buyers": BUYERS, "both": BOTH, "nested": NESTED}
FILTERS = [{"cohort": "buyers"}, {"not": {"cohort": "both"}}, {"any": [{"cohort": "nested"}, {"cohort": "both"}]}]


@pytest.mark.parametrize("place", range(len(FILTERS)))
def test_cohort_filters_every_kind_as_the_slow_computation_does(many_people: Asked, place: int) -> None:
    rows = oracle.judged(many_people.rows, {"buyers": BUYERS, "both": BOTH}, many_people.now)
    rows = oracle.judged(rows, {"buyers": BUYERS, "both": BOTH, "nested": NESTED}, many_people.now)
    many_people.stage.cohorts = KEPT
    year = {"from": "2024-02-20", "to": "2024-11-03"}
    asked = {"range": year, "filter": FILTERS[place], "zone": "Asia/Kathmandu"}
    steps = [{"event": "home"}, {"event": "view", "filter": {"cohort": "buyers"}}]
    try:
        of = Asked(many_people.stage, rows, many_people.now)
        test_funnel.check(of, {**asked, "steps": steps, "per": "session"})
        test_retention.check(of, {**asked, "start": {}, "back": {"event": "buy"}, "interval": "month", "periods": 3})
        test_lifecycle.check(of, {**asked, "interval": "month"})
        test_lifecycle.check_stickiness(of, {**asked, "interval": "week"})
        test_paths.check(of, {**asked, "from": "home", "steps": 4})
        test_threads.check(of, asked)
        monthly = {**asked, "interval": "month"}
        series = [{"measure": "persons"}, {"event": "buy", "filter": {"cohort": "buyers"}}]
        test_trends.check(of, {**monthly, "series": series, "breakdown": ["event_metadata.plan"], "top": 3})
        test_lists.check_sessions(of, monthly)
        test_lists.check_users(of, {**asked, "limit": 500})
        test_lists.check_events(of, {**asked, "event": "buy", "limit": 1_000})
        test_lists.check_properties(of, {**asked, "property": "event_metadata.plan"})
        behind = {"kind": "trends", **monthly, "series": series}
        test_lists.check_actors(of, {"of": behind, "point": {"series": "A"}}, limit=500)
    finally:
        many_people.stage.cohorts = {}


def test_cohort_made_of_itself_is_refused(many_people: Asked) -> None:
    circle = {"a": {"did": {"filter": {"cohort": "b"}}}, "b": {"did": {"filter": {"cohort": "a"}}}}
    many_people.stage.cohorts = circle
    try:
        with pytest.raises(RequestError) as refused:
            many_people.stage.ask("cohorts", {"cohort": "a"})
    finally:
        many_people.stage.cohorts = {}
    assert refused.value.code == "unknown_cohort"


def test_persons_who_are_erased_leave_every_list_and_take_conditions_on_them_along(tmp_path: Any) -> None:
    control = Control(f"sqlite:///{tmp_path}/control.db", ManualClock(0))
    kept, here, elsewhere = control.cohorts, Tenancy("shop", "production"), Tenancy("other", "production")
    subject = Subject("user", "ada", ["ada", "p_0123456789"], [("production", "browser-of-ada")])
    on_her = {"property": "user_id", "op": "in", "value": ["grace", "ada"]}
    stay = {
        "two": {"persons": ["grace"]},
        "a team": {"did": {"filter": {"property": "event_metadata.team", "op": "is", "value": "ada"}}},
    }
    go = {
        "condition": {"all": [BUYERS, {"did": {"filter": {"all": [on_her]}}}]},
        "browser": {"did": {"filter": {"property": "context.x", "op": "contains", "value": "id=browser-of-ada"}}},
        "ada": BUYERS,
        "seen by p_0123456789": BUYERS,
    }
    for name, definition in {**stay, **go, "one": {"any": [{"persons": ["ada", "grace"]}, BUYERS]}}.items():
        kept.put(here, name, definition)
    kept.put(elsewhere, "one", {"persons": ["ada"]})
    held = rows_of(control.engine, "shop", subject, b"s")["cohorts"]
    assert {one["name"] for one in held} == {*go, "one"} and all(set(one) == {"environment", "name"} for one in held)
    with control.engine.begin() as db:
        assert remove(db, "shop", subject)["cohorts"] == 5
    assert kept.all(here) == {**stay, "one": {"any": [{"persons": ["grace"]}, BUYERS]}}
    assert kept.all(elsewhere) == {"one": {"persons": ["ada"]}}
    control.close()


def test_answer_filtered_by_a_cohort_is_not_kept_past_an_event_outside_its_range(tmp_path: Any) -> None:
    now = datetime(2024, 11, 3, 12, tzinfo=UTC)

    def row(number: int, person: str, day: datetime) -> dict[str, Any]:
        ids = {"event_id": UUID(int=number), "user_id": person, "anonymous_id": "", "session_id": ""}
        return {**ids, "event_name": "buy", "event_timestamp": day, "event_metadata": {}}

    today, long_ago = datetime(2024, 11, 3, 9, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    with staged(tmp_path / "store", now, [row(1, "ada", today), row(2, "alan", today)]) as stage:
        stage.cohorts = {"twice": {"did": {}, "at_least": 2}}
        stage.answers = Answers(stage.executor, stage.clock, lambda _: stage.cohorts, kept=10)
        asked = {"range": {"last": 1}, "interval": "day", "series": [{"measure": "persons"}]}
        filtered = {**asked, "filter": {"cohort": "twice"}}
        assert stage.ask("trends", filtered)["series"][0]["total"] == 0
        assert stage.ask("trends", filtered)["cached"]
        stage.insert([row(3, "ada", long_ago)])
        assert stage.ask("trends", filtered)["series"][0]["total"] == 1


_MONTH = {"range": {"from": "2024-10-01", "to": "2024-10-31"}}
_OF_NESTED = " The cohort nested: at least 3 events named view where not (the person is in the cohort buyers) ever."
_OF_BUYERS = " The cohort buyers: at least 2 events named buy ever."
_BY_COHORT: list[tuple[str, dict[str, Any]]] = [
    ("trends", {**_MONTH, "interval": "day", "filter": {"not": {"cohort": "buyers"}}}),
    ("trends", {**_MONTH, "interval": "day", "series": [{"measure": "persons", "filter": {"cohort": "buyers"}}]}),
    ("funnel", {**_MONTH, "steps": [{"event": "home"}, {"event": "view", "filter": {"cohort": "buyers"}}]}),
    ("properties", {**_MONTH, "property": "event_name", "filter": {"cohort": "buyers"}}),
    ("events", {**_MONTH, "filter": {"cohort": "buyers"}}),
    ("cohorts", {"cohort": "buyers"}),
    ("actors", {"of": {"kind": "sessions", **_MONTH, "filter": {"cohort": "buyers"}}}),
]


@pytest.mark.parametrize("kind, asked", _BY_COHORT)
def test_answer_made_with_a_cohort_tells_what_the_cohort_means(
    many_people: Asked, kind: str, asked: dict[str, Any]
) -> None:
    many_people.stage.cohorts = KEPT
    try:
        said = many_people.stage.ask(kind, asked)["definition"]
        assert said.endswith("." + _OF_BUYERS) and "the cohort buyers" in said.removesuffix(_OF_BUYERS)
    finally:
        many_people.stage.cohorts = {}


def test_answer_tells_once_what_each_cohort_means_that_another_one_is_made_of(many_people: Asked) -> None:
    many_people.stage.cohorts = KEPT
    both = {"all": [{"cohort": "nested"}, {"cohort": "buyers"}]}
    try:
        said = many_people.stage.ask("trends", {**_MONTH, "interval": "day", "filter": both})["definition"]
    finally:
        many_people.stage.cohorts = {}
    assert said.endswith("." + _OF_NESTED + _OF_BUYERS) and "cohort both" not in said


_ON_ONE = {"did": {"filter": {"property": "user_id", "value": "u7"}}}


@pytest.mark.parametrize("secret", [{"persons": ["u7"]}, _ON_ONE, {"not": _ON_ONE}])
def test_cohort_that_names_people_is_not_told_to_who_may_not_see_them(many_people: Asked, secret: Any) -> None:
    viewer = ASKER._replace(role=Role.VIEWER)
    many_people.stage.cohorts = {"few": secret, "through": {"did": {"filter": {"cohort": "few"}}}}
    try:
        for name in ("few", "through"):
            asked = {**_MONTH, "interval": "day", "filter": {"cohort": name}}
            with pytest.raises(RequestError) as refused:
                many_people.stage.ask("trends", asked, viewer)
            assert refused.value.code == "hidden_property" and "u7" not in f"{refused.value} {refused.value.hint}"
            assert "The cohort few: " in many_people.stage.ask("trends", asked)["definition"]
        # Named where the question has no use for it, and so not checked: nothing is told.
        aside = {**_MONTH, "thread": "t1", "message": {"filter": {"cohort": "few"}}}
        assert "u7" not in many_people.stage.ask("threads", aside, viewer)["definition"]
        assert "The cohort" not in many_people.stage.ask("threads", aside, viewer)["definition"]
    finally:
        many_people.stage.cohorts = {}


def test_meaning_of_a_cohort_of_a_funnel_tells_all_that_its_people_depend_on() -> None:
    funnel = {
        "steps": [{"event": "home"}, {"event": "buy"}],
        "window_seconds": 60,
        "range": {"last": 7, "complete": True},
    }
    pro = {"property": "event_metadata.plan", "value": "pro"}
    ways = {
        "ordered": "home, then events named buy, within",
        "strict": "home, then events named buy, with no other event in between, within",
        "any": "home, events named buy, within",
    }
    for order, said in ways.items():
        of = {"funnel": {**funnel, "order": order, "filter": pro}, "step": 2, "state": "dropped"}
        head = "these in any order: " if order == "any" else ""
        assert cohort.words(cohort.parse(of)) == (
            f"who came to step 2 and no further of {head}events named {said} 60 seconds, begun in the last 7 complete days,"
            " only where event_metadata.plan = pro"
        )
