"""Whoever guesses must wait, whoever is right need not, and memory stays bounded."""

import pytest

from twintrack.access.guesses import KINDS, Guesses
from twintrack.errors import TooMany
from twintrack.testing import ManualClock


@pytest.fixture
def guesses(clock: ManualClock) -> Guesses:
    return Guesses(clock)


def fails(guesses: Guesses, **names: str) -> int:
    """Seconds to wait; 0 where the try counts."""
    try:
        guesses.count(**names)
    except TooMany as error:
        return error.retry_after_seconds
    return 0


def test_account_waits_longer_with_each_failure_up_to_a_minute(guesses: Guesses, clock: ManualClock) -> None:
    for _ in range(KINDS["account"].free - 1):
        assert fails(guesses, account="ann") == 0
    waits = []
    for _ in range(8):
        assert fails(guesses, account="ann") == 0
        waits.append(fails(guesses, account="ann"))
        assert fails(guesses, account="ann") == waits[-1]  # trying while waiting does not lengthen the wait
        clock.advance(waits[-1])
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_tries_at_once_are_no_way_around(guesses: Guesses) -> None:
    assert [fails(guesses, account="ann") == 0 for _ in range(50)].count(True) == KINDS["account"].free


def test_many_accounts_from_one_address_are_slowed_by_address(guesses: Guesses) -> None:
    let_in = [fails(guesses, account=f"a{n}", address="203.0.113.7") == 0 for n in range(100)].count(True)
    assert let_in == KINDS["address"].free
    assert fails(guesses, account="a0", address="203.0.113.8") == 0


def test_right_try_gives_the_account_its_free_ones_back(guesses: Guesses) -> None:
    for _ in range(100):
        guesses.count(account="ann", address="203.0.113.7")
        guesses.right(account="ann", address="203.0.113.7")


def test_quiet_hour_forgets(guesses: Guesses, clock: ManualClock) -> None:
    while not fails(guesses, account="ann"):
        pass
    clock.advance(60 + 3600 + 1)
    assert [fails(guesses, account="ann") for _ in range(KINDS["account"].free)] == [0] * KINDS["account"].free


def test_flood_of_names_is_remembered_up_to_a_bound(guesses: Guesses) -> None:
    for number in range(30_000):
        guesses.count(account=f"a{number}")
    assert guesses.remembered <= 10_000
