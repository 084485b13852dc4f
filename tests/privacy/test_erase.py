"""An erased person is nowhere, and stays so; everybody else is as they were."""

import contextlib
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from tests.conftest import Service
from tests.load.test_expiry import until
from tests.privacy.kit import ask, erase, finished, served
from tests.test_balance import doctor, state_of
from twintrack.auth import Role
from twintrack.clock import iso, month_of
from twintrack.commands import command_app
from twintrack.control.erasures import Erasures, State, Subject
from twintrack.control.tombstones import Tombstone
from twintrack.errors import StoreError
from twintrack.load.rollup import compare
from twintrack.privacy.erase import Eraser
from twintrack.privacy.vendors import WAITING
from twintrack.spool.local import LocalSpool
from twintrack.spool.protocol import TakenLink
from twintrack.store.protocol import Store
from twintrack.testing import uuid7, wire_event

DAY = 86_400_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("erase") / "data") as opened:
        yield opened


@pytest.fixture
def service(shared: Service) -> Service:
    return shared.elsewhere()


def project_of(service: Service) -> str:
    principal = service.services.control.principal(service.write_key)
    assert principal is not None
    return principal.tenancy.project


def people(service: Service, table: str = "events") -> dict[str, int]:
    """Rows by user of this test's own project."""
    where = f"project = '{project_of(service)}'"
    return dict(
        tuple(row) for row in service.rows(f"SELECT user_id, count() FROM analytics.{table} WHERE {where} GROUP BY 1")
    )


def test_erased_user_has_no_row_anywhere_and_balance_and_rollups_hold(service: Service) -> None:
    service.send([wire_event(user_id="ann", anonymous_id="a-1") for _ in range(5)])
    service.send([wire_event(user_id=None, anonymous_id="a-1") for _ in range(3)])
    service.send([wire_event(user_id="bob", anonymous_id="a-2") for _ in range(4)])
    service.settle()
    request = erase(service, user_id="ann")
    assert people(service) == {"bob": 4}
    assert set(people(service, "events_daily")) == set(people(service, "identities")) == {"bob"}
    assert compare(service.services.store) == []
    state = state_of(service)
    assert (state["stored"], state["erased"], state["received"]) == (4, 8, 12)
    assert request.progress.removed["store/events"] == 8
    assert request.subject is None and request.certificate is not None


def test_anonymous_rows_go_with_who_was_linked_first_and_links_are_followed_no_further(service: Service) -> None:
    now = service.services.clock.milliseconds()

    def linked(user: str, anonymous: str, ago: int) -> None:
        service.send([wire_event(user_id=user, anonymous_id=anonymous, client_timestamp=iso(now - ago))])

    linked("ann", "hers", 5_000)
    linked("bob", "hers", 4_000)  # borrowed her browser: what is without a user there is hers
    linked("bob", "his", 5_000)
    linked("ann", "his", 4_000)
    service.send([wire_event(user_id=None, anonymous_id=name) for name in ("hers", "his", "nobody's")])
    erase(service, user_id="ann")
    left = service.rows("SELECT user_id, anonymous_id FROM analytics.events WHERE project LIKE 'p-%' ORDER BY ALL")
    assert [row for row in left if row[1] in ("hers", "his", "nobody's")] == [
        ["", "his"],
        ["", "nobody's"],
        ["bob", "hers"],
        ["bob", "his"],
    ]


def test_browser_that_only_an_event_on_its_way_named_as_hers_goes_too(service: Service) -> None:
    project = project_of(service)
    service.send([wire_event(user_id=None, anonymous_id="hers"), wire_event(user_id="bob")])
    service.settle()
    with service.services.loader.still():
        service.send([wire_event(user_id="ann", anonymous_id="hers")])
        request = ask(service, "POST", "erasures", {"user_id": "ann"}).json()["id"]
        until(lambda: service.services.control.tombstones(project) is not None)
    finished(service, request)
    assert people(service) == {"bob": 1}


