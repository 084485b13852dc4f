"""Who leaves takes his question with him, whatever path it came by; who is slow holds a file on the disk and no turn."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service, running
from tests.query.test_turns import ENDLESS, until
from twintrack.commands import command_app
from twintrack.errors import StoreError
from twintrack.event import Tenancy
from twintrack.query.download import Room
from twintrack.query.execute import Executor
from twintrack.testing import wire_event

DEMO = Tenancy("demo", "local")
HEAVY = "SELECT count() FROM events AS a CROSS JOIN events AS b CROSS JOIN events AS c CROSS JOIN events AS d"
# More than a minute's worth of rows, the first of them at once.
LONG = "SELECT a.sequence, b.event_id FROM events AS a CROSS JOIN events AS b CROSS JOIN events AS c CROSS JOIN events AS d"
TRENDS: dict[str, Any] = {"range": {"last": 1}, "series": [{"measure": "persons"}]}
PLACE = {"project": "demo", "environment": "local"}
# Where to, what, and whether over the control socket.
PATHS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "sql": ("/api/analytics/sql", {"sql": HEAVY}, False),
    "sql as a file": ("/api/analytics/sql", {"sql": HEAVY, "format": "csv"}, False),
    "explain": ("/api/analytics/sql/explain", {"sql": HEAVY}, False),
    "saved": ("/api/analytics/saved/heavy", {}, False),
    "kind": ("/api/analytics/query/trends", TRENDS, False),
    "kind as a file": ("/api/analytics/query/trends", {**TRENDS, "format": "csv"}, False),
    "twintrack query": ("/query", {"sql": HEAVY, "format": "table"}, True),
    "twintrack query --format csv": ("/query", {"sql": HEAVY, "format": "csv"}, True),
    "twintrack query --explain": ("/query", {"sql": HEAVY, "format": "explain"}, True),
    "twintrack query --saved": ("/query", {"saved": "heavy", "format": "table", **PLACE}, True),
    "twintrack ask": ("/ask", {"kind": "trends", "question": TRENDS, **PLACE}, True),
    "twintrack ask --format csv": ("/ask", {"kind": "trends", "question": TRENDS, "format": "csv", **PLACE}, True),
}
RUN = [name for name in PATHS if "explain" not in name and "kind" not in name and "ask" not in name]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("leaving") / "data"
    with running(folder, query_seconds=120, query_file_rows=10**10, query_file_bytes=32 << 20) as service:
        service.send([wire_event(sequence=n) for n in range(400)])
        service.settle()
        head = {"Authorization": f"Bearer {service.owner_key}"}
        service.request("PUT", "/api/analytics/saved/heavy", json={"sql": HEAVY}, headers=head)
        yield service


class Client:
    """One request to the application as a server hands it over, and a connection that can be closed."""

    def __init__(self, of: Service, path: str, body: dict[str, Any], *, control: bool) -> None:
        self._said = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        self._left, self.began = asyncio.Event(), asyncio.Event()
        head = {"authorization": f"Bearer {of.owner_key}", "content-type": "application/json", "host": "localhost"}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in head.items()],
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
        }
        app = command_app(of.services) if control else of.app
        self.answering = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        if self._said:
            return self._said.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body" and message.get("body") and not self._left.is_set():
            self.began.set()
            await self._left.wait()  # it takes one piece and no more

    async def leave(self) -> None:
        self._left.set()
        await asyncio.wait({self.answering}, timeout=20)
        assert self.answering.done()
        self.answering.exception()


def crossing(of: Service) -> Callable[[], bool]:
    seen = "SELECT count() FROM system.processes WHERE query LIKE '%CROSS JOIN%' AND query NOT LIKE '%processes%'"
    return lambda: bool(of.services.store.select(seen).rows[0][0])


@asynccontextmanager
async def both_turns_taken(executor: Executor) -> AsyncIterator[None]:
    asked = [asyncio.ensure_future(executor.run(ENDLESS, None, "endless")) for _ in range(2)]
    await until(lambda: executor._turns.running == 2)
    try:
        yield
    finally:
        for question in asked:
            question.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize("name", PATHS)
def test_question_whose_client_leaves_gives_up_its_place_in_the_line(filled: Service, name: str) -> None:
    executor = filled.services.executor
    path, body, control = PATHS[name]

    async def scene() -> None:
        async with both_turns_taken(executor):
            client = Client(filled, path, body, control=control)
            await until(lambda: bool(executor._turns._queues))
            await client.leave()
            await until(lambda: not executor._turns._queues)

    asyncio.run(scene())


@pytest.mark.parametrize("name", RUN)
def test_question_whose_client_leaves_is_ended_in_the_engine(filled: Service, name: str) -> None:
    path, body, control = PATHS[name]

    async def scene() -> None:
        client = Client(filled, path, body, control=control)
        await until(crossing(filled))
        await client.leave()
        await until(lambda: not crossing(filled)())
        await until(lambda: not filled.services.executor._turns.running)

    asyncio.run(scene())


@pytest.mark.parametrize("control", [False, True], ids=["http", "twintrack query"])
def test_client_that_leaves_in_the_middle_of_a_file_ends_it_in_the_engine_and_on_the_disk(
    filled: Service, control: bool
) -> None:
    executor = filled.services.executor
    path = "/query" if control else "/api/analytics/sql"

    async def scene() -> None:
        client = Client(filled, path, {"sql": LONG, "format": "csv"}, control=control)
        await asyncio.wait_for(client.began.wait(), 60)
        await client.leave()
        await until(lambda: not crossing(filled)() and not executor._turns.running)
        await until(lambda: executor._room.used == 0)

    asyncio.run(scene())


def test_file_that_is_taken_slowly_holds_no_turn_and_comes_whole(filled: Service) -> None:
    executor = filled.services.executor

    async def scene() -> None:
        sql = "SELECT a.sequence, b.sequence FROM events AS a CROSS JOIN events AS b"
        files = [executor.stream(sql, {}, "csv", DEMO, asker="slow") for _ in range(2)]
        taken = [await anext(file) for file in files]
        # Nobody takes the rest, and yet both turns are free: two slow ones held up everybody.
        await until(lambda: not executor._turns.running)
        assert executor._room.used > 0
        assert (await asyncio.wait_for(executor.run("SELECT 1"), 20))["rows"] == [[1]]
        for first, file in zip(taken, files, strict=True):
            whole = b"".join([first, *[piece async for piece in file]])
            assert len(whole.splitlines()) == 1 + 400 * 400
        assert executor._room.used == 0

    asyncio.run(scene())


def test_file_that_is_not_taken_in_time_is_given_up_with_a_word(filled: Service) -> None:
    executor = filled.services.executor

    async def scene() -> None:
        usual, executor.longest_download_seconds = executor.longest_download_seconds, 0.05
        try:
            file = executor.stream(LONG, {}, "csv", DEMO)
            with pytest.raises(StoreError, match="too slowly"):
                async for _ in file:
                    await asyncio.sleep(0.01)
        finally:
            executor.longest_download_seconds = usual
        await until(lambda: not executor._turns.running and executor._room.used == 0)

    asyncio.run(scene())


def test_files_beyond_the_room_on_the_disk_are_refused_with_the_limit(filled: Service) -> None:
    executor = filled.services.executor

    async def scene() -> None:
        with pytest.raises(StoreError) as refused:
            async for _ in executor.stream(LONG, {}, "csv", DEMO):
                pass
        assert "query_file_bytes" in refused.value.message and refused.value.code == "query_limit"
        await until(lambda: not executor._turns.running and executor._room.used == 0)
        await until(lambda: not crossing(filled)())  # it is killed, which takes the engine a moment

    asyncio.run(scene())


def test_disk_that_is_nearly_full_takes_events_and_no_files(filled: Service) -> None:
    room = filled.services.executor._room
    usual, room._reserve = room._reserve, 1 << 62

    async def scene() -> None:
        with pytest.raises(StoreError) as refused:
            await anext(filled.services.executor.stream("SELECT sequence FROM events", {}, "csv", DEMO))
        assert "disk_reserve_bytes" in refused.value.message and refused.value.status == 503

    try:
        asyncio.run(scene())
    finally:
        room._reserve = usual


def test_file_that_cannot_be_kept_on_the_disk_ends_with_an_error_and_gives_its_turn_and_room_back(
    filled: Service, tmp_path: Path
) -> None:
    executor = filled.services.executor
    room = executor._room
    usual, room._folder = room._folder, tmp_path / "gone"

    async def scene() -> None:
        with pytest.raises(StoreError, match="cannot be kept on the disk"):
            await asyncio.wait_for(anext(executor.stream("SELECT sequence FROM events", {}, "csv", DEMO)), 20)
        await until(lambda: not executor._turns.running and room.used == 0)

    try:
        asyncio.run(scene())
    finally:
        room._folder = usual


def test_asker_has_half_of_the_room_and_leaves_the_other_half_to_others(tmp_path: Path) -> None:
    room = Room(tmp_path, 100, 0)
    room.take(50, "one")
    with pytest.raises(StoreError, match="query_file_bytes"):
        room.take(1, "one")
    room.take(50, "another")
    room.give_back(50, "one")
    room.take(20, "third")
    assert room.used == 70
