"""Texts under keys of their people: sealed wherever they lie, opened for who may see them, noise once the key is gone."""

import asyncio
import base64
import json
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from starlette.testclient import TestClient

from tests.backup.test_backup import back_up
from tests.conftest import Service, running
from tests.load.test_expiry import everything_in, until
from tests.privacy.kit import ask, erase, finished, served
from tests.query.test_tail import Listener
from tests.test_balance import doctor
from tests.test_encryption import run
from twintrack.auth import Role
from twintrack.backup.archive import BackupDamaged
from twintrack.backup.carry import Rights, rights_in
from twintrack.backup.person_keys import read_keys, write_keys
from twintrack.backup.restore import restore
from twintrack.clock import SystemClock, iso
from twintrack.commands import command_app
from twintrack.control.erasures import Erasures
from twintrack.control.person_keys import Kept, PersonKeys, person_keys, person_of
from twintrack.control.tombstones import FENCE_MILLISECONDS, subject_hash
from twintrack.errors import EncryptionKeyRefused, RequestError, SettingsError
from twintrack.metrics import Metrics
from twintrack.sealed_text import MARK, NO_KEY, key_of
from twintrack.settings import load_settings
from twintrack.testing import wire_event

KEY = base64.b64encode(os.urandom(32)).decode()
FIELDS = "message_content,page_title,event_metadata.customer.name"
SEALED: dict[str, Any] = {"encryption_key": KEY, "sealed_fields": FIELDS}
NUMBERS = count(1)
SECRET_WORDS = "the moon is made of zqx cheese"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("person_keys") / "data", **SEALED) as opened:
        yield opened


@pytest.fixture
def service(shared: Service) -> Service:
    return shared.elsewhere()


def message(text: str = SECRET_WORDS, **fields: Any) -> dict[str, Any]:
    return wire_event(
        event_name="message_sent", message_content=text, sequence=next(NUMBERS), **{"user_id": "ann", **fields}
    )


def project_of(service: Service) -> str:
    principal = service.services.control.principal(service.write_key)
    assert principal is not None
    return principal.tenancy.project


def hash_of(service: Service, identifier: str) -> str:
    return subject_hash(service.services.control.project(project_of(service)).secret, identifier)


def wrapped_of(service: Service, key_id: bytes) -> bytes:
    with create_engine(service.services.settings.person_keys_url).connect() as db:
        found: bytes = db.execute(select(person_keys.c.wrapped).where(person_keys.c.id == key_id)).scalar_one()
        return found


def stored(service: Service, column: str = "message_content") -> list[Any]:
    """As raw SQL has them, oldest first."""
    where = f"project = '{project_of(service)}'"
    return [r[0] for r in service.rows(f"SELECT {column} FROM analytics.events WHERE {where} ORDER BY sequence")]


def asked(service: Service, key: str | None = None, **question: Any) -> Any:
    body = {"range": {"last": 1, "unit": "day"}, "columns": ["message_content", "event_metadata"], **question}
    headers = {"Authorization": f"Bearer {key or service.owner_key}"}
    return service.request("POST", "/api/analytics/query/events", json=body, headers=headers)


def test_text_is_sealed_on_the_disk_and_opened_for_who_may_see_texts(service: Service) -> None:
    sent = f"{SECRET_WORDS}, says me@example.com"
    service.send([message(sent, event_metadata={"customer": {"name": "Zqx Moon", "plan": "pro"}, "n": 1})])
    (token,) = stored(service)
    chunks = [row for _, _, row in service.services.spool.rows("loaded") if project_of(service).encode() in row]
    assert len(chunks) == 1 and token.encode() in chunks[0]
    assert b"zqx cheese" not in chunks[0] and b"Zqx Moon" not in chunks[0]
    assert token.startswith(MARK)
    (length,) = stored(service, "message_length")
    assert length == len(sent)
    assert asked(service).json()["rows"] == [
        [f"{SECRET_WORDS}, says [EMAIL]", {"customer": {"name": "Zqx Moon", "plan": "pro"}, "n": 1}]
    ]
    (told,) = service.sql("SELECT message_content FROM events").json()["rows"]
    assert told == [token]  # SQL sees what is stored, whoever asks
    viewer = service.services.control.create_key(Role.VIEWER, project_of(service), "local")
    (shown,) = asked(service, viewer).json()["rows"]
    assert shown[0] == "[MESSAGE]" and shown[1]["customer"]["name"].startswith(MARK)