def test_browser_that_comes_to_light_as_hers_when_she_is_erased_goes_then(service: Service) -> None:
    service.send([wire_event(user_id=None, anonymous_id=name) for name in ("hers", "his")])
    service.send([wire_event(user_id="bob", anonymous_id="his")])
    service.settle()
    erase(service, user_id="ann")
    assert people(service) == {"": 2, "bob": 1}
    late = [TakenLink(project_of(service), "local", name, "ann", time.time()) for name in ("hers", "his")]
    spool = service.services.spool
    assert isinstance(spool, LocalSpool)
    requests, s = Erasures(service.services.control.engine), service.services
    with s.loader.still():  # another person's waits for a vendor meanwhile, which may take days
        subject, now = Subject("user", "eve", ["eve"], []), s.clock.milliseconds()
        waits = requests.create(project_of(service), subject, "", (), now, {"slow": {"status": WAITING}})
        waits.state = State.VENDORS
        requests.keep(waits, now)
        spool.ledger.note_links(late)  # as of an event that waited on a node that was down
    until(lambda: people(service) == {"": 1, "bob": 1})  # his browser was linked to him first
    until(lambda: spool.taken_links() == [])
    with s.loader.still():
        waits = requests.get(waits.id)
        waits.progress.vendors = {}
        requests.keep(waits, s.clock.milliseconds())
    s.eraser.resume(waits.id)
    finished(service, waits.id)


class WokenUp:
    """The store, which a loader that slept in another erasure's step empties of whom it is about, once for each of these
    statements."""

    def __init__(self, store: Store, *before: str) -> None:
        self._store, self.before = store, list(before)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def select(self, sql: str, *more: Any) -> Any:
        self._wake(sql)
        return self._store.select(sql, *more)

    def command(self, sql: str) -> None:
        self._wake(sql)
        self._store.command(sql)

    def _wake(self, sql: str) -> None:
        for statement in [one for one in self.before if one in sql]:
            self.before.remove(statement)
            self._store.command("TRUNCATE TABLE analytics.erasing")


def test_erasure_whose_person_another_loader_wiped_away_or_whose_database_was_away_takes_every_row(
    service: Service,
) -> None:
    """Its answers would be that the person has no links, no rows to count and none left; an open step is begun again."""
    service.send([wire_event(user_id="ann", anonymous_id="hers") for _ in range(3)])
    service.send([wire_event(user_id=None, anonymous_id="hers"), wire_event(user_id="bob")])
    service.settle()
    s = service.services
    store = WokenUp(s.store, "FROM analytics.identities", "GROUP BY project, environment", "events DELETE WHERE")
    away = {"erasure_planned", "erasure_deleted"}

    def reached(point: str) -> None:
        if point in away:
            away.remove(point)
            raise OperationalError("", {}, Exception())

    with s.loader.still():
        eraser = Eraser(s.control, s.spool, store, s.clock, [], 7, reached)
        request = eraser.request(project_of(service), "ann", None).id

        def out_of_store() -> bool:
            s.spool.freeze()
            with contextlib.suppress(StoreError):
                eraser.step()
            state = eraser.get(request).state
            assert state is not State.FAILED
            return state is State.STORE_DONE

        until(out_of_store)
    assert not store.before and not away
    assert people(service) == {"bob": 1} and state_of(service)["erased"] == 4
    finished(service, request)


def test_request_for_somebody_who_is_known_by_tombstones_alone_is_whole_from_the_start(service: Service) -> None:
    """One that began as another would take what came since they were erased, where its maker is killed."""
    requests, s = Erasures(service.services.control.engine), service.services
    marks = [Tombstone(project_of(service), "", "user", "00", 5)]
    with s.loader.still():
        made = requests.create(project_of(service), Subject("restored", "", ["ann"], []), "", marks, 5, fenced_at=7)
        found = requests.get(made.id)
        assert (found.state, found.requested_at, found.changed_at) == (State.FENCED, 5, 7)
    finished(service, made.id)


def test_person_who_never_signed_in_is_erased_by_the_anonymous_id(service: Service) -> None:
    service.send([wire_event(user_id=None, anonymous_id="shy"), wire_event(user_id="bob", anonymous_id="shy")])
    service.send([wire_event(user_id=None, anonymous_id="loud")])
    service.settle()
    erase(service, anonymous_id="shy")
    assert people(service) == {"bob": 1, "": 1}
    late = wire_event(
        user_id=None, anonymous_id="shy", client_timestamp=iso(service.services.clock.milliseconds() - DAY)
    )
    assert service.send([late])["results"][0]["code"] == "erased"


