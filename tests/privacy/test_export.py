"""Everything that is held about a person, and of nobody else."""

import csv
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from tests.conftest import Service, running
from tests.privacy.kit import ask
from tests.privacy.test_audited import command
from twintrack.privacy.export import Exporter
from twintrack.testing import wire_event


def exported(service: Service, **subject: Any) -> zipfile.ZipFile:
    answer = ask(service, "POST", "exports", subject)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip" and answer.headers["cache-control"] == "no-store"
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_export_holds_every_row_of_the_person_and_a_manifest_that_fits(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        first = wire_event(user_id="ann", anonymous_id="a-1", event_metadata={"deep": [{"x": 1}]}, message_content="hi")
        receipt = {"event_id": first["event_id"], "vendor": "gtm", "status": "handed", "at": first["client_timestamp"]}
        service.send({"events": [first], "receipts": [receipt]})
        theirs = wire_event(user_id="bob", anonymous_id="browser-of-bob")
        service.send([wire_event(user_id=None, anonymous_id="a-1"), theirs])
        service.settle()
        service.make_the_store_refuse_text_values()
        refused = wire_event(user_id="ann", event_value="text")
        service.send([refused])
        archive = exported(service, user_id="ann")
    manifest = json.loads(archive.read("manifest.json"))
    events = json.loads(archive.read("events.json"))
    assert sorted((row["user_id"], row["anonymous_id"]) for row in events) == [("", "a-1"), ("ann", "a-1")]
    whole = next(row for row in events if row["event_id"] == first["event_id"])
    assert whole["message_content"] == "hi" and whole["event_metadata"] == {"deep": [{"x": 1}]}
    rows = list(csv.DictReader(io.StringIO(archive.read("events.csv").decode())))
    assert [row["event_id"] for row in rows] == [row["event_id"] for row in events]
    assert [row["event_id"] for row in json.loads(archive.read("receipts.json"))] == [first["event_id"]]
    (waiting,) = json.loads(archive.read("spool.json"))
    assert (waiting["state"], waiting["event_id"]) == ("quarantined", refused["event_id"])
    assert {row["user_id"] for row in json.loads(archive.read("identities.json"))} == {"ann"}
    for file in manifest["files"]:
        content = archive.read(file["name"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert {file["name"] for file in manifest["files"]} == set(archive.namelist()) - {"manifest.json"}
    assert manifest["spool"] == {"drained_first": True, "rows_on_their_way_or_in_quarantine": 1}
    assert {"events", "receipts", "identities", "events_daily"} == {one["table"] for one in manifest["looked_at"]}
    assert manifest["anonymous_ids"] == [{"environment": "local", "anonymous_id": "a-1"}]
    assert b"browser-of-bob" not in b"".join(archive.read(name) for name in archive.namelist())


def test_export_of_somebody_unknown_is_empty_and_needs_the_role(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.send([wire_event(user_id="ann")])
        archive = exported(service, user_id="o'brien\\' OR 1 --")
        assert json.loads(archive.read("events.json")) == []
        assert archive.read("events.csv").decode().startswith("chunk_id,project,")
        nobody, ann = (json.loads(found.read("manifest.json")) for found in (archive, exported(service, user_id="ann")))
        assert (nobody["nothing_found"], nobody["rows"], ann["nothing_found"]) == (True, 0, False)
        assert ann["rows"] == sum(file["rows"] for file in ann["files"] if file["name"].endswith(".json")) > 0
        assert ask(service, "POST", "exports", {"user_id": "ann"}, service.read_key).status_code == 403


def test_large_export_lies_in_the_data_folder_without_a_name(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.send([wire_event(user_id="ann")])
        s = service.services
        made = Exporter(s.control, s.spool, s.store, s.clock, s.settings.data, in_memory_bytes=1)
        with made.export("demo", "ann", None).file as file:
            lies = os.readlink(f"/proc/self/fd/{file.fileno()}")
            assert Path(lies).is_relative_to(s.settings.data) and lies.endswith("(deleted)")


def test_project_that_is_not_here_is_refused_and_not_made(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.services.control.ensure_project("shop")
        for path in ("/exports", "/erasures"):
            answer = command(service, "POST", path, {"project": "shpo", "user_id": "ann", "anonymous_id": None})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["hint"]) == (
                404,
                "unknown_project",
                "there are: demo, shop",
            )
        assert service.services.control.list_projects() == ["demo", "shop"]
