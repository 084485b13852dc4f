"""`twintrack.connect`: the same answers from a service and from a folder, as Arrow and pandas."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

import twintrack
from tests.e2e.conftest import Running, start
from twintrack.client import Connection
from twintrack.errors import TwintrackError
from twintrack.testing import wire_event


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    data = tmp_path_factory.mktemp("client") / "data"
    running = start(data)
    yield running, data
    running.stop()


@pytest.fixture(params=["service", "folder"])
def tt(request: pytest.FixtureRequest, served: tuple[Running, Path]) -> Iterator[Connection]:
    running, data = served
    if request.param == "folder":
        with twintrack.connect(data) as opened:
            yield opened
    else:
        with twintrack.connect(running.address, running.command("keys", "create", "--role", "owner").strip()) as opened:
            yield opened


def send(running: Running, **event: Any) -> None:
    key = running.command("keys", "create", "--role", "write").strip()
    sent = httpx.post(
        f"{running.address}/api/analytics/events", json=[wire_event(**event)], headers={"X-Write-Key": key}
    )
    assert sent.json()["accepted"] == 1


def until_there(tt: Connection, sql: str) -> None:
    end = time.monotonic() + 60
    while not tt.sql(sql).num_rows:
        assert time.monotonic() < end, "the event did not arrive"
        time.sleep(0.1)


def test_sql_answers_arrow_with_types(tt: Connection, served: tuple[Running, Path]) -> None:
    send(served[0], sequence=7, user_id="ann")
    until_there(tt, "SELECT 1 AS one FROM events WHERE sequence = 7")
    table = tt.sql("SELECT user_id, sequence FROM events WHERE sequence = {n:UInt64} LIMIT 1", {"n": 7})
    assert table.to_pylist() == [{"user_id": "ann", "sequence": 7}]
    assert table.to_pandas()["sequence"].dtype == "uint64"


def test_typed_question_answers_pandas_and_its_definition(tt: Connection, served: tuple[Running, Path]) -> None:
    send(served[0], event_name="bought")
    until_there(tt, "SELECT 1 AS one FROM events WHERE event_name = 'bought'")
    answer = tt.ask("trends", range={"last": 2, "unit": "day"}, series=[{"event": "bought"}])
    frame = answer.to_pandas()
    steps = frame[frame["part"] == "step"]
    assert steps["value"].sum() == frame[frame["part"] == "total"]["value"].sum() >= 1 and answer["definition"]
    assert str(frame["start"].dtype).startswith("datetime64") and set(frame["label"]) == {answer["series"][0]["label"]}


def test_table_is_a_whole_list_and_says_what_it_means(tt: Connection, served: tuple[Running, Path]) -> None:
    send(served[0], event_name="listed")
    until_there(tt, "SELECT 1 AS one FROM events WHERE event_name = 'listed'")
    whole = tt.table("events", event="listed", columns=["event_name", "sequence"])
    assert set(whole["event_name"].to_pylist()) == {"listed"} and whole.schema.names == ["event_name", "sequence"]
    assert b"definition" in whole.schema.metadata[b"twintrack"]
    with pytest.raises(TwintrackError) as refused:
        tt.table("events", event="listed", nonsense=1)
    assert "nonsense" in refused.value.message


def test_refused_question_raises_the_services_words(tt: Connection) -> None:
    with pytest.raises(TwintrackError, match="only SELECT"):
        tt.sql("DROP TABLE events")
    with pytest.raises(TwintrackError) as refused:
        tt.ask("trends", nonsense=1)
    assert "nonsense" in refused.value.message


def test_address_that_nothing_answers_says_so() -> None:
    with twintrack.connect("http://127.0.0.1:9", "tt_read_x") as nobody, pytest.raises(TwintrackError, match="answer"):
        nobody.sql("SELECT 1 FROM events")
    with pytest.raises(TwintrackError, match="key"):
        twintrack.connect("http://127.0.0.1:9")


def test_command_asks_the_service_that_runs(served: tuple[Running, Path]) -> None:
    running, _ = served
    said = running.command("ask", "trends", '{"range": {"last": 2}}', "--format", "json")
    assert {json.loads(line)["part"] for line in said.splitlines()} == {"step", "total"}
