"""Files of events: what each row means, and that a row that cannot be read costs itself alone."""

import csv
import gzip
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.errors import RequestError
from twintrack.imports import _EXPORTED, BadRow, Row, kind_of, mapping_of, parse_time, read_rows, zone_of

TIME = "2024-06-01T12:00:00Z"


def rows(folder: Path, content: str | bytes, name: str = "x.jsonl", **given: str) -> list[Row | BadRow]:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_rows(file, given, UTC))


def line(**fields: Any) -> str:
    return json.dumps({"event": "click", "time": TIME, **fields})


def events(found: list[Row | BadRow]) -> list[dict[str, Any]]:
    assert all(isinstance(row, Row) for row in found), found
    return [row.event for row in found if isinstance(row, Row)]


# -- what a row means ------------------------------------------------------------------------------------------------


def test_columns_are_guessed_and_the_rest_is_metadata(tmp_path: Path) -> None:
    (event,) = events(rows(tmp_path, line(user="ann", session="s", plan="pro", nested={"a": [1]}, nothing=None)))
    assert event == {
        "event_name": "click",
        "client_timestamp": "2024-06-01T12:00:00.000+00:00",
        "user_id": "ann",
        "session_id": "s",
        "event_metadata": {"plan": "pro", "nested": {"a": [1]}},
    }


def test_object_of_properties_becomes_the_metadata_itself(tmp_path: Path) -> None:
    (event,) = events(rows(tmp_path, line(properties={"plan": "pro"}, step=2)))
    assert event["event_metadata"] == {"plan": "pro", "step": 2}


def test_given_mapping_beats_the_guess(tmp_path: Path) -> None:
    content = "kind,when,name,user\nbuy,2024-06-01,Ann,17\n"
    (event,) = events(rows(tmp_path, content, "x.csv", event_name="kind", client_timestamp="when", user_id="name"))
    assert (event["event_name"], event["user_id"]) == ("buy", "Ann")


@pytest.mark.parametrize(
    ("columns", "given", "said"),
    [
        (["a"], {}, "no column is the event_name"),
        (["event"], {}, "no column is the client_timestamp"),
        (["event", "time"], {"colour": "a"}, "colour is no field"),
        (["event", "time"], {"user_id": "uid"}, "no column uid"),
    ],
)
def test_mapping_that_does_not_fit_says_what_is_missing(columns: list[str], given: dict[str, str], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        mapping_of(columns, given)
    assert said in refused.value.message and refused.value.code == "bad_map"


def test_user_that_only_later_rows_name_is_no_metadata(tmp_path: Path) -> None:
    """The mapping of the first row was kept for all, so what a row means depended on the row before it."""
    first, second = events(rows(tmp_path, line() + "\n" + line(user="ann")))
    assert "user_id" not in first
    assert second["user_id"] == "ann" and "event_metadata" not in second


def test_row_without_a_mapped_column_is_read_without_it(tmp_path: Path) -> None:
    first, second = events(rows(tmp_path, line(uid="ann") + "\n" + line(), user_id="uid"))
    assert first["user_id"] == "ann" and "user_id" not in second


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2024-06-01 12:00:00", "UTC", "2024-06-01T12:00:00+00:00"),
        ("2024-06-01 12:00:00", "Europe/Paris", "2024-06-01T10:00:00+00:00"),
        ("2024-01-01 12:00:00", "Europe/Paris", "2024-01-01T11:00:00+00:00"),
        ("2024-06-01T12:00:00+05:45", "Europe/Paris", "2024-06-01T06:15:00+00:00"),
        (" 2024-06-01 ", "UTC", "2024-06-01T00:00:00+00:00"),
        ("1717243200", "Europe/Paris", "2024-06-01T12:00:00+00:00"),
        (1717243200, "UTC", "2024-06-01T12:00:00+00:00"),
        (1717243200123, "UTC", "2024-06-01T12:00:00.123000+00:00"),
        ("1717243200.5", "UTC", "2024-06-01T12:00:00.500000+00:00"),
    ],
)
def test_time_is_read_in_its_zone(text: Any, zone: str, instant: str) -> None:
    assert parse_time(text, zone_of(zone)).isoformat() == instant


