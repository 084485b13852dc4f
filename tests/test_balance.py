"""Promise 3: every delivered event has one counted fate, and the two lines of `outcomes.py` always hold.

received = accepted + duplicate + dropped + rejected + retry, and accepted = stored + in spool + quarantined.
"""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Service, running
from twintrack.commands import command_app
from twintrack.control.control import Control
from twintrack.event import Tenancy
from twintrack.testing import ManualClock, uuid7, wire_event

TERMS = ("accepted", "duplicate", "rejected", "dropped", "retry")


def state_of(service: Service) -> dict[str, Any]:
    """The pipeline's state once everything is settled, with both lines of the balance checked."""
    service.settle()
    state: dict[str, Any] = service.get("/api/analytics/pipeline").json()
    assert state["received"] == sum(state[term] for term in TERMS), state
    assert state["accepted"] == sum(state[term] for term in ("stored", "in_spool", "quarantined", "erased")), state
    assert state["balance"] == {"holds": True, "difference": 0}, state
    return state


def reasons(state: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(r["outcome"], r["reason"]): r["count"] for r in state["reasons"]}


def doctor(service: Service) -> dict[str, Any]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=command_app(service.services))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/doctor")

    report = asyncio.run(ask()).json()
    return {check["check"]: check for check in report["checks"]}


def change_rollout(service: Service, clock: ManualClock, **changes: Any) -> None:
    """As another process does it; this one sees it within a second."""
    elsewhere = Control(service.services.settings.control_url, clock)
    elsewhere.change_rollout(Tenancy("demo", "local"), changes)
    elsewhere.close()
    clock.advance(1)


def test_every_fate_is_counted_once_also_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    with running(tmp_path / "data", clock) as service:
        state = send_every_fate(service, clock)
    with running(tmp_path / "data", clock) as again:
        same = state_of(again)
    counted = (*TERMS, "received", "stored", "quarantined", "reasons")
    assert {name: same[name] for name in counted} == {name: state[name] for name in counted}


def send_every_fate(service: Service, clock: ManualClock) -> dict[str, Any]:
    now = clock.milliseconds()
    sent = 0

    def send(*events: Any) -> Counter[str]:
        nonlocal sent
        sent += len(events)
        answer = service.send(list(events))
        return Counter({term: answer[term] for term in TERMS if answer[term]})

    good = [wire_event(now) for _ in range(4)]
    late = wire_event(now, event_id=uuid7(now - 90 * 86_400_000))
    assert send(*good, good[0]) == {"accepted": 4, "duplicate": 1}
    assert send(late, wire_event(now, event_name=""), 5, good[1]) == {"accepted": 1, "rejected": 2, "duplicate": 1}
    assert send(wire_event(now, consent="denied"), wire_event(now, client_timestamp="1970-01-01T00:00:00Z")) == {
        "dropped": 1,
        "rejected": 1,
    }
    change_rollout(service, clock, kill=True)
    assert send(wire_event(now), wire_event(now), 5) == {"dropped": 2, "rejected": 1}
    change_rollout(service, clock, kill=False, share=0)
    assert send(wire_event(now), wire_event(now, event_name="")) == {"dropped": 1, "rejected": 1}
    change_rollout(service, clock, share=1, sampling={"events": {"move": 0}})
    assert send(wire_event(now, event_name="move"), wire_event(now)) == {"accepted": 1, "dropped": 1}
    service.settle()
    service.make_the_store_refuse_text_values()
    assert send(wire_event(now, event_value="text"), wire_event(now, event_value="5")) == {"accepted": 2}
    service.settle()
    assert send(late) == {"duplicate": 1}

    state = state_of(service)
    assert state["received"] == sent == 21
    assert {term: state[term] for term in TERMS} == {
        "accepted": 8,
        "duplicate": 3,
        "rejected": 5,
        "dropped": 5,
        "retry": 0,
    }
    assert (state["stored"], state["in_spool"], state["quarantined"]) == (7, 0, 1)
    assert reasons(state) == {
        ("duplicate", "already_accepted"): 3,
        ("rejected", "missing_field"): 2,
        ("rejected", "wrong_type"): 2,
        ("rejected", "too_old"): 1,
        ("dropped", "consent"): 1,
        ("dropped", "killed"): 2,
        ("dropped", "not_in_rollout"): 1,
        ("dropped", "sampled"): 1,
        ("quarantined", "store_refused_data"): 1,
    }
    checked = doctor(service)["balance"]
    assert checked["ok"] and checked["says"].startswith(f"received {sent} = stored 7 "), checked
    return state


def test_event_lost_behind_our_back_breaks_the_balance(service: Service) -> None:
    """The check can fail: a row that vanishes from the store is a difference that everybody shows."""
    service.send([wire_event(), wire_event()])
    state_of(service)
    service.services.store.command("TRUNCATE TABLE analytics.events")
    state = service.get("/api/analytics/pipeline").json()
    assert state["balance"] == {"holds": False, "difference": 2}
    checked = doctor(service)["balance"]
    assert not checked["ok"] and "+2 events are not explained" in checked["do"]


