"""What erasures and retention change of a topic's spool: the quarantine in the control data, and the counts."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from uuid import UUID

from sqlalchemy import LargeBinary

from tests.spool.kit import fresh
from tests.spool.test_erase import of_ann, row
from tests.spool.test_partition import adopted
from tests.spool.test_sieve import WHERE, Topic, by, topic
from twintrack.spool.kafka.removals import TopicRemovals
from twintrack.spool.kafka.tables import erased_links
from twintrack.spool.protocol import Kind, TakenLink

__all__ = ["topic"]  # the fixture


def quarantine(topic: Topic, *users: str) -> list[UUID]:
    """A chunk of one row for each."""
    ids = fresh(count=len(users))
    for event_id, user in zip(ids, users, strict=True):
        topic.take([event_id], user)
        topic.partition.decide(100, by(None))
        (one,) = topic.partition.decided.values()
        topic.partition.bisect(one, topic.partition._contents[one.chunk.chunk_id], "refused", 0)
    return ids


def kept(topic: Topic) -> list[bytes]:
    return topic.verdicts.quarantined()


def test_person_leaves_the_quarantine_with_every_byte_and_is_counted(topic: Topic, tmp_path: Path) -> None:
    removals = TopicRemovals(topic.verdicts)
    ids = quarantine(topic, "zqx-ann", "zqx-bob")

    def gone(kind: Kind, line: bytes) -> bool:
        return b"zqx-ann" in line

    assert removals.remove(gone, ["zqx-ann"]) == {"quarantined": 1}
    assert len(kept(topic)) == 1 and b"zqx-bob" in kept(topic)[0]
    assert topic.tallies() == {
        (*WHERE, "accepted", ""): 2,
        (*WHERE, "erased", "quarantined"): 1,
        (*WHERE, "quarantined", "store_refused_data"): 1,
    }
    assert removals.erased_ids() == [("demo", ids[0].bytes)]
    removals.forget_erased([("demo", ids[0].bytes)])
    assert removals.erased_ids() == [] and not removals.remove(of_ann, ["ann"])
    topic.verdicts.close()  # the journal goes into the file
    held = b"".join(file.read_bytes() for file in tmp_path.glob("control.db*"))
    assert b"zqx-ann" not in held and b"zqx-bob" in held


def test_row_that_was_changed_in_quarantine_goes_where_it_names_the_person(topic: Topic) -> None:
    removals = TopicRemovals(topic.verdicts)
    quarantine(topic, "ann", "bob")
    for one in topic.verdicts.decided("quarantined"):
        changed = one._replace(content=one.content.replace(b'"x"', b'"y"'))
        topic.verdicts.amend(changed, "quarantined", Counter(), ())
    assert removals.remove(of_ann, ["ann"]) == {"unreadable": 1}
    assert [len(one.content) > 0 for one in topic.verdicts.decided("quarantined")] == [False, True]
    assert kept(topic) == []  # what was changed is no event that anybody knows


def test_partition_with_a_row_that_was_changed_in_quarantine_is_taken_over(topic: Topic, tmp_path: Path) -> None:
    (spoilt, whole) = quarantine(topic, "ann", "bob")
    (one, _) = topic.verdicts.decided("quarantined")
    topic.verdicts.amend(one._replace(content=b"["), "quarantined", Counter(), ())
    with closing(adopted(tmp_path / "other", topic.verdicts, 2)) as heir:
        assert heir.holds(whole, "demo") and not heir.holds(spoilt, "demo")
    topic.verdicts.forget_content(one.chunk.chunk_id)  # as an erasure does with what it cannot read
    with closing(adopted(tmp_path / "another", topic.verdicts, 2)) as heir:
        assert heir.holds(whole, "demo")


def test_expired_row_leaves_the_quarantine_and_an_expired_text_leaves_its_row(topic: Topic) -> None:
    removals = TopicRemovals(topic.verdicts)
    ids = quarantine(topic, "ann", "bob", "eve")
    other = row(ids[1], "bob", at=5.0)

    def change(line: bytes) -> bytes | None:
        return None if b'"ann"' in line else other if b'"bob"' in line else line

    assert removals.expire_held(202512, change) == 0  # younger months are not looked at
    assert removals.expire_held(202601, change) == 1
    assert other in kept(topic) and len(kept(topic)) == 2
    assert topic.tallies()[(*WHERE, "expired", "retention")] == 1
    for one in topic.verdicts.decided("quarantined"):
        topic.verdicts.replay(one)
    assert {one.content for one in topic.verdicts.put_back([0])} == {other, row(ids[2], "eve")}


def test_rows_that_leave_the_store_are_counted_once_by_what_was_written_down_first(topic: Topic) -> None:
    removals = TopicRemovals(topic.verdicts)
    with topic.verdicts.begin() as db:
        topic.verdicts.tally(db, Counter({(*WHERE, "stored", ""): 9}))
    removals.plan("r-1", {WHERE: 4})
    removals.plan("r-1", {WHERE: 1})  # some were gone when it was counted again after a kill
    assert removals.erasing()
    assert removals.settle("r-1", [202601]) == 4 and removals.settle("r-1", [202601]) == 0
    assert not removals.erasing() and topic.verdicts.stale_months() == [202601]
    assert topic.tallies() == {(*WHERE, "stored", ""): 5, (*WHERE, "erased", "store"): 4}
    removals.begin(202601, 100, {WHERE: 2}, {"demo": 7_000}, [], lambda line: line)
    removals.begin(202601, 200, {WHERE: 1}, {"demo": 6_000}, [], lambda line: line)
    assert removals.pending() == {202601: 200} and topic.verdicts.complete_since() == {"demo": 7_000}
    assert topic.tallies()[(*WHERE, "expired", "retention")] == 3
    removals.done(202601)
    assert removals.pending() == {}


def test_months_are_rewritten_once_for_each_version_of_the_rules(topic: Topic) -> None:
    removals = TopicRemovals(topic.verdicts)
    assert removals.version() == 0
    removals.begin_rewrite(5, [202601, 202602])
    removals.begin_rewrite(6, [202602])
    removals.rewritten(202601)
    assert removals.version() == 6 and removals.rewrites() == [202602]


def test_links_of_who_was_taken_out_are_kept_until_they_are_forgotten(topic: Topic) -> None:
    removals = TopicRemovals(topic.verdicts)
    links = [TakenLink("demo", "local", name, "ann", 1.25) for name in ("a", "b\0")]
    for _ in range(2):  # a fallback tries until the broker is back
        removals.note_links(set(links))
    assert sorted(removals.taken_links()) == links
    # As bytes, which every database takes as they are.
    assert {type(column.type) for column in (erased_links.c.anonymous_id, erased_links.c.user_id)} == {LargeBinary}
    removals.forget_links(links[:1])
    assert removals.taken_links() == links[1:]
