"""Promises of rollout and sampling: the same place for an identity in both languages, nested, and even."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2 as httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Service
from twintrack.commands import command_app
from twintrack.control.rollout import Rollout, Sampling
from twintrack.event import Tenancy, WireEvent
from twintrack.ingest.sample import position, sample, within
from twintrack.outcomes import Reason, Status
from twintrack.testing import wire_event

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


# -- the step --------------------------------------------------------------------------------------------------------


def event(**fields: Any) -> WireEvent:
    return WireEvent(UUID(int=7), **{"event_name": "click", "anonymous_id": "anon-1", **fields})


HALF = position("anon-1", "rollout")
IN, OUT = Rollout(share=min(1.0, HALF + 1e-9)), Rollout(share=HALF)


def reason(event: WireEvent, rollout: Rollout) -> Reason | None:
    refusal = sample(event, rollout)
    assert refusal is None or refusal.status is Status.DROPPED
    return None if refusal is None else refusal.reason


def test_identity_is_in_only_below_the_share() -> None:
    assert reason(event(), IN) is None
    assert reason(event(), OUT) is Reason.NOT_IN_ROLLOUT


def test_signing_in_never_changes_the_share() -> None:
    for user in ("ann", "bob", "ada@example.com"):
        assert reason(event(user_id=user), IN) is None
        assert reason(event(user_id=user), OUT) is Reason.NOT_IN_ROLLOUT


@pytest.mark.parametrize("anonymous", [None, ""])
def test_user_counts_only_where_there_is_no_anonymous_id(anonymous: str | None) -> None:
    place = position("ann", "rollout")
    assert reason(event(anonymous_id=anonymous, user_id="ann"), Rollout(share=place)) is Reason.NOT_IN_ROLLOUT
    assert reason(event(anonymous_id=anonymous, user_id="ann"), Rollout(share=place + 1e-9)) is None


def test_gate_leaves_the_share_to_the_page_and_the_sampling_here() -> None:
    assert reason(event(), Rollout(share=0, gate="on")) is None
    assert reason(event(), Rollout(share=0, gate="on", sampling=Sampling(0))) is Reason.SAMPLED


def test_event_with_a_rate_of_its_own_is_kept_by_it_and_the_others_by_the_default() -> None:
    place = position("anon-1", "sampling")
    rollout = Rollout(sampling=Sampling(place + 1e-9, {"mouse_move": place, "purchase": 1}))
    assert reason(event(), rollout) is None
    assert reason(event(event_name="mouse_move"), rollout) is Reason.SAMPLED
    assert reason(event(event_name="purchase"), Rollout(sampling=Sampling(0, {"purchase": 1}))) is None
    assert reason(event(), Rollout(sampling=Sampling(0, {"purchase": 1}))) is Reason.SAMPLED


def test_identity_is_told_from_another_before_it_is_masked(service: Service) -> None:
    """An e-mail as `anonymous_id` is stored as a pseudonym, but judged as it was sent."""
    inside = [f"user{n}@example.com" for n in range(40) if within(f"user{n}@example.com", "rollout", 0.5)]
    service.services.control.change_rollout(Tenancy("demo", "local"), {"share": 0.5})
    answer = service.send([wire_event(anonymous_id=f"user{n}@example.com") for n in range(40)])
    assert (answer["accepted"], answer["dropped"]) == (len(inside), 40 - len(inside))
    assert {result["code"] for result in answer["results"]} == {"not_in_rollout"}
    assert service.rows("SELECT count(), countIf(anonymous_id LIKE '%@%') FROM analytics.events") == [[len(inside), 0]]


def test_server_key_is_held_by_the_kill_alone_and_an_import_by_nothing(service: Service, tmp_path: Path) -> None:
    here = Tenancy("demo", "local")
    service.services.control.change_rollout(here, {"share": 0, "sampling": {"default": 0}})
    assert service.send([wire_event()])["dropped"] == 1
    assert service.send([wire_event()], service.server_key)["accepted"] == 1
    service.services.control.change_rollout(here, {"kill": True})
    assert service.send([wire_event()], service.server_key)["results"][0]["code"] == "killed"
    row = {"milliseconds": 1_767_225_600_000, "occurrence": 1, "event": {"event_name": "old", "anonymous_id": "a"}}
    answer = imported(service, {"import_id": "i", "project": "demo", "environment": "local", "rows": [row]})
    assert (answer["accepted"], answer["refused"]) == (1, 0)


def imported(service: Service, batch: dict[str, Any]) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=command_app(service.services))
        async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
            found: dict[str, Any] = (await client.post("/import", json=batch)).json()
            return found

    return asyncio.run(ask())
