"""What is recorded of a running service: every read of data and every change, and nothing is shown without a record."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, running
from tests.e2e.conftest import start
from tests.privacy.test_audit import entries, no_room_beyond, whole
from twintrack.commands import command_app
from twintrack.control.control import Control
from twintrack.privacy import chain
from twintrack.privacy.audit import Audit
from twintrack.privacy.chain import Entry
from twintrack.privacy.started import record_start, record_stop
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, wire_event


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("audited") / "data") as opened:
        yield opened


@pytest.fixture
def one(shared: Service) -> Service:
    return shared.elsewhere()


def folder_of(service: Service) -> Path:
    return service.services.audit.folder


def last(service: Service, what: str) -> Entry:
    return [entry for entry in entries(folder_of(service)) if entry.what == what][-1]


def control_of(folder: Path) -> Control:
    return Control(f"sqlite:///{folder / 'control.db'}", ManualClock())


def commands(service: Service, *requests: tuple[str, str, Any]) -> list[httpx.Response]:
    """The answers of the one control application that a command speaks with."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=command_app(service.services))
        async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
            return [await client.request(method, path, json=body) for method, path, body in requests]

    return asyncio.run(ask())


def command(service: Service, method: str, path: str, body: Any) -> httpx.Response:
    return commands(service, (method, path, body))[0]


def test_sql_is_recorded_with_its_rows_and_without_its_values(one: Service) -> None:
    event = wire_event(user_id="ann")
    one.send([event])
    one.settle()
    assert one.sql(
        "SELECT event_name FROM events WHERE user_id = 'ann' OR user_id = {other:String}", other="bob"
    ).json()
    entry = last(one, "sql")
    assert (entry.rows, entry.outcome, entry.role) == (1, "done", "owner")
    assert entry.detail["sql"] == "SELECT event_name FROM events WHERE user_id = ? OR user_id = { other : String }"
    assert entry.where == "::ffff:127.0.0.0"


def test_sql_that_is_refused_is_recorded_too(one: Service) -> None:
    assert one.sql("SELECT * FROM file('secret.csv')", one.read_key).status_code == 400
    assert (last(one, "sql").outcome, last(one, "sql").role) == ("sql_refused", "read")


def test_event_look_up_is_recorded_by_its_id_and_other_words_are_not(one: Service) -> None:
    event = wire_event()
    one.send([event])
    one.settle()
    one.fate(event["event_id"])
    assert last(one, "event.read").detail == {"event_id": event["event_id"]}
    assert last(one, "event.read").rows == 1
    one.get("/api/analytics/events/ann@example.com")
    assert (last(one, "event.read").detail, last(one, "event.read").outcome != "done") == ({}, True)


def test_live_view_is_recorded_once_a_minute(one: Service) -> None:
    before = len(entries(folder_of(one)))
    for _ in range(5):
        assert one.get("/api/analytics/live").status_code == 200
    assert [entry.what for entry in entries(folder_of(one))[before:]] == ["live.read"]


def test_sums_are_recorded(one: Service) -> None:
    for path, what in (("activity", "activity.read"), ("pipeline", "pipeline.read")):
        assert one.get(f"/api/analytics/{path}").status_code == 200
        assert last(one, what).role == "owner"


def test_sign_in_and_out_are_recorded_and_refused_ones_too(one: Service) -> None:
    answer = one.request("POST", "/api/session", json={"key": one.owner_key})
    assert last(one, "session.open").outcome == "done"
    cookie = answer.headers["set-cookie"].partition(";")[0]
    one.request("DELETE", "/api/session", headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})
    assert last(one, "session.close").who == last(one, "session.open").who
    one.request("POST", "/api/session", json={"key": one.read_key})
    assert last(one, "session.open").outcome == "wrong_role"
    one.request("POST", "/api/session", json={"key": "tt_owner_unknown"})
    assert (last(one, "session.open").outcome, last(one, "session.open").role) == ("unknown_key", "nobody")