def test_same_id_in_another_project_stays(service: Service) -> None:
    other = service.elsewhere()
    for one in (service, other):
        one.send([wire_event(user_id="ann")])
    erase(service, user_id="ann")
    assert (people(service), people(other)) == ({}, {"ann": 1})


def test_late_event_is_dropped_and_counted_and_a_new_one_is_taken(service: Service) -> None:
    stored = wire_event(user_id="ann")
    service.send([stored])
    erase(service, user_id="ann")
    assert service.fate(stored["event_id"])["fate"] == "gone"
    now = service.services.clock.milliseconds()
    late = wire_event(now, user_id="ann", client_timestamp=iso(now - DAY))
    timeless = {**wire_event(now, user_id="ann", event_id=uuid7(now - DAY))}
    del timeless["client_timestamp"]
    agreed_before = wire_event(now, user_id="ann", consent={"state": "granted", "at": iso(now - DAY)})
    agreed_since = wire_event(now, user_id="ann", consent={"state": "granted", "at": iso(now)})
    answer = service.send([late, timeless, agreed_before, agreed_since, wire_event(now, user_id="ann")])
    assert (answer["dropped"], answer["accepted"]) == (3, 2)
    assert {result["code"] for result in answer["results"]} == {"erased"}
    assert people(service) == {"ann": 2}
    state = state_of(service)
    assert (state["dropped"], state["erased"], state["stored"]) == (3, 1, 2)
    assert service.fate(late["event_id"])["reason"] == "erased"


def test_events_from_before_and_behind_a_masking_rule_are_one_person(tmp_path: Path) -> None:
    with served(tmp_path / "data", masking=False) as service:
        service.send([wire_event(user_id="ann@example.com"), wire_event(user_id="bob@example.com")])
        service.settle()
        keys = service.write_key, service.owner_key
    with served(tmp_path / "data") as service:
        service.write_key, service.owner_key = keys
        service.send([wire_event(user_id="ann@example.com"), wire_event(user_id="bob@example.com")])
        service.settle()
        assert len(people(service)) == 4
        erase(service, user_id="ann@example.com")
        assert len(people(service)) == 2 and "bob@example.com" in people(service)
        now = service.services.clock.milliseconds()
        late = wire_event(now, user_id=" ANN@example.com", client_timestamp=iso(now - DAY))
        assert service.send([late])["dropped"] == 1


def test_table_of_tomorrow_is_found_from_the_schema(service: Service) -> None:
    store = service.services.store
    store.command(
        "CREATE TABLE analytics.tomorrow (project String, user_id String, anonymous_id String)"
        " ENGINE = MergeTree ORDER BY user_id"
    )
    store.command(
        "CREATE TABLE analytics.later (project String, event_id UUID, note String) ENGINE = MergeTree ORDER BY event_id"
    )
    try:
        principal = service.services.control.principal(service.write_key)
        assert principal is not None
        project = principal.tenancy.project
        event = wire_event(user_id="ann", anonymous_id="hers")
        service.send([event])
        service.settle()
        store.command(
            f"INSERT INTO analytics.tomorrow VALUES ('{project}', 'ann', ''), ('{project}', 'bob', 'hers'),"
            f" ('{project}', '', 'hers')"
        )
        store.command(f"INSERT INTO analytics.later VALUES ('{project}', '{event['event_id']}', 'x')")
        request = erase(service, user_id="ann")
        assert service.rows("SELECT user_id FROM analytics.tomorrow") == [["bob"]]
        assert service.rows("SELECT count() FROM analytics.later") == [[0]]
        assert (request.progress.removed["store/tomorrow"], request.progress.removed["store/later"]) == (2, 1)
    finally:
        store.command("DROP TABLE analytics.tomorrow SYNC")
        store.command("DROP TABLE analytics.later SYNC")


def test_second_erasure_takes_what_came_after_the_first(service: Service) -> None:
    service.send([wire_event(user_id="ann")])
    erase(service, user_id="ann")
    service.send([wire_event(user_id="ann")])
    assert people(service) == {"ann": 1}
    erase(service, user_id="ann")
    assert people(service) == {}
    assert state_of(service)["erased"] == 2


