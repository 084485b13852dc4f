"""The door: every event gets one verdict, and no body can do harm."""

import gzip
import json
import time
from typing import Any

import brotli
import jwt
import pytest
import zstandard

from tests.conftest import Service
from twintrack.testing import uuid7, wire_event


def post(service: Service, body: bytes, **headers: str) -> Any:
    return service.request(
        "POST",
        "/api/analytics/events",
        content=body,
        headers={"X-Write-Key": service.write_key, "Content-Type": "application/json", **headers},
    )


def test_batch_with_one_bad_event_keeps_its_neighbours(service: Service) -> None:
    answer = service.send([wire_event(), {"event_id": "no", "event_name": 5}, wire_event(event_name=""), wire_event()])
    assert (answer["accepted"], answer["rejected"]) == (2, 2)
    assert [r["index"] for r in answer["results"]] == [1, 2]
    assert "event_name" in answer["results"][1]["message"]
    assert service.rows("SELECT count() FROM analytics.events") == [[2]]


def test_same_event_twice_is_one_row_and_the_second_is_answered_duplicate(
    service: Service, event: dict[str, Any]
) -> None:
    assert service.send([event, event])["duplicate"] == 1
    assert service.send([event])["results"][0]["status"] == "duplicate"
    assert service.rows("SELECT count(), uniqExact(event_id) FROM analytics.events") == [[1, 1]]


@pytest.mark.parametrize(
    "encode",
    [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress), ("br", brotli.compress)],
    ids=lambda pair: pair[0],
)
def test_compressed_body_is_accepted(service: Service, encode: Any) -> None:
    name, compress = encode
    answer = post(service, compress(json.dumps([wire_event()]).encode()), **{"Content-Encoding": name})
    assert answer.json()["accepted"] == 1


@pytest.mark.parametrize(
    "encode",
    [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress), ("br", brotli.compress)],
    ids=lambda pair: pair[0],
)
def test_compressed_bomb_is_answered_413(service: Service, encode: Any) -> None:
    name, compress = encode
    bomb = compress(b"[" + b" " * (64 << 20) + b"]")
    assert len(bomb) < 1 << 20
    answer = post(service, bomb, **{"Content-Encoding": name})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "no_events"),
        (b"nonsense", 400, "no_events"),
        (b'{"events": 5}', 400, "no_events"),
        (b"{}", 400, "no_events"),
        (b'[{"event_id": ', 400, "no_events"),
        (b"[" + b"1," * 100_000 + b"1]", 413, "batch_too_large"),
        (b"x" * (10 << 20), 413, "body_too_large"),
        (b"\xff\xfe[", 400, "no_events"),
    ],
)
def test_body_without_events_is_refused_whole(service: Service, body: bytes, status: int, code: str) -> None:
    answer = post(service, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["hint"]


def raw_event(metadata: str, **fields: Any) -> str:
    text = json.dumps(wire_event(event_metadata="@@", **fields))
    return text.replace('"@@"', metadata)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ('{"x": NaN}', "malformed"),
        ("[" * 1000 + "]" * 1000, "wrong_type"),
        ('{"x": ' + "[" * 1000 + "]" * 1000 + "}", "too_deep"),
        ('{"b.c": 1, "b": {"c": 2}}', "colliding_keys"),
        ('{"b.c": 1, "b": 2}', "colliding_keys"),
        ('{"x": 99999999999999999999999}', "number_out_of_range"),
        ('{"x": 1e999}', "number_out_of_range"),
        (json.dumps({f"k{i}": i for i in range(300)}), "too_many_keys"),
        ('{"": 1}', "missing_field"),
        ("5", "wrong_type"),
    ],
)
def test_bad_metadata_costs_that_event_alone(service: Service, metadata: str, code: str) -> None:
    body = f"[{json.dumps(wire_event())}, {raw_event(metadata)}, {json.dumps(wire_event())}]"
    answer = post(service, body.encode()).json()
    assert answer["accepted"] == 2, answer
    assert answer["results"][0]["index"] == 1
    assert answer["results"][0]["code"] == code
    assert service.rows("SELECT count() FROM analytics.events") == [[2]]


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", 5])
def test_impossible_time_is_refused_by_field(service: Service, moment: Any) -> None:
    answer = service.send([wire_event(client_timestamp=moment), wire_event()])
    assert (answer["accepted"], answer["rejected"]) == (1, 1)
    assert "client_timestamp" in answer["results"][0]["message"]


def test_half_an_emoji_becomes_a_replacement_character(service: Service, event: dict[str, Any]) -> None:
    body = json.dumps([{**event, "message_content": "@@"}, wire_event()]).replace("@@", "half \\ud83d!")
    assert post(service, body.encode()).json()["accepted"] == 2
    assert service.rows("SELECT message_content FROM analytics.events WHERE message_content IS NOT NULL") == [
        ["half \ufffd!"]
    ]


