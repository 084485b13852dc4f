"""What the tests of erasure share: a service that erases quickly, and waiting for a request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Service, open_service
from twintrack.control.erasures import Request, State

PATIENCE_SECONDS = 120


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Service]:
    opened = open_service(folder, **settings)
    try:
        yield opened
    finally:
        opened.services.close()


def erase(service: Service, **subject: Any) -> Request:
    """Asks for it over HTTP, and waits until it is done."""
    answer = service.request(
        "POST",
        "/api/analytics/privacy/erasures",
        json=subject,
        headers={"Authorization": f"Bearer {service.owner_key}"},
    )
    assert answer.status_code == 202, answer.text
    return finished(service, answer.json()["id"])


def finished(service: Service, request_id: str) -> Request:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        request = service.services.eraser.get(request_id)
        assert request.state is not State.FAILED, request.progress.error
        if request.state is State.DONE:
            return request
        assert time.monotonic() < until, (request.state, service.services.loader.last_error)
        time.sleep(0.05)