def opened(service: Service, token: str) -> Any:
    keys = service.services.person_keys
    assert keys is not None
    return keys.opened(project_of(service), token)


def test_token_opens_only_while_its_person_is_not_erased_and_a_new_text_has_a_new_key(service: Service) -> None:
    service.send([message(anonymous_id="a-1"), message(user_id=None, anonymous_id="a-1"), message(user_id="bob")])
    ann, browser, bob = stored(service)
    assert {opened(service, token) for token in (ann, browser, bob)} == {SECRET_WORDS}
    answer = ask(service, "POST", "erasures", {"user_id": "ann"})
    assert opened(service, ann) == NO_KEY  # at once, whatever the store and the loader are about
    request = finished(service, answer.json()["id"])
    assert opened(service, browser) == NO_KEY and opened(service, bob) == SECRET_WORDS
    assert request.progress.removed["person keys"] == 2
    assert stored(service) == [bob]
    service.send([message("here again")])
    new = stored(service)[-1]
    assert opened(service, new) == "here again" and new[:22] != ann[:22]


DAY = 86_400_000


def kept_apart(service: Service, target: Path) -> None:
    s = service.services
    assert s.person_keys is not None and s.settings.key_ring is not None
    write_keys(target, s.person_keys, s.settings.key_ring, s.clock.milliseconds())


def put_back(source: Path, data: Path, rights: Rights | None, keys: list[Kept]) -> None:
    data.mkdir(parents=True, exist_ok=True)
    settings, known = load_settings(data=data, **SEALED), [rights] if rights else []
    restore(source, settings, known, SystemClock(), lambda _: None, keys, without_rights=rights is None)


def texts(data: Path) -> dict[str, Any]:
    """What the owner of a folder's project reads in it, by user."""
    with running(data, **SEALED) as service:
        rows = asked(service, columns=["user_id", "message_content"]).json()["rows"]
        return {user: text for user, text in rows}


def test_destroyed_key_is_in_no_byte_and_no_restore_brings_it_or_its_text_back(tmp_path: Path) -> None:
    data, backup, before, behind = (tmp_path / name for name in ("data", "b.tar", "before.keys", "behind.keys"))
    with served(data, **SEALED) as service:
        service.send([message(), message("of bob", user_id="bob")])
        service.settle()
        back_up(service, backup)
        kept_apart(service, before)
        keys, ring = service.services.person_keys, service.services.settings.key_ring
        assert keys is not None
        ann = next(key for key in keys.all() if key.hash == hash_of(service, "ann"))
        wrapped = wrapped_of(service, ann.id)
        assert wrapped in everything_in(data)
        erase(service, user_id="ann")
        assert keys.count() == 1 and wrapped not in everything_in(data)
        kept_apart(service, behind)
    # Without her tombstones the rows are back, as somebody had to say, and nobody can read a text of hers.
    put_back(backup, tmp_path / "new", None, read_keys(behind, ring, SystemClock().milliseconds(), 30))
    assert texts(tmp_path / "new") == {"ann": NO_KEY, "bob": "of bob"}
    # An older key of hers is destroyed before anything is served; the folder's own keys stay.
    hers = [key for key in read_keys(before, ring, SystemClock().milliseconds(), 30) if key.id == ann.id]
    assert hers == [ann]
    put_back(backup, data, rights_in(data), hers)
    assert texts(data) == {"bob": "of bob"}
    with running(data, **SEALED) as service:
        assert service.services.person_keys is not None and service.services.person_keys.count() == 1


