"""What a client polls: one document, a tag that changes with it, and an answer that any cache may keep."""

from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, running
from twintrack.event import Tenancy
from twintrack.testing import wire_event

HERE = Tenancy("demo", "local")


def ask(service: Service, key: str | None = None, method: str = "GET", **headers: str) -> httpx.Response:
    return service.request(
        method, "/api/analytics/config", headers={"X-Write-Key": service.write_key if key is None else key, **headers}
    )


def test_document_is_whole_and_the_same_by_every_way_to_name_the_key(service: Service) -> None:
    answers = [
        ask(service),
        service.request("GET", "/api/analytics/config", headers={"Authorization": f"Bearer {service.write_key}"}),
        service.request("GET", f"/api/analytics/config?write_key={service.write_key}"),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == len({answer.headers["etag"] for answer in answers}) == 1
    assert answers[0].json() == {
        "version": 1,
        "kill": False,
        "queue": "drain",
        "share": 1,
        "gate": None,
        "sampling": {"default": 1, "events": {}},
        "batch": {"events": 50, "bytes": 49152, "interval_milliseconds": 2000},
        "endpoint": None,
    }


def test_answer_may_be_kept_for_thirty_seconds_by_anyone_and_apart_by_key(service: Service) -> None:
    headers = ask(service).headers
    assert headers["cache-control"] == "max-age=30"
    assert headers["access-control-allow-origin"] == "*"
    assert {name.strip().lower() for name in headers["vary"].split(",")} == {"authorization", "x-write-key"}
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*", 'W/"other",W/{}'])
def test_tag_that_is_known_is_answered_304_without_a_body(service: Service, form: str) -> None:
    tag = ask(service).headers["etag"]
    again = ask(service, **{"If-None-Match": form.format(tag)})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "max-age=30"


def test_every_change_has_another_tag_and_version_also_when_killed(service: Service) -> None:
    seen = {ask(service).headers["etag"]}
    changes: list[dict[str, Any]] = [{"share": 0.1}, {"kill": True, "queue": "discard"}, {"kill": False}, {"share": 1}]
    for number, change in enumerate(changes, 2):
        service.services.control.change_rollout(HERE, change)
        answer = ask(service, **{"If-None-Match": ", ".join(seen)})
        assert (answer.status_code, answer.json()["version"]) == (200, number)
        assert answer.json().items() >= change.items()
        seen.add(answer.headers["etag"])
    assert len(seen) == 5


def test_each_environment_has_its_own(service: Service) -> None:
    other = service.elsewhere()
    service.services.control.change_rollout(HERE, {"kill": True})
    assert (ask(service).json()["kill"], ask(other).json()["kill"]) == (True, False)
    assert other.send([wire_event()])["config"] == {"version": 1, "kill": False}
    assert service.send([wire_event()])["config"] == {"version": 2, "kill": True}
    assert service.send({"receipts": [], "events": []})["config"] == {"version": 2, "kill": True}


@pytest.mark.parametrize(("key", "status"), [("", 401), ("tt_write_unknown", 401)])
def test_key_that_is_not_live_gets_an_error_that_no_cache_keeps(service: Service, key: str, status: int) -> None:
    answer = ask(service, key)
    assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert set(answer.json()["error"]) == {"code", "message", "hint"}


def test_reader_is_told_that_their_key_does_not_send(service: Service) -> None:
    assert ask(service, service.read_key).status_code == 403


def test_page_elsewhere_may_ask_with_a_tag_and_a_key(service: Service) -> None:
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "if-none-match,x-write-key",
    }
    allowed = ask(service, method="OPTIONS", **asked).headers["access-control-allow-headers"]
    assert {"if-none-match", "x-write-key", "authorization"} <= {name.strip() for name in allowed.split(",")}


def test_named_origins_are_told_apart_by_caches(tmp_path: Any) -> None:
    with running(tmp_path / "data", allowed_origins="https://shop.example") as service:
        ours, foreign = (ask(service, Origin=f"https://{name}.example") for name in ("shop", "evil"))
        assert ours.headers["access-control-allow-origin"] == "https://shop.example"
        assert "access-control-allow-origin" not in foreign.headers
        for answer in (ours, foreign, ask(service)):
            assert "origin" in answer.headers["vary"].lower()


def test_openapi_says_what_is_answered(service: Service) -> None:
    document = service.get("/openapi.json").json()
    operation = document["paths"]["/api/analytics/config"]["get"]
    assert {"200", "304", "401", "403"} <= operation["responses"].keys()
    schema = document["components"]["schemas"]["Config"]
    answer = ask(service).json()
    assert set(schema["required"]) == set(schema["properties"]) == set(answer)
    assert set(schema["properties"]["batch"]["properties"]) == set(answer["batch"])
