"""Answers of every kind as files: the numbers are those of the JSON answer, lists are whole, what is left out is said."""

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pyarrow.parquet
import pytest

from tests.conftest import Service, running
from tests.query.conftest import Asked
from tests.query.stage import ASKER, staged
from twintrack.auth import Role
from twintrack.clock import iso, milliseconds_of
from twintrack.errors import RequestError
from twintrack.query.kinds import KINDS
from twintrack.query.written import arrow, written
from twintrack.testing import wire_event

FORMATS = ("csv", "json", "parquet")
SPAN = {"range": {"from": "2024-03-29", "to": "2024-11-02"}, "interval": "month"}
STEPS: Any = [{"event": "view"}, {"event": "buy"}]
EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    "trends": (
        "trends",
        {
            **SPAN,
            "series": [{}, {"measure": "persons"}, {"measure": "average", "property": "event_metadata.amount"}],
            "formulas": [{"formula": "A / B"}],
            "breakdown": ["event_metadata.plan", "event_name"],
            "top": 3,
            "compare": "previous period",
        },
    ),
    "trends with a floor": ("trends", {**SPAN, "floor": 4, "breakdown": ["event_metadata.plan"]}),
    "funnel": (
        "funnel",
        {**SPAN, "steps": STEPS, "breakdown": ["event_metadata.plan"], "top": 1, "window_seconds": 9_000_000},
    ),
    "funnel alone": ("funnel", {"steps": STEPS, "range": SPAN["range"]}),
    "retention": ("retention", {**SPAN, "periods": 3, "breakdown": ["event_name"], "top": 2}),
    "lifecycle": ("lifecycle", SPAN),
    "stickiness": ("stickiness", {**SPAN, "interval": "week"}),
    "paths": ("paths", {"range": SPAN["range"], "per": "person", "top": 2}),
    "paths to": ("paths", {"range": SPAN["range"], "per": "person", "to": "buy"}),
    "threads": ("threads", {**SPAN, "limit": 3}),
    "one thread": ("threads", {"thread": "t50-0"}),
    "cohorts": ("cohorts", {"definition": {"did": {"event": "buy"}}}),
    "sessions": ("sessions", {**SPAN, "top": 2}),
    "users": ("users", {"range": SPAN["range"]}),
    "one person": ("users", {"range": SPAN["range"], "person": "u1"}),
    "events": (
        "events",
        {"range": SPAN["range"], "columns": ["event_id", "sequence", "is_bot", "event_metadata"], "limit": 999},
    ),
    "all events": ("events", {"range": {"from": "2024-02-01", "to": "2024-11-03T10:00:00Z"}, "columns": ["sequence"]}),
    "properties": ("properties", {"range": SPAN["range"]}),
    "values": ("properties", {"range": SPAN["range"], "property": "event_metadata.plan", "limit": 2}),
    "actors": ("actors", {"of": {"kind": "trends", **SPAN}}),
}
# What says how an answer was made, and is no number of it.
ABOUT = {
    "statements",
    "definition",
    "as_of",
    "rows_read",
    "milliseconds",
    "source",
    "cached",
    "limits",
    "range",
}
# Columns that say where a number stands; in the answer its place says so.
PLACES = {"step", "period"}
# The column of the numbers under a name of the answer, where it is another one.
COLUMN = {
    "values": "value",
    "total": "value",
    "entry": "value",
    "exit": "value",
    "trend": "count",
    "shares": "share",
    **dict.fromkeys(("exactly", "at_least", "new", "returning", "resurrecting", "dormant"), "persons"),
}
OF_THREADS = dict.fromkeys(
    ("threads", "persons", "messages", "answers", "waiting", "created", "continued", "completed", "abandoned"), "value"
)