def test_file_of_keys_is_refused_when_it_is_too_old_damaged_or_of_another_key(service: Service, tmp_path: Path) -> None:
    service.send([message()])
    kept_apart(service, tmp_path / "k")
    now, ring = service.services.clock.milliseconds(), service.services.settings.key_ring
    hers = hash_of(service, "ann")
    assert [key.hash for key in read_keys(tmp_path / "k", ring, now + 29 * DAY, 30)].count(hers) == 1
    with pytest.raises(RequestError, match="more than 30 days ago"):
        read_keys(tmp_path / "k", ring, now + 31 * DAY, 30)
    (tmp_path / "cut").write_bytes((tmp_path / "k").read_bytes()[:-1])
    with pytest.raises(BackupDamaged):
        read_keys(tmp_path / "cut", ring, now, 30)
    other = load_settings(encryption_key=base64.b64encode(os.urandom(32)).decode()).key_ring
    with pytest.raises(EncryptionKeyRefused):
        read_keys(tmp_path / "k", other, now, 30)


def test_restore_command_takes_keys_from_their_file_and_nothing_where_it_may_not(tmp_path: Path) -> None:
    backup, keys, old, new = (tmp_path / name for name in ("b.tar", "k", "old", "new"))
    with running(tmp_path / "data", **SEALED) as service:
        service.send([message()])
        service.settle()
        back_up(service, backup)
        kept_apart(service, keys)
        s = service.services
        assert s.person_keys is not None and s.settings.key_ring is not None
        write_keys(old, s.person_keys, s.settings.key_ring, s.clock.milliseconds() - 31 * DAY)
    words = ("restore", "--from", str(backup), "--without-rights")
    sealed = {"TWINTRACK_ENCRYPTION_KEY": KEY, "TWINTRACK_SEALED_FIELDS": FIELDS}
    refusals = [
        (old, sealed, "more than 30 days ago"),
        (keys, {**sealed, "TWINTRACK_SEALED_FIELDS": ""}, "need TWINTRACK_SEALED_FIELDS"),
    ]
    for file, environment, why in refusals:
        refused = run(new, *words, "--keys", str(file), **environment)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr
        assert not (new / "control.db").exists()
    done = run(new, *words, "--keys", str(keys), **sealed)
    assert done.returncode == 0 and "1 keys of people were brought back; 1 are here" in done.stderr, done.stderr
    assert texts(new) == {"ann": SECRET_WORDS}


def test_tail_opens_texts_for_who_may_see_them_and_no_cohort_is_made_of_one(service: Service) -> None:
    async def scene() -> None:
        viewer = service.key_of(Role.READ)
        async with Listener(service, service.owner_key) as one, Listener(service, viewer) as other:
            await one.until(lambda r: r.said != b"")
            await asyncio.to_thread(service.send, [message(event_metadata={"customer": {"name": SECRET_WORDS}})])
            await one.until(lambda r: len(r.rows) == 1)
            await other.until(lambda r: len(r.rows) == 1)
            assert SECRET_WORDS in one.said.decode() and MARK not in one.said.decode()
            assert SECRET_WORDS not in other.said.decode()

    asyncio.run(scene())
    asked = {"definition": {"has": {"property": "message_content", "value": "x"}}}
    headers = {"Authorization": f"Bearer {service.owner_key}"}
    answer = service.request("POST", "/api/analytics/query/cohorts", json=asked, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "sealed_property")


def test_command_writes_keys_apart_and_says_when_to_delete_them(service: Service, tmp_path: Path) -> None:
    service.send([message()])
    s = service.services
    before = s.clock.milliseconds()
    with TestClient(command_app(s)) as socket:
        told = socket.post("/backup", json={"to": str(tmp_path / "k"), "rights": False, "keys": True}).json()
    days = s.settings.erasure_days * DAY
    assert told["keys"] >= 1 and iso(before + days) <= told["delete_by"] <= iso(s.clock.milliseconds() + days)
    found = read_keys(tmp_path / "k", s.settings.key_ring, s.clock.milliseconds(), 30)
    assert [key.hash for key in found if key.project == project_of(service)] == [hash_of(service, "ann")]


