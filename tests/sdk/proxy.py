"""What stands between the browser and the service, and breaks as told: it is the page's whole site.

It serves a page with the built SDK, passes everything else on to the service, and keeps a record of each batch: what it
was told to do with it and which events it held. That record is the proof that a fault struck.
"""

import asyncio
import gzip
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Mode = Literal["ok", "503", "429", "hang", "reset", "cut"]

_PAGE = b"""<!doctype html><meta charset=utf-8><title>harness</title><script src="/sdk.js"></script>"""
_EVENTS = "/api/analytics/events"
_MOST_SECONDS = 60.0
# With these a page's clock counts in 5 microseconds, not in 100.
_ISOLATED = "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n"


@dataclass
class Batch:
    """One request with events, as the proxy saw it."""

    mode: Mode
    ids: list[str]
    at: float = field(default_factory=time.time)
    service_status: int | None = None


class Proxy:
    """Runs in a thread of its own; `mode` and `batches` may be used from any other."""

    def __init__(self, service: str, sdk: Path, page: bytes = _PAGE) -> None:
        host, port = service.removeprefix("http://").split(":")
        self._service = (host, int(port))
        self._sdk, self._page, self.policy = sdk.read_bytes(), page, ""
        self.mode: Mode = "ok"
        self.batches: list[Batch] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        self.address = f"http://127.0.0.1:{self._port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_soon(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        path = lines[0].split(" ")[1]
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path.startswith("/page"):
            return await self._reply(writer, 200, self._page, "text/html")
        if path == "/sdk.js":
            return await self._reply(writer, 200, self._sdk, "text/javascript")
        if path != _EVENTS:
            return await self._reply(writer, 404, b"", "text/plain")
        batch = Batch(self.mode, _ids(body, headers.get("content-encoding", "")))
        self.batches.append(batch)
        if batch.mode == "hang":
            await asyncio.sleep(_MOST_SECONDS)
        if batch.mode == "reset":
            return _reset(writer)
        if batch.mode in ("503", "429"):
            extra = "Retry-After: 2\r\n" if batch.mode == "429" else ""
            return await self._reply(writer, int(batch.mode), b"{}", "application/json", extra)
        status, answer = await self._forward(head, body)
        batch.service_status = status
        if batch.mode == "cut":
            return _reset(writer)
        writer.write(answer)
        await writer.drain()

    async def _forward(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(*self._service)
        lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
        writer.write(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
        await writer.drain()
        answer = await reader.read(-1)
        writer.close()
        return int(answer.split(b" ", 2)[1]), answer

    async def _reply(self, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str, extra: str = "") -> None:
        policy = f"Content-Security-Policy: {self.policy}\r\n" if self.policy else ""
        writer.write(
            f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"{policy}{extra}{_ISOLATED}Connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST: the browser sees a network error, never an answer."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _ids(body: bytes, encoding: str) -> list[str]:
    plain = gzip.decompress(body) if encoding == "gzip" else body
    return [event["event_id"] for event in json.loads(plain)["events"]]
