"""The pipeline in numbers: terms that add up, and a difference that is shown where they do not."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Service, running
from twintrack.auth import Role
from twintrack.metrics import Step
from twintrack.testing import wire_event
from twintrack.trace.pipeline_state import quantiles, summarise


def test_terms_of_the_summary_are_those_of_both_balances() -> None:
    found = {
        ("accepted", ""): 10,
        ("duplicate", "already_accepted"): 4,
        ("duplicate", "found_in_store"): 3,
        ("rejected", "too_long"): 2,
        ("dropped", "killed"): 1,
        ("quarantined", "store_refused_data"): 1,
        ("stored", ""): 5,
    }
    state = summarise(found, stored_in_engine=5, in_spool=1)
    assert (state["received"], state["accepted"], state["duplicate"]) == (17, 7, 7)
    assert (state["rejected"], state["dropped"], state["retry"]) == (2, 1, 0)
    assert state["balance"] == {"holds": True, "difference": 0}
    assert {(r["outcome"], r["reason"], r["count"]) for r in state["reasons"]} == {
        ("duplicate", "already_accepted", 4),
        ("duplicate", "found_in_store", 3),
        ("rejected", "too_long", 2),
        ("dropped", "killed", 1),
        ("quarantined", "store_refused_data", 1),
    }


@pytest.mark.parametrize(("stored", "difference"), [(9, 1), (10, 0), (11, -1)])
def test_row_lost_or_doubled_is_the_difference(stored: int, difference: int) -> None:
    state = summarise({("accepted", ""): 10, ("stored", ""): 10}, stored_in_engine=stored, in_spool=0)
    assert state["balance"] == {"holds": difference == 0, "difference": difference}


terms = st.integers(0, 1_000)


@settings(max_examples=100)
@given(terms, terms, terms, terms, terms, terms, terms)
def test_received_is_the_sum_of_its_terms_whatever_they_are(
    stored: int, in_spool: int, quarantined: int, late: int, duplicate: int, rejected: int, dropped: int
) -> None:
    found = {
        ("accepted", ""): stored + in_spool + quarantined + late,
        ("duplicate", "found_in_store"): late,
        ("duplicate", "already_accepted"): duplicate,
        ("rejected", "malformed"): rejected,
        ("dropped", "killed"): dropped,
        ("quarantined", "store_refused_data"): quarantined,
    }
    state = summarise(found, stored, in_spool)
    assert state["balance"]["holds"]
    received = stored + in_spool + quarantined + late + duplicate + rejected + dropped
    assert state["received"] == received
    assert state["received"] == sum(state[term] for term in ("accepted", "duplicate", "rejected", "dropped", "retry"))
    assert state["accepted"] == state["stored"] + state["in_spool"] + state["quarantined"]


def histogram(*seconds: float) -> Step:
    found = Step((0.001, 0.01, 0.1))
    for value in seconds:
        found.observe(value)
    return found


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ([0.0005], {"p50": 0.001, "p95": 0.001, "p99": 0.001}),
        ([0.0005] * 90 + [0.005] * 8 + [0.05] * 2, {"p50": 0.001, "p95": 0.01, "p99": 0.1}),
        ([5.0], {"p50": 0.1, "p95": 0.1, "p99": 0.1}),
    ],
)
def test_quantiles_are_upper_bounds_of_buckets(seconds: list[float], shown: dict[str, float]) -> None:
    assert quantiles(histogram(*seconds)) == shown


def test_before_the_first_request_there_are_no_quantiles() -> None:
    assert quantiles(histogram()) is None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("pipeline") / "data") as opened:
        yield opened


@pytest.fixture
def service(shared: Service) -> Service:
    return shared.elsewhere()


def test_state_of_one_project_counts_no_other(service: Service) -> None:
    other = service.services.control.create_key(Role.WRITE, "other", "local")
    service.send([wire_event(), wire_event(event_name="")])
    service.send([wire_event()], key=other)
    service.settle()
    state = service.get("/api/analytics/pipeline").json()
    assert (state["received"], state["stored"], state["rejected"]) == (2, 1, 1)
    assert state["balance"]["holds"] and state["latency_seconds"]["p50"] > 0


def door_metrics(service: Service) -> Counter[tuple[str, ...]]:
    return Counter(
        {
            tuple(sample.labels.values()): int(sample.value)
            for metric in service.services.metrics.events.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    )


def test_answers_of_the_door_are_the_metrics_of_the_door(service: Service) -> None:
    before, event = door_metrics(service), wire_event()
    service.send([event, event, wire_event(event_name=""), wire_event(consent="denied")])
    assert door_metrics(service) - before == {
        ("accepted", ""): 1,
        ("duplicate", "already_accepted"): 1,
        ("rejected", "missing_field"): 1,
        ("dropped", "consent"): 1,
    }


def test_state_says_so_when_the_store_cannot_be_asked(service: Service) -> None:
    """The counts are ours, so they are shown all the same. The last test here: it ends the questions of them all."""
    service.send([wire_event(), wire_event(event_name="")])
    service.settle()
    service.services.executor.close()
    state = service.get("/api/analytics/pipeline").json()
    assert state["store"]["ok"] is False and state["store"]["error"]
    assert (state["received"], state["stored"], state["rejected"]) == (2, 1, 1)