def test_commands_are_recorded_as_the_operators(one: Service) -> None:
    tenancy = {"project": "shop", "environment": "local"}
    key = command(one, "POST", "/keys", {"role": "read", **tenancy}).json()["key"]
    made = one.services.control.principal(key)
    assert made is not None
    assert (last(one, "key.create").detail, last(one, "key.create").project) == (
        {"role": "read", "key": made.key_id},
        "shop",
    )
    command(one, "POST", "/rollouts", {**tenancy, "changes": {"share": 0.5}})
    assert json.loads(str(last(one, "rollout.change").detail["rollout"]))["share"] == 0.5
    command(one, "POST", "/keys/revoke", {"id": made.key_id})
    command(one, "POST", "/keys/revoke", {"id": made.key_id + "gone"})
    assert [e.outcome for e in entries(folder_of(one)) if e.what == "key.revoke"] == [
        "begun", "done", "begun", "unknown_key",
    ]  # fmt: skip
    command(one, "POST", "/query", {"sql": "SELECT 12345", "format": "csv"})
    assert (last(one, "sql.file").who, last(one, "sql.file").detail["sql"]) == ("operator", "SELECT ?")
    command(one, "POST", "/replay", {"event_id": None})
    command(one, "POST", "/rollup", {"months": [202601]})
    for what in ("key.create", "replay", "rollup.rebuild"):
        assert (last(one, what).role, last(one, what).where) == ("operator", "socket")
    assert key not in "".join(file.read_text() for file in chain.files(folder_of(one)))


def test_import_is_recorded_at_its_beginning_and_with_its_rows(one: Service) -> None:
    row = {"milliseconds": 1_767_225_600_000, "occurrence": 0, "event": {"event_name": "x", "anonymous_id": "a"}}
    batch = {"import_id": "i1", "project": "shop", "environment": "local", "rows": [row]}
    rows = ("POST", "/import", batch)
    *_, finished = commands(one, rows, rows, ("POST", "/import/finish", {"import_id": "i1"}))
    assert finished.json()["done"]
    told = [(e.outcome, e.rows, e.project) for e in entries(folder_of(one)) if e.what == "import"]
    assert told == [("begun", None, "shop"), ("done", 1, "shop")]


def test_nothing_is_shown_or_changed_while_the_log_cannot_be_written(one: Service) -> None:
    room = max(file.stat().st_size for file in chain.files(folder_of(one)))
    keys = len(one.services.control.list_keys())
    asked = (
        lambda: one.sql("SELECT 1"),
        lambda: one.get("/api/analytics/live"),
        lambda: one.request("POST", "/api/session", json={"key": one.owner_key}),
        lambda: command(one, "POST", "/query", {"sql": "SELECT 1", "format": "csv"}),
        lambda: command(one, "POST", "/keys", {"role": "read", "project": "shop", "environment": "local"}),
    )
    for ask in asked:
        with no_room_beyond(room):
            answer = ask()
        assert answer.status_code == 503, answer.text
        assert answer.json()["error"]["code"] == "audit_unavailable"
    assert len(one.services.control.list_keys()) == keys
    with no_room_beyond(room):
        assert one.get("/api/analytics/activity").status_code == 200  # sums alone
    assert one.sql("SELECT 1").status_code == 200
    whole(folder_of(one))


def test_log_is_shown_to_roles_that_have_it_and_for_their_project_alone(one: Service, shared: Service) -> None:
    one.sql("SELECT 'mine'")
    shared.sql("SELECT 'theirs'")
    answer = one.get("/api/analytics/audit?what=sql").json()
    (mine,) = {principal.tenancy.project for principal in [one.services.control.principal(one.owner_key)] if principal}
    assert [record["project"] for record in answer["records"]] == [mine] != ["demo"]
    assert answer["head"]["hash"]
    assert one.get("/api/analytics/audit", one.read_key).status_code == 403
    for number in range(5):
        one.sql(f"SELECT {number}")
    page = one.get("/api/analytics/audit?what=sql&limit=4").json()
    rest = one.get(f"/api/analytics/audit?what=sql&limit=4&before={page['next']}").json()
    assert [len(page["records"]), len(rest["records"]), rest["next"]] == [4, 2, None]


def test_metrics_publish_the_head_that_verify_takes(one: Service) -> None:
    one.sql("SELECT 1")
    text = one.request("GET", "/metrics").text
    told = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("twintrack_audit")}
    published = f"{int(told['twintrack_audit_sequence'])}:{told['twintrack_audit_head_number']}"
    assert chain.verify(folder_of(one), published).fault is None