def test_nul_and_duplicate_keys_are_stored_as_json_means_them(service: Service) -> None:
    answer = post(
        service,
        f"[{raw_event(chr(123) + chr(34) + 'a' + chr(34) + ': 1, ' + chr(34) + 'a' + chr(34) + ': 2}')}]".encode(),
    )
    assert answer.json()["accepted"] == 1
    assert service.send([wire_event(event_metadata={"n": "nul \x00 here"})])["accepted"] == 1
    assert service.rows(
        "SELECT toString(event_metadata.a) FROM analytics.events WHERE event_metadata.a IS NOT NULL"
    ) == [["2"]]


def test_unknown_fields_are_ignored_and_counted(service: Service) -> None:
    assert service.send([wire_event(colour="red", shape=1), wire_event()])["accepted"] == 2
    assert "twintrack_ingest_unknown_fields_total 2.0" in service.get("/metrics").text


def test_envelope_carries_key_and_text_plain_needs_no_header(service: Service, event: dict[str, Any]) -> None:
    answer = service.request(
        "POST",
        "/api/analytics/events",
        content=json.dumps({"events": [event], "key": service.write_key}),
        headers={"Content-Type": "text/plain;charset=UTF-8"},
    )
    assert answer.json()["accepted"] == 1
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(("key", "status"), [("", 401), ("tt_write_unknown", 401)])
def test_key_that_is_not_live_is_refused(service: Service, event: dict[str, Any], key: str, status: int) -> None:
    answer = service.request("POST", "/api/analytics/events", json=[event], headers={"X-Write-Key": key})
    assert answer.status_code == status


def test_read_key_cannot_send_and_revoked_key_neither(service: Service, event: dict[str, Any]) -> None:
    answer = service.request("POST", "/api/analytics/events", json=[event], headers={"X-Write-Key": service.read_key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_role")
    write = next(k for k in service.services.control.list_keys() if k["role"] == "write")
    service.services.control.revoke_key(write["id"])
    answer = service.request("POST", "/api/analytics/events", json=[event], headers={"X-Write-Key": service.write_key})
    assert answer.status_code == 401


def token(subject: str, seconds: int = 60, secret: str = "test-secret-that-is-long-enough-for-hs256") -> str:
    return jwt.encode({"sub": subject, "exp": int(time.time()) + seconds}, secret, "HS256")


@pytest.mark.parametrize(
    ("user", "anonymous", "sent_token", "server", "stored"),
    [
        ("ann", "a", {"subject": "ann"}, False, ["ann", "verified"]),
        ("bob", "a", {"subject": "ann"}, False, ["bob", "claimed"]),
        (None, None, {"subject": "ann"}, False, ["ann", "verified"]),
        (None, "a", {"subject": "ann"}, False, ["", "anonymous"]),
        ("ann", "a", {"subject": "ann", "seconds": -60}, False, ["ann", "claimed"]),
        ("ann", "a", {"subject": "ann", "secret": "another-secret-that-is-long-enough-too"}, False, ["ann", "claimed"]),
        ("ann", "a", None, False, ["ann", "claimed"]),
        ("ann", "a", None, True, ["ann", "server"]),
    ],
)
def test_identity_is_verified_only_by_a_token_of_that_user(
    service: Service,
    user: str | None,
    anonymous: str | None,
    sent_token: dict[str, Any] | None,
    server: bool,
    stored: list[str],
) -> None:
    event = wire_event(user_id=user, anonymous_id=anonymous)
    made = None if sent_token is None else token(**sent_token)
    service.send({"events": [event], "token": made}, key=service.server_key if server else None)
    assert service.rows("SELECT user_id, identity FROM analytics.events") == [stored]


def test_events_of_two_projects_with_one_id_are_two_rows(service: Service, event: dict[str, Any]) -> None:
    from twintrack.auth import Role

    other = service.services.control.create_key(Role.WRITE, "other", "local")
    assert service.send([event])["accepted"] == 1
    assert service.send([event], key=other)["accepted"] == 1
    assert service.rows("SELECT uniqExact(project) FROM analytics.events") == [[2]]


def test_client_clock_an_hour_off_is_corrected_by_sent_at(service: Service) -> None:
    now = time.time_ns() // 1_000_000
    wrong = now - 3_600_000
    from twintrack.clock import iso

    service.send({"events": [wire_event(wrong)], "sent_at": iso(wrong)})
    ((off,),) = service.rows("SELECT abs(dateDiff('second', event_timestamp, server_timestamp)) FROM analytics.events")
    assert off <= 2


def test_old_style_and_too_old_ids_are_stored_once(service: Service) -> None:
    event = wire_event(event_id="6fa459ea-ee8a-4ca4-894e-db77e160355e")
    old = wire_event(event_id=uuid7(1_500_000_000_000))
    for _ in range(2):
        service.send([event, old])
        service.settle()
    assert service.rows("SELECT count(), uniqExact(event_id) FROM analytics.events") == [[2, 2]]
    state = service.get("/api/analytics/pipeline").json()
    assert state["duplicate"] == 2 and state["balance"]["holds"], state
