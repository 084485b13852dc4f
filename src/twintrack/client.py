"""For scripts and notebooks: `tt = twintrack.connect(url_or_path, key)`, then questions that answer Arrow or pandas.

tt = twintrack.connect("https://twintrack.example.com", key)    # a service, by a key of any role that may ask
tt = twintrack.connect("data")                                  # a data folder of this machine, running or not
tt.sql("SELECT event_name, count() AS events FROM events GROUP BY event_name").to_pandas()
tt.ask("trends", {"range": {"last": 30, "unit": "day"}}).to_pandas()
tt.table("events", range={"last": 1})                           # a whole list, whatever number of pages
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx2 as httpx
import pyarrow
import pyarrow.parquet

from twintrack.errors import TwintrackError
from twintrack.query.written import arrow

_CONNECT_SECONDS = 10.0


class Answer(dict[str, Any]):
    """The answer of a typed question, as the service gave it, with its definition, its SQL and what it cost."""

    def __init__(self, kind: str, answer: Mapping[str, Any]) -> None:
        super().__init__(answer)
        self.kind = kind

    def to_arrow(self) -> pyarrow.Table:
        """All numbers of the answer as one flat table, with the columns of docs/reference/answers.md.

        Of a list this is the page; `Connection.table` reads on. `limits` says what a limit left out.
        """
        return arrow(self.kind, self)

    def to_pandas(self) -> Any:
        return self.to_arrow().to_pandas()


Take = Callable[[bytes], object]


class _Door(Protocol):
    """Where questions go."""

    def sql(self, sql: str, parameters: Mapping[str, Any], take: Take) -> None:
        """`take` gets a Parquet file, in pieces as they come."""
        ...

    def ask(self, kind: str, question: Mapping[str, Any]) -> Any: ...

    def table(self, kind: str, question: Mapping[str, Any], take: Take) -> None: ...

    def close(self) -> None: ...


class Connection:
    """Questions to one service or folder. Not for several threads at once."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    def sql(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pyarrow.Table:
        """The answer of one SELECT, whole: what is larger than the service's limits raises, and is never cut.

        Raises: TwintrackError with the service's own words.
        """
        return _table(lambda take: self._door.sql(sql, parameters or {}, take))

    def ask(self, kind: str, question: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """The answer of a typed question such as `trends` or `funnel`; the models stand in docs/reference/http.md.

        Raises: TwintrackError with the service's own words.
        """
        return Answer(kind, self._door.ask(kind, {**(question or {}), **more}))

    def table(self, kind: str, question: Mapping[str, Any] | None = None, **more: Any) -> pyarrow.Table:
        """The answer of a typed question as one flat table; a list without a `limit` whole, whatever number of pages.

        The columns stand in docs/reference/answers.md; what it means and which limits it met in the schema's metadata.

        Raises: TwintrackError with the service's own words, also where the role may take no files.
        """
        return _table(lambda take: self._door.table(kind, {**(question or {}), **more}, take))

    def close(self) -> None:
        self._door.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _table(send: Callable[[Take], None]) -> pyarrow.Table:
    """A Parquet file as a table. On its way it lies on the disk under no name, never whole in memory beside the table."""
    with tempfile.TemporaryFile() as file:
        send(file.write)
        file.seek(0)
        return pyarrow.parquet.read_table(file)


class _Service:
    def __init__(self, url: str, key: str) -> None:
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout)

    def sql(self, sql: str, parameters: Mapping[str, Any], take: Take) -> None:
        self._post("/api/analytics/sql", {"sql": sql, "parameters": parameters, "format": "parquet"}, take)

    def ask(self, kind: str, question: Mapping[str, Any]) -> Any:
        # A service that knows no files yet answers questions all the same.
        whole = bytearray()
        self._post(f"/api/analytics/query/{kind}", question, whole.extend)
        return json.loads(whole)

    def table(self, kind: str, question: Mapping[str, Any], take: Take) -> None:
        self._post(f"/api/analytics/query/{kind}", {**question, "format": "parquet"}, take)

    def _post(self, path: str, body: Any, take: Take) -> None:
        begun = False
        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    raise _told(response)
                for piece in response.iter_bytes():
                    begun = True
                    take(piece)
        except httpx.HTTPError as error:
            if begun:
                raise TwintrackError(
                    "the answer was cut off: what came of it is not whole", hint="the service's log says why"
                ) from error
            raise TwintrackError(
                f"the service does not answer: {type(error).__name__}",
                hint="is this the address of a running Twintrack?",
            ) from error

    def close(self) -> None:
        self._http.close()


class _Folder:
    """On a thread of its own: a notebook's own thread has a loop already, and services of a folder need one too."""

    def __init__(self, data: Path, project: str, environment: str) -> None:
        from twintrack import terminal  # of the service, which a remote client does not need

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="twintrack")
        self._stack = contextlib.ExitStack()
        try:
            reached = self._stack.enter_context
            self._send = self._thread.submit(reached, terminal.reach(terminal.settings_of(data))).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self._into, self._ask = terminal.ask_into, terminal.ask
        self._tenancy = {"project": project, "environment": environment}

    def sql(self, sql: str, parameters: Mapping[str, Any], take: Take) -> None:
        body = {"sql": sql, "parameters": dict(parameters), "format": "parquet"}
        self._thread.submit(self._into, self._send, "/query", body, take).result()

    def ask(self, kind: str, question: Mapping[str, Any]) -> Any:
        body = {"kind": kind, "question": question, "format": "answer", **self._tenancy}
        return self._thread.submit(self._ask, self._send, "POST", "/ask", body).result().json()

    def table(self, kind: str, question: Mapping[str, Any], take: Take) -> None:
        body = {"kind": kind, "question": question, "format": "parquet", **self._tenancy}
        self._thread.submit(self._into, self._send, "/ask", body, take).result()

    def close(self) -> None:
        self._thread.submit(self._stack.close).result()
        self._thread.shutdown()


def _told(response: httpx.Response) -> TwintrackError:
    try:
        error = response.json()["error"]
        return TwintrackError(error["message"], hint=error["hint"], code=error["code"])
    except (ValueError, KeyError, TypeError):
        return TwintrackError(f"the address answered {response.status_code}", hint="is it a Twintrack?")


def connect(
    url_or_path: str | Path, token: str = "", *, project: str = "default", environment: str = "production"
) -> Connection:
    """Questions to a service by its address and a key, or to a data folder by its path.

    Of a folder SQL sees all projects, as its owner may; `project` and `environment` are those of typed questions. A folder
    that no service runs on is opened for as long as the connection lives.

    Raises: TwintrackError where the folder is busy, or the address is none.
    """
    where = str(url_or_path)
    if where.startswith(("http://", "https://")):
        if not token:
            raise TwintrackError("a service is asked with a key", hint="twintrack keys create --role analyst")
        return Connection(_Service(where, token))
    return Connection(_Folder(Path(where), project, environment))
