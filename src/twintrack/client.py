"""For scripts and notebooks: `tt = twintrack.connect(url_or_path, key)`, then questions that answer Arrow or pandas.

tt = twintrack.connect("https://twintrack.example.com", key)    # a service, by a key of any role that may ask
tt = twintrack.connect("data")                                  # a data folder of this machine, running or not
tt.sql("SELECT event_name, count() AS events FROM events GROUP BY event_name").to_pandas()
tt.ask("trends", {"range": {"last": 30, "unit": "day"}}).to_pandas()
tt.table("events", range={"last": 1})                           # a whole list, whatever number of pages
"""

import contextlib
import io
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


class _Door(Protocol):
    """Where questions go."""

    def parquet(self, sql: str, parameters: Mapping[str, Any]) -> bytes: ...

    def ask(self, kind: str, question: Mapping[str, Any], output: str) -> httpx.Response: ...

    def close(self) -> None: ...


class Connection:
    """Questions to one service or folder. Not for several threads at once."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    def sql(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pyarrow.Table:
        """The answer of one SELECT, whole: what is larger than the service's limits raises, and is never cut.

        Raises: TwintrackError with the service's own words.
        """
        return pyarrow.parquet.read_table(io.BytesIO(self._door.parquet(sql, parameters or {})))

    def ask(self, kind: str, question: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """The answer of a typed question such as `trends` or `funnel`; the models stand in docs/reference/http.md.

        Raises: TwintrackError with the service's own words.
        """
        return Answer(kind, self._door.ask(kind, {**(question or {}), **more}, "answer").json())

    def table(self, kind: str, question: Mapping[str, Any] | None = None, **more: Any) -> pyarrow.Table:
        """The answer of a typed question as one flat table; a list without a `limit` whole, whatever number of pages.

        The columns stand in docs/reference/answers.md; what it means and which limits it met in the schema's metadata.

        Raises: TwintrackError with the service's own words, also where the role may take no files.
        """
        answer = self._door.ask(kind, {**(question or {}), **more}, "parquet")
        return pyarrow.parquet.read_table(io.BytesIO(answer.content))

    def close(self) -> None:
        self._door.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Service:
    def __init__(self, url: str, key: str) -> None:
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout)

    def parquet(self, sql: str, parameters: Mapping[str, Any]) -> bytes:
        body = {"sql": sql, "parameters": parameters, "format": "parquet"}
        return self._post("/api/analytics/sql", body).content

    def ask(self, kind: str, question: Mapping[str, Any], output: str) -> httpx.Response:
        # A service that knows no files yet answers questions all the same.
        body = question if output == "answer" else {**question, "format": output}
        return self._post(f"/api/analytics/query/{kind}", body)

    def _post(self, path: str, body: Any) -> httpx.Response:
        try:
            response = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise TwintrackError(
                f"the service does not answer: {type(error).__name__}",
                hint="is this the address of a running Twintrack?",
            ) from error
        if response.is_error:
            raise _told(response)
        return response

    def close(self) -> None:
        self._http.close()


class _Folder:
    """On a thread of its own: a notebook's own thread has a loop already, and services of a folder need one too."""

    def __init__(self, data: Path, project: str, environment: str) -> None:
        from twintrack.terminal import ask, reach, settings_of  # of the service, which a remote client does not need

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="twintrack")
        self._stack = contextlib.ExitStack()
        try:
            self._send = self._thread.submit(self._stack.enter_context, reach(settings_of(data))).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self._ask: Callable[..., httpx.Response] = ask
        self._tenancy = {"project": project, "environment": environment}

    def parquet(self, sql: str, parameters: Mapping[str, Any]) -> bytes:
        return self._post("/query", {"sql": sql, "parameters": dict(parameters), "format": "parquet"}).content

    def ask(self, kind: str, question: Mapping[str, Any], output: str) -> httpx.Response:
        return self._post("/ask", {"kind": kind, "question": question, "format": output, **self._tenancy})

    def _post(self, path: str, body: Any) -> httpx.Response:
        return self._thread.submit(self._ask, self._send, "POST", path, body).result()

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
