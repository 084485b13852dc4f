"""Deliveries, spools and folders for the tests of the durable queue."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from twintrack.event import Tenancy
from twintrack.metrics import Metrics
from twintrack.seal import DataKeys
from twintrack.spool.local import LocalSpool, SpoolSizes
from twintrack.spool.protocol import Delivery, Slab
from twintrack.testing import ManualClock, uuid7

KEYS = DataKeys(lambda: {7: bytes(range(32))})
PLACE = Tenancy("demo", "local")
MONTH = 202601
SIZES = SpoolSizes(
    index_bytes=16 << 20,
    spool_bytes=1 << 30,
    segment_bytes=4096,
    reserve_bytes=0,
    chunk_rows=50,
    grace_seconds=60,
    grace_bytes=1 << 30,
    window_days=10,
)


def opened(
    folder: Path,
    clock: ManualClock | None = None,
    *,
    boot: str = "boot-1",
    reached: Callable[[str], None] = lambda _: None,
    keys: DataKeys | None = None,
    **sizes: Any,
) -> LocalSpool:
    return LocalSpool(
        folder, clock or ManualClock(), Metrics(), SIZES._replace(**sizes), boot=boot, reached=reached, keys=keys
    )


def line(event_id: UUID, project: str = PLACE.project, text: str = "") -> bytes:
    return json.dumps([project, PLACE.environment, str(event_id), text]).encode()


def delivery(
    ids: list[UUID],
    *,
    project: str = PLACE.project,
    recent: bool = True,
    received: int = 1_767_225_600_000,
    text: str = "",
) -> Delivery:
    lines = b"\n".join(line(i, project, text) for i in ids)
    slab = Slab(MONTH, recent, [i.bytes for i in ids], lines)
    return Delivery(Tenancy(project, PLACE.environment), received, [slab], [], [])


def send(spool: LocalSpool, ids: list[UUID], **more: Any) -> list[bool]:
    return asyncio.run(spool.append(delivery(ids, **more)))


def fresh(clock: ManualClock | None = None, count: int = 1) -> list[UUID]:
    return [UUID(uuid7((clock or ManualClock()).milliseconds())) for _ in range(count)]


def killed(spool: LocalSpool, folder: Path, copy: Path) -> Path:
    """The folder as a killed process leaves it: no clean mark, nothing closed. The living spool is ended."""
    shutil.copytree(folder, copy)
    spool.close()
    return copy


def rows_of(spool: LocalSpool) -> list[UUID]:
    """Ids of everything that waits in chunks, after freezing all of the log."""
    while spool.freeze():
        pass
    return [UUID(bytes=i) for chunk in spool.pending() for _, i in spool.identities(chunk)]


def tally(spool: LocalSpool, outcome: str) -> int:
    return sum(n for (_, _, o, _), n in spool.tallies().items() if o == outcome)
