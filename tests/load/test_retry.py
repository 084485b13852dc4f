"""The breaker as a value: its states, its pauses, its ceilings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twintrack.load.retry import Breaker, Pace, State, paces

PACE = Pace(0.0, 0.2, 30.0)


def test_breaker_starts_half_open_and_closes_on_success() -> None:
    assert Breaker().state is State.HALF_OPEN
    assert Breaker().succeeded() == Breaker(State.CLOSED, 0, 0.0)


def test_breaker_opens_on_failure_and_is_half_open_when_its_pause_is_over() -> None:
    opened = Breaker().failed(PACE, 100.0, 0.5)
    assert (opened.state, opened.failures, opened.until) == (State.OPEN, 1, pytest.approx(100.1))
    assert opened.at(100.05) is opened
    assert opened.at(100.11).state is State.HALF_OPEN
    assert opened.at(100.11).failures == 1


def test_failure_while_half_open_doubles_the_ceiling() -> None:
    breaker, ceilings = Breaker(), []
    for _ in range(12):
        breaker = breaker.failed(PACE, 0.0, 0.999999).at(1e9)
        ceilings.append(round(breaker.until, 2))
    assert ceilings[:4] == [0.2, 0.4, 0.8, 1.6]
    assert ceilings[-1] == 30.0


def test_success_forgets_the_failures() -> None:
    assert Breaker().failed(PACE, 0.0, 0.5).failed(PACE, 0.0, 0.5).succeeded().failed(PACE, 0.0, 0.5).failures == 1


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.01, 600))
def test_pause_stays_between_its_bounds(failures: int, random: float, most: float) -> None:
    for pace in paces(most):
        pause = pace.pause(failures, random)
        assert min(pace.least, pace.most) <= pause <= pace.most


def test_full_store_is_left_alone_longer_than_one_that_is_away() -> None:
    away, busy, denied = paces(30.0)
    assert busy.pause(1, 0.0) >= 1.0 > away.pause(1, 0.5)
    assert busy.most == 120.0
    assert denied.pause(1, 0.0) == 7.5
