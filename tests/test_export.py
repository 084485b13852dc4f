"""Raw events out to Parquet and in again: nothing is cut short, and what comes back is the same event."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.conftest import running
from twintrack.cli import app
from twintrack.clock import iso
from twintrack.export import Piece, Wanted, count_hours, month_of, parquet_of, pieces_of
from twintrack.testing import uuid7, wire_event

JANUARY = 1_767_225_600_000  # 2026-01-01
HOUR = 3_600_000


def command(*words: Any) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pyarrow.parquet.read_table(file).to_pylist()]


def exported(index: int) -> dict[str, Any]:
    """A line as `export` would have written it."""
    moment = JANUARY + index * HOUR // 4
    return {
        "event_id": uuid7(moment),
        "event_name": "click_send",
        "event_timestamp": iso(moment),
        "user_id": f"user-{index % 7}",
        "anonymous_id": "anon-1",
        "session_id": "session-1",
        "sequence": index,
        "event_value": "9.50" if index % 2 else None,
        "event_metadata": json.dumps({"plan": "pro", "nested": {"deep": [index, "ü"]}, "n": index}),
        "message_content": "please call me" if index % 5 == 0 else None,
        "thread_id": "t-1" if index % 5 == 0 else None,
        "page_url": "https://shop.example/a",
        "page_path": "/a",
        "page_title": "A",
        "referrer": "https://news.example/",
        "locale": "de-DE",
        "viewport_width": 800,
        "viewport_height": 600,
        "consent": "granted",
        "masking_version": "1",
        "loaded_at": iso(moment),
        "schema_version": 1,
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with 200 events of 50 hours, that no service runs on."""
    data = tmp_path_factory.mktemp("export") / "data"
    lines = data.parent / "events.jsonl"
    lines.write_text("\n".join(json.dumps(exported(i)) for i in range(200)))
    command("import", lines, "--data", data)
    yield data


