"""A person is erased and rows expire over a real topic: what waits in it makes no row, one loader does the work at a
time and another goes on when it is killed, and every event is counted once."""

import io
import json
import signal
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker import TestBroker, running_broker
from tests.conftest import Service, running
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.test_kafka import PARTITIONS, SESSION, Cluster, doctor, ids_of, spool_of, until
from tests.load.test_expiry import everything_in
from tests.privacy.kit import ask, erase
from tests.server import Server
from twintrack.clock import iso
from twintrack.control.erasures import Erasures, Subject
from twintrack.testing import wire_event

DAY = 86_400_000
# Behind this the store has no row of the person; the engine's old files go a minute later.
OUT = ("store_done", "rollups_done", "vendors", "done")


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with running_broker() as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("engine"))
    server.migrate()
    yield server
    server.close()


@pytest.fixture
def cluster(broker: TestBroker, engine: Server, tmp_path: Path) -> Iterator[Cluster]:
    engine.empty()
    made = Cluster(tmp_path, broker.url(uuid4().hex, PARTITIONS), engine.url(), engine.store)
    yield made
    for process in made.loaders:
        process.kill()
        process.wait()
    for node in made.nodes:
        node.services.close()


def asked(node: Service, **subject: str) -> str:
    answer = ask(node, "POST", "erasures", subject)
    assert answer.status_code == 202, answer.text
    request: str = answer.json()["id"]
    return request


def state_of(node: Service, request: str) -> dict[str, Any]:
    told: dict[str, Any] = ask(node, "GET", f"erasures/{request}").json()
    assert told["state"] != "failed", told
    return told


def out(node: Service, request: str) -> Callable[[], bool]:
    """Whether the person is out of the store and rollups are made again."""
    return lambda: state_of(node, request)["state"] in OUT and not node.services.spool.stale_months()


def fates(node: Service) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for (_, _, outcome, reason), events in node.services.spool.tallies().items():
        found[outcome, reason] += events
    return +found


def healthy(node: Service) -> None:
    report = doctor(node)
    assert [check for check in report["checks"] if not check["ok"]] == []


def people(cluster: Cluster, table: str = "events") -> dict[str, int]:
    rows = cluster.store.select(f"SELECT user_id, count() FROM analytics.{table} GROUP BY 1").rows
    return {user: events for user, events in rows}


def test_message_that_waits_while_its_person_is_erased_makes_no_row(cluster: Cluster) -> None:
    node = cluster.node()
    hers = [wire_event(user_id="ann", anonymous_id="hers") for _ in range(10)]
    unsigned = [wire_event(user_id=None, anonymous_id="hers") for _ in range(4)]
    others = [wire_event(user_id="bob", anonymous_id="his") for _ in range(6)]
    node.send(hers + unsigned + others)
    request = asked(node, user_id="ann")
    assert state_of(node, request)["state"] == "requested"  # nobody loads yet
    loader = cluster.node(load=True)
    until(out(node, request), "the erasure")
    cluster.check(ids_of(others), 20, node)
    assert people(cluster).keys() == people(cluster, "identities").keys() == {"bob"}
    # Whose browser it was stood only in events that never became rows.
    assert fates(node)["erased", "topic"] == 10 and fates(node)["erased", "store"] == 4
    now = node.services.clock.milliseconds()
    late = wire_event(now, user_id="ann", client_timestamp=iso(now - DAY))
    unsigned_late = wire_event(now, user_id=None, anonymous_id="hers", client_timestamp=iso(now - DAY))
    again = wire_event(now, user_id="ann", consent={"state": "granted", "at": iso(now)})
    for one in cluster.nodes:
        answer = one.send([late, unsigned_late, again])
        assert (answer["dropped"], answer["accepted"]) == (2, 1)
    until(lambda: fates(node)["dropped", "erased"] == 4 and fates(node)["duplicate", "already_accepted"] == 1, "counts")
    cluster.check(ids_of([*others, again]), 26, node)
    healthy(loader)


