"""Threads equal the slow computation; one thread is told in order, and to some without its words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.query.conftest import Asked
from tests.query.oracle import threads as oracle
from tests.query.oracle.order import in_order
from tests.query.questions import ZONES, maybe, sent
from tests.query.stage import SHOP
from tests.query.test_funnel import CROWD_FILTERS, CROWD_RANGES, many
from twintrack.auth import Principal, Role
from twintrack.query.kinds import KINDS

_ENDED = {"event": "message_sent", "filter": {"property": "event_metadata.outcome", "value": "completed"}}
_LEFT = {"event": "message_sent", "filter": {"property": "event_metadata.outcome", "value": "abandoned"}}


@st.composite
def questions(draw: st.DrawFn) -> Any:
    asked_range, interval = draw(st.sampled_from(CROWD_RANGES))
    return sent(
        {
            "range": asked_range,
            "zone": draw(st.sampled_from(ZONES)),
            "filter": draw(maybe(CROWD_FILTERS)),
            "message": draw(maybe(st.sampled_from([{"event": ["message_sent", "view"]}, {"event": "message_sent"}]))),
            "completed": draw(maybe(st.sampled_from([_ENDED, {"event": "buy"}]))),
            "abandoned": draw(maybe(st.just(_LEFT))),
            "idle_seconds": draw(maybe(st.sampled_from([1, 1_800, 3 * 86_400, 250 * 86_400]))),
            "interval": draw(maybe(st.just(interval))),
        }
    )


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    answer, expected = of.stage.ask("threads", asked, kinds=kinds), oracle.answer(of.rows, asked, of.now)
    for name in ("threads", "persons", "outcomes", "messages", "answers", "waiting"):
        assert answer[name] == expected[name], name
    for name in ("seconds_to_answer", "messages_per_thread", "seconds_per_thread", "characters_per_message"):
        told = None if answer[name] is None else (answer[name]["average"], answer[name]["median"], answer[name]["p90"])
        assert told == (None if expected[name] is None else pytest.approx(expected[name])), name
    if asked.get("interval"):
        for n, bucket in enumerate(answer["buckets"]):
            told = {name: values[n] for name, values in answer["trend"].items()}
            assert told == (dict.fromkeys(told) if bucket["state"] == "gap" else expected["trend"][n])
    found = sorted(oracle.threads(of.rows, asked, of.now), key=lambda t: (-t["began"].timestamp(), t["thread_id"]))
    listed = [(t["thread_id"], t["person"], t["outcome"], t["messages"], t["answers"], t["waiting"]) for t in found]
    assert [(r[0], r[1], *r[4:]) for r in answer["rows"]] == listed[:50]
    assert sum(answer["outcomes"].values()) == answer["threads"]


@many
@given(asked=questions())
def test_threads_of_a_crowd_equal_the_slow_computation(many_people: Asked, asked: dict[str, Any]) -> None:
    check(many_people, asked)


def longest(of: Asked) -> tuple[str, list[dict[str, Any]]]:
    by_thread: dict[str, list[dict[str, Any]]] = {}
    for row in in_order(of.rows):
        if row.get("thread_id"):
            by_thread.setdefault(row["thread_id"], []).append(row)
    return max(by_thread.items(), key=lambda thread: len(thread[1]))


def test_thread_is_told_in_order_with_its_words(many_people: Asked) -> None:
    thread, rows = longest(many_people)
    answer = many_people.stage.ask("threads", {"thread": thread})
    at = answer["columns"].index("event_id")
    text = answer["columns"].index("message_content")
    assert [row[at] for row in answer["rows"]] == [str(row["event_id"]) for row in rows]
    assert [row[text] for row in answer["rows"]] == [row["message_content"] for row in rows]


@pytest.mark.parametrize("role", [Role.READ, Role.VIEWER])
def test_thread_is_told_without_words_to_who_may_not_see_them(many_people: Asked, role: Role) -> None:
    thread, rows = longest(many_people)
    answer = many_people.stage.ask("threads", {"thread": thread}, Principal("key", role, SHOP))
    text = answer["columns"].index("message_content")
    assert [row[text] for row in answer["rows"]] == [
        None if row["message_content"] is None else "[MESSAGE]" for row in rows
    ]