def test_zone_that_does_not_exist_is_refused() -> None:
    for name in ("Mars/Base", "", "../etc/passwd"):
        with pytest.raises(RequestError):
            zone_of(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("A.CSV.GZ", "csv"),
        ("a.ndjson", "jsonl"),
        ("a.jsonl.gz", "jsonl"),
        ("a.csv.zst", "csv"),
        ("a.Parquet", "parquet"),
    ],
)
def test_kind_of_a_file_is_in_its_name(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


def test_file_of_another_kind_is_refused() -> None:
    with pytest.raises(RequestError):
        kind_of(Path("a.xlsx"))


def test_zst_file_is_read_as_it_would_be_plain(tmp_path: Path) -> None:
    content = "\n".join(line(n=n) for n in range(500)).encode()
    assert rows(tmp_path, zstandard.compress(content), "x.jsonl.zst") == rows(tmp_path, content)


def test_zst_file_that_breaks_off_says_so_after_its_rows(tmp_path: Path) -> None:
    content = zstandard.compress("\n".join(line(n=n, more="x" * n) for n in range(20_000)).encode())
    (tmp_path / "x.jsonl.zst").write_bytes(content[: len(content) // 2])
    with pytest.raises(RequestError, match="breaks off"):
        list(read_rows(tmp_path / "x.jsonl.zst", {}, UTC))


def test_parquet_file_means_what_its_json_lines_would(tmp_path: Path) -> None:
    moment = datetime(2024, 6, 1, 12, tzinfo=UTC)
    plain = {"event": ["click", "buy"], "user": ["ann", None], "plan": ["pro", None], "price": [1.5, 2.0]}
    table = pyarrow.table({**plain, "time": [moment, moment], "properties": [{"a": [1]}, None]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    first, second = events(list(read_rows(tmp_path / "x.parquet", {}, UTC)))
    assert first == {
        "event_name": "click",
        "client_timestamp": "2024-06-01T12:00:00.000+00:00",
        "user_id": "ann",
        "event_metadata": {"plan": "pro", "price": 1.5, "a": [1]},
    }
    assert "user_id" not in second and second["event_metadata"] == {"price": 2.0}


def test_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(RequestError, match="no whole Parquet file"):
        list(read_rows(tmp_path / "x.parquet", {}, UTC))


def test_metadata_in_a_cell_of_csv_are_read_as_json(tmp_path: Path) -> None:
    content = 'event,time,properties\nclick,2024-06-01,"{""plan"": ""pro""}"\nclick,2024-06-01,"{not json"\n'
    first, second = events(rows(tmp_path, content, "x.csv"))
    assert first["event_metadata"] == {"plan": "pro"}
    assert second["event_metadata"] == {"properties": "{not json"}


# -- equal rows ------------------------------------------------------------------------------------------------------


def test_equal_rows_stay_apart_by_their_occurrence(tmp_path: Path) -> None:
    found = rows(tmp_path, "\n".join([line(), line(n=1), line(), json.dumps({"time": TIME, "event": "click"})]))
    assert [row.occurrence for row in found if isinstance(row, Row)] == [1, 1, 2, 3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12))
def test_content_and_occurrence_name_each_row_once(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = rows(Path(folder), "\n".join(line(event=name) for name in names))
    keys = [(row.event["event_name"], row.occurrence) for row in found if isinstance(row, Row)]
    assert len(set(keys)) == len(keys) == len(names)


# -- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("nonsense", "not JSON"),
        ("[1]", "not a JSON object"),
        ("5", "not a JSON object"),
        ('{"event": "x"', "not JSON"),
        (line(n=0).replace("0}", "NaN}"), "not JSON"),
        (line(n=0).replace("0}", "1e400}"), "not JSON"),
        (line(n=0).replace("0}", "9" * 5_000 + "}"), "not JSON"),
        (line(n=0).replace("0}", "[" * 500 + "]" * 500 + "}"), "nested deeper"),
        (line(n=0).replace("0}", "[" * 5_000 + "]" * 5_000 + "}"), "not JSON"),
        (line(time="soon"), "time cannot be read"),
        (line(time=None), "time cannot be read"),
        (line(time=1e300), "time cannot be read"),
        (line(time="\u00b2"), "time cannot be read"),
        (line(time=[]), "time cannot be read"),
        ('{"event": "x"}', "no column is the client_timestamp"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_line_costs_itself_alone(tmp_path: Path, bad: str, said: str) -> None:
    first, second, third = rows(tmp_path, f"{line()}\n{bad}\n{line()}")
    assert isinstance(first, Row) and isinstance(third, Row)
    assert isinstance(second, BadRow)
    assert second.number == 2 and said in second.message
    assert "nonsense" not in second.message and "soon" not in second.message


def test_half_an_emoji_in_a_line_becomes_a_replacement_character(tmp_path: Path) -> None:
    """As at the door; before, it ended the whole import."""
    (event,) = events(rows(tmp_path, line(text="@").replace("@", r"\ud83d") + "\n"))
    assert event["event_metadata"] == {"text": "\ufffd"}
    (event,) = events(rows(tmp_path, line(text="@").encode().replace(b"@", b"\xff")))
    assert event["event_metadata"] == {"text": "\ufffd"}


@pytest.mark.parametrize(
    ("value", "sequence"), [("7", 7), (7, 7), ("\u00b2", 0), ("-1", 0), ("9" * 5_000, 0), (1.5, 0)]
)
def test_sequence_that_is_no_count_is_left_at_zero(tmp_path: Path, value: Any, sequence: int) -> None:
    (event,) = events(rows(tmp_path, line(sequence=value)))
    assert event["sequence"] == sequence


def test_csv_row_of_another_width_or_a_huge_cell_costs_itself_alone(tmp_path: Path) -> None:
    huge = "x" * (csv.field_size_limit() + 1)
    content = f"event,time\na,{TIME}\nb\nc,{TIME},more\n{huge},{TIME}\nd,{TIME}\n"
    found = rows(tmp_path, content, "x.csv")
    assert [row.event["event_name"] for row in found if isinstance(row, Row)] == ["a", "d"]
    assert [row.number for row in found if isinstance(row, BadRow)] == [3, 4, 5]


def test_byte_order_mark_and_blank_lines_are_left_out(tmp_path: Path) -> None:
    assert len(events(rows(tmp_path, "\ufeff" + line() + "\r\n\r\n \n" + line() + "\r\n"))) == 2
    assert len(events(rows(tmp_path, f"\ufeffevent,time\r\na,{TIME}\r\n", "x.csv"))) == 1


def test_zipped_file_is_known_by_its_content(tmp_path: Path) -> None:
    assert len(events(rows(tmp_path, gzip.compress(line().encode()), "x.jsonl"))) == 1


@pytest.mark.parametrize("keep", [5, -1, -9])
def test_zipped_file_that_breaks_off_says_so(tmp_path: Path, keep: int) -> None:
    whole = gzip.compress("\n".join(line(n=n) for n in range(2_000)).encode())
    with pytest.raises(RequestError) as refused:
        rows(tmp_path, whole[:keep], "x.jsonl.gz")
    assert "breaks off" in refused.value.message


def test_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path, "") == rows(tmp_path, "", "x.csv") == rows(tmp_path, "event,time\n", "x.csv") == []


@pytest.mark.parametrize(
    "said,consent",
    [
        ({"consent_at": r"\N", "consent_denied": "[]"}, "granted"),
        ({"consent_at": "", "consent_denied": "['statsig','gtm']"}, {"state": "granted", "denied": ["statsig", "gtm"]}),
        (
            {"consent_at": "2026-01-01T00:00:00Z", "consent_denied": []},
            {"state": "granted", "denied": [], "at": "2026-01-01T00:00:00.000+00:00"},
        ),
        ({"consent_at": "yesterday", "consent_denied": []}, None),
        ({"consent_at": "", "consent_denied": "statsig"}, None),
    ],
)
def test_consent_of_an_exported_row_is_read_as_the_engine_writes_it(tmp_path: Path, said: Any, consent: Any) -> None:
    row = dict.fromkeys(_EXPORTED, "") | {"event_name": "a", "client_timestamp": "2026-01-05T10:00:00Z"}
    row |= {"consent": "granted", "event_id": "019b8e07-4600-7000-8000-000000000084", **said}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = read_rows(path, {}, zone_of("UTC"))
    if consent is None:
        assert isinstance(found, BadRow) and "consent_at" in found.message
    else:
        assert isinstance(found, Row) and found.event["consent"] == consent
