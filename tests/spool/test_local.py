"""The local spool's promises, one by one, with real files, a real index and a real ledger."""

import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.spool.kit import delivery, fresh, killed, opened, rows_of, send, tally
from twintrack.errors import ChunkDamaged, SpoolFormat, Unavailable
from twintrack.spool import segment
from twintrack.spool.claims import project_tag
from twintrack.spool.known import Wanted
from twintrack.spool.local import LocalSpool
from twintrack.spool.segment import HEADER_BYTES
from twintrack.testing import ManualClock


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file may grow beyond a size: the system refuses the write with EFBIG, as a full disk does with ENOSPC."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def load_all(spool: LocalSpool) -> list[tuple[str, bytes]]:
    """A store without faults: looks up and loads everything; the rows in the order of loading."""
    stored: list[tuple[str, bytes]] = []
    while True:
        more = spool.freeze()
        pending = spool.pending()
        for chunk in pending:
            if chunk.lookup:
                spool.settle_lookup(chunk, set(spool.identities(chunk)) & set(stored))
                break
            stored += spool.identities(chunk)
            spool.loaded(chunk)
        if not more and not pending:
            return stored


def test_write_that_fails_is_refused_and_the_next_one_is_kept_without_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", segment_bytes=1 << 20)
    first, lost, second = fresh(count=1), fresh(count=200), fresh(count=1)
    assert send(spool, first) == [True]
    with no_room_beyond(4096), pytest.raises(Unavailable):
        send(spool, lost)
    assert send(spool, second) == [True]
    assert sorted(rows_of(spool)) == sorted(first + second)
    assert send(spool, lost) == [True] * 200  # nothing of it had been kept, not even a claim
    spool.close()


def test_aborted_tail_is_skipped_by_the_next_start(tmp_path: Path) -> None:
    spool = opened(tmp_path / "a" / "spool", segment_bytes=1 << 20)
    first, lost = fresh(count=1), fresh(count=200)
    send(spool, first)
    with no_room_beyond(8192), pytest.raises(Unavailable):
        send(spool, lost)
    send(spool, lost)
    again = opened(killed(spool, tmp_path / "a" / "spool", tmp_path / "b" / "spool"))
    assert sorted(rows_of(again)) == sorted(first + lost)
    again.close()


def test_index_that_cannot_be_written_holds_the_log_back_until_it_can(tmp_path: Path) -> None:
    """The claims of an accepted batch fail: it is accepted, a retry is a duplicate, and nothing is frozen unclaimed."""
    spool = opened(tmp_path / "spool", segment_bytes=1 << 20, index_bytes=64 << 20)
    send(spool, fresh(count=2000))
    ids = fresh(count=1500)
    with no_room_beyond((tmp_path / "spool" / "claims" / "data.mdb").stat().st_size):
        try:
            kept = send(spool, ids)
        except Unavailable:
            kept = []
    assert all(send(spool, ids)) == (not kept)
    assert send(spool, ids) == [False] * 1500
    assert sorted(rows_of(spool)).count(ids[0]) == 1
    spool.close()


def test_full_index_asks_the_store_instead_of_refusing(tmp_path: Path) -> None:
    clock = ManualClock()
    spool = opened(tmp_path / "spool", clock, index_bytes=1 << 18, segment_bytes=1 << 20, chunk_rows=1000)
    sent: list[UUID] = []
    for _ in range(60):
        clock.advance(60)
        ids = fresh(clock, 200)
        assert all(send(spool, ids))
        sent += ids
    assert spool.known.since > 0
    send(spool, sent[:100], recent=True)  # the oldest are forgotten, so they take the look-up path
    stored = load_all(spool)
    assert len(stored) == len(set(stored)) == len(sent)
    assert tally(spool, "duplicate") == 100
    spool.close()


def test_index_full_of_ids_without_a_time_still_accepts_and_stores_each_once(tmp_path: Path) -> None:
    """Late ids cannot be forgotten by time: the door then claims nothing and lets the store tell."""
    spool = opened(tmp_path / "spool", index_bytes=1 << 17, segment_bytes=1 << 20, chunk_rows=500)
    sent = [uuid4() for _ in range(4000)]
    for start in range(0, 4000, 200):
        assert all(send(spool, sent[start : start + 200], recent=False))
    again = send(spool, sent, recent=False)
    assert any(again)
    stored = load_all(spool)
    assert len(stored) == len(set(stored)) == 4000
    assert tally(spool, "accepted") == 4000 + sum(again)
    assert tally(spool, "duplicate") == 4000
    spool.close()


