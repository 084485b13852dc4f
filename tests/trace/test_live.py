"""The live view: newest first, nothing missed between two looks, and only one's own events."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Service, running
from twintrack.auth import Role
from twintrack.testing import wire_event


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("live") / "data") as opened:
        yield opened


@pytest.fixture
def service(shared: Service) -> Service:
    return shared.elsewhere()


def live(service: Service, **asked: Any) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    answer = service.get(f"/api/analytics/live?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def activity(service: Service, **asked: Any) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    answer = service.get(f"/api/analytics/activity?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def names(found: dict[str, Any]) -> list[str]:
    return [event["event_name"] for event in found["events"]]


def test_newest_event_comes_first_and_the_limit_holds(service: Service) -> None:
    service.send([wire_event(event_name=f"e{n}", sequence=n) for n in range(5)])
    service.settle()
    assert names(live(service)) == ["e4", "e3", "e2", "e1", "e0"]
    assert names(live(service, limit=2)) == ["e4", "e3"]


def test_look_with_a_cursor_misses_nothing_that_came_since(service: Service) -> None:
    service.send([wire_event(event_name="before")])
    service.settle()
    first = live(service)
    service.send([wire_event(event_name="after")])
    service.settle()
    assert "after" in names(live(service, after=first["cursor"]))


def test_cursor_of_a_later_time_leaves_out_what_was_seen(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    later = service.services.clock.milliseconds() + 60_000
    assert names(live(service, after=cursor(str(later)))) == []


def test_masked_fields_are_shown_and_the_text_of_people_is_not(service: Service) -> None:
    service.send([wire_event(message_content="hush, ada@example.com")])
    service.settle()
    (event,) = live(service)["events"]
    assert event["masked"] == [{"field": "message_content", "rule": "email"}]
    assert "message_content" not in event and "hush" not in str(event)


def test_old_event_that_comes_now_is_live(service: Service) -> None:
    """By the time of its arrival, not its own."""
    day = 86_400_000
    service.send([wire_event(service.services.clock.milliseconds() - 20 * day)])
    service.settle()
    assert len(live(service)["events"]) == 1
    assert sum(activity(service)["series"][0]["counts"]) == 1


def test_nobody_sees_events_of_another_project_or_environment(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    own = service.services.control.principal(service.owner_key)
    assert own is not None
    for project in ("other", own.tenancy.project):
        stranger = service.services.control.create_key(Role.OWNER, project, "staging")
        assert service.get("/api/analytics/live", stranger).json()["events"] == []
        assert service.get("/api/analytics/activity", stranger).json()["series"] == []


def test_cursor_that_is_none_of_ours_is_refused(service: Service) -> None:
    for bad in ("@@", "nonsense", cursor("x"), cursor("1.5"), "%F0%9F%98%80"):
        answer = service.get(f"/api/analytics/live?after={bad}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor"), bad


def test_cursor_of_any_number_is_answered(service: Service) -> None:
    for number in ("-1", "-" + "9" * 40, "9" * 18, "9" * 40, " 5 ", "0"):
        assert service.get(f"/api/analytics/live?after={cursor(number)}").status_code in (200, 400), number


def test_question_out_of_range_is_refused(service: Service) -> None:
    for query in ("limit=0", "limit=501", "limit=x", f"after={'A' * 101}"):
        assert service.get(f"/api/analytics/live?{query}").status_code == 422, query


def test_minutes_are_whole_and_the_rest_is_one_series(service: Service) -> None:
    service.send(
        [
            wire_event(event_name=name)
            for name, events in (("a", 3), ("b", 2), ("c", 1), ("d", 1))
            for _ in range(events)
        ]
    )
    service.settle()
    found = activity(service, minutes=5, top=2)
    assert [series["event_name"] for series in found["series"]] == ["a", "b", "other"]
    assert [sum(series["counts"]) for series in found["series"]] == [3, 2, 2]
    assert len(found["minutes"]) == 5 and all(len(series["counts"]) == 5 for series in found["series"])
    assert found["minutes"] == sorted(found["minutes"]) and found["minutes"][0].endswith(":00Z")


def test_without_events_there_are_minutes_and_no_series(service: Service) -> None:
    found = activity(service, minutes=3)
    assert (len(found["minutes"]), found["series"]) == (3, [])
