"""More than it can take: the service says so early, keeps its memory, and loses nothing that it acknowledged."""

import asyncio
import json
import re
import time
from pathlib import Path

import httpx2 as httpx

from tests.e2e.conftest import Running, start
from twintrack.testing import wire_event

BODY_BYTES = 4_000_000
SLOW_CONNECTIONS = 200
BUFFER_BYTES = 64 << 20


def resident(running: Running) -> int:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def count(running: Running) -> int:
    return int(running.command("query", "SELECT count() FROM events", "--format", "csv").split()[-1])


def settle(running: Running, events: int) -> None:
    until = time.monotonic() + 120
    while count(running) < events:
        assert time.monotonic() < until
    assert count(running) == events


def test_two_hundred_connections_with_large_slow_bodies_take_bounded_memory(tmp_path: Path) -> None:
    running = start(tmp_path / "data", TWINTRACK_BODY_SECONDS="60", TWINTRACK_LOG_BATCHES="errors")
    try:
        key = running.command("keys", "create", "--role", "write").strip()
        host, port = running.address.removeprefix("http://").split(":")
        event = json.dumps(wire_event(event_metadata={f"k{i}": "v" * 20 for i in range(50)}))
        filler = ",".join([event.replace(event[14:50], "@@")] * 2000)
        assert len(filler) < BODY_BYTES
        head = (
            f"POST /api/analytics/events HTTP/1.1\r\nHost: t\r\nX-Write-Key: {key}\r\n"
            f"Content-Length: {BODY_BYTES}\r\n\r\n["
        ).encode()
        statuses: list[int] = []
        quick: list[float] = []
        done = asyncio.Event()

        async def slow(number: int) -> None:
            """Sends a body in ten pieces, a while apart; what it is answered."""
            reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
            body = ((filler + ",") * 2)[: BODY_BYTES - 3].encode().rstrip(b"\0") + b" ]"
            writer.write(head)
            status = 0
            try:
                for start_at in range(0, len(body), len(body) // 10 + 1):
                    writer.write(body[start_at : start_at + len(body) // 10 + 1])
                    await writer.drain()
                    await asyncio.sleep(0.2)
                    if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]
                        break  # answered before it was all sent
                status = int((await asyncio.wait_for(reader.readline(), 90)).split()[1])
            except (ConnectionError, IndexError):
                status = -1  # refused early, and cut while it sent on
            finally:
                writer.close()
            statuses.append(status)

        async def small() -> None:
            """A browser beside them: its single events must get through."""
            async with httpx.AsyncClient(base_url=running.address, headers={"X-Write-Key": key}) as client:
                while not done.is_set():
                    began = time.monotonic()
                    answer = await client.post("/api/analytics/events", json=[wire_event()], timeout=60)
                    if answer.status_code == 200:
                        quick.append(time.monotonic() - began)
                    else:
                        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
                    await asyncio.sleep(0.01)

        before, most = resident(running), 0

        async def watch() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, resident(running))
                await asyncio.sleep(0.02)

        async def whole() -> None:
            beside = [asyncio.create_task(small()), asyncio.create_task(watch())]
            await asyncio.gather(*(slow(i) for i in range(SLOW_CONNECTIONS)))
            done.set()
            await asyncio.gather(*beside)

        asyncio.run(whole())
        assert len(statuses) == SLOW_CONNECTIONS
        assert set(statuses) <= {200, 400, 503, -1}, set(statuses)
        assert 503 in statuses or -1 in statuses
        # Undecoded bodies are bounded by the buffer; those that are decoded come a few at a time.
        assert most - before < 4 * BUFFER_BYTES, (before, most)
        assert len(quick) > 20
        metrics = httpx.get(f"{running.address}/metrics").text
        assert "twintrack_ingest_buffer_bytes 0.0" in metrics
        assert re.search(r'twintrack_ingest_limited_total\{limit="buffer"\} [1-9]', metrics)
    finally:
        assert running.stop() == 0


def test_burst_beyond_what_may_wait_is_answered_503_at_once_and_the_acknowledged_are_stored(tmp_path: Path) -> None:
    running = start(tmp_path / "data", TWINTRACK_INGEST_CONCURRENCY="20", TWINTRACK_LOG_BATCHES="none")
    try:
        key = running.command("keys", "create", "--role", "write").strip()
        accepted = refused = 0

        async def one(client: httpx.AsyncClient) -> None:
            nonlocal accepted, refused
            answer = await client.post("/api/analytics/events", json=[wire_event() for _ in range(20)])
            if answer.status_code == 200:
                accepted += answer.json()["accepted"]
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
                refused += 1

        async def bursts() -> None:
            limits = httpx.Limits(max_connections=60, max_keepalive_connections=60)
            async with httpx.AsyncClient(
                base_url=running.address, headers={"X-Write-Key": key}, limits=limits, timeout=60
            ) as client:
                for _ in range(8):
                    await asyncio.gather(*(one(client) for _ in range(60)))

        asyncio.run(bursts())
        assert accepted > 0
        settle(running, accepted)
        assert json.loads(running.command("doctor", "--json"))["ok"]
    finally:
        assert running.stop() == 0