def test_key_is_made_once_for_a_person_in_all_environments_and_once_for_each_browser(service: Service) -> None:
    project = project_of(service)
    other = service.services.control.create_key(Role.SERVER, project, "elsewhere")
    mine = [message(), message(), message(user_id=None, anonymous_id="a"), message(user_id=None, anonymous_id=None)]
    service.send(mine, key=service.server_key)
    service.send([{**one, "event_id": None} | {"event_id": message()["event_id"]} for one in mine], key=other)
    keys = service.services.person_keys
    assert keys is not None
    of_project = [(key.kind, key.environment, key.hash) for key in keys.all() if key.project == project]
    ann, browser, nobody = (hash_of(service, name) for name in ("ann", "a", ""))
    anonymous = [("anonymous", place, hash) for place in ("elsewhere", "local") for hash in (browser, nobody)]
    assert sorted(of_project) == sorted([*anonymous, ("user", "", ann)])


def test_key_is_on_disk_before_its_event_is_and_without_one_nothing_is_kept(service: Service) -> None:
    database = create_engine(service.services.settings.person_keys_url)
    with database.begin() as db:
        db.exec_driver_sql("ALTER TABLE person_keys RENAME TO away")
    answer = service.request(
        "POST", "/api/analytics/events", json=[message("zqx lost")], headers={"X-Write-Key": service.write_key}
    )
    with database.begin() as db:
        db.exec_driver_sql("ALTER TABLE away RENAME TO person_keys")
    assert answer.status_code == 503, answer.text
    service.send([message("kept")])
    assert [opened(service, token) for token in stored(service)] == ["kept"]


def test_answer_as_a_file_holds_tokens(service: Service) -> None:
    service.send([message()])
    service.settle()
    (token,) = stored(service)
    for kind in ("csv", "json"):
        assert asked(service, format=kind).text.count(token) == 1
    assert b"zqx cheese" not in asked(service, format="parquet").content


def test_condition_on_a_sealed_field_is_refused_and_whether_it_is_set_is_not(service: Service) -> None:
    service.send([message(), wire_event(user_id="ann")])
    service.settle()
    for sealed, operator in (("message_content", "contains"), ("event_metadata.customer.name", "=")):
        answer = asked(service, filter={"property": sealed, "operator": operator, "value": "moon"})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "sealed_property", answer.text
    broken_down = {"series": [{"event": "message_sent"}], "breakdown": ["message_content"]}
    headers = {"Authorization": f"Bearer {service.owner_key}"}
    answer = service.request(
        "POST",
        "/api/analytics/query/trends",
        json={"range": {"last": 1, "unit": "day"}, **broken_down},
        headers=headers,
    )
    assert answer.json()["error"]["code"] == "sealed_property", answer.text
    rows = asked(service, filter={"property": "message_content", "operator": "is set"}).json()["rows"]
    assert [row[0] for row in rows] == [SECRET_WORDS]


def test_thread_fate_and_export_of_the_person_are_opened(service: Service) -> None:
    one = message(thread_id="t-1")
    service.send([one])
    service.settle()
    headers = {"Authorization": f"Bearer {service.owner_key}"}
    body = {"range": {"last": 1, "unit": "day"}, "thread": "t-1"}
    thread = service.request("POST", "/api/analytics/query/threads", json=body, headers=headers).json()
    assert SECRET_WORDS in thread["rows"][0]
    assert service.fate(one["event_id"])["event"]["message_content"] == SECRET_WORDS
    file = ask(service, "POST", "exports", {"user_id": "ann"})
    with zipfile.ZipFile(BytesIO(file.content)) as archive:
        (event,) = json.loads(archive.read("events.json"))
        assert event["message_content"] == SECRET_WORDS and b"zqx cheese" in archive.read("events.csv")
        assert not [name for name in archive.namelist() if "person_keys" in name]


def test_imported_token_is_opened_and_sealed_again_and_one_without_a_key_says_so(service: Service) -> None:
    service.send([message()])
    (token,) = stored(service)
    gone = token[:11] + ("A" if token[11] != "A" else "B") + token[12:]
    rows = [
        {"milliseconds": 0, "occurrence": n, "event": {**message(text), "event_id": None, "source": None}}
        for n, text in enumerate((token, gone))
    ]
    for row in rows:
        row["event"] = {k: v for k, v in row["event"].items() if v is not None}  # type: ignore[attr-defined]
    with TestClient(command_app(service.services)) as socket:
        body = {"import_id": project_of(service), "project": project_of(service), "environment": "local", "rows": rows}
        assert socket.post("/import", json=body).json()["accepted"] == 2
    imported = stored(service)[1:]
    assert token not in imported and [opened(service, one) for one in imported] == [SECRET_WORDS, NO_KEY]
    assert stored(service, "message_length") == [len(SECRET_WORDS)] * 2 + [len(NO_KEY)]