@pytest.mark.parametrize("body", [{}, {"user_id": " "}, {"user_id": "a", "anonymous_id": "b"}, {"user_id": "x" * 2000}])
def test_request_that_names_nobody_is_refused_and_leaves_nothing(shared: Service, body: dict[str, str]) -> None:
    answer = ask(shared, "POST", "erasures", body)
    assert answer.status_code in (400, 422)
    assert "xxx" not in answer.text
    assert Erasures(shared.services.control.engine).open() == []


def test_only_who_may_erase_asks_and_only_in_their_own_project(service: Service) -> None:
    for key in (service.write_key, service.server_key, service.read_key):
        assert ask(service, "POST", "erasures", {"user_id": "ann"}, key).status_code == 403
    request = erase(service, user_id="ann")
    other = service.elsewhere()
    assert ask(other, "GET", f"erasures/{request.id}").status_code == 404
    officer = service.services.control.create_key(Role.PRIVACY, request.project, "local")
    told = ask(service, "GET", f"erasures/{request.id}", key=officer)
    assert told.json()["state"] == "done" and "ann" not in told.text


def test_certificate_is_verified_word_for_word(service: Service) -> None:
    certificate = erase(service, user_id="ann").certificate
    assert certificate is not None

    def genuine(document: object) -> bool:
        found: bool = ask(service, "POST", "certificates/verify", {"certificate": document}).json()["genuine"]
        return found

    assert genuine(certificate)
    assert not genuine({**certificate, "finished_at": "2020-01-01T00:00:00.000Z"})
    assert not genuine({**certificate, "removed_rows": {}})
    assert not genuine({name: value for name, value in certificate.items() if name != "signature"})


def test_request_that_cannot_go_on_stops_nobody_else_and_goes_on_when_asked(service: Service) -> None:
    control = service.services.control
    requests = Erasures(control.engine)
    ghost = f"ghost-{uuid7()[-6:]}"  # a project that is not there
    made = requests.create(ghost, Subject("user", "ann", ["ann"], []), "", (), service.services.clock.milliseconds())
    failed = finished(service, made.id, State.FAILED)
    assert "KeyError" in failed.progress.error and "ann" not in failed.progress.error
    assert not doctor(service)["erasures"]["ok"] and made.id in doctor(service)["erasures"]["do"]
    service.send([wire_event(user_id="bob")])
    assert people(service) == {"bob": 1}
    control.ensure_project(ghost)
    service.services.eraser.resume(made.id)
    finished(service, made.id)
    assert doctor(service)["erasures"]["ok"]


def test_erasure_that_stopped_with_rows_half_deleted_is_told_with_what_to_do_and_ends_when_resumed(
    service: Service,
) -> None:
    s, principal = service.services, service.services.control.principal(service.write_key)
    assert principal is not None
    project = principal.tenancy.project
    service.send([wire_event(user_id="ann"), wire_event(user_id="ann", event_name="other"), wire_event(user_id="bob")])
    service.settle()
    requests, subject = Erasures(s.control.engine), Subject("user", "ann", ["ann"], [])
    with s.loader.still():
        made = requests.create(project, subject, "", (), s.clock.milliseconds())
        made.state, made.progress.failed_in = State.FAILED, State.SPOOL_DONE.value
        made.progress.months = [month_of(made.requested_at / 1000)]
        requests.keep(made, s.clock.milliseconds())
        assert isinstance(s.spool, LocalSpool)
        s.spool.plan_erasure(made.id, {(project, principal.tenancy.environment): 2})
        one = f"project = '{project}' AND event_name = 'other'"
        s.store.command(f"ALTER TABLE analytics.events DELETE WHERE {one} SETTINGS mutations_sync = 1")
    assert service.get("/api/analytics/pipeline").json()["erasing"] is True
    checked = doctor(service)
    for name, said in (("erasures", "nothing expires until it ends"), ("balance", "that erasure has stopped")):
        assert not checked[name]["ok"] and said in checked[name]["says"], checked[name]
        assert f"twintrack erase --resume {made.id}" in checked[name]["do"], checked[name]
    s.eraser.resume(made.id)
    finished(service, made.id)
    assert people(service) == {"bob": 1} and state_of(service)["erased"] == 2
    assert service.get("/api/analytics/pipeline").json()["erasing"] is False
    checked = doctor(service)
    assert checked["balance"]["ok"] and checked["erasures"]["ok"] and compare(s.store) == []


