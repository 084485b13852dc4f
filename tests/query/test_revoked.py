"""A file that is on its way to who may not have it any more is cut, and the record says so."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.conftest import Service
from tests.privacy.test_audit import entries
from twintrack.auth import Role
from twintrack.testing import wire_event

SQL = {"sql": "SELECT event_id FROM events", "format": "csv"}
EVENTS = {"range": {"last": 2}, "format": "csv"}


async def take(service: Service, key: str, path: str, body: bytes, said: bytearray, then: Any) -> None:
    """`said` is what the client gets of the answer; `then` is done when its head has come."""
    sent = False

    async def receive() -> Any:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            then()
        said.extend(message.get("body", b""))

    headers = {"authorization": f"Bearer {key}", "host": "localhost", "content-type": "application/json"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    await service.app(scope, receive, send)


@pytest.mark.parametrize("path,body,what", [
    ("/api/analytics/sql", SQL, "sql.file"), ("/api/analytics/query/events", EVENTS, "query.events.file"),
])  # fmt: skip
def test_file_is_cut_where_its_key_is_revoked_meanwhile(
    service: Service, path: str, body: dict[str, Any], what: str
) -> None:
    control = service.services.control
    key = control.create_key(Role.ANALYST, "demo", "local")
    principal = control.principal(key)
    assert principal is not None
    event = wire_event()
    service.send([event])
    service.settle()
    whole, cut = bytearray(), bytearray()
    asyncio.run(take(service, key, path, msgspec.json.encode(body), whole, lambda: None))
    assert event["event_id"].encode() in whole
    with pytest.raises(Exception, match="response already started"):
        asyncio.run(
            take(service, key, path, msgspec.json.encode(body), cut, lambda: control.revoke_key(principal.key_id))
        )
    assert event["event_id"].encode() not in cut
    assert [e.outcome for e in entries(service.services.audit.folder) if e.what == what] == [
        "begun", "done", "begun", "not_signed_in",
    ]  # fmt: skip
