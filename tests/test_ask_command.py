"""`twintrack ask` on a folder that no service runs on; over the socket of one that runs: tests/test_client.py."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from twintrack.cli import app

LINES = [
    {"event_name": "buy", "client_timestamp": f"2026-01-0{day}T10:00:00Z", "user_id": f"u{n}"}
    for day in range(1, 4)
    for n in range(day)
]
RANGE = {"from": "2026-01-01", "to": "2026-01-03"}


def asked(data: Path, kind: str, question: Any, *more: str) -> Result:
    return CliRunner().invoke(app, ["ask", kind, json.dumps(question), "--data", str(data), *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ask") / "data"
    lines = folder.parent / "lines.jsonl"
    lines.write_text("\n".join(map(json.dumps, LINES)))
    assert CliRunner().invoke(app, ["import", str(lines), "--data", str(folder)]).exit_code == 0
    yield folder


def test_question_is_answered_as_a_table_with_its_definition(data: Path) -> None:
    done = asked(data, "trends", {"range": RANGE, "series": [{"event": "buy"}]})
    assert done.exit_code == 0, done.output
    totals = [line.split() for line in done.stdout.splitlines() if line.startswith("total")]
    assert [words[-1] for words in totals] == ["6"] and "named buy" in done.stderr


def test_file_goes_to_standard_output_and_what_is_left_out_to_the_other(data: Path) -> None:
    done = asked(data, "events", {"range": RANGE, "columns": ["person"], "limit": 4}, "--format", "csv")
    assert done.exit_code == 0, done.output
    # The command's own entry point sets up logs; here those of an engine that ends may stand before the file.
    assert len(list(csv.DictReader(io.StringIO(done.stdout[done.stdout.index('"person"') :])))) == 4
    assert "limit 4: the rest is on the next page" in done.stderr
    whole = asked(data, "events", {"range": RANGE, "columns": ["person"]}, "--format", "parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(whole.stdout_bytes[whole.stdout_bytes.index(b"PAR1") :]))
    assert sorted(table["person"].to_pylist()) == ["u0"] * 3 + ["u1"] * 2 + ["u2"] and not whole.stderr


def test_question_that_cannot_be_asked_says_why_and_fails(data: Path) -> None:
    for kind, question, word in (
        ("trends", {"nonsense": 1}, "nonsense"),
        ("nothing", {}, "the kinds are"),
        ("funnel", {"steps": [{"event": "a"}]}, "2 to 20 steps"),
    ):
        done = asked(data, kind, question, "--format", "csv")
        assert done.exit_code == 1 and word in f"{done.exception} {done.output} {getattr(done.exception, 'hint', '')}"
    assert CliRunner().invoke(app, ["ask", "trends", "{", "--data", str(data)]).exit_code == 2
