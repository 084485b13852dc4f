"""What the tests of people's rights share: a service that erases quickly, and waiting for a request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.conftest import Service, open_service
from tests.privacy.canary import SOON
from twintrack.control.erasures import Request, State

PATIENCE_SECONDS = 120


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Service]:
    """A service whose store removes old parts soon: the engine's cleaner learns that at a start."""
    made = open_service(folder)
    tables = made.services.store.select(
        "SELECT name FROM system.tables WHERE database = 'analytics' AND engine LIKE '%MergeTree'"
    )
    for (table,) in tables.rows:
        made.services.store.command(f"ALTER TABLE analytics.{table} MODIFY SETTING {SOON}")
    made.services.close()
    opened = open_service(folder, **settings)
    try:
        yield opened
    finally:
        opened.services.close()


def ask(service: Service, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or service.owner_key}"}
    return service.request(method, f"/api/analytics/privacy/{path}", json=body, headers=headers)


def erase(service: Service, **subject: Any) -> Request:
    """Asks for it over HTTP, and waits until it is done."""
    answer = ask(service, "POST", "erasures", subject)
    assert answer.status_code == 202, answer.text
    return finished(service, answer.json()["id"])


def finished(service: Service, request_id: str, state: State = State.DONE) -> Request:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        request = service.services.eraser.get(request_id)
        assert request.state is not State.FAILED or state is State.FAILED, request.progress.error
        if request.state is state:
            return request
        assert time.monotonic() < until, (request.state, service.services.loader.last_error)
        time.sleep(0.05)
