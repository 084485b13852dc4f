"""Runs a judged question: read-only, bounded in rows, time and memory, never beside the loader's own client."""

import asyncio
import base64
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar
from uuid import UUID, uuid4

from twintrack.errors import StoreError, StoreUnavailable, TwintrackError
from twintrack.event import Tenancy
from twintrack.metrics import Metrics
from twintrack.permissions import Permission
from twintrack.query.download import Download, Room
from twintrack.query.guard import explained, locks, salts, scope
from twintrack.query.turns import Turns
from twintrack.settings import Settings
from twintrack.store.protocol import Store

_Answered = TypeVar("_Answered")


_AT_ONCE = 2
# How the engine calls what is streamed.
STREAMED = {"csv": "CSV", "json": "JSONEachRow", "parquet": "Parquet"}
_LONGEST_DOWNLOAD_SECONDS = 3600.0
_END_AGAIN_SECONDS = 0.2
_WAITING_OF_ONE = 50
_UNKNOWN = (
    "{} subqueries in the place of a value or behind IN are not run here: the plan takes what they give as unknown, and no"
    " key is used for it; explain them by themselves to see what they would read"
)


class Executor:
    """Two questions at once: one waits for its turn rather than taking ingest's cores, and askers take turns.

    A question whose asker has gone is ended in the engine.
    """

    def __init__(self, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._store, self._settings, self._metrics = store, settings, metrics
        self._ending = False
        self._turns = Turns(_AT_ONCE, _WAITING_OF_ONE)
        self._threads = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="query")
        self._ends = ThreadPoolExecutor(max_workers=2, thread_name_prefix="query-end")
        self.most_rows, self.most_file_rows = settings.query_result_rows, settings.query_file_rows
        self._room = Room(settings.data, settings.query_file_bytes, settings.disk_reserve_bytes)
        self._filling: set[asyncio.Future[None]] = set()
        self.longest_download_seconds = _LONGEST_DOWNLOAD_SECONDS

    def cancel(self) -> None:
        """From now on no question is asked; those that run end at once, with an error that says so."""
        self._ending = True
        self._store.cancel()

    def close(self) -> None:
        """Ends what is running and waits for it: an engine that ends inside a query crashes."""
        self.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._ends.shutdown(wait=True)

    async def _ask(self, question: Callable[[dict[str, Any]], _Answered], asker: str = "") -> _Answered:
        """Asks on a thread, and counts how it went. The question is given its bounds and its mark."""
        mark = f"question-{uuid4().hex}"

        def unless_ending() -> _Answered:
            if self._ending:
                raise StoreUnavailable("the service is stopping", hint="ask again when it is back")
            return question({**self.bounds(), "log_comment": mark})

        started, result = time.perf_counter(), "ok"
        try:
            async with self._turns.turn(asker):
                work = asyncio.get_running_loop().run_in_executor(self._threads, unless_ending)
                try:
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    # The turn is over when the engine has let go, not when nobody listens any more.
                    await self._end(mark, work)
                    raise
        except StoreError as error:
            told = self._told(error, self.most_rows)
            result = told.code
            raise told from error
        except TwintrackError as error:
            result = error.code
            raise
        except asyncio.CancelledError:
            result = "left"
            raise
        finally:
            self._metrics.queries.labels(result).inc()
            self._metrics.query_seconds.observe(time.perf_counter() - started)

    def _told(self, error: StoreError, rows: int) -> StoreError:
        """The error in our words where it is a limit that was met: which one, how much, what to do."""
        s, code = self._settings, error.reason.rpartition("(")[2].rstrip(")")
        message, hint = {
            "158": (f"the question reads or gives more than {rows:,} rows", "ask for less, or take it as a file"),
            "396": (
                f"the answer has more than {rows:,} rows"
                f" ({'query_file_rows' if rows == self.most_file_rows else 'query_result_rows'})",
                "add LIMIT, or take it as a file by `format`",
            ),
            "159": (
                f"the question took longer than {s.query_seconds:g} s (query_seconds)",
                "ask for a shorter range, or for fewer groups",
            ),
            "241": (
                f"the question needs more memory than it may take: {s.query_memory_bytes / (1 << 30):.3g} GiB"
                f" (query_memory_bytes), all at once {s.store_memory_bytes / (1 << 30):.3g} GiB (store_memory_bytes)",
                "ask for a shorter range, fewer groups or fewer columns",
            ),
            "243": (
                "what the question gathers goes by the disk, and that has no room left beside the"
                f" {s.disk_reserve_bytes >> 20:,} MiB that events need (disk_reserve_bytes)",
                "ask for a shorter range; free space on the store's disk",
            ),
            "173": ("the machine has no memory left for this question", "ask for a shorter range, or in a moment"),
        }.get(code, ("", ""))
        if not message:
            return error
        return StoreError(message, hint=hint, code="query_limit", status=400, reason=error.reason)

    async def _end(self, mark: str, work: "asyncio.Future[Any]") -> None:
        """Ends a question in the engine and waits until it has ended; again, since it may only be about to begin."""
        while not work.done():
            with contextlib.suppress(TwintrackError):
                await asyncio.get_running_loop().run_in_executor(self._ends, self._store.end, mark)
            await asyncio.wait([work], timeout=_END_AGAIN_SECONDS)
        with contextlib.suppress(TwintrackError):
            work.result()

    async def version(self, months: list[int]) -> str:
        """Changes whenever what questions read has changed; takes no turn, since it reads no events."""
        return await asyncio.get_running_loop().run_in_executor(self._ends, self._store.version, months)

    async def aside(self, sql: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """As `run`, of a statement that reads next to nothing; takes no turn, so it waits for no heavy question."""
        bounds = self.bounds()

        def read() -> dict[str, Any]:
            answer = self._store.select(sql, parameters, bounds)
            return {"rows": [[plain(cell) for cell in row] for row in answer.rows], "rows_read": answer.rows_read}

        return await asyncio.get_running_loop().run_in_executor(self._ends, read)

    def bounds(self) -> dict[str, Any]:
        s = self._settings
        # One that runs alone has two threads, two have one each: no more threads than a small machine has cores.
        threads = 1 if self._turns.running > 1 else 2
        # Else the engine takes one thread where less than a GiB for each is free of the 2 GiB that it has here.
        alone = {"max_threads_min_free_memory_per_thread": 0} if self._store.engine == "chdb" else {}
        return {
            "readonly": 1,
            "max_execution_time": s.query_seconds,
            "max_result_rows": s.query_result_rows,
            "result_overflow_mode": "throw",
            "max_memory_usage": s.query_memory_bytes,
            # What is grouped or sorted goes by the disk in good time: the engine's own share is of all it has, not of this.
            "max_bytes_before_external_group_by": s.query_memory_bytes * 2 // 5 if self._store.spills else 0,
            "max_bytes_before_external_sort": s.query_memory_bytes * 2 // 5 if self._store.spills else 0,
            "min_free_disk_space_for_temporary_data": s.disk_reserve_bytes,
            "max_threads": threads,
            **alone,
        }

    async def sql(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        tenancy: Tenancy | None,
        *,
        hidden: Collection[Permission] = (),
        asker: str = "",
    ) -> dict[str, Any]:
        """`{"columns", "rows", "rows_read", "milliseconds", "sql"}`.

        Raises: RequestError for a refused statement, StoreError with the engine's words or the limit met.
        """
        judged = scope(sql, tenancy, hidden=hidden)
        with _salted(hidden) as salt:
            return await self.run(judged, {**parameters, **salt}, asker, locks(tenancy))

    async def explain(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        tenancy: Tenancy | None,
        *,
        hidden: Collection[Permission] = (),
        asker: str = "",
    ) -> dict[str, Any]:
        """`{"plan", "sql", "notes"}`: what the engine would read, line by line. It reads no event for that.

        Raises: as `sql`.
        """
        asked, judged, unknown = explained(sql, tenancy, hidden=hidden)
        with _salted(hidden) as salt:
            answer = await self.run(asked, {**parameters, **salt}, asker, locks(tenancy))
        notes = [_UNKNOWN.format(unknown)] if unknown else []
        plan = [row[0] for row in answer["rows"]]
        return {"plan": plan, "sql": judged, "notes": notes}

    async def run(
        self,
        judged: str,
        parameters: Mapping[str, Any] | None = None,
        asker: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """As `sql`, of a statement that is our own. Questions of one `asker` take turns with those of others."""
        started = time.perf_counter()

        def read(bounds: dict[str, Any]) -> dict[str, Any]:
            # Cells are made plain on this thread: a large answer would hold up events on the loop's.
            answer = self._store.select(judged, parameters, {**bounds, **(more or {})})
            return {
                "columns": [{"name": name, "type": kind} for name, kind in answer.columns],
                "rows": [[plain(cell) for cell in row] for row in answer.rows],
                "rows_read": answer.rows_read,
            }

        answer = await self._ask(read, asker)
        return {**answer, "milliseconds": round((time.perf_counter() - started) * 1000, 1), "sql": judged}

    async def stream(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        output_format: str,
        tenancy: Tenancy | None,
        *,
        hidden: Collection[Permission] = (),
        asker: str = "",
    ) -> AsyncIterator[bytes]:
        """The answer as csv, json (a line for each row) or parquet, in pieces as the engine has them.

        The engine is held while it computes, not while they are taken: `query/download.py`. What goes wrong after the first
        piece raises there: whoever passes pieces on must cut its own answer too.
        Raises: as `sql`, and StoreError where the pieces are taken too slowly.
        """
        judged = scope(sql, tenancy, hidden=hidden)
        download = Download(self._room, asker)
        work = self._fill(download, judged, parameters, output_format, tenancy, hidden, asker)
        filling = asyncio.ensure_future(work)
        self._filling.add(filling)
        filling.add_done_callback(self._filling.discard)
        loop = asyncio.get_running_loop()
        late = loop.call_later(self.longest_download_seconds, lambda: loop.run_in_executor(None, download.close))
        try:
            async for piece in download.pieces():
                yield piece
        finally:
            late.cancel()
            filling.cancel()
            await asyncio.shield(asyncio.to_thread(download.close))

    async def _fill(
        self,
        download: Download,
        judged: str,
        parameters: Mapping[str, Any],
        output_format: str,
        tenancy: Tenancy | None,
        hidden: Collection[Permission],
        asker: str,
    ) -> None:
        """Puts the pieces in as the engine has them. Cancelled: ends the question in the engine, then the turn."""
        mark, loop = f"question-{uuid4().hex}", asyncio.get_running_loop()
        blocks: Iterator[bytes] = iter(())

        def begin(salt: Mapping[str, Any]) -> bool:
            nonlocal blocks
            if self._ending:
                raise StoreUnavailable("the service is stopping", hint="ask again when it is back")
            most = {"max_result_rows": self._settings.query_file_rows, "log_comment": mark}
            bounds, given = {**self.bounds(), **most, **locks(tenancy)}, {**parameters, **salt}
            if output_format == "csv":
                # The embedded engine would repeat the names in front of each block.
                named = self._store.select(f"SELECT * FROM ({judged}) LIMIT 0", given, bounds)
                names = _csv_line([name for name, _ in named.columns])
            else:
                names = b""
            blocks = self._store.blocks(judged, STREAMED[output_format], given, bounds)
            return one_more(names)

        def one_more(head: bytes = b"") -> bool:
            block = next(blocks, None)
            if head or block:
                download.put(head + (block or b""))
            return block is not None

        async def on_thread(work: Callable[..., bool], *given: Any) -> bool:
            working = loop.run_in_executor(self._threads, work, *given)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                await self._end(mark, working)
                raise

        try:
            with _salted(hidden) as salt:
                async with self._turns.turn(asker):
                    try:
                        more = await on_thread(begin, salt)
                        while more:
                            download.came()
                            more = await on_thread(one_more)
                    finally:
                        # Of what did not come to its end the engine hears when its answer is closed.
                        await loop.run_in_executor(self._threads, _close, blocks)
            download.end()
        except StoreError as error:
            download.end(self._told(error, self.most_file_rows))
        except Exception as error:  # whatever it is, whoever takes the file must hear of its end
            download.end(error)


@contextlib.contextmanager
def _salted(hidden: Collection[Permission]) -> Iterator[dict[str, int]]:
    """Parameters that make hidden names; the engine quotes what it was asked, and they must not stand in an error."""
    salt = salts() if hidden else {}
    try:
        yield salt
    except StoreError as error:
        for number in salt.values():
            error.message = error.message.replace(str(number), "...")
        raise


def _csv_line(cells: list[str]) -> bytes:
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells).encode() + b"\n"


def _close(blocks: Iterator[bytes]) -> None:
    if isinstance(blocks, Generator):
        with contextlib.suppress(TwintrackError):
            blocks.close()


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
