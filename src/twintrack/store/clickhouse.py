"""The driver: one client for a ClickHouse server and for embedded chDB, whose process speaks the same protocol."""

import contextlib
import gzip
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import UUID
from weakref import WeakSet

import clickhouse_connect
import zstandard
from clickhouse_connect.driver import httputil
from clickhouse_connect.driver.binding import bind_query
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.httpclient import HttpClient
from clickhouse_connect.driver.summary import QuerySummary
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from twintrack.errors import StoreError, StoreUnavailable
from twintrack.store.codes import insert_error, read_error
from twintrack.store.protocol import Answer
from twintrack.store.schema import COLUMNS, DATABASE, read_as

# All of them in the statement: a retry must meet the same blocks whatever the server's defaults are.
INSERT_SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,
    "deduplicate_insert": "enable",
    # An insert by way of a SELECT: the token makes it one that can be repeated, else it is refused.
    "deduplicate_insert_select": "force_enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    "max_insert_block_size": 1_000_000,
    "min_insert_block_size_rows": 1_000_000,
    "min_insert_block_size_bytes": 1 << 30,
    "max_insert_threads": 1,
    "max_threads": 1,
    "max_block_size": 1_000_000,
    "input_format_parallel_parsing": 0,
    "type_json_skip_duplicated_paths": 0,
    "input_format_null_as_default": 1,
    # Rows that waited over an update lack the columns that came with it; they stand last and have defaults.
    "input_format_json_compact_allow_variable_number_of_columns": 1,
    # A text in metadata stays a text: as a moment it would come back in another form, and trying costs 0.3 us a row.
    "input_format_try_infer_dates": 0,
    "input_format_try_infer_datetimes": 0,
    # In front of a cluster the answer waits for the shard; without a Distributed table it means nothing.
    "distributed_foreground_insert": 1,
}
# The status line waits for the outcome: with progress in the headers a server says 200 first and fails later.
_INSERT_TRANSPORT = {"wait_end_of_query": "1", "send_progress_in_http_headers": 0}
_STATUS = re.compile(r"HTTP status (\d{3})")
_BLOCK_BYTES = 1 << 16
_ZSTD_LEVEL = 1  # rows of JSON shrink to a sixth at some 500 MB/s; level 3 costs twice that for a tenth

