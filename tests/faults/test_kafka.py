"""Several nodes over a real topic: whatever breaks, each acknowledged id is one row, counted once, and counts add up."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.broker import TestBroker, running_broker
from tests.conftest import ANY_TEXT, ONLY_NUMBERS, Service, open_service
from tests.faults.proxy import Fault, FaultProxy
from tests.server import Server
from tests.wire import Wire
from twintrack.commands import command_app
from twintrack.seal import is_sealed
from twintrack.spool.kafka.broker import Address, Broker
from twintrack.spool.kafka.spool import KafkaSpool
from twintrack.store.clickhouse import ClickHouse
from twintrack.testing import wire_event

# A broker gives a dead loader's partitions away after this.
SESSION = "session.timeout.ms=2000,heartbeat.interval.ms=500"
PARTITIONS = 2


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    """One for each test: what killed members and cut wires left in it is no other test's affair."""
    with running_broker() as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("engine"))
    server.migrate()
    yield server
    server.close()


def until(condition: Callable[[], Any], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@dataclass
class Cluster:
    """Nodes and loaders that share a topic, a control database and a server's store."""

    folder: Path
    topic: str
    dsn: str
    store: ClickHouse
    nodes: list[Service] = field(default_factory=list)
    loaders: list["subprocess.Popen[str]"] = field(default_factory=list)

    def _settings(self, dsn: str | None) -> dict[str, Any]:
        return {
            "spool": self.topic,
            "store": dsn or self.dsn,
            "control": f"sqlite:///{self.folder / 'control.db'}",
            "kafka_options": SESSION,
            "kafka_timeout_seconds": 1.0,
            "store_backoff_seconds": 0.5,
        }

    def node(self, *, load: bool = False, dsn: str | None = None, data: str = "", **more: Any) -> Service:
        folder = self.folder / (data or f"node-{len(self.nodes)}")
        node = open_service(folder, load=load, **{**self._settings(dsn), **more})
        self.nodes.append(node)
        return node

    def close(self, node: Service) -> None:
        self.nodes.remove(node)
        node.services.close()

    def loader(self, dsn: str | None = None, **more: str) -> "subprocess.Popen[str]":
        """`twintrack load` in a process of its own."""
        number = len(self.loaders)
        settings = {f"TWINTRACK_{name.upper()}": str(value) for name, value in self._settings(dsn).items()}
        with (self.folder / f"loader-{number}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "twintrack", "load", "--data", str(self.folder / f"loader-{number}")],
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, **settings, "TWINTRACK_CHUNK_AGE_MILLISECONDS": "20", **more},
            )
        self.loaders.append(process)
        return process

    def log(self, number: int) -> str:
        return (self.folder / f"loader-{number}.log").read_text()

    def ids(self) -> Counter[str]:
        return Counter(str(row[0]) for row in self.store.select("SELECT event_id FROM analytics.events").rows)

    def count(self) -> int:
        return int(self.store.select("SELECT count() FROM analytics.events").rows[0][0])

    def check(self, acknowledged: set[str], received: int, node: Service) -> None:
        """The promises: one row for each acknowledged id, rollups that agree, counts that explain every event."""
        until(lambda: self.count() >= len(acknowledged), f"{len(acknowledged)} rows")
        # Of each node: one does not know what another one sent last.
        until(lambda: all(spool_of(each).depth().events == 0 for each in self.nodes), "an empty spool")
        assert self.ids() == Counter(dict.fromkeys(acknowledged, 1))
        for rollup in ("events_hourly", "events_daily"):
            rows = self.store.select(f"SELECT sum(event_count) FROM analytics.{rollup}").rows
            assert rows == [(len(acknowledged),)], rollup
        fates: Counter[str] = Counter()
        for (_, _, outcome, reason), events in node.services.spool.tallies().items():
            fates[f"late {outcome}" if reason == "found_in_store" else outcome] += events  # it was accepted before
        assert fates["stored"] == len(acknowledged)
        assert fates["accepted"] + fates["duplicate"] + fates["rejected"] + fates["dropped"] == received
        report = doctor(node)
        assert {c["check"]: c["ok"] for c in report["checks"]}["balance"], report


