"""What stands between the browser and the service, and breaks as told: it is the page's whole site.

It serves a page with the SDK under test, passes the rest on to the service, and keeps a record of each batch: what it
was told to do with it and which events it held. That record is the proof that a fault struck. Without a service it
answers by itself, and the record is the ledger.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal

from tests.sdk.subject import Subject, plain

Mode = Literal["ok", "5xx", "503", "429", "hang", "reset", "cut"]

_PAGE = b"""<!doctype html><meta charset=utf-8><title>harness</title><script src="/sdk.js"></script>"""
_MOST_SECONDS = 60.0
# With these a page's clock counts in 5 microseconds, not in 100.
_ISOLATED = "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n"
# What the servers of the peers say, all in one.
_TAKEN = b'{"success": true, "status": 1}'


@dataclass
class Batch:
    """One request with events, as the proxy saw it."""

    mode: Mode
    ids: list[str]
    at: float = field(default_factory=time.time)
    stored: bool = False
    """Whether the service, or the ledger, took it."""
    answered: bool = False
    """Whether that was said to the browser."""


class Proxy:
    """Runs in a thread of its own; `mode` and `batches` may be used from any other."""

    def __init__(self, subject: Subject, service: str | None, page: bytes = _PAGE) -> None:
        self._service = _place(service) if service else None
        self._subject, self._sdk, self._page, self.policy = subject, subject.script.read_bytes(), page, ""
        self.mode: Mode = "ok"
        self.dice = random.Random(0)
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

    def taken(self, ids: set[str]) -> dict[str, int]:
        """How often each of these events was taken."""
        return Counter(id for batch in self.batches if batch.stored for id in batch.ids if id in ids)

    def answered(self) -> set[str]:
        """Events of which the browser was told that they are taken."""
        return {id for batch in self.batches if batch.answered for id in batch.ids}

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
        method, path, _ = lines[0].split(" ")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path.startswith("/page"):
            return await self._reply(writer, 200, self._page, "text/html")
        if path == "/sdk.js":
            return await self._reply(writer, 200, self._sdk, "text/javascript")
        if self._service and not path.startswith("/api/"):
            return await self._reply(writer, 404, b"", "text/plain")
        ids = self._subject.ids(plain(body, headers.get("content-encoding", ""))) if method == "POST" else []
        batch = Batch(self.mode, ids)
        if ids:
            self.batches.append(batch)
        await self._treat(batch, writer, head, body)

    async def _treat(self, batch: Batch, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        if batch.mode == "hang":
            await asyncio.sleep(_MOST_SECONDS)
        if batch.mode == "reset":
            return _reset(writer)
        if batch.mode in ("5xx", "503", "429"):
            return await self._reply(writer, *self._refusal(batch.mode))
        status, answer = await self._forward(head, body) if self._service else (200, b"")
        batch.stored = status == 200
        if batch.mode == "cut":
            return _reset(writer)
        # Before the bytes go: whoever waits for it then looks at a browser that may know.
        batch.answered = batch.stored
        if not self._service:
            return await self._reply(writer, 200, _TAKEN, "application/json")
        writer.write(answer)
        await writer.drain()

    def _refusal(self, mode: Mode) -> tuple[int, bytes, str, str]:
        """A status of that kind, with a wait in seconds, as a date, or none: as servers do."""
        status = self.dice.choice([500, 502, 503, 504]) if mode == "5xx" else int(mode)
        asked = self.dice.choice(["1", "2", formatdate(time.time() + 2, usegmt=True), ""])
        extra = f"Retry-After: {asked}\r\n" if asked and status in (429, 503) and mode != "503" else ""
        return status, b"{}", "application/json", extra

    async def _forward(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        assert self._service
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


def _place(service: str) -> tuple[str, int]:
    host, port = service.removeprefix("http://").split(":")
    return host, int(port)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST: the browser sees a network error, never an answer."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
