"""Where is my event? Every id that a key may ask about has one answer, and no other key has any."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Service, running
from twintrack.auth import Role
from twintrack.clock import iso
from twintrack.testing import uuid7, wire_event
from twintrack.trace.fate import masked_fields


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("fate") / "data") as opened:
        yield opened


@pytest.fixture
def service(shared: Service) -> Service:
    return shared.elsewhere()


def ask(service: Service, event_id: str, key: str | None = None) -> Any:
    return service.get(f"/api/analytics/events/{event_id}", key)


def fate(service: Service, event_id: str) -> dict[str, Any]:
    found = service.fate(event_id)
    assert found["event_id"] == event_id.lower()
    return found


def test_stored_event_shows_its_way_what_was_masked_and_its_receipts(service: Service) -> None:
    now = service.services.clock.milliseconds()
    event = wire_event(now, message_content="mail ada@example.com", user_id="ada@example.com")
    receipts = [
        {"event_id": event["event_id"], "vendor": vendor, "status": status, "at": iso(now + later)}
        for vendor, status, later in (("gtm", "handed", 5), ("statsig", "handed", 1), ("gtm", "handed", 5))
    ]
    service.send({"events": [event], "receipts": receipts})
    service.settle()
    found = fate(service, event["event_id"])
    assert (found["fate"], found["reason"]) == ("stored", None)
    assert [stage["name"] for stage in found["stages"]] == ["sent", "received", "masked", "spooled", "loaded"]
    assert all(stage["at"] and stage["detail"] for stage in found["stages"])
    assert found["event"]["message_content"] == "mail [EMAIL]"
    assert found["masked"] == [
        {"field": "message_content", "rule": "email"},
        {"field": "user_id", "rule": "email"},
    ]
    assert [(r["vendor"], r["status"]) for r in found["receipts"]] == [("statsig", "handed"), ("gtm", "handed")]


def test_refused_and_dropped_events_say_why(service: Service) -> None:
    bad, denied = wire_event(event_name=""), wire_event(consent="denied")
    service.send([bad, denied])
    service.settle()
    for event, fate_now, reason in ((bad, "refused", "missing_field"), (denied, "dropped", "consent")):
        found = fate(service, event["event_id"])
        assert (found["fate"], found["reason"], found["event"]) == (fate_now, reason, None)
        assert reason in found["stages"][0]["detail"]


def test_event_that_is_no_json_is_found_by_the_id_in_it(service: Service) -> None:
    event_id = uuid7(service.services.clock.milliseconds()).upper()
    body = f'[{{"event_id": "{event_id}", "event_metadata": NaN}}]'
    answer = service.request(
        "POST", "/api/analytics/events", content=body, headers={"X-Write-Key": service.write_key}
    ).json()
    assert answer["results"][0]["event_id"] == event_id.lower()
    service.settle()
    assert fate(service, event_id)["reason"] == "malformed"


def test_event_accepted_after_a_refusal_is_stored(service: Service) -> None:
    event = wire_event()
    service.send([{**event, "event_name": ""}])
    service.send([event])
    service.settle()
    assert fate(service, event["event_id"])["fate"] == "stored"


def test_id_that_never_came_is_outside_the_record(service: Service) -> None:
    for unknown in ("6fa459ea-ee8a-4ca4-894e-db77e160355e", "00000000-0000-0000-0000-000000000000"):
        answer = ask(service, unknown)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "outside_the_record")


def test_what_is_no_id_is_refused(service: Service) -> None:
    for nonsense in ("nonsense", "'", "%00", "5", "6fa459ea", "%F0%9F%98%80"):
        answer = ask(service, nonsense)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_id"), nonsense


def test_no_project_sees_the_fate_of_another_ones_event(service: Service) -> None:
    stored, refused = wire_event(), wire_event(event_name="")
    service.send([stored, refused])
    service.settle()
    stranger = service.services.control.create_key(Role.OWNER, "other", "local")
    for event in (stored, refused):
        assert fate(service, event["event_id"])
        assert ask(service, event["event_id"], stranger).status_code == 404


def test_no_environment_sees_the_row_of_another_ones_event(service: Service) -> None:
    event = wire_event(message_content="hello")
    service.send([event])
    service.settle()
    own = service.services.control.principal(service.owner_key)
    assert own is not None
    staging = service.services.control.create_key(Role.OWNER, own.tenancy.project, "staging")
    assert "hello" not in ask(service, event["event_id"], staging).text


def test_key_that_sends_may_not_ask(service: Service) -> None:
    for key in (service.write_key, service.server_key):
        assert ask(service, uuid7(), key).status_code == 403


def test_quarantined_event_is_told_from_one_on_its_way(service: Service) -> None:
    service.make_the_store_refuse_text_values()
    refused, stored = wire_event(event_value="text"), wire_event(event_value="5")
    service.send([refused, stored])
    service.settle()
    assert fate(service, refused["event_id"])["fate"] == "quarantined"
    assert fate(service, stored["event_id"])["fate"] == "stored"


def test_masked_fields_are_taken_apart_at_their_last_colon() -> None:
    assert masked_fields(["a:email", "b:c:ssn"]) == [{"field": "a", "rule": "email"}, {"field": "b:c", "rule": "ssn"}]
