"""Runs a judged question: read-only, bounded in rows, time and memory, never beside the loader's own client."""

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar
from uuid import UUID

from twintrack.errors import StoreError, StoreUnavailable, TwintrackError
from twintrack.event import Tenancy
from twintrack.metrics import Metrics
from twintrack.permissions import Permission
from twintrack.query.guard import locks, salts, scope
from twintrack.settings import Settings
from twintrack.store.protocol import Store

_Answered = TypeVar("_Answered")


class Executor:
    """Two threads at most: a question waits for its turn rather than taking ingest's cores."""

    def __init__(self, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._store, self._settings, self._metrics = store, settings, metrics
        self._ending = False
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="query")

    def cancel(self) -> None:
        """From now on no question is asked; those that run end at once, with an error that says so."""
        self._ending = True
        self._store.cancel()

    def close(self) -> None:
        """Ends what is running and waits for it: an engine that ends inside a query crashes."""
        self.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _ask(self, question: Callable[[], _Answered]) -> _Answered:
        """Asks on a thread, and counts how it went."""

        def unless_ending() -> _Answered:
            if self._ending:
                raise StoreUnavailable("the service is stopping", hint="ask again when it is back")
            return question()

        started, result = time.perf_counter(), "ok"
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, unless_ending)
        except TwintrackError as error:
            result = error.code
            raise
        finally:
            self._metrics.queries.labels(result).inc()
            self._metrics.query_seconds.observe(time.perf_counter() - started)

    def bounds(self) -> dict[str, Any]:
        s = self._settings
        return {
            "readonly": 1,
            "max_execution_time": s.query_seconds,
            "max_result_rows": s.query_result_rows,
            "result_overflow_mode": "throw",
            "max_memory_usage": s.query_memory_bytes,
            "max_threads": 2,
        }

    async def sql(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        tenancy: Tenancy | None,
        *,
        hidden: Collection[Permission] = (),
    ) -> dict[str, Any]:
        """`{"columns", "rows", "rows_read", "milliseconds", "sql"}`.

        Raises: RequestError for a refused statement, StoreError with the engine's words or the limit met.
        """
        judged = scope(sql, tenancy, hidden=hidden)
        salt = salts() if hidden else {}
        try:
            return await self.run(judged, {**parameters, **salt}, locks(tenancy))
        except StoreError as error:
            for number in salt.values():  # the engine quotes what it was asked, and with it what makes hidden names
                error.message = error.message.replace(str(number), "...")
            raise

    async def run(
        self, judged: str, parameters: Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        started = time.perf_counter()
        answer = await self._ask(lambda: self._store.select(judged, parameters, {**self.bounds(), **(more or {})}))
        return {
            "columns": [{"name": name, "type": kind} for name, kind in answer.columns],
            "rows": [[plain(cell) for cell in row] for row in answer.rows],
            "rows_read": answer.rows_read,
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "sql": judged,
        }

    async def explain(
        self, sql: str, parameters: Mapping[str, Any], tenancy: Tenancy, *, hidden: Collection[Permission] = ()
    ) -> list[str]:
        """What the engine would read and in which order, line by line; nothing is read. Raises: as `sql`."""
        judged = scope(sql, tenancy, hidden=hidden)
        given = {**parameters, **(salts() if hidden else {})}
        answer = await self.run(f"EXPLAIN indexes = 1 {judged}", given, locks(tenancy))
        return [str(row[0]) for row in answer["rows"]]

    async def pieces(
        self,
        sql: str,
        output_format: str,
        parameters: Mapping[str, Any],
        tenancy: Tenancy,
        *,
        hidden: Collection[Permission] = (),
    ) -> AsyncIterator[bytes]:
        """The answer as a file, piece by piece; the first one is there when this returns.

        Raises: RequestError for a refused statement, StoreError with the engine's words or the limit met; later pieces
        raise where the answer breaks off.
        """
        judged = scope(sql, tenancy, hidden=hidden)
        bounds = {**self.bounds(), "max_result_rows": self._settings.query_file_rows, **locks(tenancy)}
        given = {**parameters, **(salts() if hidden else {})}
        found = self._store.pieces(judged, output_format, bounds, given)
        first = await self._ask(lambda: _next(found))

        async def all_of_it() -> AsyncIterator[bytes]:
            piece = first
            try:
                while piece:
                    yield piece
                    piece = await self._ask(lambda: _next(found))
            finally:
                found.close()

        return all_of_it()

    async def export(
        self, sql: str, output_format: str, tenancy: Tenancy | None, parameters: Mapping[str, Any] | None = None
    ) -> bytes:
        judged = scope(sql, tenancy)
        bounds = {**self.bounds(), **locks(tenancy)}
        return await self._ask(lambda: self._store.export(judged, output_format, bounds, parameters))


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


def plain(value: Any) -> Any:
    """A cell as JSON has it: instants as ISO 8601 UTC, ids and decimals as strings, no NaN."""
    if isinstance(value, datetime):
        # The driver hands out columns of zone UTC without a zone.
        return (
            (value if value.tzinfo else value.replace(tzinfo=UTC))
            .astimezone(UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, UUID | date | Decimal | IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    return value