def test_event_of_an_erased_person_stays_out_of_an_environment_made_after_the_erasure(service: Service) -> None:
    principal = service.services.control.principal(service.write_key)
    assert principal is not None
    project, now = principal.tenancy.project, service.services.clock.milliseconds()

    def bring_in(environment: str, *people: dict[str, str]) -> tuple[int, int]:
        """(accepted, refused) of an import of events of a day ago."""
        rows = []
        for number, person in enumerate(people):
            event = {"event_name": "seen", "client_timestamp": iso(now - DAY), **person}
            rows.append({"milliseconds": now - DAY, "occurrence": number, "event": event})
        body = {"import_id": uuid7(), "project": project, "environment": environment, "rows": rows}
        told = TestClient(command_app(service.services)).post("/import", json=body).json()
        return told["accepted"], told["refused"]

    link, browser = {"user_id": "ann", "anonymous_id": "shared"}, {"anonymous_id": "shared"}
    assert bring_in("first", link, browser) == (2, 0)
    assert bring_in("second", {"user_id": "bob", "anonymous_id": "shared"}) == (1, 0)  # there it is bob's
    service.settle()
    erase(service, user_id="ann")
    assert bring_in("third", {"user_id": "ann"}, link, browser, {"anonymous_id": "other"}) == (1, 3)
    assert bring_in("second", browser) == (1, 0)
    key = service.services.control.create_key(Role.SERVER, project, "fourth")
    late = service.send([wire_event(now - 1000, user_id=None, anonymous_id="shared")], key=key)
    new = service.send([wire_event(user_id=None, anonymous_id="shared")], key=key)
    assert (late["dropped"], new["accepted"]) == (1, 1)


def test_anonymous_id_goes_from_an_environment_that_has_no_key(service: Service) -> None:
    principal = service.services.control.principal(service.write_key)
    assert principal is not None
    project, now = principal.tenancy.project, service.services.clock.milliseconds()

    def bring_in(copy: int) -> dict[str, int]:
        event = {"event_name": "seen", "client_timestamp": iso(now - DAY), "anonymous_id": "shy"}
        row = {"milliseconds": now - DAY, "occurrence": copy, "event": event}
        body = {"import_id": uuid7(), "project": project, "environment": "old", "rows": [row]}
        answer = TestClient(command_app(service.services)).post("/import", json=body)
        told: dict[str, int] = answer.json()
        return told

    assert bring_in(1)["accepted"] == 1
    service.settle()
    exported = ask(service, "POST", "exports", {"anonymous_id": "shy"})
    assert exported.status_code == 200, exported.text
    assert b'"old"' in zipfile.ZipFile(io.BytesIO(exported.content)).read("events.json")
    erase(service, anonymous_id="shy")
    assert people(service) == {}
    assert bring_in(2)["refused"] == 1


def test_file_that_a_failed_change_of_a_chunk_left_behind_goes_too(service: Service) -> None:
    service.send([wire_event(user_id="left-behind-ann")])
    service.settle()
    folder = service.services.settings.data / "spool" / "chunks"
    held = next(file for file in folder.glob("*.rows") if b"left-behind-ann" in file.read_bytes())
    for name in (held.stem, "gone-since"):
        (folder / f"{name}.amended").write_bytes(held.read_bytes() + b" and more")
    erase(service, user_id="left-behind-ann")
    assert [file.name for file in folder.iterdir() if b"left-behind-ann" in file.read_bytes()] == []


def test_saved_query_that_names_the_person_goes_and_others_stay(service: Service) -> None:
    headers = {"Authorization": f"Bearer {service.owner_key}"}
    for name, sql in (
        ("hers", "SELECT count() FROM events WHERE user_id = 'ann'"),
        ("planned", "SELECT count() FROM events WHERE event_name = 'planned'"),
    ):
        answer = service.request("PUT", f"/api/analytics/saved/{name}", json={"sql": sql}, headers=headers)
        assert answer.status_code == 200, answer.text
    service.send([wire_event(user_id="ann")])
    request = erase(service, user_id="ann")
    assert request.progress.removed["control/saved_queries"] == 1
    left = service.get("/api/analytics/saved").json()["saved"]
    assert [one["name"] for one in left] == ["planned"]
