"""A disk that is full at one stage: nothing acknowledged is lost, the door says 503, and it recovers without a restart."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import Service, open_service
from tests.faults.test_exactly_once import assert_each_once
from tests.faults.test_wire import until
from twintrack.testing import wire_event

STAGES = {"log": "spool/log", "chunks": "spool/chunks", "whole spool": "spool", "store": "store"}
SIZE = "64m"


@pytest.fixture(params=STAGES)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """(stage, data folder, the mounted folder)."""
    mounted = tmp_path / "data" / STAGES[request.param]
    mounted.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(mounted)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small disk of its own needs the right to mount (root): {done.stderr.strip()}")
    yield request.param, tmp_path / "data", mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes everything that is free."""
    balloon = folder / "balloon"
    with balloon.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(os.urandom(1) * size)
            except OSError:
                size //= 2
    return balloon


def post(service: Service, size: int) -> httpx.Response:
    batch = [wire_event(user_id="ann", event_metadata={"text": "x" * 500}) for _ in range(size)]
    headers = {"X-Write-Key": service.write_key}
    return service.request("POST", "/api/analytics/events", json=batch, headers=headers)


def test_full_disk_loses_nothing_and_needs_no_restart(full: tuple[str, Path, Path]) -> None:
    stage, data, mounted = full
    service = open_service(data, disk_reserve_bytes=0, store_backoff_seconds=0.2, segment_bytes=1 << 20)
    try:
        assert post(service, 50).status_code == 200
        service.settle()
        balloon, kept = fill(mounted), 50
        refused = 0
        for _ in range(20):
            answer = post(service, 50)
            if answer.status_code == 200:
                kept += 50
                continue
            refused += 1
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1, answer.text
            assert "xxx" not in answer.text
        if stage in ("log", "whole spool"):
            assert refused and service.get("/readyz").status_code == 503
        else:
            assert not refused  # the log still takes events; they wait
            until(lambda: service.services.loader.last_error or service.services.spool.depth().events)
        balloon.unlink()
        until(lambda: post_counted(service))
        assert_each_once(service, kept + 1)
        until(lambda: service.get("/readyz").status_code == 200)
    finally:
        service.services.close()


def post_counted(service: Service) -> bool:
    return post(service, 1).status_code == 200
