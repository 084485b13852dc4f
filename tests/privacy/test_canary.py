"""A person is planted in every field by every way in, is found in every place, is erased, and is found nowhere.

In between the service is killed and the machine comes up again; a backup from before is restored behind it. The test
prints the table field x place. Logs are read too: they have a line for each batch, and never had a field of one.
Sealed texts have a table of their own: their bytes may lie anywhere, and what must be gone is what opens them.
"""

import base64
import gzip
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.backup.test_backup import back_up
from tests.conftest import open_service
from tests.e2e.conftest import Running, start
from tests.faults.test_wire import until
from tests.privacy.canary import BACKUP, FIELDS, KEY_PLACES, PERSON, Looked, look, marked, plain, table, unlock
from tests.privacy.kit import erase, served
from tests.test_commands import command
from twintrack.auth import Role
from twintrack.backup.person_keys import read_keys, write_keys
from twintrack.clock import iso
from twintrack.control.person_keys import Kept
from twintrack.pii import pseudonym
from twintrack.sealed_text import COLUMNS
from twintrack.testing import wire_event

BEFORE_RULE, BEHIND_RULE = ("json", "gzip", "plain", "identify", "import"), ("ruled", "alone")
WAYS = (*BEFORE_RULE, *BEHIND_RULE, "refused", "frozen", "logged")
EVERYWHERE = set(FIELDS) - {"agent", "person", "pseudonym", "id"}
# Where a field must have been found, else the search proves nothing.
EXPECTED = {
    "active log": EVERYWHERE | {"id", "pseudonym"},
    "frozen chunk": EVERYWHERE | {"id", "pseudonym"},
    "grace chunk": EVERYWHERE | {"agent", "id", "person", "pseudonym"},
    "quarantine": EVERYWHERE | {"id", "pseudonym"},
    "raw": EVERYWHERE | {"agent", "id", "person", "pseudonym"},
    "events_hourly": {"name"},
    "events_daily": {"name", "session", "person", "pseudonym"},
    "identities": {"anonymous", "person", "pseudonym"},
    "receipts": {"id"},
    "control": {"person", "pseudonym"},
    "backup": EVERYWHERE | {"agent", "id", "person", "pseudonym"},
}
# What is sealed below; the rest of an event joins, counts or erases.
SEALED = {"value", "meta", "nested", "message", "url", "path", "title", "referrer"}


def test_sealed_text_of_a_person_is_opened_by_no_key_anywhere_after_the_erasure(tmp_path: Path) -> None:
    data, older, newer = tmp_path / "in" / "data", tmp_path / "older", tmp_path / "newer"
    fields = ",".join([*COLUMNS, "event_metadata.note", "event_metadata.deep"])
    key = base64.b64encode(os.urandom(32)).decode()
    ways, theirs = ("user", "browser"), "bystander"
    with served(data, encryption_key=key, sealed_fields=fields) as service:
        keys, ring, clock = service.services.person_keys, service.services.settings.key_ring, service.services.clock
        assert keys is not None and ring is not None
        tables = plain(service)
        events = []
        for way, user, anonymous in (("user", PERSON, "b"), ("browser", None, "b"), (theirs, "bob", "other")):
            noted = {"note": f"zqxmetaby{way}", "deep": [{"in": f"zqxnestedby{way}"}]}
            events.append(marked(way, user_id=user, anonymous_id=anonymous, event_metadata=noted))
        service.send(events)
        everything = f"SELECT {', '.join(COLUMNS)}, event_metadata FROM analytics.events"
        tokens = re.findall(r"tt-sealed:[\w+/=]+", json.dumps(service.rows(everything)))
        assert len(tokens) == len(events) * len(SEALED)
        bytes_of = look(data, tables, ways, "no pseudonym", {})
        shown = {field for (field, _), found in bytes_of.found.items() if found}
        assert "source" in shown and not SEALED & shown, shown

        def kept_in(file: Path) -> list[Kept]:
            write_keys(file, keys, ring, clock.milliseconds())
            return read_keys(file, ring, clock.milliseconds(), 30)

        before, after, others = Looked(), Looked(), Looked()
        old = kept_in(older)
        for place, there in zip(KEY_PLACES, (keys.all(), old, old), strict=True):
            unlock(before, place, there, tokens, ways)
        erase(service, user_id=PERSON)
        unlock(after, KEY_PLACES[0], keys.all(), tokens, ways)
        unlock(after, KEY_PLACES[1], kept_in(newer), tokens, ways)
        assert keys.add(old) == len(ways)  # as a restore brings them, and goes on with them
        keys.destroy_erased("demo")
        unlock(after, KEY_PLACES[2], keys.all(), tokens, ways)
        unlock(others, KEY_PLACES[0], keys.all(), tokens, [theirs])
    print("\n" + table(before, after, KEY_PLACES))
    assert {cell for cell, found in before.found.items() if found == set(ways)} == {
        (field, place) for field in SEALED for place in KEY_PLACES
    }
    left = {" in ".join(cell): sorted(found) for cell, found in after.found.items() if found}
    assert left == {}, left
    assert {field for (field, _), found in others.found.items() if found} == SEALED


