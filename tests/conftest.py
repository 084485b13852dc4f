"""What the tests share: a real service in a folder of its own, and events that read like the contract."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest

from twintrack.app import Services, build, create_app
from twintrack.auth import Role
from twintrack.clock import Clock
from twintrack.demo import SignInLink
from twintrack.logs import configure
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, wire_event

# Lines as the product writes them: structlog's own ones import modules and open files while they tell of an exception, which
# ends a thread of ours where there are no descriptors left.
configure("info", "text", stream=os.fdopen(2, "wb", buffering=0, closefd=False))

# Less where a run is meant to fail: a mutant's service never drains.
PATIENCE_SECONDS = float(os.environ.get("TWINTRACK_PATIENCE_SECONDS", "120"))
ONLY_NUMBERS = (
    "ALTER TABLE analytics.events ADD CONSTRAINT only_numbers"
    " CHECK event_value IS NULL OR match(event_value, '^[0-9]+$')"
)
ANY_TEXT = "ALTER TABLE analytics.events DROP CONSTRAINT IF EXISTS only_numbers"


@dataclass
class Service:
    """A built service, asked in process over ASGI: the real application, engine, spool and loader."""

    services: Services
    write_key: str
    server_key: str
    read_key: str
    owner_key: str
    project: str = "demo"

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **more)

        return asyncio.run(one())

    def __post_init__(self) -> None:
        self.app = create_app(self.services, demo_link=SignInLink())

    def send(self, events: Any, key: str | None = None, **headers: str) -> dict[str, Any]:
        response = self.request(
            "POST", "/api/analytics/events", json=events, headers={"X-Write-Key": key or self.write_key, **headers}
        )
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        sent = len(events if isinstance(events, list) else events.get("events", []))
        assert sum(body[s] for s in ("accepted", "duplicate", "rejected", "dropped", "retry")) == sent
        return body

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return self.request("GET", path, headers={"Authorization": f"Bearer {key or self.owner_key}"})

    def sql(self, sql: str, key: str | None = None, **parameters: Any) -> httpx.Response:
        return self.request(
            "POST",
            "/api/analytics/sql",
            json={"sql": sql, "parameters": parameters},
            headers={"Authorization": f"Bearer {key or self.owner_key}"},
        )

    def rows(self, sql: str) -> list[list[Any]]:
        """Settles the spool, then asks the store directly."""
        self.settle()
        return [list(row) for row in self.services.store.select(sql).rows]

    def settle(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while self.services.spool.depth().events or self.services.spool.pending():
            assert time.monotonic() < until, "the spool did not drain"
            time.sleep(0.02)

    def fate(self, event_id: str) -> dict[str, Any]:
        """Where an event is; waits for the record of a refused one, which is written down after the answer."""
        until = time.monotonic() + 60
        while (answer := self.get(f"/api/analytics/events/{event_id}")).status_code == 404:
            assert time.monotonic() < until, answer.text
            time.sleep(0.02)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def elsewhere(self) -> "Service":
        """The same service with keys of a project of its own: tests of one module share an engine, not events."""
        project = f"p-{uuid4().hex[:12]}"
        return Service(self.services, *_keys(self.services, project), project)

    def key_of(self, role: Role) -> str:
        return self.services.control.create_key(role, self.project, "local")

    def make_the_store_refuse_text_values(self) -> None:
        """From now on the store takes only whole numbers as `event_value`; the door still takes any text."""
        self.services.store.command(ONLY_NUMBERS)


def _keys(services: Services, project: str) -> list[str]:
    roles = (Role.WRITE, Role.SERVER, Role.READ, Role.OWNER)
    return [services.control.create_key(role, project, "local") for role in roles]


def open_service(folder: Path, clock: Clock | None = None, **settings: Any) -> Service:
    services = build(load_settings(data=folder, **{"chunk_age_milliseconds": 20, **settings}), clock)
    return Service(services, *_keys(services, "demo"))


@contextmanager
def running(folder: Path, clock: Clock | None = None, **settings: Any) -> Iterator[Service]:
    """A service that is closed whatever happens: the embedded store has one folder in a process at a time."""
    opened = open_service(folder, clock, **settings)
    try:
        yield opened
    finally:
        opened.services.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path / "data", jwt_secret="test-secret-that-is-long-enough-for-hs256") as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def event() -> dict[str, Any]:
    return wire_event()