# Both write statements with their parameters to standard error, as part of an address.
for _name in ("clickhouse_connect", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
logging.getLogger("urllib3.connectionpool").setLevel(logging.CRITICAL)


class Connection(NamedTuple):
    """How a store is reached. Shape: `url` is `http(s)://user:password@host:8123`."""

    url: str
    ca_file: str = ""
    verify: bool = True
    compression: str = "none"  # of inserts: zstd, gzip, none
    connections: int = 16
    connect_seconds: int = 10
    answer_seconds: int = 120


class ClickHouse:
    """Reads and inserts have a pool each, so that reads can be cut without harm to an insert.

    Shape: `away` says why the engine cannot be asked just now, empty where it can; `ended` is called on closing.
    """

    def __init__(
        self,
        connection: Connection,
        engine: str,
        away: Callable[[], str] = lambda: "",
        ended: Callable[[], None] = lambda: None,
        *,
        spills: bool = True,
    ) -> None:
        self.engine, self.spills = engine, spills
        self._to = connection
        self._away, self._ended = away, ended
        self._lock = threading.Lock()
        self._made: dict[bool, Client] = {}
        self._reading: WeakSet[_Cuttable] = WeakSet()
        self._pools = {inserts: self._pool() for inserts in (False, True)}
        self._pools[False].pool_classes_by_scheme = _tracked(self._reading, asks_again=engine != "chdb")

    def _pool(self) -> PoolManager:
        pool: PoolManager = httputil.get_pool_manager(
            ca_cert=self._to.ca_file or None,
            verify=self._to.verify,
            maxsize=self._to.connections,
            num_pools=1,
        )
        return pool

    def _client(self, *, inserts: bool = False) -> Client:
        """One client for each pool, made at the first use: without a session it serves all threads."""
        away = self._away()
        if away:
            raise StoreUnavailable(away, hint="ask again in a moment")
        if inserts not in self._made:
            made = self._connect(self._pools[inserts])
            with self._lock:
                self._made.setdefault(inserts, made)
        return self._made[inserts]

    def _connect(self, pool: PoolManager) -> Client:
        parts = urlsplit(self._to.url)
        secure = parts.scheme == "https"
        try:
            client = clickhouse_connect.get_client(
                # Taken apart here: the driver reads no scheme from an address and would speak http to port 9443.
                interface="https" if secure else "http",
                host=parts.hostname or "localhost",
                port=parts.port or (8443 if secure else 8123),
                username=unquote(parts.username or "default"),
                password=unquote(parts.password or ""),
                autogenerate_session_id=False,
                query_limit=0,
                query_retries=0,
                compress=self._to.compression != "none",
                connect_timeout=self._to.connect_seconds,
                send_receive_timeout=self._to.answer_seconds,
                show_clickhouse_errors="scrub",
                pool_mgr=pool,
            )
        except Exception as error:
            raise self._read_error(error) from error
        assert isinstance(client, HttpClient)
        # Also no redirect: an answer from elsewhere is no acknowledgement of an insert.
        client.http_retries = 0
        return client

    def insert(
        self, table: str, chunk_id: str, rows: bytes, token: str, computed: Mapping[str, str] | None = None
    ) -> None:
        client = self._client(inserts=True)
        packing = None if self._to.compression == "none" else self._to.compression
        settings = {**INSERT_SETTINGS, **_INSERT_TRANSPORT, "insert_deduplication_token": token}
        try:
            done = client.command(
                insert_statement(table, chunk_id, computed or {}),
                data=_packed(rows, packing),
                settings=settings,
                transport_settings={"Content-Encoding": packing} if packing else None,
            )
        except (ClickHouseError, HTTPError, OSError) as error:
            raise insert_error(getattr(error, "code", None), getattr(error, "name", None), _status(error)) from error
        except Exception as error:
            raise StoreUnavailable(
                "the store's answer to an insert cannot be read", hint="it is tried again"
            ) from error
        if not isinstance(done, QuerySummary) or "written_rows" not in done.summary:
            # A login page or a cache between us also says 200.
            raise StoreUnavailable(
                "what answered the insert is no ClickHouse", hint="see TWINTRACK_STORE and what stands before the store"
            )

    def select(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Answer:
        client = self._client()
        try:
            result = client.query(sql, parameters=_bound(sql, parameters), settings=dict(settings or {}))
            rows = result.result_rows
        except Exception as error:
            raise self._read_error(error) from error
        if not result.column_names:
            raise _cut()  # cut among its headers, an answer looks whole and empty
        columns = [(name, kind.name) for name, kind in zip(result.column_names, result.column_types, strict=True)]
        return Answer(columns, rows, int(result.summary.get("read_rows", 0) or 0))

    def blocks(
        self,
        sql: str,
        output_format: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Iterator[bytes]:
        client = self._client()
        # A server writes what went wrong behind the rows, with the status of success; so it keeps them until the end.
        whole = {"wait_end_of_query": "1"} if self.engine == "clickhouse" else {}
        try:
            answer = client.raw_stream(
                sql, parameters=_bound(sql, parameters), fmt=output_format, settings={**(settings or {}), **whole}
            )
            assert isinstance(answer, HTTPResponse)
            if "X-ClickHouse-Format" not in answer.headers:
                raise _cut()
            try:
                yield from answer.stream(_BLOCK_BYTES)
            finally:
                answer.close()  # a connection with half an answer in it serves nobody else
        except Exception as error:
            raise self._read_error(error) from error

    def stream(self, sql: str) -> Iterator[Sequence[Any]]:
        client = self._client()
        try:
            with client.query_rows_stream(sql) as rows:
                yield from rows
        except Exception as error:
            raise self._read_error(error) from error

    def command(self, sql: str) -> None:
        client = self._client()
        try:
            done = client.command(sql)
        except Exception as error:
            raise self._read_error(error) from error
        if isinstance(done, QuerySummary) and "written_rows" not in done.summary:
            raise _cut()

    def probe(self) -> None:
        client = self._client()
        try:
            answer = client.command("SELECT 1")
        except Exception as error:
            raise self._read_error(error) from error
        if answer != 1:
            raise StoreUnavailable("what answers is no ClickHouse", hint="see TWINTRACK_STORE")

    def version(self, months: Sequence[int]) -> str:
        if self.engine != "chdb":
            return ""  # a server may be one of several, each with parts of its own
        inside = f"partition IN ({', '.join(repr(str(month)) for month in months)})" if months else "true"
        found = self.select(
            "SELECT hex(sipHash128(arraySort(groupArray((table, name))))) FROM system.parts"
            f" WHERE database = '{DATABASE}' AND active AND table NOT IN ('migrations', 'receipts')"
            f" AND (table = 'identities' OR {inside})"
        )
        return str(found.rows[0][0])

    def end(self, mark: str) -> None:
        """Found in `system.processes` by its mark: the id of a query is not ours to give on the embedded engine."""
        client = self._client()
        try:
            found = client.query(
                "SELECT query_id FROM system.processes WHERE Settings['log_comment'] = {mark:String}"
                " AND query_id != queryID()",
                parameters={"mark": mark},
            )
            for (query_id,) in found.result_rows:
                client.command(f"KILL QUERY WHERE query_id = '{UUID(query_id)}' ASYNC")
        except Exception as error:
            raise self._read_error(error) from error

    def _read_error(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if not isinstance(error, ClickHouseError | HTTPError | OSError):
            return StoreUnavailable("the store's answer cannot be read", hint="ask again in a moment")
        code = getattr(error, "code", None)
        if code is None and self.engine == "chdb":
            return StoreUnavailable("the embedded engine ended during the question", hint="ask again in a moment")
        return read_error(code, getattr(error, "name", None), str(error))

    def cancel(self) -> None:
        """The engine kills a question whose asker has gone; so its connection is cut."""
        for connection in list(self._reading):
            connection.cut()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()
        self._ended()


class _Cuttable:
    """A connection that another thread can end.

    The driver asks a question whose connection was lost once more. Not one that was cut, and not the embedded
    engine: there the question itself may have been what ended it.
    """

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.opened.add(self)

    def cut(self) -> None:
        self.was_cut = True
        taken = self.sock
        if taken is not None:
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)

    def getresponse(self) -> Any:
        answer, lost = None, False
        try:
            answer = super().getresponse()  # type: ignore[misc]
        except OSError:
            if self.asks_again and not self.was_cut:
                raise
            lost = True
        if lost:  # outside of the handler: the driver looks for a lost connection in an error's context
            raise HTTPError("the connection was lost or cut")
        return answer

    opened: "WeakSet[_Cuttable]"
    asks_again: bool
    was_cut = False
    sock: socket.socket | None


def _tracked(opened: "WeakSet[_Cuttable]", *, asks_again: bool) -> dict[str, type[HTTPConnectionPool]]:
    """Pools whose connections can be found while they are in use; urllib3 itself knows only idle ones."""
    more = {"opened": opened, "asks_again": asks_again}
    plain = type("Plain", (_Cuttable, HTTPConnection), more)
    secure = type("Secure", (_Cuttable, HTTPSConnection), more)
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


def insert_statement(table: str, chunk_id: str, computed: Mapping[str, str]) -> str:
    """What is said with the rows of a chunk. The chunk is the same for all of them, so it is said once. Pure.

    Shape: `computed` are columns that the rows do not carry, each with an expression over those that they do.
    """
    columns = ", ".join((*COLUMNS[table], *computed))
    more = "".join(f", {expression}" for expression in computed.values())
    cells = read_as(table).replace("'", "\\'")
    return (
        f"INSERT INTO {DATABASE}.{table} ({columns})"
        f" SELECT toUUID('{UUID(chunk_id)}'), *{more} FROM input('{cells}') FORMAT JSONCompactEachRow"
    )


def _bound(sql: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters that the statement names, for the engine to put in place.

    Where the driver sees no `{name:Type}` it would write the values into the text itself, by `%`: a value becomes SQL.

    Raises: StoreError where it would.
    """
    given = {name: value for name, value in (parameters or {}).items() if f"{{{name}:" in sql}
    if given and bind_query(sql, given)[0] != sql:
        raise StoreError("a parameter has no place of its form", hint="write {name:Type} in the statement", status=400)
    return given


def _cut() -> StoreUnavailable:
    return StoreUnavailable("the store's answer was cut short", hint="ask again in a moment")


def _packed(rows: bytes, packing: str | None) -> bytes:
    if packing == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(rows)
    if packing == "gzip":
        return gzip.compress(rows, compresslevel=1, mtime=0)
    return rows


def _status(error: BaseException) -> int | None:
    """The status of an answer without a code of ClickHouse: something between us spoke."""
    found = _STATUS.search(str(error))
    return int(found.group(1)) if found else None