def test_token_in_a_field_that_is_not_sealed_is_imported_as_it_is(service: Service) -> None:
    service.send([message()])
    (token,) = stored(service)
    event = {k: v for k, v in message("hello").items() if k not in ("event_id", "source") and v is not None}
    event["event_metadata"] = {"note": token}
    rows = [{"milliseconds": 0, "occurrence": 0, "event": event}]
    with TestClient(command_app(service.services)) as socket:
        body = {"import_id": project_of(service), "project": project_of(service), "environment": "local", "rows": rows}
        assert socket.post("/import", json=body).json()["accepted"] == 1
    assert stored(service, "event_metadata.note")[1] == token


def test_nodes_that_meet_a_person_at_once_both_seal_and_after_an_erasure_neither_key_does(service: Service) -> None:
    s, project, person = service.services, project_of(service), person_of("local", "ann", "")
    assert s.person_keys is not None and s.control.data_keys is not None
    asyncio.run(s.person_keys.make(project, {person}))  # this node knows hers, and looks for none of another's
    secret_of = lambda name: s.control.project(name).secret  # noqa: E731
    url, data_keys, marks = s.settings.person_keys_url, s.control.data_keys, s.control.tombstones
    other = PersonKeys(url, data_keys, s.clock, Metrics(), secret_of, marks)
    with create_engine(url).begin() as db:  # as if the other had looked before this one wrote
        db.execute(person_keys.update().where(person_keys.c.project == project).values(project="hidden"))
    asyncio.run(other.make(project, {person}))
    with create_engine(url).begin() as db:
        db.execute(person_keys.update().where(person_keys.c.project == "hidden").values(project=project))
    theirs = other.known(project)[person].key
    service.send([message()])
    (token,) = stored(service)
    assert other.opened(project, token) == SECRET_WORDS and key_of(token) != theirs.id
    request = erase(service, user_id="ann")
    assert request.progress.removed["person keys"] == 2 and other.opened(project, token) == NO_KEY
    # The other node holds its key in memory still, and seals nothing with it: the tombstone is newer.
    assert person not in other.known(project)
    asyncio.run(other.make(project, {person}))
    made = other.known(project)[person].key
    assert made.id != theirs.id and made.made_at > request.requested_at + FENCE_MILLISECONDS
    other.close()


def test_nothing_of_it_is_there_where_no_field_is_named(tmp_path: Path) -> None:
    with running(tmp_path / "data", encryption_key=KEY) as service:
        service.send([message()])
        assert stored(service) == [SECRET_WORDS]
        assert service.services.person_keys is None
        assert doctor(service)["person_keys"]["ok"]
    assert not (tmp_path / "data" / "person_keys.db").exists()


def test_node_that_seals_nothing_destroys_keys_that_another_one_has_made_since_it_started(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path / 'control.db'}"
    with running(tmp_path / "data", encryption_key=KEY, control=shared) as service:
        s, project, ann = service.services, project_of(service), person_of("local", "ann", "")
        assert s.control.data_keys is not None
        secret_of = lambda name: s.control.project(name).secret  # noqa: E731
        url, data_keys, marks = s.settings.person_keys_url, s.control.data_keys, s.control.tombstones
        other = PersonKeys(url, data_keys, s.clock, Metrics(), secret_of, marks)
        asyncio.run(other.make(project, {ann}))
        assert other.count() == 1
        assert ask(service, "POST", "erasures", {"user_id": "ann"}).status_code == 202
        assert other.count() == 0
        other.close()


@pytest.mark.parametrize("fields", ["user_id", "event_name", "event_metadata.", "event_metadata.a..b"])
def test_field_that_cannot_be_sealed_is_refused_at_the_start(fields: str) -> None:
    with pytest.raises(SettingsError, match="fields that may be sealed"):
        load_settings(encryption_key=KEY, sealed_fields=fields)