def test_start_records_which_settings_differ_and_no_secret(tmp_path: Path) -> None:
    audit, control = Audit(tmp_path / "audit", ManualClock()), control_of(tmp_path)
    for more in (
        {},
        {},
        {"session_days": 3, "jwt_secret": "hunter2-hunter2", "store": "https://me:sesame@host:8443"},
        {"session_days": 3, "jwt_secret": "hunter3-hunter3", "store": "https://me:sesame@host:8443"},
    ):
        record_start(audit, control, load_settings(data=tmp_path, **more), "7")
    record_start(audit, control, load_settings(data=tmp_path, session_days=3), "8+own")
    record_stop(audit, control)
    told = [(e.what, e.detail.get("setting"), e.detail.get("from"), e.detail.get("to")) for e in entries(audit.folder)]
    assert [each for each in told if each[0] == "settings.change"] == [
        ("settings.change", "jwt_secret", None, None), ("settings.change", "session_days", "14", "3"),
        ("settings.change", "store", None, None), ("settings.change", "jwt_secret", None, None),
        ("settings.change", "jwt_secret", None, None), ("settings.change", "masking_version", "7", "8+own"),
        ("settings.change", "store", None, None),
    ]  # fmt: skip
    assert [each[0] for each in told].count("service.start") == 5 and told[-1][0] == "service.stop"
    kept = b"".join(file.read_bytes() for file in audit.folder.iterdir())
    assert b"hunter" not in kept and b"sesame" not in kept
    audit.close()
    control.close()


@pytest.mark.parametrize("how", ["cut", "emptied", "whole"])
def test_start_behind_a_cut_tail_says_so(tmp_path: Path, how: str) -> None:
    """The control data know how far the chain had come when the service stopped."""
    folder = tmp_path / "audit"
    audit, control = Audit(folder, ManualClock()), control_of(tmp_path)
    for _ in range(3):
        record_start(audit, control, load_settings(data=tmp_path), "7")
    record_stop(audit, control)
    audit.close()
    (file,) = chain.files(folder)
    if how == "cut":
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    elif how == "emptied":
        file.unlink()
    audit = Audit(folder, ManualClock())
    record_start(audit, control, load_settings(data=tmp_path), "7")
    told = [(e.detail["kept"], e.detail["found"]) for e in entries(folder) if e.what == "audit.cut"]
    assert told == {"cut": [(4, 2)], "emptied": [(4, 0)], "whole": []}[how]
    assert chain.verify(folder).fault is None
    audit.close()
    control.close()


def test_verify_command_works_on_a_live_folder_and_on_one_at_rest(tmp_path: Path) -> None:
    live = start(tmp_path / "data")
    try:
        live.command("keys", "create", "--role", "read")
        words = live.command("audit", "verify").split()
        assert words[1:4] == ["records", "are", "whole"]
        assert '"what": "key.create"' in live.command("audit", "show", "--json", "--what", "key.", "--since", "2026")
        assert live.command("audit", "show", "--since", "2999") == ""
    finally:
        assert live.stop() == 0
    head = words[-1]
    assert live.command("audit", "verify", "--head", head)
    (file,) = chain.files(tmp_path / "data" / "audit")
    file.write_bytes(file.read_bytes().replace(b'"read"', b'"owner"', 1))
    done = subprocess.run(
        [sys.executable, "-m", "twintrack", "audit", "verify", "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert done.stdout.startswith("record ") and "was altered" in done.stdout


def test_names_that_people_give_stand_in_no_record(service: Service) -> None:
    """The log is never changed, so nothing that may name a person goes in: not the name of a query, nor of a cohort."""
    head = {"Authorization": f"Bearer {service.owner_key}"}
    for method in ("PUT", "POST", "DELETE"):
        body = {"PUT": {"sql": "SELECT count() FROM events"}, "POST": {}, "DELETE": None}[method]
        done = service.request(method, "/api/analytics/saved/of-marker-ann", json=body, headers=head)
        assert done.status_code < 300, done.text
    cohort = {"name": "marker-ann", "definition": {"persons": ["marker-ann"]}}
    assert service.request("PUT", "/api/analytics/cohorts", json=cohort, headers=head).status_code == 200
    written = b"".join(
        path.read_bytes() for path in (service.services.settings.data / "audit").rglob("*") if path.is_file()
    )
    assert b"saved.put" in written and b"cohort.put" in written
    assert b"marker-ann" not in written