def test_ids_are_forgotten_by_age_under_constant_load(tmp_path: Path) -> None:
    clock = ManualClock()
    spool = opened(tmp_path / "spool", clock)
    old = fresh(clock, 10)
    send(spool, old)
    load_all(spool)
    clock.advance(12 * 86_400)
    send(spool, fresh(clock, 1), received=clock.milliseconds())  # something always waits
    spool.sweep()
    assert not spool.holds(old[0], "demo")
    assert spool.known.since > old[0].int >> 80
    spool.close()


def test_id_is_not_forgotten_before_its_chunk_is_loaded(tmp_path: Path) -> None:
    clock = ManualClock()
    spool = opened(tmp_path / "spool", clock)
    old = fresh(clock, 1)
    send(spool, old)
    clock.advance(30 * 86_400)  # the store is away for a month
    spool.sweep()
    assert spool.holds(old[0], "demo")
    spool.close()


def test_id_that_is_forgotten_while_it_is_sent_again_is_looked_up(tmp_path: Path) -> None:
    """The loader makes room between the writer's look at the bound and its transaction."""

    class Meanwhile(list[bytes]):
        times = 0

        def __iter__(self) -> Iterator[bytes]:
            yield from super().__iter__()
            self.times += 1
            if self.times == 2:
                spool.known.raise_to(born + 1)
                assert spool.claims.forget_older(born + 1, 1000) == 1

    clock = ManualClock()
    spool = opened(tmp_path / "spool", clock)
    spool.begin_restore()
    spool.restored()
    [old], born = fresh(clock, 1), clock.milliseconds()
    assert send(spool, [old]) == [True]
    clock.advance(60)
    [new], tag = fresh(clock, 1), project_tag("demo")
    claimed = spool.known.claim([Wanted([old.bytes], tag, True), Wanted(Meanwhile([new.bytes]), tag, True)])
    claimed.transaction.abort()
    assert claimed.late == [True, False]
    spool.close()


@pytest.mark.parametrize("place", ["log", "chunk"])
def test_id_that_found_no_room_is_claimed_before_the_index_is_filled_again(tmp_path: Path, place: str) -> None:
    """It waits when the store is read for the ids it holds, and is loaded after that."""
    spool = opened(tmp_path / "spool")
    ids = fresh(count=3)
    spool.known.lose(park=True)
    assert send(spool, ids) == [True] * 3
    if place == "chunk":
        spool.freeze()
    spool.claims.discard()  # stands for an index that had no room for them
    spool.sweep()
    assert spool.rebuilding
    spool.begin_restore()
    load_all(spool)
    spool.restored()
    assert not spool.rebuilding
    assert send(spool, ids) == [False] * 3
    spool.close()


def test_clock_that_ran_ahead_and_came_back_makes_no_second_row(tmp_path: Path) -> None:
    clock = ManualClock()
    spool = opened(tmp_path / "spool", clock)
    ids = fresh(clock, 5)
    send(spool, ids)
    stored = load_all(spool)
    clock.advance(400 * 86_400)
    spool.sweep()  # forgets everything
    clock.advance(-400 * 86_400)
    send(spool, ids, recent=True)
    spool.freeze()
    (chunk,) = spool.pending()
    assert chunk.lookup
    spool.settle_lookup(chunk, set(stored))
    assert spool.depth().events == 0 and tally(spool, "duplicate") == 5
    spool.sweep()
    assert spool.rebuilding  # and the index is filled again, so that ids take the fast path
    spool.close()


def test_kill_keeps_the_index_and_another_boot_throws_it_away(tmp_path: Path) -> None:
    spool = opened(tmp_path / "a" / "spool")
    spool.begin_restore()
    spool.restored()
    send(spool, fresh(count=3))
    copy = killed(spool, tmp_path / "a" / "spool", tmp_path / "b" / "spool")
    shutil.copytree(copy, tmp_path / "c" / "spool")
    same = opened(copy)
    assert not same.rebuilding and not same.reconciling
    same.close()
    other = opened(tmp_path / "c" / "spool", boot="boot-2")
    assert other.rebuilding and other.reconciling
    other.close()


def test_claims_of_the_log_tail_are_made_again_after_a_kill(tmp_path: Path) -> None:
    """Killed between the sync and the claims: the copy that the sender sends again is a duplicate."""
    spool = opened(tmp_path / "a" / "spool")
    ids = fresh(count=3)
    send(spool, ids)
    copy = killed(spool, tmp_path / "a" / "spool", tmp_path / "b" / "spool")
    shutil.rmtree(copy / "claims")
    again = opened(copy)
    assert send(again, ids) == [False] * 3
    assert sorted(rows_of(again)) == sorted(ids)
    again.close()


