"""Promises of rollout and sampling: the same place for an identity in both languages, nested, and even."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.ingest.sample import position, within

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "contract" / "vectors" / "position.json").read_text()
)
PURPOSES = ("rollout", "sampling")


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_position_of_a_vector_is_the_contracts(vector: dict[str, Any]) -> None:
    assert position(vector["identity"], vector["purpose"]) == vector["position"]


def test_vectors_hold_at_least_forty_entries_of_every_kind() -> None:
    identities = {vector["identity"] for vector in VECTORS}
    assert len(VECTORS) >= 40
    assert {vector["purpose"] for vector in VECTORS} == set(PURPOSES)
    assert "" in identities
    assert any(ord(sign) > 0xFFFF for identity in identities for sign in identity)
    assert any(0xD800 <= ord(sign) <= 0xDFFF for identity in identities for sign in identity)
    assert max(map(len, identities)) == 256


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(PURPOSES))
def test_position_of_any_text_lies_in_zero_to_one_and_stays(identity: str, purpose: str) -> None:
    first = position(identity, purpose)
    position.cache_clear()
    assert 0 <= first < 1
    assert position(identity, purpose) == first


@given(st.text(), st.sampled_from(PURPOSES), st.floats(0, 1), st.floats(0, 1))
def test_identity_in_a_smaller_share_is_in_every_larger_one(
    identity: str, purpose: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert within(identity, purpose, large) or not within(identity, purpose, small)
    assert within(identity, purpose, 1) and not within(identity, purpose, 0)


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=20), st.sampled_from(PURPOSES))
def test_positions_of_ids_that_differ_in_their_end_are_even(prefix: str, purpose: str) -> None:
    """Each tenth holds a tenth of 10,000 ids: 5 standard deviations are 150."""
    tenths = [0] * 10
    for number in range(10_000):
        tenths[int(position(f"{prefix}{number}", purpose) * 10)] += 1
    assert all(850 <= count <= 1150 for count in tenths)


def test_positions_of_two_purposes_are_independent() -> None:
    """Who is in the first half for one purpose stands in either half for the other."""
    both = sum(position(f"id-{n}", "rollout") < 0.5 and position(f"id-{n}", "sampling") < 0.5 for n in range(10_000))
    assert 2250 <= both <= 2750