def test_counts_of_a_request_that_stores_nothing_are_on_disk_when_it_is_answered(tmp_path: Path) -> None:
    """The folder is copied right after the answer, as a power cut would leave it, without the store."""
    denied = wire_event(consent="denied")
    with running(tmp_path / "data", chunk_age_milliseconds=60_000) as service:
        waiting = wire_event()
        service.send([waiting])
        state = service.get("/api/analytics/pipeline").json()
        assert (state["in_spool"], state["stored"], state["balance"]["holds"]) == (1, 0, True)
        assert service.fate(waiting["event_id"])["fate"] == "in_spool"
        service.send([5, wire_event(event_name=""), denied])
        shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=shutil.ignore_patterns("store", "*.sock"))
    with running(tmp_path / "copy") as copy:
        state = state_of(copy)
        assert (state["received"], state["stored"], state["rejected"], state["dropped"]) == (4, 1, 2, 1)
        assert copy.fate(denied["event_id"])["reason"] == "consent"


# -- any batches, in any order ---------------------------------------------------------------------------------------

KINDS = ("good", "late", "nameless", "denied", "malformed", "masked")
# What may be sent again and again; which event of its kind is in the number.
deliveries = st.lists(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=8), min_size=1, max_size=5
)


def make(kind: str, now: int) -> str:
    if kind == "malformed":
        return f'{{"event_id": "{uuid7(now)}", "event_metadata": NaN}}'
    fields: dict[str, Any] = {
        "late": {"event_id": uuid7(now - 40 * 86_400_000)},
        "nameless": {"event_name": " "},
        "denied": {"consent": "denied"},
        "masked": {"message_content": "mail ada@example.com", "user_id": "ada@example.com"},
    }.get(kind, {})
    return json.dumps(wire_event(now, **fields))


FATES = {"nameless": "rejected", "malformed": "rejected", "denied": "dropped"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("balance") / "data", chunk_age_milliseconds=1) as service:
        yield service


def test_request_refused_whole_is_no_delivery(shared: Service) -> None:
    """Nothing was decoded, so there is nothing to count: the sender sends the same events again."""
    service = shared.elsewhere()
    event = wire_event()
    for body, key, status in (
        (b"nonsense", service.write_key, 400),
        (json.dumps([event]).encode(), "tt_write_unknown", 401),
        (json.dumps([event]).encode(), service.read_key, 403),
        (b"[" + b"5," * 10_001 + b"5]", service.write_key, 413),
    ):
        answer = service.request("POST", "/api/analytics/events", content=body, headers={"X-Write-Key": key})
        assert answer.status_code == status
    assert state_of(service)["received"] == 0


def test_receipts_lie_outside_the_balance(shared: Service) -> None:
    service = shared.elsewhere()
    receipt = {"event_id": uuid7(), "vendor": "gtm", "status": "handed", "at": "2026-01-01T00:00:00Z"}
    service.send({"events": [wire_event()], "receipts": [receipt, receipt]})
    service.send({"receipts": [receipt]})
    assert state_of(service)["received"] == 1


async def post_all(service: Service, bodies: list[str], *, together: bool) -> list[dict[str, Any]]:
    transport = httpx.ASGITransport(app=service.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

        async def post(body: str) -> dict[str, Any]:
            answer = await client.post(
                "/api/analytics/events", content=body.encode(), headers={"X-Write-Key": service.write_key}
            )
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        if together:
            return list(await asyncio.gather(*map(post, bodies)))
        return [await post(body) for body in bodies]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(deliveries, st.booleans(), st.booleans())
def test_any_batches_split_and_reordered_add_up(
    shared: Service, batches: list[list[tuple[str, int]]], together: bool, again: bool
) -> None:
    """Each event is accepted the first time and a duplicate ever after; what is refused is refused each time."""
    before = state_of(shared)
    now = shared.services.clock.milliseconds()
    made = {item: make(item[0], now) for batch in batches for item in batch}
    sent = batches + ([[item] for batch in reversed(batches) for item in batch] if again else [])
    answers = asyncio.run(
        post_all(shared, [f"[{','.join(made[item] for item in batch)}]" for batch in sent], together=together)
    )
    delivered = [item for batch in sent for item in batch]
    wanted = Counter(FATES[kind] for kind, _ in delivered if kind in FATES)
    storable = [item for item in delivered if item[0] not in FATES]
    wanted["accepted"] = len(set(storable))
    wanted["duplicate"] = len(storable) - len(set(storable))
    for batch, answer in zip(sent, answers, strict=True):
        assert sum(answer[term] for term in TERMS) == len(batch)
    after = state_of(shared)
    for term in TERMS:
        assert sum(answer[term] for answer in answers) == wanted[term], term
        assert after[term] - before[term] == wanted[term], term
    assert after["received"] - before["received"] == len(delivered)
    assert after["stored"] - before["stored"] == len(set(storable))
    assert shared.rows("SELECT count() = uniqExact(event_id) FROM analytics.events") == [[1]]


def test_rollups_count_what_raw_counts_after_all_of_that(shared: Service) -> None:
    ((raw, hourly, daily),) = shared.rows(
        "SELECT (SELECT count() FROM analytics.events), (SELECT sum(event_count) FROM analytics.events_hourly),"
        " (SELECT sum(event_count) FROM analytics.events_daily)"
    )
    assert raw == hourly == daily > 0