def test_same_id_of_two_projects_is_two_events(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    ids = fresh(count=1)
    assert send(spool, ids) == send(spool, ids, project="other") == [True]
    assert len(load_all(spool)) == 2
    spool.close()


def test_second_copy_is_a_duplicate_wherever_the_first_stands(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    ids = fresh(count=1)
    send(spool, ids)
    assert send(spool, ids) == [False]  # in the log
    spool.freeze()
    assert send(spool, ids) == [False]  # in a chunk
    (chunk,) = spool.pending()
    spool.bisect(chunk, "INCORRECT_DATA (117)")
    assert send(spool, ids) == [False]  # in quarantine
    assert spool.quarantined(ids[0], "demo")
    spool.replay()
    assert load_all(spool) == [("demo", ids[0].bytes)]
    assert send(spool, ids) == [False]  # in the store
    spool.close()


def test_two_copies_in_one_looked_up_chunk_are_one_row(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", index_bytes=1 << 17, chunk_rows=100_000)
    sent = [uuid4() for _ in range(3000)]
    for _ in range(2):
        for start in range(0, 3000, 500):
            send(spool, sent[start : start + 500], recent=False)
    assert len(load_all(spool)) == 3000
    spool.close()


def test_quarantined_event_whose_copy_was_stored_meanwhile_is_replayed_as_a_duplicate(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    ids = fresh(count=1)
    send(spool, ids)
    spool.freeze()
    spool.bisect(spool.pending()[0], "INCORRECT_DATA (117)")
    spool.claims.discard()  # as long after the window
    send(spool, ids, recent=False)
    stored = load_all(spool)
    spool.replay(ids[0])
    (chunk,) = spool.pending()
    assert chunk.lookup
    spool.settle_lookup(chunk, set(stored))
    assert spool.depth().events == 0 and tally(spool, "quarantined") == 0
    spool.close()


def test_two_commands_at_once_replay_a_chunk_once(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    send(spool, fresh(count=1))
    spool.freeze()
    spool.bisect(spool.pending()[0], "INCORRECT_DATA (117)")
    [chunk] = spool.ledger.chunks("quarantined")
    spool.replay()
    spool._settling.replay(chunk)  # of a command that had read the list before
    load_all(spool)
    spool._settling.replay(chunk)
    assert spool.pending() == []
    assert (tally(spool, "quarantined"), tally(spool, "stored"), spool.depth().events) == (0, 1, 0)
    spool.close()


def test_bit_flip_in_the_log_loses_one_record_counts_it_and_reads_on(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", segment_bytes=1 << 20)
    ids = [fresh(count=2) for _ in range(3)]
    for pair in ids:
        send(spool, pair)
    path = max((tmp_path / "spool" / "log").glob("*.log"))
    content = path.read_bytes()
    place = content.index(str(ids[1][0]).encode())
    path.write_bytes(content[:place] + b"?" + content[place + 1 :])
    assert sorted(rows_of(spool)) == sorted(ids[0] + ids[2])
    assert (tally(spool, "accepted"), tally(spool, "damaged"), spool.depth().events) == (6, 2, 4)
    spool.close()


def test_head_lost_with_its_tenancy_still_balances(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", segment_bytes=1 << 20)
    for _ in range(3):
        send(spool, fresh(count=2))
    path = max((tmp_path / "spool" / "log").glob("*.log"))
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES] ^= 1
    path.write_bytes(content)
    assert len(rows_of(spool)) == 4
    assert spool.tallies()["demo", "local", "accepted", ""] == 4
    assert spool.tallies()["", "", "damaged", "log_record"] == 2
    assert tally(spool, "accepted") - tally(spool, "damaged") == spool.depth().events == 4
    spool.close()


def test_changed_or_missing_chunk_file_is_noticed(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    send(spool, fresh(count=2))
    spool.freeze()
    (chunk,) = spool.pending()
    file = tmp_path / "spool" / "chunks" / f"{chunk.chunk_id}.rows"
    file.write_bytes(file.read_bytes().replace(b"demo", b"dem0", 1))
    with pytest.raises(ChunkDamaged):
        spool.content(chunk)
    assert list(spool.unreadable()) == [chunk.chunk_id]
    spool.damaged(chunk)
    assert (tally(spool, "damaged"), spool.depth().events, spool.pending()) == (2, 0, [])
    file.unlink()
    assert list(spool.unreadable()) == [chunk.chunk_id]
    spool.close()


def test_chunk_file_without_a_ledger_row_is_deleted_and_frozen_again(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    ids = fresh(count=2)
    send(spool, ids)
    (tmp_path / "spool" / "chunks" / f"{uuid4()}.rows").write_text("rest of a crash")
    again = opened(killed(spool, tmp_path / "spool", tmp_path / "b" / "spool"))
    assert sorted(rows_of(again)) == sorted(ids)
    assert len(list((tmp_path / "b" / "spool" / "chunks").iterdir())) == 1
    again.close()


def test_full_disk_while_freezing_leaves_no_files_and_freezes_later(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", segment_bytes=1 << 20)
    ids = fresh(count=300)
    send(spool, ids)
    for _ in range(3):
        with no_room_beyond(4096), pytest.raises(OSError):
            spool.freeze()
    assert list((tmp_path / "spool" / "chunks").iterdir()) == []
    assert sorted(rows_of(spool)) == sorted(ids)
    spool.close()


def test_ledger_that_cannot_commit_works_again_when_the_disk_does(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", segment_bytes=1 << 20)
    ids = fresh(count=300)
    send(spool, ids)
    size = (tmp_path / "spool" / "ledger.db-wal").stat().st_size
    spool.ledger.put("filler", 1)
    with no_room_beyond(size), pytest.raises((OSError, sqlite3.Error)):
        spool.freeze()
    assert sorted(rows_of(spool)) == sorted(ids)
    assert len(list((tmp_path / "spool" / "chunks").iterdir())) == len(spool.pending())
    spool.close()


def test_disk_below_its_reserve_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", reserve_bytes=1 << 60)
    log = max((tmp_path / "spool" / "log").glob("*.log"))
    before = log.stat().st_size
    with pytest.raises(Unavailable, match="TWINTRACK_DISK_RESERVE_BYTES"):
        send(spool, fresh(count=1))
    assert "DISK_RESERVE" in spool.why_not_ready()
    assert log.stat().st_size == before
    spool.close()


def test_loaded_chunks_are_kept_for_their_grace_in_time_and_in_bytes(tmp_path: Path) -> None:
    clock = ManualClock()
    spool = opened(tmp_path / "spool", clock, chunk_rows=1, grace_bytes=250)
    folder = tmp_path / "spool" / "chunks"
    for _ in range(6):
        send(spool, fresh(clock, 1))
        clock.advance(1)
        load_all(spool)
    spool.sweep()
    kept = list(folder.iterdir())
    assert 1 <= len(kept) < 6 and sum(f.stat().st_size for f in kept) <= 250
    clock.advance(61)
    spool.sweep()
    assert list(folder.iterdir()) == []
    spool.close()


@pytest.mark.parametrize("found", [2, 99])
def test_spool_of_another_format_is_refused_untouched(tmp_path: Path, found: int) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    with sqlite3.connect(folder / "ledger.db") as db:
        db.execute("CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO state VALUES ('format', ?)", (found,))
    before = (folder / "ledger.db").read_bytes()
    with pytest.raises(SpoolFormat, match=f"format {found}"):
        opened(folder)
    assert (folder / "ledger.db").read_bytes() == before
    assert os.listdir(folder / "log") == []


def test_segment_whose_making_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    spool = opened(tmp_path / "a" / "spool")
    ids = fresh(count=2)
    send(spool, ids)
    copy = killed(spool, tmp_path / "a" / "spool", tmp_path / "b" / "spool")
    segment.segment_path(copy / "log", 99).write_bytes(b"TTLOG")
    again = opened(copy)
    more = fresh(count=1)
    send(again, more)
    assert sorted(rows_of(again)) == sorted(ids + more)
    again.close()


def test_kill_inside_the_making_of_a_segment_and_another_kill_keep_the_one_before(tmp_path: Path) -> None:
    """The second start opens a segment behind the unfinished one; the third must still know the one with the events."""
    spool = opened(tmp_path / "a" / "spool")
    ids = fresh(count=2)
    send(spool, ids)
    first = killed(spool, tmp_path / "a" / "spool", tmp_path / "b" / "spool")
    segment.segment_path(first / "log", max(segment.epochs(first / "log")) + 1).touch()
    second = killed(opened(first), first, tmp_path / "c" / "spool")
    again = opened(second)
    assert sorted(rows_of(again)) == sorted(ids)
    again.close()


def test_concurrent_copies_are_accepted_once_and_called_duplicate_only_when_the_first_is_synced(tmp_path: Path) -> None:
    import asyncio

    spool = opened(tmp_path / "spool", segment_bytes=1 << 20)
    ids = fresh(count=50)

    async def all_at_once() -> list[list[bool]]:
        return await asyncio.gather(*(spool.append(delivery(ids)) for _ in range(20)))

    answers = asyncio.run(all_at_once())
    assert [sum(answer[i] for answer in answers) for i in range(50)] == [1] * 50
    assert sorted(rows_of(spool)) == sorted(ids)
    spool.close()
