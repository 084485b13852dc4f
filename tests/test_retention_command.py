"""`twintrack retention` and imports under a rule: with a service running and without."""

import hashlib
import json
from pathlib import Path

from tests.e2e.conftest import start
from tests.load.test_expiry import until
from tests.test_commands import command, data

__all__ = ["data"]
OLD, YOUNG = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


def rows_of(folder: Path) -> Path:
    file = folder.parent / "rows.jsonl"
    lines = [{"event": "buy", "time": "2026-11-01T00:00:00Z", "n": n} for n in range(3)]
    lines += [{"event": name, "time": OLD, "n": n} for n in range(4) for name in ("buy", "move")]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def test_rule_is_set_shown_and_taken_away(data: Path) -> None:
    command(data, "keys", "create", "--role", "owner")
    nothing = command(data, "retention", "show")
    assert nothing.returncode == 0 and "Nothing expires" in nothing.stderr
    done = command(data, "retention", "set", "--days", "90")
    assert done.returncode == 0 and "every other event, the whole row: 90 days" in done.stdout, done.stderr
    command(data, "retention", "set", "--days", "forever", "--event", "buy")
    command(data, "retention", "set", "--days", "7", "--field", "message")
    shown = command(data, "retention", "show", "--project", "default").stdout
    assert "buy, the whole row: forever" in shown and "every other event, message: 7 days" in shown
    command(data, "retention", "off", "--field", "message")
    assert "message" not in command(data, "retention", "show").stdout
    for words in (["set", "--days", "soon"], ["set", "--days", "0"], ["off", "--event", "nothing"]):
        refused = command(data, "retention", *words)
        assert refused.returncode == 1 and refused.stderr.startswith("error: "), words
    unknown = command(data, "retention", "set", "--days", "5", "--project", "nowhere")
    assert unknown.returncode == 1 and "no project nowhere" in unknown.stderr


def test_import_of_rows_past_their_deadline_says_how_many_and_does_as_told(data: Path) -> None:
    command(data, "keys", "create", "--role", "owner")
    command(data, "retention", "set", "--days", "3650")
    command(data, "retention", "set", "--days", "30", "--event", "move")
    command(data, "retention", "set", "--days", "365", "--event", "buy")
    file = rows_of(data)
    asked = command(data, "import", str(file))
    assert asked.returncode == 1
    assert "8 rows are past the retention of project default" in asked.stderr
    assert "--keep" in asked.stderr and "--drop-expired" in asked.stderr
    dropped = command(data, "import", str(file), "--drop-expired")
    assert dropped.stdout == "11 rows read: 3 new, 0 already there, 0 refused, 8 expired\n", dropped.stderr
    kept = command(data, "import", str(file), "--keep")
    assert kept.stdout == "11 rows read: 8 new, 3 already there, 0 refused\n", kept.stderr
    asked_for = "SELECT count() FROM events WHERE expires_at > now() + toIntervalDay(29) AND date = '2020-01-01'"
    counted = command(data, "query", asked_for, "--format", "csv").stdout
    assert counted.split() == ['"count()"', "8"]
    report = json.loads(command(data, "doctor", "--json").stdout)
    assert report["ok"], report


def test_import_of_a_folder_brings_nothing_in_where_its_second_file_has_rows_past_their_deadline(data: Path) -> None:
    command(data, "keys", "create", "--role", "owner")
    command(data, "retention", "set", "--days", "30")
    folder = data.parent / "exported"
    folder.mkdir()
    manifest = []
    for name, moment in (("1.jsonl", YOUNG), ("2.jsonl", OLD)):
        (folder / name).write_text(json.dumps({"event": "buy", "time": moment}))
        manifest.append({"name": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()})
    (folder / "manifest.json").write_text(json.dumps({"files": manifest}))
    asked = command(data, "import", str(folder))
    assert asked.returncode == 1 and "1 rows are past the retention of project default; nothing" in asked.stderr
    rows = command(data, "query", "SELECT count() AS n FROM events", "--format", "csv")
    assert rows.stdout.split() == ['"n"', "0"], rows.stderr
    dropped = command(data, "import", str(folder), "--drop-expired")
    assert "1 rows read: 1 new" in dropped.stdout and "0 refused, 1 expired" in dropped.stdout, dropped.stderr


def test_import_without_a_rule_asks_for_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    assert command(folder, "import", str(rows_of(folder))).stdout.startswith("11 rows read: 11 new")


def test_kill_dash_nine_while_rows_expire_ends_with_each_of_them_gone_once(tmp_path: Path) -> None:
    """The balance says it: what is counted as expired is what the store lacks."""
    folder, file = tmp_path / "data", tmp_path / "many.jsonl"
    lines = [{"event": "move", "time": f"2020-{m:02}-03T00:00:00Z", "n": n} for n in range(300) for m in range(1, 7)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    assert "1800 new" in command(folder, "import", str(file)).stdout
    served = start(folder)

    def expired() -> int:
        return int(served.command("retention", "show").split()[1].replace(",", ""))

    served.command("retention", "set", "--days", "30")
    for least in (0, 1, 900):  # before anything has gone, at the first month, in the middle
        until(lambda least=least: expired() >= least)
        served.process.kill()
        served.process.wait()
        served = start(folder)
    try:
        until(lambda: expired() == 1800)
        until(lambda: json.loads(served.command("doctor", "--json"))["ok"])
        counted = served.command("query", "SELECT count() FROM events", "--format", "csv").split()
        assert counted == ['"count()"', "0"]
    finally:
        assert served.stop() == 0