def test_sealing_without_an_encryption_key_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="needs an encryption_key"):
        load_settings(sealed_fields="message_content")


def test_doctor_tells_of_texts_whose_keys_were_lost_whichever_sealed_field_they_are_in(service: Service) -> None:
    titled = {"context": {"page": {"title": SECRET_WORDS}}}
    named = {"event_metadata": {"customer": {"name": SECRET_WORDS}}}
    dotted = {"event_metadata": {"customer.name.first": SECRET_WORDS, "note": f"{MARK}{'a' * 60}"}}
    several = [titled, named, *[dotted] * 40]  # an id of a key has a slash in it once in six
    sent = [message(), *(wire_event(user_id=f"u{n}", **one) for n, one in enumerate(several))]
    service.send(sent)
    service.settle()
    assert doctor(service)["person_keys"]["ok"]
    lost = person_keys.c.project == project_of(service)
    with create_engine(service.services.settings.person_keys_url).begin() as db:
        rows = [row._asdict() for row in db.execute(select(person_keys).where(lost))]
        assert len(rows) == len(sent)
        db.execute(person_keys.delete().where(lost))
    checked = doctor(service)["person_keys"]
    assert not checked["ok"] and "cannot be read" in checked["says"] and "restore --keys" in checked["do"]
    assert checked["says"].startswith(f"{len(sent)} of "), checked
    with create_engine(service.services.settings.person_keys_url).begin() as db:
        db.execute(person_keys.insert(), rows)
    assert doctor(service)["person_keys"]["ok"]


def test_damaged_key_shows_as_none_and_a_new_one_seals_until_a_file_of_keys_brings_it_back(
    service: Service, tmp_path: Path
) -> None:
    keys, ring, project = service.services.person_keys, service.services.settings.key_ring, project_of(service)
    assert keys is not None
    service.send([message("before")])
    service.settle()
    kept_apart(service, tmp_path / "whole")
    with create_engine(service.services.settings.person_keys_url).begin() as db:
        db.execute(person_keys.update().where(person_keys.c.project == project).values(wrapped=b"TTSEAL1\0damaged"))
    assert [row[0] for row in asked(service).json()["rows"]] == [NO_KEY]
    with zipfile.ZipFile(BytesIO(ask(service, "POST", "exports", {"user_id": "ann"}).content)) as archive:
        assert json.loads(archive.read("events.json"))[0]["message_content"] == NO_KEY
    checked = doctor(service)["person_keys"]
    assert not checked["ok"] and f"1 keys are damaged (1 of {project})" in checked["says"], checked
    assert "restore --replace --keys" in checked["do"]
    service.send([message("behind")])
    assert [opened(service, token) for token in stored(service)] == [NO_KEY, "behind"]
    with TestClient(command_app(service.services)) as socket:
        told = socket.post("/backup", json={"to": str(tmp_path / "rest"), "rights": False, "keys": True}).json()
    now = service.services.clock.milliseconds()
    rest, whole = (read_keys(tmp_path / name, ring, now, 30) for name in ("rest", "whole"))
    assert told["damaged"] == 1 and len([key for key in rest if key.project == project]) == 1
    assert keys.add(whole) == 1
    assert [opened(service, token) for token in stored(service)] == ["before", "behind"]
    assert "damaged" not in doctor(service)["person_keys"]["says"]


def test_request_whose_keys_took_long_to_destroy_is_answered_when_a_loader_has_gone_on_with_it(
    service: Service,
) -> None:
    service.send([message()])
    s, erasures = service.services, Erasures(service.services.control.engine)
    database = create_engine(s.settings.person_keys_url)
    with ThreadPoolExecutor(1) as pool, database.connect() as db:
        db.exec_driver_sql("BEGIN IMMEDIATE")  # the database is busy
        answer = pool.submit(ask, service, "POST", "erasures", {"user_id": "ann"})
        until(lambda: any(one.project == project_of(service) for one in erasures.open()))
        (made,) = (one for one in erasures.open() if one.project == project_of(service))
        erasures.keep(made, s.clock.milliseconds())  # as a loader of another node does
        db.rollback()
        assert answer.result().status_code == 202, answer.result().text
    database.dispose()