def test_verdict_from_before_the_request_is_loaded_first_and_erased_then(cluster: Cluster, engine: Server) -> None:
    wire = FaultProxy(("127.0.0.1", engine.port))
    try:
        node = cluster.node()
        first = cluster.loader(engine.url(wire.port))
        until(lambda: "partitions_taken" in cluster.log(0), "the first loader")
        wire.inserts = Fault("answer_after", 500)  # the store has the rows, and nobody is told
        node.send([wire_event(user_id="ann") for _ in range(10)] + [wire_event(user_id="bob")])
        until(lambda: spool_of(node).ledger.chunks("open"), "a verdict")
        request = asked(node, user_id="ann")
        first.kill()
        first.wait()
        heir = cluster.node(load=True)
        until(out(heir, request), "the erasure")
        assert fates(heir)["erased", "store"] + fates(heir)["erased", "topic"] == 10
        assert fates(heir)["erased", "store"] > 0 and people(cluster) == {"bob": 1}
        healthy(heir)
    finally:
        wire.close()


def test_loader_killed_in_an_erasure_is_followed_by_another_that_joined_meanwhile(cluster: Cluster) -> None:
    node = cluster.node()
    events = [wire_event(user_id="ann" if number % 3 else "bob", anonymous_id=f"a{number}") for number in range(30)]
    others = {event["event_id"] for event in events if event["user_id"] == "bob"}
    dying = cluster.loader(TWINTRACK_CRASH_POINT="erasure_deleted")
    node.send(events)
    until(lambda: cluster.count() == 30 and not node.services.spool.depth().events, "the rows")
    request = asked(node, user_id="ann")
    cluster.loader()  # partitions move while she is erased
    assert dying.wait(90) == -signal.SIGKILL
    until(out(node, request), "the erasure")
    cluster.check(others, 30, node)
    assert fates(node)["erased", "store"] == 20
    assert state_of(node, request)["removed"]["store/events"] == 20
    assert "housework_taken_over" in cluster.log(1)
    healthy(node)


def test_events_that_come_while_a_month_is_copied_are_neither_lost_nor_doubled(cluster: Cluster) -> None:
    """Two loaders: the one that erases needs quiet, and the other one goes on behind it."""
    nodes = [cluster.node(load=True, limit_person_per_minute=0) for _ in range(2)]
    hers = [wire_event(user_id="ann", event_metadata={f"only-hers-{n}": n}) for n in range(10)]
    nodes[0].send(hers)
    until(lambda: all(spool_of(node)._partitions for node in nodes), "a partition for each")
    sent: list[dict[str, Any]] = []
    request = asked(nodes[0], user_id="ann")
    done = out(nodes[1], request)
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "the erasure did not end"
        batch = [wire_event(user_id="bob") for _ in range(5)]
        for node in nodes:  # a copy of each over the other one
            node.send(batch)
        sent += batch
    assert sent
    cluster.check(ids_of(sent), 10 + 2 * len(sent), nodes[0])
    assert fates(nodes[0])["erased", "store"] + fates(nodes[0])["erased", "topic"] == 10
    assert state_of(nodes[0], request)["removed"]["store/events"] <= 10
    healthy(nodes[0])


def test_fallback_is_sent_without_who_was_erased_meanwhile_and_her_browser_is_found(
    cluster: Cluster, broker: TestBroker
) -> None:
    node = cluster.node(load=True)
    unsigned = wire_event(user_id=None, anonymous_id="zqx-hers")
    node.send([unsigned, wire_event(user_id="bob")])
    until(lambda: cluster.count() == 2, "the rows")
    broker.wire.cut()
    try:
        node.send([wire_event(user_id="zqx-ann", anonymous_id="zqx-hers") for _ in range(6)])
        node.send([wire_event(user_id="bob")])
        assert spool_of(node).works()["fallback_events"] == 7
        request = asked(node, user_id="zqx-ann")
    finally:
        broker.wire.restore()
    until(out(node, request), "the erasure")
    until(lambda: cluster.count() == 2, "his rows alone")
    assert fates(node)["erased", "topic"] == 6 and fates(node)["erased", "store"] == 1
    reader = spool_of(node)._broker.reader()
    ends = reader.ends(PARTITIONS)
    sent = b"".join(value for number, end in ends.items() for _, value in reader.fetch(number, 0, end))
    reader.close()
    assert b"zqx-ann" not in sent and b"bob" in sent
    healthy(node)