def numbers(kind: str, answer: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of an answer, wherever it stands, with the column in which it belongs."""
    if isinstance(answer, dict):
        for key, inner in answer.items():
            if key in ("columns", "event_metadata", "buckets"):
                continue
            if key == "rows":
                yield from (pair for row in inner for pair in listed(answer["columns"], row))
            elif key == "values" and kind == "properties":
                yield from (("events", float(count)) for _, count in inner)
            elif key not in ABOUT:
                yield from numbers(kind, inner, key)
    elif isinstance(answer, list):
        for inner in answer:
            yield from numbers(kind, inner, name)
    elif isinstance(answer, int | float) and not isinstance(answer, bool):
        column = OF_THREADS.get(name) if kind == "threads" else None
        yield column or COLUMN.get(name, name), float(answer)


def listed(columns: list[str], row: list[Any]) -> Iterator[tuple[str, float]]:
    for name, cell in zip(columns, row, strict=True):
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            yield name, float(cell)


def told(kind: str, rows: list[dict[str, Any]]) -> Counter[tuple[str, float]]:
    """The numbers in the rows of a file by column, without those that say where a number stands."""
    places = PLACES | ({"buckets"} if kind == "stickiness" else set())
    return Counter(pair for row in rows for pair in listed(list(row), list(row.values())) if pair[0] not in places)


def file(asked: Asked, name: str, output: str) -> list[dict[str, Any]]:
    """The rows of a file as its format tells them; cells of csv as text, empty ones None."""
    kind, question = EVERY[name]

    async def whole() -> bytes:
        pages = asked.stage.answers.pages(KINDS[kind].model_validate(sent(question)), ASKER)
        first = await anext(pages)
        return b"".join([piece async for piece in written(kind, first, pages, output)])

    return read(asyncio.run(whole()), output)


def sent(question: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in question.items() if value is not None}


def read(content: bytes, output: str) -> list[dict[str, Any]]:
    if output == "json":
        return [json.loads(line) for line in content.splitlines()]
    if output == "csv":
        return [
            {name: cell or None for name, cell in row.items()} for row in csv.DictReader(io.StringIO(content.decode()))
        ]
    return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()


@pytest.mark.parametrize("name", [name for name in EVERY if name != "all events"])
def test_file_holds_each_number_of_the_answer_under_its_name_as_often_as_the_answer_does(
    many_people: Asked, name: str
) -> None:
    kind, question = EVERY[name]
    answer = many_people.stage.ask(kind, sent(question))
    inside = Counter(numbers(kind, answer))
    # Said once in an answer, and in a file with each row that it goes with.
    once = {"retention": {"size"}, "actors": {"value"}}.get(kind, set())
    rows = file(many_people, name, "json")
    found = told(kind, rows)
    assert inside or name == "properties"
    assert {pair: n for pair, n in inside.items() if pair[0] not in once} == {
        pair: n for pair, n in found.items() if pair[0] not in once
    }
    assert {pair for pair in inside if pair[0] in once and kind != "actors"} <= set(found)


@pytest.mark.parametrize("name", ["trends", "funnel", "retention", "threads", "one person", "paths", "events"])
def test_csv_and_parquet_hold_the_cells_of_the_json_lines(many_people: Asked, name: str) -> None:
    lines = file(many_people, name, "json")
    parquet = file(many_people, name, "parquet")
    assert [list(row) for row in parquet] == [list(row) for row in lines]
    assert [[of_parquet(cell) for cell in row.values()] for row in parquet] == [
        [of_json(cell) for cell in row.values()] for row in lines
    ]
    whole = file(many_people, name, "csv")
    assert [list(row) for row in whole] == [list(row) for row in lines]
    for row, line in zip(whole, lines, strict=True):
        for column, cell in row.items():
            assert of_csv(cell, line[column]), (column, cell, line[column])


def of_json(cell: Any) -> Any:
    if isinstance(cell, dict | list):
        return json.dumps(cell, separators=(",", ":"), ensure_ascii=False)
    return cell


def of_parquet(cell: Any) -> Any:
    return iso(milliseconds_of(cell)) if isinstance(cell, datetime) else cell


def of_csv(cell: str | None, wanted: Any) -> bool:
    if wanted is None or wanted == "":
        return cell is None
    if isinstance(wanted, bool):
        return cell == str(wanted).lower()
    if isinstance(wanted, int | float):
        return float(cell or "nan") == wanted
    if cell != of_json(wanted):
        return datetime.fromisoformat(cell or "") == datetime.fromisoformat(wanted)
    return True


def test_arrow_of_an_answer_has_the_rows_of_its_file_and_says_what_it_means(many_people: Asked) -> None:
    kind, question = EVERY["funnel"]
    answer = many_people.stage.ask(kind, question)
    table = arrow(kind, answer)
    assert table.to_pylist() == file(many_people, "funnel", "parquet")
    said = json.loads(table.schema.metadata[b"twintrack"])
    assert said["definition"] == answer["definition"] and said["limits"] == answer["limits"]
    assert said["limits"] == [{"limit": "top", "most": 1, "reached": True, "rest": "one group, `other`"}]


@pytest.mark.parametrize(
    "name,reached",
    [
        ("trends", [True]),
        ("trends with a floor", [False]),
        ("sessions", [True]),
        ("paths", [True, True]),
        ("threads", [True]),
        ("one thread", [False]),
        ("values", [True]),
        ("events", [True]),
        ("users", [False]),
        ("cohorts", []),
        ("stickiness", []),
    ],
)
def test_answer_says_which_limits_it_met(many_people: Asked, name: str, reached: list[bool]) -> None:
    kind, question = EVERY[name]
    assert [limit["reached"] for limit in many_people.stage.ask(kind, sent(question))["limits"]] == reached


EVENTS = 350


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose files have pages of 99 rows, and 400 rows at most."""
    folder = tmp_path_factory.mktemp("files") / "data"
    with running(folder, query_result_rows=100, query_file_rows=400) as service:
        told = {"plan": "pro", "amount": 3}
        sent = [wire_event(sequence=n, user_id=f"u{n}", event_metadata=told) for n in range(EVENTS)]
        service.send(sent, service.server_key)
        service.settle()
        yield service


def ask(service: Service, kind: str, output: str, key: str = "", **question: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or service.owner_key}"}
    body = {**question, "format": output}
    return service.request("POST", f"/api/analytics/query/{kind}", json=body, headers=headers)


@pytest.mark.parametrize("output", FORMATS)
def test_list_without_a_limit_is_a_file_of_all_its_pages(filled: Service, output: str) -> None:
    answer = ask(filled, "events", output, columns=["sequence", "event_timestamp"])
    assert answer.status_code == 200, answer.text
    rows = read(answer.content, output)
    assert sorted(int(row["sequence"]) for row in rows) == list(range(EVENTS))
    assert json.loads(answer.headers["X-Twintrack-About"])["limits"] == []
    people = read(ask(filled, "users", output).content, output)
    assert {row["person"] for row in people} == {f"u{n}" for n in range(EVENTS)} and len(people) == EVENTS


def test_list_with_a_limit_says_in_its_file_that_there_is_more(filled: Service) -> None:
    answer = ask(filled, "events", "csv", limit=7)
    assert len(read(answer.content, "csv")) == 7
    said = json.loads(answer.headers["X-Twintrack-About"])
    rest = "on the next page: send `next` as `after`; of a file leave out `limit`"
    assert said["limits"] == [{"limit": "limit", "most": 7, "reached": True, "rest": rest}]
    assert "next" not in said  # it may name a person, and headers are logged


def test_list_longer_than_a_file_may_be_ends_in_an_error_and_never_as_if_it_were_whole(many_people: Asked) -> None:
    executor = many_people.stage.executor
    usual = executor.most_rows, executor.most_file_rows
    executor.most_rows, executor.most_file_rows = 101, 250
    try:
        file(many_people, "users", "json")  # fewer than that
        with pytest.raises(RequestError) as refused:
            file(many_people, "all events", "json")
        assert refused.value.code == "too_many_rows"
    finally:
        executor.most_rows, executor.most_file_rows = usual


def test_list_known_to_be_longer_than_a_file_may_be_is_refused_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", query_file_rows=20) as service:
        service.send([wire_event(sequence=n) for n in range(30)])
        service.settle()
        answer = ask(service, "events", "csv")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_rows")
        assert "query_file_rows" in answer.json()["error"]["message"] and answer.json()["error"]["hint"]


def test_file_is_for_those_who_may_take_files_out_and_in_a_format_there_is(filled: Service) -> None:
    assert ask(filled, "trends", "csv", filled.read_key).status_code == 403
    assert ask(filled, "trends", "answer", filled.read_key).status_code == 200
    analyst = filled.services.control.create_key(Role.ANALYST, "demo", "local")
    assert ask(filled, "trends", "csv", analyst).status_code == 200
    assert ask(filled, "users", "csv", analyst).json()["error"]["code"] == "hidden_people"
    assert ask(filled, "trends", "xlsx").status_code == 422


def test_every_kind_answers_over_http_as_a_file(filled: Service) -> None:
    for kind, question in EVERY.values():
        more = {"range": {"last": 2}} if "range" in question else {}
        asked = {**sent(question), **more, **({"interval": "day"} if "interval" in question else {})}
        asked.pop("limit", None)
        answer = ask(filled, kind, "csv", **asked)
        assert answer.status_code == 200, (kind, answer.text)
        assert answer.headers["content-type"].startswith("text/csv") and answer.text.startswith('"')
    assert {kind for kind, _ in EVERY.values()} == set(KINDS)


def test_file_of_people_has_each_of_them_whom_a_late_event_moves_while_it_is_written(tmp_path: Path) -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    rows = [row_of(now - timedelta(hours=n + 1), f"u{n:02}") for n in range(12)]
    with staged(tmp_path / "store", now, rows) as stage:
        stage.executor.most_rows = 4  # pages of three

        async def written_meanwhile() -> list[str]:
            question = KINDS["users"].model_validate({"range": {"last": 7}})
            people: list[str] = []
            async for page in stage.answers.pages(question, ASKER):
                people += [row[0] for row in page["rows"]]
                # Whoever was last of all is now the first, and one of each page comes again.
                stage.insert([row_of(now - timedelta(minutes=1), person) for person in ("u11", people[-1])])
            return people

        assert sorted(asyncio.run(written_meanwhile())) == [f"u{n:02}" for n in range(12)]


def row_of(at: datetime, person: str) -> dict[str, Any]:
    return {"event_id": uuid4(), "event_name": "seen", "event_timestamp": at, "user_id": person}
