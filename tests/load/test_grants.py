"""What the service says to a server, held against the grants that are written down for it."""

import re
from pathlib import Path

from tests.conftest import open_service
from tests.faults.proxy import FaultProxy
from tests.faults.test_wire import until
from tests.privacy.kit import ask, finished
from tests.server import Server
from twintrack.clock import month_of
from twintrack.control.erasures import State
from twintrack.load.reconcile import remove_rows, wait_for_deletions
from twintrack.load.rollup import compare, months, rebuild
from twintrack.store.grants import SERVICE, grants
from twintrack.testing import wire_event

# Readable by every user, whatever the server's configuration.
_OPEN = {"system.settings", "system.one"}
# A verb as it stands in a statement, and the grant it needs.
_NEEDS = {
    r"\bSELECT\b": "SELECT",
    r"\bINSERT INTO analytics": "INSERT",
    r"\bFROM input\(": "CREATE TEMPORARY TABLE",
    r"\bALTER TABLE \S+ DELETE\b": "ALTER DELETE",
    r"\bALTER TABLE \S+ UPDATE\b": "ALTER UPDATE",
    r"\bALTER TABLE \S+ (?:REPLACE|DROP) PARTITION\b": "ALTER DELETE",
    r"\bCREATE TABLE\b": "CREATE TABLE",
    r"\bDROP TABLE\b": "DROP TABLE",
    r"\bALTER TABLE \S+ (?:MODIFY|RESET) SETTING\b": "ALTER SETTINGS",
    r"\bTRUNCATE TABLE\b": "TRUNCATE",
}
_ANY = re.compile(r"\b(?:CREATE|DROP|ALTER|TRUNCATE|RENAME|KILL|SYSTEM|OPTIMIZE|GRANT|ATTACH|DETACH)\s+[A-Z]+")


def test_service_asks_a_server_for_nothing_beyond_its_grants(tmp_path: Path) -> None:
    server = Server(tmp_path / "engine")
    server.migrate()
    proxy = FaultProxy(("127.0.0.1", server.port))
    service = open_service(tmp_path / "data", store=server.url(proxy.port))
    try:
        event = wire_event(user_id="ann")
        receipt = {"event_id": event["event_id"], "vendor": "statsig", "status": "handed"}
        receipt["at"] = event["client_timestamp"]
        old = wire_event(event_id="0190a1b2-0000-4000-8000-000000000001")  # looked up
        service.send({"events": [event, old], "receipts": [receipt]})
        service.settle()
        service.fate(event["event_id"])
        service.services.control.retention.set("demo", "", "", 30)
        removals = service.services.spool.removals
        until(lambda: removals.version() != 0 and not removals.rewrites())
        assert service.sql("SELECT count() FROM events").status_code == 200
        service.send([wire_event(user_id="bob")])
        request = ask(service, "POST", "erasures", {"user_id": "bob"}).json()["id"]
        finished(service, request, State.STORE_DONE)
        until(lambda: not service.services.spool.stale_months())  # else they are made of a month that is empty by then
        chunk = service.services.spool.in_grace()[1][0]
        remove_rows(service.services.store, [chunk])
        wait_for_deletions(service.services.store)
        service.services.loader.stop()
        service.services.spool.reinsert((), (month_of(service.services.clock.milliseconds() / 1000), 0))
        assert set(service.services.spool.stale_months()) - {0} <= set(months(service.services.store))
        for month in service.services.spool.stale_months():
            rebuild(service.services.store, month)
        assert compare(service.services.store) == []
    finally:
        service.services.close()
        proxy.close()
        server.close()
    ours = [g for g in grants() if g.endswith(f" TO {SERVICE}")]
    verbs = {verb.strip() for g in ours for verb in g.split(" ON ")[0].removeprefix("GRANT ").split(",")}
    places = {g.split(" ON ")[1].split(" TO ")[0] for g in ours}
    said = "\n".join(proxy.asked)
    seen = {grant for pattern, grant in _NEEDS.items() if re.search(pattern, said)}
    assert seen == verbs  # none lacks, none is for nothing
    assert set(_ANY.findall(said)) <= {"CREATE TABLE", "DROP TABLE", "ALTER TABLE", "DROP PARTITION", "TRUNCATE TABLE"}
    assert set(re.findall(r"TRUNCATE TABLE (\S+)", said)) == {"analytics.erasing"}
    tables = set(re.findall(r"\bsystem\.\w+", said))
    assert tables - _OPEN == {place for place in places if place.startswith("system.")}
