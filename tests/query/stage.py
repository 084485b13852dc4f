"""A store with rows in it and the service that answers questions about them, at a time that stands still."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from tests.server import Server
from twintrack.auth import Principal, Role
from twintrack.event import Row, Tenancy
from twintrack.metrics import Metrics
from twintrack.query.answer import Answers
from twintrack.query.execute import Executor
from twintrack.query.kinds import KINDS
from twintrack.query.question import Question
from twintrack.settings import load_settings
from twintrack.store.clickhouse import ClickHouse, Connection
from twintrack.testing import ManualClock

SHOP = Tenancy("shop", "production")
ASKER = Principal("key", Role.OWNER, SHOP)
_DEFAULTS: dict[Any, Any] = {str: "", int: 0, bool: False, list[str]: []}


def stored(row: dict[str, Any], tenancy: Tenancy = SHOP) -> list[Any]:
    """A row as the loader would insert it; what is not given is empty."""
    moment = row["event_timestamp"].timestamp()
    given = {
        "project": tenancy.project,
        "environment": tenancy.environment,
        "client_timestamp": moment,
        "server_timestamp": moment,
        "ip_address": "::",
        "consent": "granted",
        **row,
        "event_timestamp": moment,
    }
    return [given.get(f.name, _DEFAULTS.get(f.type)) for f in msgspec.structs.fields(Row)]


class Stage:
    def __init__(self, folder: Path, now: datetime) -> None:
        self.server = Server(folder)
        self.server.migrate()
        # Known as the embedded engine that it is.
        self.store = ClickHouse(Connection(self.server.url()), "chdb")
        self.clock = ManualClock(round(now.timestamp() * 1000))
        self.executor = Executor(self.store, load_settings(), Metrics())
        self.answers = Answers(self.executor, self.clock, lambda _: self.cohorts)
        self.cohorts: dict[str, Any] = {}
        self._chunks = 0

    def insert(self, rows: list[dict[str, Any]], tenancy: Tenancy = SHOP) -> None:
        """By month, as chunks are; each one twice, as a loader does that was killed before it heard the answer."""
        months: dict[str, list[bytes]] = {}
        for row in rows:
            line = msgspec.json.encode(stored(row, tenancy))
            months.setdefault(row["event_timestamp"].strftime("%Y%m"), []).append(line)
        for lines in months.values():
            self._chunks += 1
            for _ in range(2):
                self.store.insert("events", str(UUID(int=self._chunks)), b"\n".join(lines), f"chunk-{self._chunks}")

    def ask(
        self,
        kind: str,
        question: dict[str, Any],
        principal: Principal = ASKER,
        kinds: Mapping[str, type[Question]] = KINDS,
    ) -> dict[str, Any]:
        return asyncio.run(self.answers.ask(kinds[kind].model_validate(question), principal))

    def close(self) -> None:
        self.executor.close()
        self.store.close()
        self.server.close()


@contextmanager
def staged(folder: Path, now: datetime, rows: list[dict[str, Any]]) -> Iterator[Stage]:
    stage = Stage(folder, now)
    try:
        stage.insert(rows)
        # What must never count: the same people in another project, and in another environment of this one.
        stage.insert(rows[:50], Tenancy("other", "production"))
        stage.insert(rows[:50], Tenancy("shop", "staging"))
        yield stage
    finally:
        stage.close()