def ask(node: Service, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """What a command asks a node."""
    asked = Service(node.services, "", "", "", "")
    asked.app = command_app(node.services)  # type: ignore[assignment]
    answer: dict[str, Any] = asked.request(method, path, json=body).json()
    return answer


def doctor(node: Service) -> dict[str, Any]:
    return ask(node, "GET", "/doctor")


def chunks_check(node: Service) -> dict[str, Any]:
    return next(check for check in doctor(node)["checks"] if check["check"] == "chunks")


def spool_of(node: Service) -> KafkaSpool:
    assert isinstance(node.services.spool, KafkaSpool)
    return node.services.spool


def ids_of(events: list[dict[str, Any]]) -> set[str]:
    return {str(event["event_id"]) for event in events}


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


@pytest.fixture
def store_wire(engine: Server) -> Iterator[tuple[FaultProxy, str]]:
    wire = FaultProxy(("127.0.0.1", engine.port))
    yield wire, engine.url(wire.port)
    wire.close()


@pytest.fixture
def whole_wire(broker: TestBroker) -> Iterator[Wire]:
    """The wire to the broker, mended afterwards whatever the test did to it."""
    yield broker.wire
    broker.wire.deaf = False
    with contextlib.suppress(OSError):
        broker.wire.restore()


def test_event_goes_over_the_topic_into_one_row(cluster: Cluster) -> None:
    node = cluster.node(load=True)
    events = [wire_event() for _ in range(50)]
    old = [wire_event(event_id=str(uuid4())) for _ in range(5)]  # no UUIDv7: looked up in the store
    bad = [{**wire_event(), "event_name": ""}]
    answer = node.send(events + old + bad)
    assert (answer["accepted"], answer["rejected"]) == (55, 1)
    node.settle()
    assert node.send(events + old)["accepted"] == 55  # copies are found behind the door
    cluster.check(ids_of(events + old), 111, node)
    assert node.get(f"/api/analytics/events/{bad[0]['event_id']}").json()["fate"] == "refused"
    assert node.get(f"/api/analytics/events/{old[0]['event_id']}").json()["fate"] == "stored"


def test_broker_away_leaves_events_in_the_fallback_and_counts_them_once(cluster: Cluster, whole_wire: Wire) -> None:
    node = cluster.node(load=True)
    events = [wire_event() for _ in range(40)]
    assert node.send(events[:10])["accepted"] == 10
    node.settle()
    whole_wire.deaf = True  # the broker takes these and its word does not come back
    assert node.send(events[10:20])["accepted"] == 10
    whole_wire.cut()
    for start in (20, 25, 20):
        assert node.send(events[start : start + 5])["accepted"] == 5
    ready = node.request("GET", "/readyz")
    assert ready.status_code == 200
    assert ready.json()["spool"]["broker"] != "ok"
    assert ready.json()["spool"]["fallback_events"] == 25
    begun = time.monotonic()
    cluster.close(node)  # and the node starts again while the broker is away
    assert time.monotonic() - begun < 10  # the client alone would wait for the broker
    node = cluster.node(load=True, data="node-0")
    assert node.send(events[30:])["accepted"] == 10
    whole_wire.deaf = False
    whole_wire.restore()
    until(lambda: spool_of(node).works()["fallback_events"] == 0, "an empty fallback")
    assert spool_of(node).works()["broker"] == "ok"
    cluster.check(ids_of(events), 45, node)


def test_member_whose_commit_the_broker_does_not_answer_closes_within_seconds(
    broker: TestBroker, whole_wire: Wire
) -> None:
    reached = Broker(Address.of(broker.url(uuid4().hex, PARTITIONS)), {})
    reached.partitions()
    member = reached.member(10)
    until(lambda: member.poll(1, 0.1) or member.gained, "its partitions")
    member.read_from(dict.fromkeys(member.owned, 0))
    whole_wire.deaf = True
    member.commit({0: 0})
    begun = time.monotonic()
    member.close()
    assert time.monotonic() - begun < 8


def test_loader_killed_between_insert_and_verdict_hands_over_the_same_rows(
    cluster: Cluster, store_wire: tuple[FaultProxy, str]
) -> None:
    node = cluster.node()
    events = [wire_event() for _ in range(200)]
    wire, dsn = store_wire
    first = cluster.loader(dsn)
    until(lambda: "partitions_taken" in cluster.log(0), "the first loader")
    wire.inserts = Fault("answer_after", 500)  # the store has the rows, and nobody is told
    node.send(events)
    until(cluster.count, "rows of an insert that nobody was told of")
    first.send_signal(signal.SIGKILL)
    first.wait()
    node.send(events[:100])
    cluster.loader()
    cluster.check(ids_of(events), 300, node)


def test_rebalance_in_mid_batch_and_a_loader_that_wakes_late_double_nothing(cluster: Cluster) -> None:
    node = cluster.node(limit_person_per_minute=0)  # one person sends as fast as the node answers
    sent: list[dict[str, Any]] = []

    def send(batches: int) -> None:
        for _ in range(batches):
            batch = [wire_event() for _ in range(50)]
            node.send(batch + sent[-10:])
            sent.extend(batch)

    first = cluster.loader()
    send(5)
    until(cluster.count, "the first rows")
    cluster.loader()
    while "partitions_taken" not in cluster.log(1):
        send(1)
    first.send_signal(signal.SIGSTOP)  # in the middle of whatever it does
    taken = cluster.log(1).count("partitions_taken")
    deadline = time.monotonic() + 30
    while cluster.log(1).count("partitions_taken") == taken:
        assert time.monotonic() < deadline, "the second loader did not take over"
        send(1)
    first.send_signal(signal.SIGCONT)
    send(5)
    batches = len(sent) // 50
    cluster.check(ids_of(sent), len(sent) + 10 * (batches - 1), node)


def test_doubled_messages_count_nowhere_and_two_nodes_with_the_same_ids_make_one_row(cluster: Cluster) -> None:
    nodes = [cluster.node(), cluster.node()]
    events = [wire_event() for _ in range(60)]
    bad = {**wire_event(), "event_name": ""}
    for node in nodes:
        node.send([*events, bad])
    double(cluster.topic)
    node = cluster.node(load=True)
    cluster.check(ids_of(events), 122, node)
    double(cluster.topic)
    node.send(events)
    until(lambda: node.services.spool.tallies()[("demo", "local", "duplicate", "already_accepted")] == 120, "copies")
    cluster.check(ids_of(events), 182, node)


def double(topic: str) -> None:
    """Sends every message of a topic again, as a producer does that was not told of its success."""
    servers, name = urlsplit(topic).netloc, urlsplit(topic).path[1:]
    reader = Consumer({"bootstrap.servers": servers, "group.id": "double", "enable.partition.eof": True})
    writer = Producer({"bootstrap.servers": servers})
    reader.assign([TopicPartition(name, number, 0) for number in range(PARTITIONS)])
    found, ended = [], set()
    while len(ended) < PARTITIONS:
        for message in reader.consume(100, 1):
            if message.error():
                ended.add(message.partition())
            else:
                found.append(message)
    assert found
    for message in found:
        writer.produce(name, message.value(), message.key(), partition=message.partition() or 0)
    assert writer.flush(5) == 0
    reader.close()


def test_store_away_leaves_the_topic_as_the_queue(cluster: Cluster, store_wire: tuple[FaultProxy, str]) -> None:
    wire, dsn = store_wire
    node = cluster.node(load=True, dsn=dsn)
    events = [wire_event() for _ in range(100)]
    node.send(events[:10])
    node.settle()
    wire.refuse()
    for start in range(10, 100, 10):
        assert node.send(events[start : start + 10])["accepted"] == 10
    until(lambda: node.services.loader.last_error, "the loader to notice")
    assert len(node.services.spool.pending()) <= PARTITIONS  # one verdict of a partition is open at a time
    assert node.services.spool.depth().events > 0
    wire.listen()
    cluster.check(ids_of(events), 100, node)


@pytest.mark.parametrize("catch_up", [True, False], ids=["read from the topic", "looked up in the store"])
def test_new_owner_without_an_index_knows_what_was_loaded_before(cluster: Cluster, catch_up: bool) -> None:
    events = [wire_event() for _ in range(50)]
    first = cluster.node(load=True)
    first.send(events)
    first.settle()
    cluster.close(first)
    second = cluster.node(load=True, kafka_catch_up_messages=100_000 if catch_up else 0)
    second.send([*events, wire_event()])
    until(lambda: cluster.count() == 51, "the new row")
    second.send(events)
    until(lambda: second.services.spool.tallies()[("demo", "local", "accepted", "")] >= 51, "the verdict")
    cluster.check(set(cluster.ids()), 151, second)


def test_poison_is_quarantined_its_neighbours_stored_and_replayed_once_the_cause_is_mended(cluster: Cluster) -> None:
    node = cluster.node(load=True)
    events = [wire_event(event_value="5") for _ in range(20)]
    poison = wire_event(event_value="two")
    node.make_the_store_refuse_text_values()
    try:
        node.send([*events, poison])
        until(lambda: cluster.count() == 20, "the neighbours")
        until(lambda: quarantined(node) == 1, "the quarantine")
        cluster.close(node)
        node = cluster.node(load=True)
        node.send([poison])
        until(lambda: node.services.spool.tallies().get(("demo", "local", "duplicate", "already_accepted")), "a copy")
        assert node.get(f"/api/analytics/events/{poison['event_id']}").json()["fate"] == "quarantined"
    finally:
        cluster.store.command(ANY_TEXT)
    assert len(node.services.spool.replay()) == 1
    cluster.check(ids_of([*events, poison]), 22, node)
    assert quarantined(node) == 0


def quarantined(node: Service) -> int:
    return sum(n for (_, _, outcome, _), n in node.services.spool.tallies().items() if outcome == "quarantined")


@pytest.fixture
def strict_engine(engine: Server) -> Iterator[Callable[[], None]]:
    """A store that takes only whole numbers as `event_value`, until it is mended."""

    def mend() -> None:
        engine.store.command(ANY_TEXT)

    engine.store.command(ONLY_NUMBERS)
    yield mend
    mend()


def test_doctor_over_a_topic_finds_nothing_wrong(cluster: Cluster) -> None:
    nodes = [cluster.node(load=True), cluster.node()]
    nodes[0].send([wire_event() for _ in range(20)])
    until(lambda: cluster.count() == 20 and not nodes[0].services.spool.depth().events, "the rows")
    for node in nodes:
        report = doctor(node)
        assert [check for check in report["checks"] if not check["ok"] or check["do"]] == []
        assert report["ok"]


def test_quarantined_chunk_is_put_back_by_any_node_and_stored_once(
    cluster: Cluster, strict_engine: Callable[[], None]
) -> None:
    node, loader = cluster.node(), cluster.node(load=True)
    events, poison = [wire_event() for _ in range(10)], wire_event(event_value="two")
    node.send([*events, poison])
    until(lambda: quarantined(node) == 1 and cluster.count() == 10, "the quarantine")
    assert "1 rows stand in quarantine" in chunks_check(node)["says"]
    assert ask(node, "POST", "/replay", {"event_id": str(uuid4())})["rows"] == 0
    strict_engine()
    assert ask(node, "POST", "/replay", {"event_id": poison["event_id"]})["rows"] == 1
    until(lambda: not ask(node, "GET", "/replay")["waiting"], "the chunk that was put back")
    node.send([poison])
    until(
        lambda: loader.services.spool.tallies().get(("demo", "local", "duplicate", "already_accepted")) == 1, "a copy"
    )
    cluster.check(ids_of([*events, poison]), 12, node)
    assert doctor(node)["ok"]


def test_sealed_topic_and_quarantine_show_nothing_and_lose_nothing(
    cluster: Cluster, strict_engine: Callable[[], None]
) -> None:
    """What was sent before sealing was switched on is read beside it."""
    marker, key = "canary-1729", "00" * 16 + "17" * 16
    plain = cluster.node()
    events = [wire_event(event_metadata={"note": marker}) for _ in range(10)]
    plain.send(events[:5])
    cluster.close(plain)
    node, loader = cluster.node(encryption_key=key), cluster.node(load=True, encryption_key=key)
    poison = wire_event(event_value=f"two {marker}")
    node.send([*events[5:], poison])
    until(lambda: quarantined(node) == 1 and cluster.count() == 10, "the quarantine")
    reader = spool_of(node)._broker.reader()
    with contextlib.closing(reader):
        ends = spool_of(node).ledger.heads()
        sent = [value for number, end in ends.items() for _, value in reader.fetch(number, 0, end)]
    assert sum(is_sealed(value) for value in sent) >= 1
    assert all(marker.encode() not in value for value in sent if is_sealed(value))
    kept = b"".join(file.read_bytes() for file in cluster.folder.glob("control.db*"))
    assert b"two " not in kept and marker.encode() not in kept
    strict_engine()
    assert ask(node, "POST", "/replay", {"event_id": poison["event_id"]})["rows"] == 1
    until(lambda: not ask(node, "GET", "/replay")["waiting"], "the chunk that was put back")
    cluster.check(ids_of([*events, poison]), 11, loader)


def test_row_in_quarantine_that_was_changed_is_named_and_stays(
    cluster: Cluster, strict_engine: Callable[[], None]
) -> None:
    node = cluster.node(load=True)
    node.send([wire_event(event_value="two")])
    until(lambda: quarantined(node) == 1, "the quarantine")
    with contextlib.closing(sqlite3.connect(cluster.folder / "control.db")) as db, db:
        db.execute(
            "UPDATE spool_chunks SET content = CAST(replace(content, 'two', 'six') AS BLOB) WHERE state = 'quarantined'"
        )
    (chunk,) = spool_of(node).ledger.chunks("quarantined")
    said = chunks_check(node)
    assert not said["ok"] and chunk.chunk_id in said["says"] and "backup" in said["do"]
    assert ask(node, "POST", "/replay", {"event_id": None})["rows"] == 0


def test_open_chunks_are_read_from_the_topic_and_unreadable_while_the_broker_is_away(
    cluster: Cluster, store_wire: tuple[FaultProxy, str], whole_wire: Wire
) -> None:
    wire, dsn = store_wire
    node = cluster.node(load=True, dsn=dsn)
    events = [wire_event() for _ in range(20)]
    node.send(events[:10])
    until(lambda: cluster.count() == 10 and not node.services.spool.depth().events, "the rows")
    wire.refuse()
    node.send(events[10:])
    until(lambda: node.services.spool.pending(), "a verdict")
    assert spool_of(node).unreadable() == {}
    whole_wire.cut()
    assert spool_of(node).unreadable().keys() == {chunk.chunk_id for chunk in node.services.spool.pending()}
    whole_wire.restore()
    wire.listen()
    cluster.check(ids_of(events), 20, node)


def test_rollups_are_made_again_by_a_loader_that_goes_on_loading(cluster: Cluster) -> None:
    node = cluster.node(load=True)
    events = [wire_event() for _ in range(20)]
    node.send(events[:10])
    until(lambda: cluster.count() == 10 and not node.services.spool.depth().events, "the rows")
    cluster.store.command("TRUNCATE TABLE analytics.events_hourly")
    assert not doctor(node)["ok"]
    ask(node, "POST", "/rollup", {"months": []})
    until(lambda: not ask(node, "GET", "/rollup")["left"], "the rollups")
    node.send(events[10:])
    cluster.check(ids_of(events), 20, node)


def test_serve_without_the_client_says_what_to_install(tmp_path: Path) -> None:
    start = "import sys; sys.modules['confluent_kafka'] = None; from twintrack.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "serve", "--port", "0", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TWINTRACK_SPOOL": "kafka://127.0.0.1:9/events"},
    )
    assert done.returncode == 1
    assert "pip install 'twintrack[kafka]'" in done.stderr
    assert "Traceback" not in done.stderr
