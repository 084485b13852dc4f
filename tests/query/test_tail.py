"""The live tail: each event once, as it comes, to those who may see it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Service
from tests.privacy.test_audit import entries
from twintrack.auth import Role
from twintrack.control.sessions import Session
from twintrack.event import Tenancy
from twintrack.testing import uuid7, wire_event


class Listener:
    """A client of the tail, as a server would serve it; leaves at the end of its block."""

    def __init__(self, service: Service, key: str, last_id: str = "", cookie: str = "", **query: Any) -> None:
        self.status, self.said = 0, b""
        self._left = asyncio.Event()
        who = {"cookie": f"twintrack_session={cookie}"} if cookie else {"authorization": f"Bearer {key}"}
        headers = {**who, "host": "localhost", "last-event-id": last_id}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/api/analytics/tail",
            "raw_path": b"/api/analytics/tail",
            "query_string": urlencode(query, doseq=True).encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
        }
        self._serving = asyncio.ensure_future(service.app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.said += message.get("body", b"")

    @property
    def ended(self) -> bool:
        """Whether the service has ended the stream."""
        return self._serving.done()

    @property
    def rows(self) -> list[dict[str, Any]]:
        messages = [
            dict(line.split(": ", 1) for line in m.split("\n"))
            for m in self.said.decode().split("\n\n")
            if "data: " in m
        ]
        return [{**json.loads(m["data"]), "cursor": m["id"]} for m in messages if m["event"] == "row"]

    async def until(self, seen: Callable[["Listener"], bool]) -> None:
        async with asyncio.timeout(30):
            while not seen(self):
                assert not self._serving.done() or seen(self), self.said
                await asyncio.sleep(0.02)

    async def __aenter__(self) -> "Listener":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._left.set()
        await asyncio.wait_for(self._serving, 30)


def test_tail_tells_each_event_once_of_its_own_project_and_filter(service: Service) -> None:
    async def scene() -> None:
        chosen = {"event": "buy", "filter": json.dumps({"property": "event_metadata.n", "operator": ">=", "value": 1})}
        async with Listener(service, service.owner_key, **chosen) as one, Listener(service, service.read_key) as all_:
            await one.until(lambda r: r.said != b"")
            sent = [wire_event(event_name="buy", event_metadata={"n": n}) for n in range(4)] + [wire_event()]
            await asyncio.to_thread(service.send, sent)
            await asyncio.to_thread(service.elsewhere().send, [wire_event(event_name="buy", event_metadata={"n": 9})])
            await one.until(lambda r: len(r.rows) >= 3)
            await all_.until(lambda r: len(r.rows) >= 5)
            later = wire_event(event_name="buy", event_metadata={"n": 7})
            await asyncio.to_thread(service.send, [later])
            await one.until(lambda r: later["event_id"] in [row["event_id"] for row in r.rows])
            await all_.until(lambda r: len(r.rows) >= 6)
            got = [row["event_id"] for row in one.rows]
            assert sorted(got) == sorted(e["event_id"] for e in [*sent[1:4], later])
            assert sorted(row["event_id"] for row in all_.rows) == sorted(e["event_id"] for e in [*sent, later])

    asyncio.run(scene())


def test_tail_that_comes_again_with_its_last_id_misses_nothing(service: Service) -> None:
    async def scene() -> None:
        async with Listener(service, service.owner_key) as one:
            await asyncio.to_thread(service.send, [wire_event()])
            await one.until(lambda r: len(r.rows) == 1)
            place = one.rows[0]["cursor"]
        missed = wire_event()
        await asyncio.to_thread(service.send, [missed])
        await asyncio.to_thread(service.settle)
        async with Listener(service, service.owner_key, place) as again:
            await again.until(lambda r: missed["event_id"] in [row["event_id"] for row in r.rows])

    asyncio.run(scene())


DEMO = Tenancy("demo", "local")


@pytest.mark.parametrize("how", ["key revoked", "member removed", "role changed", "signed out"])
def test_tail_shows_nothing_more_to_who_may_not_look_any_more(service: Service, how: str) -> None:
    control = service.services.control
    person = control.people.accept(control.people.invite("ann@example.com", "demo", Role.ANALYST, 1)[0], "")[0]
    cookie = control.sessions.open(Session("", person, DEMO), 1)
    analyst = control.create_key(Role.ANALYST, *DEMO)
    principal = control.principal(analyst)
    assert principal is not None
    ends: dict[str, Callable[[], None]] = {
        "key revoked": lambda: control.revoke_key(principal.key_id),
        "member removed": lambda: control.people.remove(person, "demo"),
        "role changed": lambda: control.people.change_role(person, "demo", Role.VIEWER),
        "signed out": lambda: control.sessions.close(cookie),
    }

    async def scene() -> None:
        async with Listener(service, analyst, cookie="" if how == "key revoked" else cookie) as one:
            await asyncio.to_thread(service.send, [wire_event()])
            await one.until(lambda r: len(r.rows) == 1)
            ends[how]()
            await asyncio.to_thread(service.send, [wire_event()])
            await asyncio.to_thread(service.settle)
            await one.until(lambda r: r.ended)
            assert len(one.rows) == 1

    asyncio.run(scene())


def test_tail_is_filtered_by_a_kept_cohort(service: Service) -> None:
    service.services.control.cohorts.put(DEMO, "buyers", {"did": {"event": "buy"}})

    async def scene() -> None:
        async with Listener(service, service.owner_key, filter=json.dumps({"cohort": "buyers"})) as one:
            await one.until(lambda r: r.said != b"")
            other, buyer = wire_event(user_id="ben"), wire_event(user_id="ann", event_name="buy")
            await asyncio.to_thread(service.send, [other, buyer], service.server_key)
            await one.until(lambda r: len(r.rows) == 1)
            after = wire_event(user_id="ann", event_name="look")
            await asyncio.to_thread(service.send, [wire_event(user_id="ben"), after], service.server_key)
            await one.until(lambda r: len(r.rows) == 2)
            assert {row["event_id"] for row in one.rows} == {buyer["event_id"], after["event_id"]}

    asyncio.run(scene())


def test_tail_shows_what_waited_for_the_store_for_hours(service: Service) -> None:
    late = uuid7()

    async def scene() -> None:
        async with Listener(service, service.owner_key) as one:
            await one.until(lambda r: r.said != b"")
            await asyncio.to_thread(
                service.services.store.command,
                "INSERT INTO analytics.events (project, environment, event_id, event_name, event_timestamp,"
                f" server_timestamp) SELECT 'demo', 'local', '{late}', 'late', now() - 20000, now() - 20000",
            )
            await one.until(lambda r: [row["event_id"] for row in r.rows] == [late])

    asyncio.run(scene())


def test_tail_records_the_rows_it_sent(service: Service) -> None:
    async def scene() -> None:
        async with Listener(service, service.owner_key) as one:
            await asyncio.to_thread(service.send, [wire_event() for _ in range(3)])
            await one.until(lambda r: len(r.rows) == 3)

    asyncio.run(scene())
    audit = service.services.audit
    audit.close()  # else the minute's sum is written when the minute is over
    told = [entry.rows for entry in entries(audit.folder) if entry.what == "tail.read"]
    assert sum(rows or 0 for rows in told) == 3


@pytest.mark.parametrize(
    "query,status", [({"filter": "{"}, 400), ({"filter": '{"property": "nothing"}'}, 400), ({"after": "x"}, 400)]
)
def test_tail_that_cannot_be_asked_is_refused(service: Service, query: Any, status: int) -> None:
    async def scene() -> None:
        async with Listener(service, service.owner_key, **query) as one:
            await one.until(lambda r: r.status == status)
        async with Listener(service, service.write_key) as stranger:
            await stranger.until(lambda r: r.status == 403)

    asyncio.run(scene())
