"""Where events have expired: what the rollup still has is told, and what nobody has any more is not called zero."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.query.conftest import Asked
from tests.query.oracle import trends as oracle
from tests.query.oracle.crowd import NOW, crowd
from tests.query.stage import staged
from tests.query.test_trends import close, same
from twintrack.query.answer import Answers

# In the middle of a day on which much happens. What is older is gone from raw; rollups and links keep theirs.
COMPLETE = datetime(2024, 10, 27, 12, tzinfo=UTC)
YEAR = {"from": "2024-02-01", "to": "2024-11-03"}
GONE = {"from": "2024-03-01", "to": "2024-04-30"}
LEFT = {"from": "2024-10-28", "to": "2024-11-03"}


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    rows = crowd(people=30)
    with staged(tmp_path_factory.mktemp("aged") / "store", NOW, rows) as stage:
        until = f"toDateTime64('{COMPLETE:%Y-%m-%d %H:%M:%S}', 3, 'UTC')"
        stage.store.command(
            f"ALTER TABLE analytics.events DELETE WHERE event_timestamp < {until} SETTINGS mutations_sync = 2"
        )
        since = {"shop": round(COMPLETE.timestamp() * 1000)}
        stage.answers = Answers(stage.executor, stage.clock, lambda _: stage.cohorts, complete_since=lambda: since)
        yield Asked(stage, rows, NOW)


def states(answer: dict[str, Any]) -> list[str]:
    return [bucket["state"] for bucket in answer["buckets"]]


def test_counts_by_name_come_whole_from_the_rollup_however_old(aged: Asked) -> None:
    for more in ({}, {"rolling": 2}, {"breakdown": ["event_name"]}, {"compare": "previous period"}):
        asked = {"range": YEAR, "interval": "month", "series": [{"event": "buy"}, {}], **more}
        answer = aged.stage.ask("trends", asked)
        same(answer, oracle.answer(aged.rows, asked, aged.now), asked)
        assert answer["source"] == "rollup" and "expired" not in states(answer)
        assert answer["complete_from"] == "2024-10-27T12:00:00.000Z"
        assert "have expired and are still counted" in answer["definition"]


@pytest.mark.parametrize(
    "more", [{}, {"rolling": 2}, {"cumulative": True}, {"interval": "day", "range": LEFT, "rolling": 2}]
)
def test_what_needs_raw_counts_what_is_left_and_calls_none_of_it_zero(aged: Asked, more: Any) -> None:
    series = [{"measure": "persons"}, {"measure": "sessions", "event": "it's"}, {"measure": "per person"}]
    asked = {"range": YEAR, "interval": "month", "series": series, **more}
    answer = aged.stage.ask("trends", asked)
    still = {"property": "event_timestamp", "operator": ">=", "value": COMPLETE.isoformat(), "type": "time"}
    expected = oracle.answer(aged.rows, {**asked, "filter": still}, aged.now)["main"]
    lead = asked.get("rolling", 1) - 1
    for n, bucket in enumerate(answer["buckets"]):
        first = answer["buckets"][0 if asked.get("cumulative") else max(n - lead, 0)]["start"]
        # The first bucket of all looks back before the range.
        looks_back = lead and n == 0 and asked["range"] == LEFT
        before = first < COMPLETE.isoformat() or looks_back
        assert bucket["state"] == ("expired" if before else "unfinished" if n == len(states(answer)) - 1 else "whole")
    whole = [*states(answer), "whole" if asked["range"] == LEFT else "expired"]
    for one in answer["series"]:
        values, total = expected[(), one["name"]]
        known = [v or None if s == "expired" else v for v, s in zip([*values, total], whole, strict=True)]
        assert close([*one["values"], one["total"]], known), (one, values, total)
    assert answer["source"] == "raw"


def numbers(part: Any) -> Iterator[float]:
    """All numbers of an answer that count something."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name not in ("rows_read", "milliseconds", "parameters", "limits", "floor", "everyone"):
                yield from numbers(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from numbers(inner)
    elif isinstance(part, int | float) and not isinstance(part, bool):
        yield part


_STEPS = [{"event": "home"}, {"event": "buy"}]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("trends", {"series": [{"measure": "persons"}, {"measure": "sum", "property": "event_metadata.amount"}]}),
    ("trends", {"series": [{"measure": "persons"}], "range": {"last": 3}, "compare": {"from": "2024-03-29"}}),
    ("sessions", {"interval": "week"}),
    ("funnel", {"steps": _STEPS, "interval": "month"}),
    ("retention", {"interval": "month", "periods": 1}),
    ("retention", {"interval": "week", "periods": 2, "entry": "recurring", "breakdown": ["event_metadata.plan"]}),
    ("lifecycle", {"interval": "week"}),
    ("stickiness", {"interval": "month"}),
    ("paths", {}),
    ("threads", {"interval": "month"}),
    ("cohorts", {"definition": {"did": {"event": "nothing has this name"}}}),
    ("users", {}),
    ("events", {}),
    ("properties", {"property": "page_path"}),
    ("actors", {"of": {"kind": "trends", "range": GONE, "series": [{}]}}),
]


@pytest.mark.parametrize("kind,asked", KINDS, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(KINDS)])
def test_answer_of_a_time_that_has_expired_says_so_and_holds_no_zero(aged: Asked, kind: str, asked: Any) -> None:
    ranged = {} if kind in ("cohorts", "actors") else {"range": GONE}
    answer = aged.stage.ask(kind, {**ranged, **asked})
    assert answer["complete_from"] == "2024-10-27T12:00:00.000Z"
    assert "Events before 2024-10-27T12:00:00.000Z have expired" in answer["definition"]
    if kind == "actors":
        assert answer["rows"] == []
        return
    told = answer.get("comparison", answer)
    assert 0 not in numbers(told), told
    assert {"expired"} >= set(states(told)) - {"gap"} if "buckets" in told else True


@pytest.mark.parametrize("kind", ["trends", "sessions", "stickiness", "paths", "users", "events"])
def test_answer_of_a_time_that_raw_has_whole_says_nothing_of_it(aged: Asked, kind: str) -> None:
    asked = {"series": [{"measure": "persons"}]} if kind == "trends" else {}
    answer = aged.stage.ask(kind, {"range": LEFT, **asked})
    assert answer["complete_from"] is None and "expired" not in answer["definition"].replace(
        "cut, unfinished, expired", ""
    )
    assert "expired" not in states({"buckets": [], **answer})


def test_cohort_in_a_filter_reaches_back_to_what_has_expired(aged: Asked) -> None:
    aged.stage.cohorts = {"buyers": {"did": {"event": "buy"}}}
    asked = {"range": LEFT, "series": [{"measure": "persons"}], "filter": {"cohort": "buyers"}}
    assert aged.stage.ask("trends", asked)["complete_from"]


def test_who_comes_back_after_the_time_that_expired_counts_as_ever(aged: Asked) -> None:
    """Whole buckets behind it are as they were; the first one, which looks back over its edge, is not called whole."""
    answer = aged.stage.ask("lifecycle", {"range": {"from": "2024-10-26", "to": "2024-10-31"}, "interval": "day"})
    assert states(answer) == ["expired"] * 3 + ["whole"] * 3
    assert answer["complete_from"]
