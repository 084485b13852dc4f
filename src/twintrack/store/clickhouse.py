"""The driver: one client for a ClickHouse server and for embedded chDB, whose process speaks the same protocol."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver import httputil
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from twintrack.errors import StoreError, StoreRefusedData, StoreUnavailable
from twintrack.store.protocol import Answer
from twintrack.store.schema import DATABASE

# Codes of ClickHouse, src/Common/ErrorCodes.cpp: what no retry mends.
_REFUSED_DATA = frozenset({6, 26, 27, 38, 41, 53, 62, 69, 72, 117, 131, 246, 321, 407, 441, 457})

_TIMEOUT_SECONDS = 120
_CONNECTIONS = 16

# All of them in the statement: a retry must meet the same blocks whatever the server's defaults are.
INSERT_SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    "max_insert_block_size": 1_000_000,
    "min_insert_block_size_rows": 1_000_000,
    "min_insert_block_size_bytes": 1 << 30,
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
    "type_json_skip_duplicated_paths": 0,
    "input_format_null_as_default": 1,
}


class ClickHouse:
    """Shape: `dsn` is `http(s)://user:password@host:8123`; `ended` is called when the store is closed."""

    def __init__(self, dsn: str, engine: str, ended: Callable[[], None] = lambda: None) -> None:
        self.engine = engine
        self._dsn = dsn
        self._ended = ended
        self._lock = threading.Lock()
        self._made: Client | None = None

    def _client(self) -> Client:
        """The one client, made at the first use: without a session it serves all threads from its pool."""
        with self._lock:
            if self._made is None:
                try:
                    self._made = clickhouse_connect.get_client(
                        dsn=self._dsn,
                        autogenerate_session_id=False,
                        query_limit=0,
                        send_receive_timeout=_TIMEOUT_SECONDS,
                        pool_mgr=httputil.get_pool_manager(maxsize=_CONNECTIONS, num_pools=1),
                    )
                except (ClickHouseError, OSError) as error:
                    raise StoreUnavailable("the store cannot be reached", hint="see TWINTRACK_STORE") from error
            return self._made

    def insert(self, table: str, columns: Sequence[str], rows: bytes, token: str) -> None:
        try:
            self._client().raw_insert(
                f"{DATABASE}.{table}",
                column_names=list(columns),
                insert_block=rows,
                fmt="JSONCompactEachRow",
                settings={**INSERT_SETTINGS, "insert_deduplication_token": token},
            )
        except (ClickHouseError, OSError) as error:
            raise _translate(error, inserting=True) from error

    def select(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Answer:
        try:
            result = self._client().query(sql, parameters=dict(parameters or {}), settings=dict(settings or {}))
        except (ClickHouseError, OSError) as error:
            raise _translate(error) from error
        columns = [(name, kind.name) for name, kind in zip(result.column_names, result.column_types, strict=True)]
        return Answer(columns, result.result_rows, int(result.summary.get("read_rows", 0) or 0))

    def export(self, sql: str, output_format: str, settings: Mapping[str, Any] | None = None) -> bytes:
        try:
            # In the statement: the embedded client would set them one by one, and `readonly` forbids the next.
            clause = ", ".join(f"{name} = {value!r}" for name, value in (settings or {}).items())
            whole = f"{sql} SETTINGS {clause}" if clause else sql
            return bytes(self._client().raw_query(whole, fmt=output_format))
        except (ClickHouseError, OSError) as error:
            raise _translate(error) from error

    def stream(self, sql: str) -> Iterator[Sequence[Any]]:
        try:
            with self._client().query_rows_stream(sql) as rows:
                yield from rows
        except (ClickHouseError, OSError) as error:
            raise _translate(error) from error

    def command(self, sql: str) -> None:
        try:
            self._client().command(sql)
        except (ClickHouseError, OSError) as error:
            raise _translate(error) from error

    def ping(self) -> bool:
        try:
            return bool(self._client().command("SELECT 1"))
        except (StoreError, ClickHouseError, OSError):
            return False

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
        self._ended()


def _translate(error: Exception, *, inserting: bool = False) -> StoreError:
    """Ours for the engine's; the codes are read once, here."""
    code = getattr(error, "code", None)
    text = str(error).split("\n")[0][:400]
    if inserting:
        # The engine quotes rows in its messages, so an insert's message is never passed on.
        if code in _REFUSED_DATA:
            return StoreRefusedData(f"the store refused the rows (code {code})", hint="the rows are bisected")
        return StoreUnavailable(f"the store did not take the insert (code {code})", hint="it is tried again")
    if (isinstance(error, OperationalError) and code is None) or isinstance(error, OSError):
        return StoreUnavailable("the store cannot be reached", hint="see TWINTRACK_STORE")
    return StoreError(text, hint="the words are the engine's", code="query_failed", status=400)