def test_certificate_names_what_the_topic_keeps_and_nothing_of_ours_keeps_a_byte(
    broker: TestBroker, tmp_path: Path
) -> None:
    name = uuid4().hex
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{broker.port}"})
    admin.create_topics([NewTopic(name, 1, 1, config={"retention.ms": str(2 * DAY)})])[name].result(10)
    with running(tmp_path / "data", spool=broker.url(name, 1), kafka_options=SESSION) as service:
        service.send([wire_event(user_id="zqx-ann") for _ in range(3)] + [wire_event(user_id="bob")])
        service.make_the_store_refuse_text_values()
        service.send([wire_event(user_id="zqx-ann", event_value="text")])
        until(lambda: fates(service)["quarantined", "store_refused_data"] == 1, "the quarantine")
        assert b"zqx-ann" in everything_in(tmp_path)
        certificate = erase(service, user_id="zqx-ann").certificate
        assert certificate is not None
        held = certificate["topic"]
        assert (held["name"], held["retention_milliseconds"], held["offsets_before"]) == (name, 2 * DAY, {"0": 2})
        days = date.fromisoformat(held["gone_by"]) - date.fromisoformat(certificate["finished_at"][:10])
        assert days.days == 10  # two of the topic, seven of a segment, one for the rest of a day
        assert any(held["gone_by"] in words for words in certificate["remains"])
        removed = certificate["removed_rows"]
        assert (removed["store/events"], removed["spool/quarantined"]) == (3, 1)
        assert b"zqx-ann" not in everything_in(tmp_path)  # of ours; the topic is the broker's
        genuine = ask(service, "POST", "certificates/verify", {"certificate": certificate}).json()["genuine"]
        altered = {**certificate, "topic": {**held, "gone_by": "2020-01-01"}}
        assert genuine and not ask(service, "POST", "certificates/verify", {"certificate": altered}).json()["genuine"]
        assert service.rows("SELECT user_id FROM analytics.events") == [["bob"]]
        healthy(service)


def test_doctor_says_that_a_request_waits_for_a_loader(cluster: Cluster) -> None:
    node = cluster.node()
    control, now = node.services.control, node.services.clock.milliseconds()
    Erasures(control.engine).create("demo", Subject("user", "ann", ["ann"], []), "", (), now - 120_000)
    (said,) = (check for check in doctor(node)["checks"] if check["check"] == "erasures")
    assert not said["ok"] and "no loader" in said["says"] and "twintrack load" in said["do"]


def test_export_waits_for_what_stands_in_the_topic(cluster: Cluster) -> None:
    node = cluster.node()
    hers = [wire_event(user_id="ann") for _ in range(5)]
    node.send(hers)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, node, "POST", "exports", {"user_id": "ann"})
        cluster.node(load=True)
        archive = zipfile.ZipFile(io.BytesIO(answer.result(60).content))
    manifest = json.loads(archive.read("manifest.json"))
    assert manifest["spool"] == {"drained_first": True, "rows_on_their_way_or_in_quarantine": 0}
    assert {row["event_id"] for row in json.loads(archive.read("events.json"))} == ids_of(hers)


def test_rows_that_expire_are_counted_once_by_several_loaders(cluster: Cluster) -> None:
    nodes = [cluster.node(load=True) for _ in range(2)]
    now = nodes[0].services.clock.milliseconds()
    old = [wire_event(now - 5 * DAY, client_timestamp=iso(now - 5 * DAY)) for _ in range(6)]
    young = [wire_event() for _ in range(4)]
    nodes[0].send(old + young)
    until(lambda: cluster.count() == 10, "the rows")
    assert ask(nodes[1], "PUT", "retention", {"days": 3}).status_code == 200
    until(lambda: cluster.count() == 4, "what is left")
    spool = nodes[0].services.spool
    until(lambda: not spool.removals.pending() and not spool.removals.rewrites(), "the pass")
    assert fates(nodes[0])["expired", "retention"] == 6 and fates(nodes[0])["stored", ""] == 4
    assert spool.complete_since()["demo"] > now - 6 * DAY
    answer = nodes[1].send([wire_event(now, client_timestamp=iso(now - 5 * DAY))])
    assert answer["results"][0]["code"] == "expired"
    for node in nodes:
        healthy(node)
