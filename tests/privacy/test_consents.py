"""Consent by person and purpose: the history is whole, and the latest word holds at the door within a second."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service, running
from tests.test_balance import reasons, state_of
from twintrack.clock import iso
from twintrack.control.consents import DENIED, Consents, Statement
from twintrack.control.control import Control
from twintrack.control.tombstones import ANONYMOUS, subject_hash
from twintrack.event import Tenancy
from twintrack.privacy.export import Exporter
from twintrack.testing import ManualClock, uuid7, wire_event

NOON = 1_770_638_400_000  # 2026-02-09 12:00 UTC
PATH = "/api/analytics/privacy/consents"


def say(service: Service, state: str, key: str = "", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {key or service.server_key}"}
    return service.request("POST", PATH, json={"statements": [{"state": state, **more}]}, headers=headers)


def history(service: Service, **person: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {service.owner_key}"}
    answer = service.request("POST", f"{PATH}/history", json=person, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def track(service: Service, clock: ManualClock, **fields: Any) -> dict[str, Any]:
    now = clock.milliseconds()
    return service.send([wire_event(now, event_id=uuid7(now), **fields)])


@pytest.fixture
def kept(tmp_path: Path) -> Any:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        yield service, clock


def test_withdrawn_consent_keeps_the_person_out_until_it_is_given_again(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    assert track(service, clock, user_id="ann")["accepted"] == 1
    assert say(service, "denied", user_id="ann").json()["recorded"] == 1
    dropped = track(service, clock, user_id="ann")
    assert dropped["dropped"] == 1 and dropped["results"][0]["code"] == "consent_withdrawn"
    assert track(service, clock, user_id="bob")["accepted"] == 1
    clock.advance(60)
    assert say(service, "granted", user_id="ann").json()["recorded"] == 1
    assert track(service, clock, user_id="ann")["accepted"] == 1
    assert reasons(state_of(service))["dropped", "consent_withdrawn"] == 1
    told = history(service, user_id="ann")
    assert [(word["state"], word["at"]) for word in told["statements"]] == [
        ("denied", iso(NOON)),
        ("granted", iso(NOON + 60_000)),
    ]
    assert told["latest"] == {"analytics": "granted"}
    assert "ann" not in str(told)


def test_person_whose_identifier_is_masked_is_known_by_what_is_stored(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    say(service, "denied", user_id="ann.lee@example.com")
    assert track(service, clock, user_id="ann.lee@example.com")["dropped"] == 1
    control = service.services.control
    with control.engine.connect() as db:
        everything = str([tuple(row) for row in db.exec_driver_sql("SELECT * FROM consents").all()])
    assert "example.com" not in everything and "denied" in everything


def test_withdrawal_of_a_user_holds_for_the_browsers_first_linked_to_it(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    track(service, clock, user_id="ann", anonymous_id="browser-1", event_name="identify")
    track(service, clock, user_id="bob", anonymous_id="browser-2")
    service.settle()
    assert say(service, "denied", user_id="ann").json()["linked_anonymous_ids"] == 1
    assert track(service, clock, anonymous_id="browser-1")["dropped"] == 1
    assert track(service, clock, anonymous_id="browser-2")["accepted"] == 1
    # Another user of that browser is another person.
    assert track(service, clock, anonymous_id="browser-1", user_id="bob")["accepted"] == 1


def test_event_with_a_newer_grant_of_its_own_comes_in_and_one_with_an_older_does_not(
    kept: tuple[Service, ManualClock],
) -> None:
    service, clock = kept
    say(service, "denied", anonymous_id="a")
    clock.advance(100)
    for at, verdict in ((NOON - 5_000, "dropped"), (NOON + 50_000, "accepted"), (NOON + 90_000_000, "dropped")):
        consent = {"state": "granted", "at": iso(at)}
        assert track(service, clock, anonymous_id="a", consent=consent)[verdict] == 1, at
    assert track(service, clock, anonymous_id="a")["dropped"] == 1
    service.settle()
    (stamp,) = history(service, anonymous_id="a")["events"]
    assert (stamp["state"], stamp["events"]) == ("granted", 1)


def test_statement_that_comes_late_does_not_undo_a_newer_one(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    say(service, "denied", user_id="ann")
    clock.advance(5)
    say(service, "granted", user_id="ann", at=iso(NOON - 60_000))
    assert track(service, clock, user_id="ann")["dropped"] == 1
    told = history(service, user_id="ann")
    assert [word["state"] for word in told["statements"]] == ["granted", "denied"]
    say(service, "granted", user_id="ann", at=iso(NOON - 60_000))  # the same again
    assert len(history(service, user_id="ann")["statements"]) == 2


def test_other_purposes_are_recorded_and_keep_nobody_out(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    say(service, "denied", user_id="ann", purpose="marketing")
    assert track(service, clock, user_id="ann")["accepted"] == 1
    assert history(service, user_id="ann")["latest"] == {"marketing": "denied"}


def test_withdrawal_by_another_process_holds_here_within_a_second(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    assert track(service, clock, user_id="ann")["accepted"] == 1
    elsewhere = Control(service.services.settings.control_url, clock)
    secret = elsewhere.project("demo").secret
    word = Statement(
        "demo", "local", "user", subject_hash(secret, "ann"), "analytics", DENIED, NOON, "api", "key", NOON
    )
    assert elsewhere.consents.record([word]) == 1
    elsewhere.close()
    clock.advance(1)
    assert track(service, clock, user_id="ann")["dropped"] == 1


def test_only_server_keys_and_guards_state_and_only_guards_ask(kept: tuple[Service, ManualClock]) -> None:
    service, _ = kept
    for key, status in ((service.write_key, 403), (service.read_key, 403), (service.server_key, 200)):
        assert say(service, "denied", key, user_id="x").status_code == status
    for key, status in ((service.server_key, 403), (service.owner_key, 200)):
        headers = {"Authorization": f"Bearer {key}"}
        asked = service.request("POST", f"{PATH}/history", json={"user_id": "x"}, headers=headers)
        assert asked.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        {"state": "maybe", "user_id": "x"},
        {"state": "denied"},
        {"state": "denied", "user_id": "x", "anonymous_id": "y"},
        {"state": "denied", "user_id": ""},
        {"state": "denied", "user_id": "x", "at": "2099-01-01T00:00:00Z"},
        {"state": "denied", "user_id": "x", "at": "2026-01-01T00:00:00"},
    ],
)
def test_statement_that_says_nothing_clear_is_refused(service: Service, body: dict[str, Any]) -> None:
    answer = say(service, **body)
    assert answer.status_code in (400, 422)
    assert "recorded" not in answer.json()


def test_denials_beyond_what_is_held_in_memory_hold_all_the_same(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    control = Control(f"sqlite:///{tmp_path / 'control.db'}", clock)
    shop = Tenancy("shop", "live")
    words = [Statement(*shop, ANONYMOUS, f"h{i}", "analytics", DENIED, NOON, "api", "k", NOON) for i in range(50)]
    control.consents.record(words)
    small = Consents(control.engine, clock, most_held=10)
    assert small.asks(shop) and not small.asks(Tenancy("shop", "test"))
    assert [small.denied_at(shop, ANONYMOUS, f"h{i}") for i in range(50)] == [NOON] * 50
    assert small.denied_at(shop, ANONYMOUS, "nobody") is None
    clock.advance(5)
    later = [word._replace(state="granted", at=NOON + 5_000, recorded_at=NOON + 5_000) for word in words[::2]]
    control.consents.record(later)
    clock.advance(1)
    assert small.asks(shop)
    assert [small.denied_at(shop, ANONYMOUS, f"h{i}") for i in range(50)] == [None, NOON] * 25
    control.close()


def test_history_of_consent_is_in_the_export_of_a_person(kept: tuple[Service, ManualClock]) -> None:
    service, clock = kept
    say(service, "denied", user_id="ann", source="banner-3")
    say(service, "denied", user_id="bob")
    s = service.services
    made = Exporter(s.control, s.spool, s.store, clock, s.settings.data).export("demo", "ann", None)
    with zipfile.ZipFile(made.file) as archive:
        rows = json.loads(archive.read("control_consents.json"))
    assert {(row["state"], row["source"]) for row in rows} == {("denied", "banner-3")}
