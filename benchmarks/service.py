"""A `twintrack serve` of its own for a benchmark, and a load generator that speaks HTTP over keep-alive connections."""

import asyncio
import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2 as httpx

BATCH = 100
CONNECTIONS = 8


class Served:
    """A `twintrack serve` in a folder of its own; `within` are words in front of its command line."""

    def __init__(
        self, *options: str, within: Iterable[str] = (), folder: Path | None = None, keys: bool = True
    ) -> None:
        self._own = folder is None  # else the folder stays
        self.folder = folder or Path(tempfile.mkdtemp()) / "data"
        words = [sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(self.folder), *options]
        self.process = subprocess.Popen([*within, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline().rstrip().rsplit(":", 1)[1])
        self.address = ("127.0.0.1", port)
        self.write, self.owner = (self.key("write"), self.key("owner")) if keys else ("", "")

    def key(self, role: str, project: str = "default") -> str:
        words = [sys.executable, "-m", "twintrack", "keys", "create", "--role", role, "--project", project]
        words += ["--data", str(self.folder)]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    def sql(self, sql: str) -> list[list[Any]]:
        """Rows of a question, by the public door. Raises: httpx.HTTPError."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.address[1]}/api/analytics/sql",
            json={"sql": sql},
            headers={"Authorization": f"Bearer {self.owner}"},
            timeout=60,
        )
        answer.raise_for_status()
        rows: list[list[Any]] = answer.json()["rows"]
        return rows

    def count(self) -> int:
        return int(self.sql("SELECT count() FROM analytics.events")[0][0])

    def wait_for(self, events: int) -> None:
        """Until so many are queryable."""
        while self.count() < events:
            time.sleep(0.02)

    def engine_milliseconds(self) -> int:
        """Processor time of the embedded engine since it started: on a busy machine it says more than the clock."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                cells = stat.read_text().rpartition(")")[2].split()
                if int(cells[1]) == self.process.pid:
                    return (int(cells[11]) + int(cells[12])) * 1000 // os.sysconf("SC_CLK_TCK")
        return 0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        if self._own:
            shutil.rmtree(self.folder.parent)


class Request:
    """One request as it goes over the wire."""

    def __init__(self, sent: list[dict[str, Any]], key: str, *, packed: bool = False) -> None:
        body = json.dumps(sent, separators=(",", ":")).encode()
        encoding = ""
        if packed:
            body, encoding = gzip.compress(body, 6), "Content-Encoding: gzip\r\n"
        head = (
            f"POST /api/analytics/events HTTP/1.1\r\nHost: bench\r\nX-Write-Key: {key}\r\n{encoding}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.data = head.encode() + body
        self.events = len(sent)


def requests(sent: list[dict[str, Any]], key: str, batch: int = BATCH, *, packed: bool = False) -> list[Request]:
    return [Request(sent[i : i + batch], key, packed=packed) for i in range(0, len(sent), batch)]


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> "Connection":
        return cls(*await asyncio.open_connection(*address))

    async def send(self, request: Request) -> None:
        """Until the answer is whole. Raises: RuntimeError for any answer but 200."""
        self._writer.write(request.data)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.split(b"\r\n")[0].decode())

    def close(self) -> None:
        self._writer.close()


async def flood(address: tuple[str, int], waiting: list[Request], connections: int = CONNECTIONS) -> list[float]:
    """Sends all, one in flight on each connection, as fast as answers come; seconds to each answer."""
    source, taken = iter(waiting), []

    async def worker() -> None:
        connection = await Connection.open(address)
        for request in source:
            started = time.perf_counter()
            await connection.send(request)
            taken.append(time.perf_counter() - started)
        connection.close()

    await asyncio.gather(*(worker() for _ in range(connections)))
    return taken


async def offer(
    address: tuple[str, int], waiting: Iterable[Request], events_per_second: float, connections: int = 32
) -> list[float]:
    """Sends at a steady pace whatever the answers do; seconds from when each was due to its answer.

    A request that finds no free connection waits, and its waiting counts: nothing is left out because the service
    was slow.
    """
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection.open(address))
    taken: list[float] = []
    running: set[asyncio.Task[None]] = set()

    async def one(request: Request, due: float) -> None:
        connection = await free.get()
        await connection.send(request)
        taken.append(time.perf_counter() - due)
        free.put_nowait(connection)

    due = time.perf_counter()
    for request in waiting:
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        task = asyncio.create_task(one(request, due))
        running.add(task)
        task.add_done_callback(running.discard)
        due += request.events / events_per_second
    await asyncio.gather(*running)
    while not free.empty():
        free.get_nowait().close()
    return taken
