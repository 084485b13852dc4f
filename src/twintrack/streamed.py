"""Requests to an ASGI application in this process, whose answers come in pieces: httpx's own transport holds them whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx

from twintrack.errors import TwintrackError


class Streamed(httpx.AsyncBaseTransport):
    """Shape: no piece is made before the one before it is taken; an answer that is closed early means a client that left."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises: what the application raises before it has begun to answer."""
        answer = _Answer(await request.aread())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
        }
        answer.work = asyncio.ensure_future(answer.made_by(self._app, scope))
        status, headers = await answer.begun
        return httpx.Response(status, headers=headers, stream=answer)


class _Answer(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body: list[bytes] = [body]
        self.begun: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._left = asyncio.Event()
        self.work: asyncio.Future[None]

    async def made_by(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            if self.begun.done():
                raise
            self.begun.set_exception(error)
        finally:
            if not self._left.is_set():
                await self._pieces.put(None)

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.begun.set_result((message["status"], message.get("headers", [])))
        elif message.get("body") and not self._left.is_set():
            await self._pieces.put(message["body"])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        try:
            await self.work  # whatever ended the answer early is raised here
        except RuntimeError as error:  # Starlette's, around an error of ours that came behind the first piece
            raise (error.__cause__ if isinstance(error.__cause__, TwintrackError) else error) from None

    async def aclose(self) -> None:
        self._left.set()
        while not self._pieces.empty():
            self._pieces.get_nowait()
        with contextlib.suppress(Exception):
            await self.work
