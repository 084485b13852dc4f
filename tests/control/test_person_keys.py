"""Which key may seal and which one is destroyed, by tombstones and times alone."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import create_engine, select

from twintrack.control.person_keys import Person, PersonKeys, person_keys, person_of
from twintrack.control.rollout import Rollout
from twintrack.control.tombstones import ANONYMOUS, FENCE_MILLISECONDS, USER, Marks, Tombstone, subject_hash
from twintrack.errors import Unavailable
from twintrack.event import RequestContext, Tenancy, WireEvent, limits
from twintrack.ingest.pipeline import Rules
from twintrack.ingest.prepared import Preparing
from twintrack.metrics import Metrics
from twintrack.seal import DataKeys
from twintrack.sealed_text import NO_KEY, PersonKey, parse_fields, sealed
from twintrack.testing import ManualClock, wire_event

SECRET = b"s" * 32
ANN, BROWSER = person_of("live", "ann", ""), person_of("live", "", "a-1")


class Node:
    """The keys of one node, and the tombstones that it knows of."""

    def __init__(self, path: Path, clock: ManualClock, data_keys: DataKeys) -> None:
        self.rows: list[Tombstone] = []
        marks = lambda _: Marks(SECRET, self.rows) if self.rows else None  # noqa: E731
        self.keys = PersonKeys(f"sqlite:///{path}", data_keys, clock, Metrics(), lambda _: SECRET, marks)

    def key_of(self, person: Person) -> PersonKey:
        """The key that would seal a text of theirs now."""
        while (known := self.keys.known("shop").get(person)) is None:
            asyncio.run(self.keys.make("shop", {person}))
        return known.key


@pytest.fixture
def nodes(tmp_path: Path, clock: ManualClock) -> Iterator[tuple[Node, Node]]:
    secret = secrets.token_bytes(32)
    data_keys = DataKeys(lambda: {1: secret})
    both = (Node(tmp_path / "k.db", clock, data_keys), Node(tmp_path / "k.db", clock, data_keys))
    yield both
    for node in both:
        node.keys.close()


def tombstone(person: Person, at: int) -> Tombstone:
    kind, environment, name = person
    assert kind in (USER, ANONYMOUS)
    return Tombstone("shop", environment, kind, subject_hash(SECRET, name), at)


def test_other_node_seals_nothing_with_the_key_of_a_browser_whose_tombstone_came_later_with_the_same_time(
    nodes: tuple[Node, Node], clock: ManualClock
) -> None:
    here, there = nodes
    old = there.key_of(BROWSER)
    clock.advance(10)
    request = clock.milliseconds()
    there.rows.append(tombstone(ANN, request))
    assert there.key_of(BROWSER) == old  # nobody knows yet whose it is
    clock.advance(FENCE_MILLISECONDS / 1000 + 1)
    assert here.keys.destroy([tombstone(BROWSER, request)]) == 1
    there.rows.append(tombstone(BROWSER, request))
    assert there.key_of(BROWSER).id != old.id


def test_key_that_was_made_before_the_clock_went_back_is_destroyed_too(
    nodes: tuple[Node, Node], clock: ManualClock
) -> None:
    node, _ = nodes
    key = node.key_of(ANN)
    clock.advance(-3600)
    mark = tombstone(ANN, clock.milliseconds())
    node.rows.append(mark)
    assert node.keys.destroy([mark]) == 1
    assert node.keys.missing("shop", {key.id}) == 1


@pytest.mark.parametrize("altered", ["a bit", "cut short", "not sealed", "empty", "another person's"])
def test_key_whose_row_was_altered_opens_and_seals_nothing_and_is_destroyed_with_its_successor(
    nodes: tuple[Node, Node], tmp_path: Path, clock: ManualClock, altered: str
) -> None:
    node = nodes[0]
    old, other = node.key_of(ANN), node.key_of(BROWSER)
    token = sealed(old, "hello", bytes(12), b"shop")
    with create_engine(f"sqlite:///{tmp_path / 'k.db'}").begin() as db:
        rows = {row.id: row.wrapped for row in db.execute(select(person_keys))}
        was = rows[old.id]
        changed = {"a bit": was[:-1] + bytes([was[-1] ^ 1]), "cut short": was[:11], "not sealed": bytes(32)}
        wrapped = {**changed, "empty": b"", "another person's": rows[other.id]}[altered]
        db.execute(person_keys.update().where(person_keys.c.id == old.id).values(wrapped=wrapped))
    assert node.keys.damaged() == {"shop": 1} and node.keys.missing("shop", {old.id}) == 0
    assert node.keys.opened("shop", [token]) == [NO_KEY]
    new = node.key_of(ANN)  # it was in memory, until it was found not to open
    assert new.id != old.id and node.keys.opened("shop", sealed(new, "again", bytes(12), b"shop")) == "again"
    assert [key.id for key in node.keys.all()] == sorted([new.id, other.id])
    mark = tombstone(ANN, clock.milliseconds())
    node.rows.append(mark)
    assert node.keys.destroy([mark]) == 2 and node.keys.damaged() == {}


def test_batch_of_people_whose_keys_are_the_next_to_be_forgotten_asks_for_them_once(
    nodes: tuple[Node, Node],
) -> None:
    keys = nodes[0].keys
    people = [person_of("live", f"u{n}", "") for n in range(50_000)]
    keys.known("shop")
    asyncio.run(keys.make("shop", people))
    known = list(keys.known("shop"))
    batch, asked = {*known[:20], ANN}, 0
    while missing := batch - keys.known("shop").keys():
        asyncio.run(keys.make("shop", missing))
        asked += 1
    assert len(keys.known("shop")) <= 50_000 and asked <= 2


def test_request_that_came_before_the_clock_went_back_is_sent_away(
    nodes: tuple[Node, Node], clock: ManualClock
) -> None:
    node, now = nodes[0], clock.milliseconds()
    node.rows.append(tombstone(ANN, now))  # none of her keys may seal at the time of the request
    context = RequestContext(Tenancy("shop", "live"), True, None, now + 10_000, 0, "::", "", False)
    event = msgspec.convert(wire_event(now + 9_000, user_id="ann", message_content="hello"), WireEvent)
    rules = Rules(limits(), SECRET, Rollout(), require_verified_ids=False, masker=None, id_window_days=10)
    preparing = Preparing(parse_fields("message_content"), node.keys)
    with pytest.raises(Unavailable, match="clock"):
        asyncio.run(asyncio.wait_for(preparing.prepared([event], context, rules), 10))
