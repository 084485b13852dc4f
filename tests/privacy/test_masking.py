"""Trying the rules over HTTP leaves nothing behind; and every way in is masked before anything is on disk."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer

from tests.broker import TestBroker, running_broker
from tests.conftest import Service, running
from twintrack.auth import Role
from twintrack.commands import ImportBatch, ImportRow, _import
from twintrack.testing import wire_event

PATH = "/api/analytics/privacy/mask"
CANARY = "zq7canary"
# One marker in every field that takes text, in a form that a rule knows.
MAIL = f"{CANARY}@example.com"
FIELDS: dict[str, Any] = {
    "event_name": f"click {MAIL}",
    "event_value": f"to {MAIL}",
    "message_content": f"write to {MAIL}, or {CANARY}%40example.com",
    "event_metadata": {"note": f"from {MAIL}", MAIL: 1, "deep": [{"json": json.dumps({"mail": MAIL})}]},
    "user_id": MAIL,
    "anonymous_id": MAIL,
    "session_id": MAIL,
    "thread_id": MAIL,
    "context": {
        "page": {"url": f"https://shop.example/?mail={MAIL}", "title": f"Hello {MAIL}", "path": f"/{MAIL}"},
        "referrer": f"https://mail.example/?to={MAIL}",
        "locale": f"en-{MAIL}",
    },
}


def ask(service: Service, body: dict[str, Any], key: str | None = None) -> Any:
    return service.request("POST", PATH, json=body, headers={"Authorization": f"Bearer {key or service.owner_key}"})


def bytes_under(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


def holders(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path, held in bytes_under(folder) if CANARY.encode() in held]


def test_tried_text_comes_back_masked_and_nothing_of_it_is_kept_or_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path / "data") as service:
        answer = ask(service, {"text": f"mail {MAIL} 🙂 4111 1111 1111 1111"})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["masked"] == "mail [EMAIL] 🙂 [CARD]"
        assert [(found["rule"], found["action"]) for found in body["found"]] == [("email", "token"), ("card", "token")]
        assert body["found"][0]["start"] == 5 and body["found"][1]["start"] == 5 + len(MAIL) + 3
        assert not body["dropped"] and not body["quarantined"]
        assert service.services.spool.depth().events == 0
    assert holders(tmp_path) == []
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err


def test_text_that_is_refused_is_not_repeated(service: Service) -> None:
    for body in ({"text": MAIL * 5_000}, {"text": [MAIL]}, {"text": "x", MAIL: 1}):
        answer = ask(service, body)
        assert answer.status_code == 422 and f"{CANARY}@" not in answer.text.replace(f"body.{MAIL}", ""), answer.text


def test_who_may_not_read_may_not_try(service: Service) -> None:
    assert ask(service, {"text": "x"}, service.write_key).status_code == 403
    assert ask(service, {"text": "x"}, "unknown").status_code == 401
    viewer = service.services.control.create_key(Role.VIEWER, "demo", "local")
    assert ask(service, {"text": "x"}, viewer).status_code == 200


def test_rules_in_force_are_told_with_their_actions_and_text_that_would_go_is_not_shown(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'version = "shop"\non = ["passport"]\n[actions]\ncard = "last_four"\n'
        '[environments.local.actions]\nemail = "drop_field"'
    )
    with running(tmp_path / "data", masking_rules=str(rules)) as service:
        told = service.get("/api/analytics/privacy/masking").json()
        actions = {rule["name"]: rule["action"] for rule in told["rules"]}
        assert not any(rule["own"] for rule in told["rules"]) and "passport" in actions
        assert told["from_file"] and told["fault"] is None and "shop" in told["version"]
        assert (actions["card"], actions["email"], actions["ip"]) == ("last_four", "drop_field", "token")
        gone = ask(service, {"text": f"mail {MAIL} now"}).json()
        assert gone["masked"] == "" and gone["dropped"] and gone["version"] == told["version"]
        assert ask(service, {"text": "4111 1111 1111 1111"}).json()["masked"] == "[CARD_1111]"


def send_each_way(service: Service) -> int:
    """How many events were accepted over every way that a body can come."""
    accepted = 0
    plain = [wire_event(**FIELDS)]
    headers = {"X-Write-Key": service.server_key}
    for content, more in (
        (msgspec.json.encode(plain), {"Content-Type": "application/json"}),
        (msgspec.json.encode([wire_event(**FIELDS)]), {"Content-Type": "text/plain"}),
        (gzip.compress(msgspec.json.encode([wire_event(**FIELDS)])), {"Content-Encoding": "gzip"}),
        (
            msgspec.json.encode(
                {
                    "events": [wire_event(**FIELDS)],
                    "receipts": [
                        {"event_id": str(uuid4()), "vendor": MAIL, "status": "delivered", "at": 1},
                        {"event_id": MAIL, "vendor": "statsig", "status": MAIL, "at": 1},
                    ],
                    "batch_id": MAIL,
                    "sdk": MAIL,
                    "sent_at": None,
                }
            ),
            {"Content-Type": "application/json", "User-Agent": f"Agent/1 ({MAIL})"},
        ),
        # A lone surrogate: the whole body is decoded again event by event.
        (
            msgspec.json.encode([wire_event(**FIELDS)]).replace(b"write to", b"write \\ud83d to"),
            {"Content-Type": "application/json"},
        ),
    ):
        answer = service.request("POST", "/api/analytics/events", content=content, headers={**headers, **more})
        assert answer.status_code == 200, answer.text
        accepted += answer.json()["accepted"]
    return accepted


def test_no_byte_of_the_data_folder_holds_what_came_in_over_any_way(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        assert send_each_way(service) == 5
        row = ImportRow(service.services.clock.milliseconds(), 0, {"event_name": "imported", **FIELDS})
        answer = asyncio.run(_import(service.services, ImportBatch(str(uuid4()), "demo", "local", [row])))
        assert answer["accepted"] == 1, answer
        assert holders(tmp_path / "data" / "spool") == []
        stored = service.rows("SELECT count(), countIf(has(masked, 'message_content:email')) FROM analytics.events")
        assert stored == [[6, 6]]
        assert holders(tmp_path) == []  # while it runs
    assert holders(tmp_path) == []


def test_event_that_cannot_be_masked_and_one_whose_rule_quarantines_leave_no_text(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[actions]\nemail = "quarantine"')
    with running(tmp_path / "data", masking_rules=str(rules)) as service:
        assert (
            service.send([wire_event(message_content=f"write to {MAIL}", event_metadata={"a": "b"})])["accepted"] == 1
        )
        stored = service.rows("SELECT message_content, toString(event_metadata), masked FROM analytics.events")
        assert stored[0][:2] == [None, "{}"] and "*:quarantine" in stored[0][2]
    assert holders(tmp_path) == []


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with running_broker() as started:
        yield started


def test_no_message_in_kafka_holds_what_came_in(tmp_path: Path, broker: TestBroker) -> None:
    url = broker.url("masked", partitions=1)
    with running(tmp_path / "data", spool=url) as service:
        assert send_each_way(service) == 5
        consumer = Consumer(
            {
                "bootstrap.servers": f"127.0.0.1:{broker.wire.port}",
                "group.id": "reader",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe(["masked"])
        read: list[bytes] = []
        while sum(value.count(b" to [EMAIL], or [EMAIL]") for value in read) < 5:
            message = consumer.poll(30)
            assert message is not None, "the topic ended before five events"
            if message.error() is None:
                read.append(message.value())
        consumer.close()
        assert not [value for value in read if CANARY.encode() in value]
        service.settle()
    assert holders(tmp_path) == []
