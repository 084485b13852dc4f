"""The commands, with a service running and without: the same words, the same answers."""

import csv
import gzip
import io
import json
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import Running, start
from twintrack.sample import ECOM


def command(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twintrack", *words, "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(params=["served", "alone"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    folder = tmp_path / ("a-long-name-" * 9) / "data"  # longer than a socket's name may be
    folder.parent.mkdir()
    if request.param == "alone":
        yield folder
        return
    running: Running = start(folder)
    assert stat.S_IMODE((folder / "control.sock").stat().st_mode) == 0o600
    yield folder
    assert running.stop() == 0


def test_key_is_printed_alone_listed_and_revoked(data: Path) -> None:
    key = command(data, "keys", "create", "--role", "owner").stdout
    assert key.startswith("tt_owner_") and key.count("\n") == 1
    listed = command(data, "keys", "list").stdout
    assert "owner" in listed and key.strip() not in listed
    assert command(data, "keys", "revoke", "nonsense").returncode == 1


def test_e_commerce_file_is_imported_once_however_often(data: Path) -> None:
    first = command(data, "import", str(ECOM))
    assert "31106 rows read: 31106 new, 0 already there, 0 refused" in first.stdout, first.stderr
    again = command(data, "import", str(ECOM), "--batch-rows", "777")
    assert "0 new, 31106 already there" in again.stdout
    counted = command(data, "query", "SELECT event_name, count() FROM events GROUP BY ALL", "--format", "csv").stdout
    ours = {row[0]: int(row[1]) for row in list(csv.reader(io.StringIO(counted)))[1:]}
    with gzip.open(ECOM, "rt") as file:
        assert ours == Counter(row["event"] for row in csv.DictReader(file))
    report = json.loads(command(data, "doctor", "--json").stdout)
    assert report["ok"], report


def test_demo_brings_a_shop_into_the_demo_project_once(data: Path) -> None:
    for said in ("31106 new, 0 already there", "0 new, 31106 already there"):
        assert said in command(data, "demo").stdout
    found = command(data, "query", "SELECT DISTINCT project, environment FROM events", "--format", "csv").stdout
    assert found.split()[1:] == ['"demo","local"']


def test_json_lines_with_a_zone_and_bad_lines(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(
        '{"name":"a","time":"2024-06-01 12:00:00","user":"u","plan":"pro"}\nnot json\n{"name":"b","time":"?"}\n'
    )
    done = command(data, "import", str(file), "--time-zone", "Europe/Paris")
    assert done.returncode == 1
    assert "3 rows read: 1 new, 0 already there, 2 refused" in done.stdout
    assert "line 2: the line is not JSON" in done.stderr
    row = command(
        data, "query", "SELECT toString(event_timestamp), event_metadata.plan FROM events", "--format", "csv"
    ).stdout
    assert "2024-06-01 10:00:00.000" in row and "pro" in row


def test_export_is_whole_and_comes_back_as_nothing_new(data: Path, tmp_path: Path) -> None:
    lines = [{"name": "a", "time": f"2024-{1 + n % 2:02}-01T00:00:{n % 60:02}Z", "n": n} for n in range(300)]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert command(data, "import", str(tmp_path / "x.jsonl")).returncode == 0
    done = command(data, "export", str(tmp_path / "out"))
    assert done.stdout == "300 events in 2 files\n", done.stderr
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "out", capture_output=True, check=False)
    assert checked.returncode == 0
    for file in (tmp_path / "out").glob("*.parquet"):
        assert "150 rows read: 0 new, 150 already there" in command(data, "import", str(file)).stdout


def test_query_takes_parameters_as_values_and_its_statement_from_standard_input(data: Path) -> None:
    sql = "SELECT {name:String} AS name, {n:Int64} + 1 AS n"
    words = ("--param", "name=it's = x", "--param", "n=41", "--format", "csv")
    assert command(data, "query", sql, *words).stdout == '"name","n"\n"it\'s = x",42\n'
    piped = subprocess.run(
        [sys.executable, "-m", "twintrack", "query", "-", "--data", str(data), "--format", "json"],
        input="SELECT 1 AS one",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert json.loads(piped.stdout) == {"one": 1}, piped.stderr
    assert command(data, "query", sql, "--param", "name").returncode == 2


def test_query_that_writes_is_refused_and_says_why(data: Path) -> None:
    done = command(data, "query", "DROP TABLE events")
    assert (done.returncode, done.stdout) == (1, "")
    assert "only SELECT is allowed" in done.stderr


def test_settings_faults_are_told_at_once(tmp_path: Path) -> None:
    import os

    done = subprocess.run(
        [sys.executable, "-m", "twintrack", "doctor", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TWINTRACK_PORT": "x", "TWINTRACK_CHUNK_ROWS": "-1"},
        timeout=60,
        check=False,
    )
    assert "TWINTRACK_PORT" in done.stderr and "TWINTRACK_CHUNK_ROWS" in done.stderr


def test_demo_refuses_to_bind_beyond_loopback(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--demo", "--host", "0.0.0.0")
    assert done.returncode == 1 and "loopback" in done.stderr
