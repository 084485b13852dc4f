"""Where a command meets its user and the service: words out, options in, and the one request to the control application.

The request goes over `DATA/control.sock` where a service runs, and stays in this process where the folder is free.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import httpx2 as httpx
import typer
from rich.console import Console
from rich.table import Table

from twintrack.app import build, lock_folder
from twintrack.commands import command_app
from twintrack.errors import TwintrackError
from twintrack.serve import LOCK_WAIT_SECONDS, SOCKET, inside
from twintrack.settings import Settings, load_settings
from twintrack.streamed import Streamed

out, err = Console(), Console(stderr=True)

Data = Annotated[Path | None, typer.Option("--data", help="Data folder [default: data].")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]

Take = Callable[[bytes], object]


class Send(Protocol):
    """The way to the control application: `send(method, path, body)` gives a whole answer."""

    def __call__(self, method: str, path: str, body: Any) -> httpx.Response: ...

    def into(self, path: str, body: Any, take: Take) -> httpx.Response:
        """As a POST, but of an answer that is no error `take` gets the body, in pieces as they come.

        Raises: TwintrackError where the answer is cut off.
        """
        ...


class _OverSocket:
    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(self, method: str, path: str, body: Any) -> httpx.Response:
        return self._client.request(method, path, json=body)

    def into(self, path: str, body: Any, take: Take) -> httpx.Response:
        with self._client.stream("POST", path, json=body) as response:
            if response.is_error:
                response.read()
                return response
            pieces = response.iter_raw()
            while True:
                try:
                    piece = next(pieces, None)
                except httpx.HTTPError as error:
                    raise cut_off() from error
                if piece is None:
                    return response
                take(piece)


class _InProcess:
    def __init__(self, runner: asyncio.Runner, app: Any) -> None:
        self._runner = runner
        self._client = httpx.AsyncClient(transport=Streamed(app), base_url="http://control", timeout=None)

    def __call__(self, method: str, path: str, body: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, json=body))

    def into(self, path: str, body: Any, take: Take) -> httpx.Response:
        async def stream() -> httpx.Response:
            async with self._client.stream("POST", path, json=body) as response:
                if response.is_error:
                    await response.aread()
                    return response
                async for piece in response.aiter_raw():
                    take(piece)
                return response

        return self._runner.run(stream())


def cut_off() -> TwintrackError:
    return TwintrackError("the answer was cut off: what came of it is not whole", hint="the service's log says why")


@contextmanager
def reach(settings: Settings) -> Iterator[Send]:
    """How to reach the control application: the socket first, then the folder itself when its lock is free."""
    if (settings.data / SOCKET).exists():
        with (
            inside(settings.data),
            httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET), base_url="http://control", timeout=None) as client,
        ):
            alive = True
            try:
                client.get("/keys")
            except httpx.ConnectError:
                alive = False  # left behind by a service that was killed
            if alive:
                yield _OverSocket(client)
                return
    lock = lock_folder(settings.data, LOCK_WAIT_SECONDS)
    unbroken()
    services = build(settings)
    with asyncio.Runner() as runner:
        try:
            yield _InProcess(runner, command_app(services))
        finally:
            services.close()
            os.close(lock)


def unbroken() -> None:
    """From now on a connection to the engine that is cut is an error, not this command's end.

    Commands die of a closed pipe as filters do; but those that run the services write to more than their output.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def ask(send: Send, method: str, path: str, body: Any = None) -> httpx.Response:
    return _whole(send(method, path, body))


def ask_into(send: Send, path: str, body: Any, take: Take) -> httpx.Headers:
    """The answer's body goes to `take` in pieces as they come: it is never held whole."""
    return _whole(send.into(path, body, take)).headers


def _whole(response: httpx.Response) -> httpx.Response:
    if response.status_code >= 400:
        error = response.json()["error"]
        raise TwintrackError(error["message"], hint=error["hint"], code=error["code"])
    return response


def settings_of(data: Path | None, config: Path | None = None, **more: Any) -> Settings:
    return load_settings(config, data=data, **more)


def show_table(columns: list[str], rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if row[c] is None else str(row[c]) for c in columns))
    # A pipe has no width: each row is one line there.
    (out if out.is_terminal else Console(width=10_000)).print(table)
