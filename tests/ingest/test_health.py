"""A page's own counts become metrics by their differences, and nothing in them can harm a batch."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Service
from twintrack.ingest.health import _MOST_PAGES, Pages, read
from twintrack.metrics import SDK_STATES, Metrics
from twintrack.testing import wire_event


def sdk(page: str = "page-1", **told: Any) -> dict[str, Any]:
    return {"name": "@twintrack/browser", "version": "1", "health": {"page": page, "storage": "disk", **told}}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def events(metrics: Metrics) -> dict[str, float]:
    counted = {state: value(metrics, "twintrack_sdk_events_total", state=state) for state in SDK_STATES}
    return {state: count for state, count in counted.items() if count}


def test_counts_of_a_page_are_added_by_their_difference() -> None:
    metrics = Metrics()
    pages = Pages(metrics)
    for told in ({"tracked": 5, "sent": 3}, {"tracked": 9, "sent": 9, "retried": 1}, {"tracked": 9, "sent": 9}):
        pages.heard("key", sdk(**told))
    assert events(metrics) == {"tracked": 9, "sent": 9, "retried": 1}


def test_batch_that_comes_again_or_late_adds_nothing() -> None:
    metrics = Metrics()
    pages = Pages(metrics)
    for tracked in (5, 5, 12, 5, 12, 13):
        pages.heard("key", sdk(tracked=tracked))
    assert events(metrics) == {"tracked": 13}


def test_pages_are_apart_also_where_two_keys_send_one_id() -> None:
    metrics = Metrics()
    pages = Pages(metrics)
    for key, page in (("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")):
        pages.heard(key, sdk(page, tracked=2))
    assert events(metrics) == {"tracked": 6}
    assert value(metrics, "twintrack_sdk_pages_total", storage="disk") == 3


def test_page_is_counted_once_by_its_storage_and_once_as_blocked() -> None:
    metrics = Metrics()
    pages = Pages(metrics)
    for told in (
        sdk("a", storage="memory", blocked=False),
        sdk("a", storage="memory", blocked=True),
        sdk("a", storage="memory", blocked=False),
        sdk("a", storage="memory", blocked=True),
        sdk("b", storage="cloud", blocked="yes"),
    ):
        pages.heard("key", told)
    assert value(metrics, "twintrack_sdk_pages_total", storage="memory") == 1
    assert value(metrics, "twintrack_sdk_pages_total", storage="unknown") == 1
    assert value(metrics, "twintrack_sdk_blocked_pages_total") == 1


def test_main_thread_time_is_told_for_one_event() -> None:
    metrics = Metrics()
    pages = Pages(metrics)
    pages.heard("key", sdk(tracked=10, main_thread_milliseconds=2))
    pages.heard("key", sdk(tracked=10, main_thread_milliseconds=3))  # no event, so nothing is said of one
    pages.heard("key", sdk(tracked=20, main_thread_milliseconds=4))
    assert value(metrics, "twintrack_sdk_main_thread_seconds_count") == 2
    assert value(metrics, "twintrack_sdk_main_thread_seconds_sum") == pytest.approx(0.0002 + 0.0001)


def test_memory_of_pages_is_bounded_and_keeps_the_latest() -> None:
    metrics = Metrics()
    pages = Pages(metrics)
    for number in range(_MOST_PAGES + 1):
        pages.heard("key", sdk(str(number), tracked=1))
    assert len(pages._last) == _MOST_PAGES
    pages.heard("key", sdk(str(_MOST_PAGES), tracked=1))
    assert events(metrics) == {"tracked": _MOST_PAGES + 1}


@pytest.mark.parametrize(
    "bad", [-1, 2**54, 1e300, "5", True, None, [], {}, float("nan"), float("inf"), 10**30, 1_000_001]
)
def test_count_that_is_none_is_as_if_absent_and_leaves_the_others(bad: Any) -> None:
    metrics = Metrics()
    Pages(metrics).heard("key", sdk(tracked=bad, sent=3, main_thread_milliseconds=bad))
    assert events(metrics) == {"sent": 3}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("page", "storage", "blocked", "main_thread_milliseconds", *SDK_STATES)


@given(JSON | st.fixed_dictionaries({"health": JSON | st.dictionaries(st.sampled_from(MEMBERS), JSON)}))
def test_whatever_is_told_is_read_or_left(told: Any) -> None:
    metrics = Metrics()
    series = len(list(metrics.registry.collect()))
    Pages(metrics).heard("key", told)
    health = read(told)
    assert health is None or all(0 <= count <= 2**53 for count in health.counts)
    assert len(list(metrics.registry.collect())) == series
    assert {sample.labels["state"] for sample in metrics.sdk_events.collect()[0].samples} == set(SDK_STATES)


@pytest.mark.parametrize(
    "told",
    [
        "5",
        '"x"',
        "[]",
        "null",
        '{"health": 5}',
        '{"health": {"page": "\\ud83d", "tracked": NaN}}',
        "[" * 2000 + "]" * 2000,
    ],
    ids=range(7),
)
def test_garbage_never_harms_the_batch(service: Service, told: str) -> None:
    body = f'{{"events": [{json.dumps(wire_event())}], "sdk": {told}}}'
    answer = service.request("POST", "/api/analytics/events", content=body, headers={"X-Write-Key": service.write_key})
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


def test_health_of_a_batch_stands_in_the_metrics_also_beside_a_bad_event(service: Service) -> None:
    service.send({"events": [wire_event()], "sdk": sdk(tracked=4)})
    service.send({"events": [5], "sdk": sdk(tracked=6)})
    service.send({"events": [], "receipts": [], "sdk": sdk(tracked=7)})
    text = service.get("/metrics").text
    assert 'twintrack_sdk_events_total{state="tracked"} 7.0' in text
    assert "page-1" not in text
