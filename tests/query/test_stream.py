"""SQL answers as csv, JSON lines and parquet: with parameters, whole, or visibly cut."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet
import pytest

from tests.conftest import Service, running
from twintrack.testing import wire_event

EVENTS = 500
SQL = (
    "SELECT toInt64(event_metadata.n) AS n, event_value AS `the (value)` FROM events"
    " WHERE event_name = {name:String} ORDER BY n"
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("stream") / "data", query_file_rows=1_000) as service:
        service.send([wire_event(event_metadata={"n": n}, event_value=f'a,"{n}"') for n in range(EVENTS)])
        service.settle()
        yield service


def ask(service: Service, output: str, sql: str = SQL, key: str = "", **parameters: Any) -> Any:
    body = {"sql": sql, "parameters": parameters, "format": output}
    headers = {"Authorization": f"Bearer {key or service.owner_key}"}
    return service.request("POST", "/api/analytics/sql", json=body, headers=headers)


def rows_of(content: bytes, output: str) -> list[tuple[int, str]]:
    if output == "csv":
        return [(int(row["n"]), row["the (value)"]) for row in csv.DictReader(io.StringIO(content.decode()))]
    if output == "json":
        return [(int(row["n"]), row["the (value)"]) for row in map(json.loads, content.splitlines())]
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    return [(row["n"], row["the (value)"]) for row in table.to_pylist()]


@pytest.mark.parametrize("output", ["csv", "json", "parquet"])
def test_stream_holds_each_row_once_in_order_and_takes_parameters(filled: Service, output: str) -> None:
    answer = ask(filled, output, name="click_send")
    assert answer.status_code == 200, answer.text
    assert rows_of(answer.content, output) == [(n, f'a,"{n}"') for n in range(EVENTS)]


@pytest.mark.parametrize("output", ["csv", "json"])
def test_stream_of_nothing_is_names_alone_or_nothing(filled: Service, output: str) -> None:
    answer = ask(filled, output, name="' OR 1 = 1 --")
    assert answer.content == (b'"n","the (value)"\n' if output == "csv" else b"")


@pytest.mark.parametrize("output", ["csv", "json", "parquet"])
def test_stream_that_would_be_too_long_or_is_not_allowed_is_refused_before_it_begins(
    filled: Service, output: str
) -> None:
    long = ask(filled, output, "SELECT a.event_id FROM events AS a CROSS JOIN events AS b")
    assert long.status_code >= 400 and "rows" in long.json()["error"]["message"].lower()
    foreign = ask(filled, output, "SELECT * FROM file('/etc/passwd')")
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (400, "sql_refused")
    assert ask(filled, output, key=filled.write_key, name="x").status_code == 403
    # None of these keeps a turn.
    assert ask(filled, "csv", name="click_send").status_code == 200
