"""`twintrack erase` and `export-user`, with a service running and without."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import start
from tests.privacy.kit import erase, served
from twintrack.testing import wire_event


def command(data: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twintrack", *words, "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        input=said,
    )


@pytest.fixture(params=["served", "alone"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    folder = tmp_path / "data"
    if request.param == "alone":
        yield folder
        return
    running = start(folder)
    yield folder
    assert running.stop() == 0


def test_person_is_exported_then_erased_and_the_certificate_checked(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "two.jsonl"
    rows = [wire_event(user_id=user) for user in ("ann", "bob")]
    file.write_text(
        "".join(json.dumps({k: row[k] for k in ("event_name", "user_id", "client_timestamp")}) + "\n" for row in rows)
    )
    assert "2 new" in command(data, "import", str(file)).stdout
    archive = tmp_path / "ann.zip"
    done = command(data, "export-user", str(archive), said="ann\n")
    assert done.returncode == 0, done.stderr
    assert oct(archive.stat().st_mode & 0o777) == "0o600"
    assert [row["user_id"] for row in json.loads(zipfile.ZipFile(archive).read("events.json"))] == ["ann"]
    assert command(data, "export-user", str(archive), "--user-id", "ann").returncode == 1  # never over another file

    certificate = tmp_path / "certificate.json"
    done = command(data, "erase", "--certificate", str(certificate), said="ann\n")
    assert done.returncode == 0, done.stderr
    assert "store/events" in done.stdout and "gtm: pending" in done.stdout and "ann" not in done.stdout + done.stderr
    left = command(data, "query", "SELECT user_id FROM events", "--format", "csv").stdout.split()
    assert left == ['"user_id"', '"bob"']
    assert command(data, "erase", "--verify", str(certificate)).returncode == 0
    document = json.loads(certificate.read_text())
    told = command(data, "erase", "--status", document["request"])
    assert told.returncode == 0 and "done" in told.stderr
    certificate.write_text(json.dumps({**document, "removed_rows": {"store/events": 99}}))
    refused = command(data, "erase", "--verify", str(certificate))
    assert refused.returncode == 1 and "NOT genuine" in refused.stdout
    assert "0 new" in command(data, "import", str(file)).stdout  # the same file again brings nobody back


def test_erase_that_names_nobody_says_what_to_do(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "erase", said="\n")
    assert done.returncode == 1 and "identifier" in done.stderr


def test_certificate_and_terminal_say_where_nothing_of_the_person_was_found(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with served(folder) as service:
        service.send([wire_event(user_id="ann")])
        nobody, ann = erase(service, user_id="nobody"), erase(service, user_id="ann")
        assert nobody.certificate is not None and nobody.certificate["nothing_found"] is True
        assert ann.certificate is not None and ann.certificate["nothing_found"] is False
    words = ("Nothing of this person was found in project demo", "")
    for request, said in ((nobody, words[0]), (ann, words[1])):
        told = command(folder, "erase", "--status", request.id)
        assert told.returncode == 0 and ("Nothing" in told.stderr) is bool(said) and said in told.stderr
    told = command(folder, "export-user", str(tmp_path / "ann.zip"), "--user-id", "ann", "--project", "demo")
    assert told.returncode == 0 and words[0] in told.stderr
    refused = command(folder, "erase", "--user-id", "ann")  # of project `default`
    assert refused.returncode == 1 and "there are: demo" in refused.stderr