@pytest.fixture(scope="module")
def one_hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with 100 events of one hour."""
    data = tmp_path_factory.mktemp("hour") / "data"
    lines = data.parent / "events.jsonl"
    lines.write_text("\n".join(json.dumps({**exported(0), "event_id": uuid7(JANUARY + n)}) for n in range(100)))
    command("import", lines, "--data", data)
    yield data


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 500)), unique_by=lambda pair: pair[0]).map(sorted),
    st.integers(1, 700),
)
def test_pieces_hold_each_hour_once_within_a_month_and_the_limit(hours: list[tuple[int, int]], most: int) -> None:
    pieces = pieces_of(hours, most)
    for hour, rows in hours:
        holding = [piece for piece in pieces if piece.first <= hour <= piece.last]
        # Every mark that there is stands in one of them.
        ends = [-1, *(piece.high for piece in holding)]
        assert [piece.low for piece in holding] == [end + 1 for end in ends[:-1]] and ends[-1] == (1 << 64) - 1
        assert len(holding) == 1 or (rows > most and sum(piece.rows for piece in holding) == rows)
    assert sum(piece.rows for piece in pieces) == sum(rows for _, rows in hours)
    assert all(month_of(piece.first) == month_of(piece.last) and piece.rows <= most for piece in pieces)


@settings(deadline=None)
@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, 1_000))
def test_halves_of_a_piece_hold_each_mark_once(one: int, other: int, rows: int) -> None:
    piece = Piece(5, 6, rows, min(one, other), max(one, other))
    assert piece.whole == (one == other)
    if piece.whole:
        return
    first, second = piece.halved()
    assert (first.low, first.high + 1, second.high) == (piece.low, second.low, piece.high)
    assert first.low <= first.high and second.low <= second.high
    assert first.rows + second.rows == rows and (first.first, second.last) == (5, 6)


def test_pieces_of_nothing_are_none() -> None:
    assert pieces_of([], 10) == []
    assert pieces_of([(5, 10)], 10) == [Piece(5, 5, 10)]


def test_export_writes_every_event_once_with_checksums(filled: Path, tmp_path: Path) -> None:
    said = command("export", tmp_path / "out", "--file-rows", 30, "--data", filled)
    assert "200 events in 8 files" in said
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == 200 == sum(file["rows"] for file in manifest["files"])
    for file in manifest["files"]:
        content = (tmp_path / "out" / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
        assert f"{file['sha256']}  {file['name']}\n" in (tmp_path / "out" / "SHA256SUMS").read_text()
    rows = rows_of(tmp_path / "out")
    assert len({row["event_id"] for row in rows}) == 200
    assert set(rows[0]) == set(manifest["columns"]) and "chunk_id" not in rows[0]
    one = next(row for row in rows if row["sequence"] == 5)
    assert json.loads(one["event_metadata"]) == {"plan": "pro", "nested": {"deep": [5, "ü"]}, "n": 5}
    assert (one["page_url"], one["viewport_width"], one["consent"]) == ("https://shop.example/a", 800, "granted")
    assert one["message_content"] == "please call me" and one["event_value"] == "9.50"


def test_export_of_a_range_takes_its_start_and_leaves_its_end(filled: Path, tmp_path: Path) -> None:
    command("export", tmp_path / "out", "--from", "2026-01-01T05:00", "--until", "2026-01-01T07:00", "--data", filled)
    assert sorted(row["sequence"] for row in rows_of(tmp_path / "out")) == list(range(20, 28))


def test_hour_with_more_rows_than_a_file_holds_is_dealt_out(filled: Path, tmp_path: Path) -> None:
    command("export", tmp_path / "out", "--file-rows", 2, "--until", "2026-01-01T03:00", "--data", filled)
    assert sorted(row["sequence"] for row in rows_of(tmp_path / "out")) == list(range(12))


@pytest.mark.parametrize("most", [1, 7, 99])
def test_no_file_holds_more_rows_than_it_may_however_its_hour_is_dealt_out(
    one_hour: Path, tmp_path: Path, most: int
) -> None:
    command("export", tmp_path / "out", "--file-rows", most, "--data", one_hour)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    counts = {file.name: pyarrow.parquet.read_metadata(file).num_rows for file in (tmp_path / "out").glob("*.parquet")}
    assert counts == {file["name"]: file["rows"] for file in manifest["files"]}
    assert all(0 < rows <= most for rows in counts.values())
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 100 == len({row["event_id"] for row in rows}) == manifest["rows"]


def test_copies_of_one_event_lie_in_one_file_however_few_rows_it_is_to_hold(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.send([wire_event(), wire_event()])
        service.settle()
        copied = "INSERT INTO analytics.events SELECT * FROM analytics.events ORDER BY event_id LIMIT 1"
        service.services.store.command(copied)
        assert service.rows("SELECT count() FROM analytics.events") == [[3]]
    said = command("export", tmp_path / "out", "--file-rows", 1, "--data", tmp_path / "data")
    assert "3 events in 2 files" in said and "holds more than 1 rows" in said
    assert len({row["event_id"] for row in rows_of(tmp_path / "out")}) == 2


def test_rows_that_came_in_since_the_plan_make_no_file_larger_than_it_may_be(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.send([wire_event(sequence=i) for i in range(10)])
        service.settle()
        wanted, now = Wanted(project="demo"), service.services.clock.milliseconds() + HOUR
        (piece,) = pieces_of(count_hours(service.services.store, wanted, now), 10)
        service.send([wire_event(sequence=i) for i in range(10, 30)])
        service.settle()

        def rows(piece: Piece) -> int:
            content = parquet_of(service.services.store, wanted, now, piece, 10)
            return int(pyarrow.parquet.read_metadata(io.BytesIO(content)).num_rows)

        assert rows(piece) == 11  # enough to tell, and no more of it in memory
        left, held = [piece], 0
        while left:
            piece = left.pop()
            found = rows(piece)
            if found > 10:
                left += piece.halved()
            else:
                held += found
        assert held == 30


def test_export_comes_back_under_the_same_ids_and_adds_nothing_twice(filled: Path, tmp_path: Path) -> None:
    command("export", tmp_path / "out", "--data", filled)
    (file,) = (tmp_path / "out").glob("*.parquet")
    assert "200 rows read: 0 new, 200 already there" in command("import", file, "--data", filled)
    other = tmp_path / "other"
    assert "200 rows read: 200 new" in command("import", file, "--data", other)
    command("export", tmp_path / "again", "--data", other)

    def told(folder: Path) -> list[dict[str, Any]]:
        ours = {"loaded_at", "server_timestamp", "client_timestamp"}
        kept = [{name: cell for name, cell in row.items() if name not in ours} for row in rows_of(folder)]
        return sorted(kept, key=lambda row: row["event_id"])

    assert told(tmp_path / "again") == told(tmp_path / "out")


def test_folder_of_an_export_is_brought_in_whole_with_what_the_service_saw_of_the_senders(tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    seen = {"ip_address": "::ffff:203.0.113.0", "user_agent": "Robot/1", "is_bot": True, "identity": "claimed"}
    said = {"consent": "granted", "consent_at": "2025-12-31T10:00:00.000Z", "consent_denied": ["statsig"]}
    lines.write_text("\n".join(json.dumps({**exported(i * 5000), **(seen | said if i % 2 else {})}) for i in range(4)))
    command("import", lines, "--data", tmp_path / "data")
    command("export", tmp_path / "out", "--data", tmp_path / "data")
    assert len(list((tmp_path / "out").glob("*.parquet"))) > 1
    said_twice = command("import", tmp_path / "out", "--data", tmp_path / "other")
    assert said_twice.count(" new") == len(list((tmp_path / "out").glob("*.parquet")))
    command("export", tmp_path / "again", "--data", tmp_path / "other")
    ours = {"loaded_at", "server_timestamp"}
    first, second = (
        sorted(
            ({name: cell for name, cell in row.items() if name not in ours} for row in rows_of(folder)),
            key=lambda row: row["event_id"],
        )
        for folder in (tmp_path / "out", tmp_path / "again")
    )
    assert first == second
    for row in first:
        assert row["is_bot"] == (row["user_agent"] == "Robot/1") == (row["identity"] == "claimed")
    assert {row["ip_address"] for row in first} == {"::", "::ffff:203.0.113.0"}
    assert [row["consent_denied"] for row in first if row["is_bot"]] == [["statsig"]] * 2


def test_export_that_was_cut_altered_or_left_unfinished_is_refused_before_its_first_row(
    filled: Path, tmp_path: Path
) -> None:
    command("export", tmp_path / "out", "--file-rows", 120, "--data", filled)
    *_, last = sorted((tmp_path / "out").glob("*.parquet"))

    def refused(what: Path) -> str:
        done = CliRunner().invoke(app, ["import", str(what), "--data", str(tmp_path / "other")])
        assert done.exit_code == 1
        return str(done.exception)

    content = last.read_bytes()
    for damaged in (content[:-100], content[:500] + b"!" + content[501:]):
        last.write_bytes(damaged)
        assert last.name in refused(tmp_path / "out") and last.name in refused(last)
    last.unlink()
    assert last.name in refused(tmp_path / "out")
    last.write_bytes(content)
    (tmp_path / "out" / "manifest.json").rename(tmp_path / "manifest.json")
    assert "no manifest.json" in refused(tmp_path / "out")
    assert not (tmp_path / "other").exists()
    # Elsewhere, without its checksums, a file that breaks off is told by its own format.
    alone = tmp_path / "alone.parquet"
    alone.write_bytes(content[:-100])
    assert "no whole Parquet file" in refused(alone)
    assert f"{200 - 120} rows read: {200 - 120} new" in command("import", last, "--data", tmp_path / "other")


def test_export_leaves_out_what_comes_after_its_start(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.send([wire_event(sequence=i) for i in range(10)])
        service.settle()
        wanted, now = Wanted(project="demo"), service.services.clock.milliseconds() + 1_000
        store = service.services.store
        (piece,) = pieces_of(count_hours(store, wanted, now), 100)
        assert piece.rows == 10
        store.command(
            "INSERT INTO analytics.events (project, event_id, event_timestamp, loaded_at)"
            " SELECT 'demo', generateUUIDv7(), now64(3), now64(3) + INTERVAL 1 HOUR"
        )
        content = parquet_of(store, wanted, now, piece, 100)
        assert pyarrow.parquet.read_metadata(io.BytesIO(content)).num_rows == 10


def test_folder_that_holds_something_is_not_written_to(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--data", str(filled)])
    assert done.exit_code == 1 and "not an empty folder" in str(done.exception)