def test_person_planted_everywhere_is_found_nowhere_after_the_erasure(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = open_service(data)
    tables = plain(made)
    write, server = (made.services.control.create_key(role, "shop", "live") for role in (Role.WRITE, Role.SERVER))
    owner = made.services.control.create_key(Role.OWNER, "shop", "live")
    form = pseudonym(PERSON, made.services.control.project("shop").secret)
    made.services.close()
    ids: dict[str, str] = {}
    others: list[str] = []

    running = start(data, TWINTRACK_MASKING="false", TWINTRACK_BOOT="first")  # no rule knows the person's id yet
    plant_before_the_rule(running, write, server, ids, others, tmp_path)
    assert running.stop() == 0
    running = start(data, TWINTRACK_BOOT="first")
    with httpx.Client(base_url=running.address, headers={"X-Write-Key": write}) as client:
        post(client, [remember(ids, "ruled", marked("ruled"))], others)
        alone = marked("alone", user_id=None, anonymous_id="zqxanonymousbyruled")
        post(client, [remember(ids, "alone", alone)], others)
        receipt = {"event_id": ids["ruled"], "vendor": "gtm", "status": "handed", "at": iso_now()}
        assert client.post("/api/analytics/events", json={"receipts": [receipt]}).status_code == 200
    drained(running, owner)
    assert running.stop() == 0

    backups = tmp_path / BACKUP
    request = plant_on_the_way(data, write, owner, ids, others, backups / "made")
    backed_up = len(others)
    before = look(data, tables, WAYS, form, ids)
    for place, fields in EXPECTED.items():
        missing = {field for field in fields if not before[field, place]}
        assert not missing, f"never found in {place}: {missing}"
    assert b'"event":"batch"' in (tmp_path / "serve.log").read_bytes()

    running = start(data, TWINTRACK_BOOT="second")  # goes on by itself, and is killed in the middle
    path = f"/api/analytics/privacy/erasures/{request}"
    with httpx.Client(base_url=running.address, headers={"Authorization": f"Bearer {owner}"}) as client:
        until(lambda: client.get(path).json()["state"] == "spool_done", 120)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(30)
    running = start(data, TWINTRACK_BOOT="third")
    try:
        with httpx.Client(base_url=running.address, headers={"Authorization": f"Bearer {owner}"}) as client:
            until(lambda: client.get(path).json()["state"] == "done", 120)
            told = client.get(path).json()
        running.command("backup", "--rights", "--to", str(tmp_path / "rights.json"))
        words = ["restore", "--from", str(backups / "made"), "--rights", str(tmp_path / "rights.json")]
        restored = command(backups / "restored", *words)
        assert restored.returncode == 0, restored.stderr
        shutil.rmtree(backups / "made")  # what was made before keeps what it had; what is made of it must not
        after = look(data, tables, WAYS, form, ids)
        print("\n" + table(before, after))
        left = {" in ".join(cell): sorted(ways) for cell, ways in after.found.items() if ways}
        assert left == {}, left
        removed = told["removed"]
        rows = command(backups / "restored", "query", "SELECT count() AS n FROM events", "--format", "csv").stdout
        assert rows.split()[-1] == str(backed_up), rows
        assert removed["store/events"] == len(WAYS) - 2, removed
        assert removed["spool/quarantined"] == removed["spool/log"] == removed["store/receipts"] == 1, removed
        assert stays_out(running, write, others)
        counted(running, owner, others)
    finally:
        assert running.stop() == 0


def remember(ids: dict[str, str], way: str, event: dict[str, Any]) -> dict[str, Any]:
    ids[way] = event["event_id"]
    return event


def bystander(others: list[str], **fields: Any) -> dict[str, Any]:
    event = wire_event(**{"user_id": "bob", "anonymous_id": "shared", "event_value": "1", **fields})
    others.append(event["event_id"])
    return event


def iso_now() -> str:
    return str(wire_event()["client_timestamp"])


def post(client: httpx.Client, events: list[dict[str, Any]], others: list[str]) -> None:
    """Each with somebody else beside them, who must stay."""
    body = [*events, bystander(others)]
    answer = client.post("/api/analytics/events", json=body)
    assert answer.status_code == 200 and answer.json()["accepted"] == len(body), answer.text


def plant_before_the_rule(
    running: Running, write: str, server: str, ids: dict[str, str], others: list[str], folder: Path
) -> None:
    path = "/api/analytics/events"
    with httpx.Client(base_url=running.address, headers={"X-Write-Key": write}) as client:
        # Who shares a browser with the person and was linked first keeps what is theirs.
        post(client, [bystander(others)], others)
        agent = {"User-Agent": "zqxagentbyjson"}
        answer = client.post(path, json=[remember(ids, "json", marked("json"))], headers=agent)
        assert answer.json()["accepted"] == 1
        zipped = gzip.compress(json.dumps([remember(ids, "gzip", marked("gzip"))]).encode())
        answer = client.post(path, content=zipped, headers={"Content-Encoding": "gzip"})
        assert answer.json()["accepted"] == 1
        post(client, [remember(ids, "identify", marked("identify", event_name="identify"))], others)
    with httpx.Client(base_url=running.address) as client:
        body = json.dumps({"key": server, "events": [remember(ids, "plain", marked("plain"))]})
        answer = client.post(path, content=body, headers={"Content-Type": "text/plain"})
        assert answer.json()["accepted"] == 1
    row = {name: value for name, value in marked("import").items() if name not in ("event_id", "context", "source")}
    metadata = row.pop("event_metadata")
    file = folder.parent / f"{folder.name}-import.jsonl"
    file.write_text(json.dumps({**row, "client_timestamp": iso_now(), "zqxkeybyimport": metadata["zqxkeybyimport"]}))
    try:
        assert "1 new" in running.command("import", str(file), "--project", "shop", "--environment", "live")
    finally:
        file.unlink()


def plant_on_the_way(data: Path, write: str, owner: str, ids: dict[str, str], others: list[str], backup: Path) -> str:
    """One event stands in quarantine, one in a frozen chunk, one in the log, when a backup is made and the erasure
    is asked for."""
    service = open_service(data, boot="first")
    service.write_key, service.owner_key = write, owner
    try:
        service.make_the_store_refuse_text_values()
        service.send([remember(ids, "refused", marked("refused")), bystander(others)])
        service.settle()
        service.services.store.command("ALTER TABLE analytics.events DROP CONSTRAINT only_numbers")
        service.services.loader.stop()
        service.send([remember(ids, "frozen", marked("frozen")), bystander(others)])
        assert service.services.spool.freeze()
        service.send([remember(ids, "logged", marked("logged")), bystander(others)])
        backup.parent.mkdir()
        back_up(service, backup)
        answer = service.request(
            "POST",
            "/api/analytics/privacy/erasures",
            json={"user_id": PERSON},
            headers={"Authorization": f"Bearer {owner}"},
        )
        assert answer.status_code == 202 and PERSON not in answer.text
        request: str = answer.json()["id"]
        return request
    finally:
        service.services.close()


def drained(running: Running, owner: str) -> None:
    with httpx.Client(base_url=running.address, headers={"Authorization": f"Bearer {owner}"}) as client:
        until(lambda: client.get("/api/analytics/pipeline").json()["in_spool"] == 0)


def stays_out(running: Running, write: str, others: list[str]) -> bool:
    """A late offline event of the person is refused, also by the anonymous id alone; a new one is not."""
    late = iso(int(uuid_time(others[0])))
    events = [
        marked("late", client_timestamp=late, event_value="1"),
        marked("lone", client_timestamp=late, user_id=None, anonymous_id="zqxanonymousbyjson"),
        marked("agreed", consent={"state": "granted", "at": late}),
        wire_event(user_id=PERSON, consent={"state": "granted", "at": iso_now()}, anonymous_id="new", event_value="1"),
        bystander(others, client_timestamp=late),
    ]
    with httpx.Client(base_url=running.address, headers={"X-Write-Key": write}) as client:
        answer = client.post("/api/analytics/events", json=events).json()
    assert answer["accepted"] == 2, answer
    assert [(r["index"], r["status"], r["code"]) for r in answer["results"]] == [
        (index, "dropped", "erased") for index in range(3)
    ]
    others.append(str(events[3]["event_id"]))
    return True


def uuid_time(event_id: str) -> int:
    return int(event_id.replace("-", "")[:12], 16)


def counted(running: Running, owner: str, others: list[str]) -> None:
    """Everybody else is there once; balance, rollups and chunks are as they should be."""
    drained(running, owner)
    found = running.command("query", "SELECT event_id FROM events", "--format", "csv").replace('"', "").split()[1:]
    assert sorted(found) == sorted(others)
    report = json.loads(running.command("doctor", "--json"))
    assert report["ok"], report
    says = next(check["says"] for check in report["checks"] if check["check"] == "balance")
    assert f"erased {len(WAYS)}" in says, says
