"""What the dashboard learns about its reader and the service."""

import asyncio

import httpx2 as httpx
import pytest

from tests.conftest import Service
from twintrack.app import create_app
from twintrack.demo import SignInLink


@pytest.mark.parametrize("demo", [True, False])
def test_session_says_whether_the_service_serves_the_demo(service: Service, demo: bool) -> None:
    app = create_app(service.services, demo_link=SignInLink() if demo else None)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/api/session", json={"key": service.owner_key})

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert answer.json() == {
        "role": "owner",
        "project": "demo",
        "environment": "local",
        "name": "owner key",
        "demo": demo,
    }
