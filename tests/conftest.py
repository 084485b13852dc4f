"""What the tests share: a real service in a folder of its own, and events that read like the contract."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from twintrack.app import Services, build, create_app
from twintrack.auth import Role
from twintrack.clock import Clock
from twintrack.demo import SignInLink
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, wire_event


@dataclass
class Service:
    """A built service, asked in process over ASGI: the real application, engine, spool and loader."""

    services: Services
    write_key: str
    server_key: str
    read_key: str
    owner_key: str

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
        until = time.monotonic() + 60
        while self.services.spool.depth().events or self.services.spool.pending():
            assert time.monotonic() < until, "the spool did not drain"
            time.sleep(0.02)


def open_service(folder: Path, clock: Clock | None = None, **settings: Any) -> Service:
    services = build(load_settings(data=folder, chunk_age_milliseconds=20, **settings), clock)
    control = services.control
    return Service(
        services,
        *(control.create_key(role, "demo", "local") for role in (Role.WRITE, Role.SERVER, Role.READ, Role.OWNER)),
    )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    opened = open_service(tmp_path / "data", jwt_secret="test-secret-that-is-long-enough-for-hs256")
    yield opened
    opened.services.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def event() -> dict[str, Any]:
    return wire_event()
