"""A person's rows leave the log, chunks that wait or are kept, and the quarantine; a crash in between changes nothing."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.spool.kit import MONTH, PLACE, SIZES, fresh, killed, rows_of, tally
from twintrack.control.tombstones import Marks, Tombstone, subject_hash
from twintrack.event import ReceiptRow, Row
from twintrack.metrics import Metrics
from twintrack.spool.chunks import identity_of
from twintrack.spool.erase import told
from twintrack.spool.local import LocalSpool
from twintrack.spool.protocol import Delivery, Kind, Slab
from twintrack.testing import ManualClock

NOW = ManualClock().milliseconds()
SECRET = b"s" * 32
ANN = Marks(SECRET, [Tombstone(PLACE.project, "", "user", subject_hash(SECRET, "ann"), NOW)])


def row(event_id: UUID, user: str, at: float = NOW / 1000) -> bytes:
    cells = {
        "project": PLACE.project, "environment": PLACE.environment, "event_id": event_id, "event_name": "x",
        "event_timestamp": at, "user_id": user, "anonymous_id": "", "client_timestamp": at, "server_timestamp": at,
    }  # fmt: skip
    kinds = {str: "", float: 0.0, int: 0, bool: False}
    whole = {f.name: cells.get(f.name, kinds.get(f.type)) for f in msgspec.structs.fields(Row)}
    return msgspec.json.encode(Row(**{**whole, "event_metadata": {}, "masked": [], "consent_denied": []}))


def opened(folder: Path, erased: list[Marks], reached: Callable[[str], None] = lambda _: None) -> LocalSpool:
    def marks_of(project: str) -> Marks | None:
        return erased[0] if erased and project == PLACE.project else None

    return LocalSpool(folder, ManualClock(), Metrics(), SIZES, boot="boot-1", reached=reached, marks_of=marks_of)


def send(
    spool: LocalSpool, *users: str, recent: bool = True, received: int = NOW, at: float = NOW / 1000
) -> list[UUID]:
    ids = fresh(count=len(users))
    lines = b"\n".join(row(i, user, at) for i, user in zip(ids, users, strict=True))
    slab = Slab(MONTH, recent, [i.bytes for i in ids], lines)
    assert all(asyncio.run(spool.append(Delivery(PLACE, received, [slab], [], []))))
    return ids


def of_ann(kind: Kind, line: bytes) -> bool:
    return kind is Kind.EVENTS and told(line).user_id == "ann"


def bytes_below(folder: Path) -> bytes:
    return b"".join(f.read_bytes() for f in folder.rglob("*") if f.is_file() and "claims" not in str(f))


def test_events_that_were_on_their_way_when_a_person_was_erased_do_not_become_a_chunk(tmp_path: Path) -> None:
    erased: list[Marks] = []
    spool = opened(tmp_path / "spool", erased)
    ids = send(spool, "ann", "bob", "ann")
    newer = send(spool, "ann", received=NOW + 1, at=NOW / 1000 + 1)
    erased.append(ANN)
    assert rows_of(spool) == [ids[1], *newer]
    assert tally(spool, "erased") == 2 and tally(spool, "accepted") == 4 and spool.depth().events == 2
    assert sorted(spool.erased_ids()) == sorted((PLACE.project, i.bytes) for i in (ids[0], ids[2]))
    spool.close()
    again = opened(tmp_path / "spool", erased)
    assert (tally(again, "erased"), again.depth().events) == (2, 2)
    again.close()


def test_log_ends_its_file_so_that_what_was_in_it_leaves_the_disk(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", [ANN])
    send(spool, "ann", "bob")
    spool.renew()
    assert not spool.passed()
    while spool.freeze():
        pass
    assert spool.passed()
    assert b'"ann"' not in bytes_below(tmp_path / "spool")
    assert send(spool, "bob") and b'"ann"' not in bytes_below(tmp_path / "spool")
    spool.close()


def prepared(folder: Path, reached: Callable[[str], None] = lambda _: None) -> LocalSpool:
    """A chunk that is loaded, one in quarantine, and one that waits for its look-up, each with ann and bob in it."""
    spool = opened(folder, [], reached)
    send(spool, "ann", "bob", "bob")
    spool.freeze()
    (loaded,) = spool.pending()
    spool.loaded(loaded)
    send(spool, "ann")
    spool.freeze()
    (refused,) = spool.pending()
    spool.bisect(refused, "BAD (1)")
    send(spool, "ann", "bob", recent=False)
    spool.freeze()
    return spool


def test_rows_leave_every_chunk_with_manifest_token_and_counts(tmp_path: Path) -> None:
    spool = prepared(tmp_path / "spool")
    before = {chunk.chunk_id: chunk for chunk in spool.ledger.chunks("loaded", "lookup")}
    assert spool.remove(of_ann, ["ann"]) == {"loaded": 1, "quarantined": 1, "lookup": 1}
    assert b'"ann"' not in bytes_below(tmp_path / "spool" / "chunks")
    after = {chunk.chunk_id: chunk for chunk in spool.ledger.chunks("loaded", "lookup")}
    assert after.keys() == before.keys()
    for chunk_id, chunk in after.items():
        assert chunk.rows == before[chunk_id].rows - 1 == len(spool.identities(chunk))  # its checksum fits
        assert chunk.token != before[chunk_id].token and chunk_id in chunk.token
    assert not spool.ledger.chunks("quarantined")
    # What is loaded is counted when it leaves the store.
    assert (tally(spool, "erased"), tally(spool, "quarantined"), tally(spool, "stored")) == (2, 0, 3)
    assert spool.depth().events == 1
    spool.plan_erasure("r", {tuple(PLACE): 1})  # type: ignore[dict-item]
    spool.plan_erasure("r", {tuple(PLACE): 9})  # type: ignore[dict-item]
    assert spool.erasing
    assert spool.settle_erasure("r", [MONTH]) == 1 and spool.settle_erasure("r", [MONTH]) == 0
    assert (tally(spool, "erased"), tally(spool, "stored"), spool.stale_months()) == (3, 2, [MONTH])
    spool.close()


def test_chunk_without_anything_left_is_no_chunk_any_more(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", [])
    send(spool, "ann", "ann")
    spool.freeze()
    (chunk,) = spool.pending()
    spool.loaded(chunk)
    assert spool.remove(of_ann, ["ann"]) == {"loaded": 2}
    assert spool.in_grace() == ([], []) and list((tmp_path / "spool" / "chunks").iterdir()) == []
    spool.close()


def test_receipts_of_erased_events_leave_their_chunk(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool", [])
    mine, others = fresh(count=2)
    lines = [
        (MONTH, msgspec.json.encode(ReceiptRow(*PLACE, event_id, "gtm", "handed", NOW / 1000, NOW / 1000)))
        for event_id in (mine, others)
    ]
    asyncio.run(spool.append(Delivery(PLACE, NOW, [], [], lines)))
    spool.freeze()
    removed = spool.remove(lambda kind, line: kind is Kind.RECEIPTS and identity_of(line)[1] == mine.bytes, [])
    assert removed == {"frozen": 1}
    (chunk,) = spool.pending()
    assert spool.identities(chunk) == [(PLACE.project, others.bytes)] and spool.erased_ids() == []
    spool.close()


class Cut(Exception):
    pass


@pytest.mark.parametrize("point,amended", [("before_amend", False), ("after_amend", True)])
def test_process_that_dies_while_a_chunk_is_amended_leaves_it_as_it_was_or_as_it_shall_be(
    tmp_path: Path, point: str, amended: bool
) -> None:
    folder = tmp_path / "spool"

    def reached(here: str) -> None:
        if here == point:
            raise Cut

    spool = prepared(folder, reached)
    with pytest.raises(Cut):
        spool.remove(of_ann, ["ann"])
    copy = killed(spool, folder, tmp_path / "copy")
    again = opened(copy, [])
    (chunk,) = again.pending()
    assert chunk.rows == len(again.identities(chunk)) == (1 if amended else 2)
    assert list(copy.rglob("*.amended")) == [] and again.unreadable() == {}
    again.remove(of_ann, ["ann"])
    assert b'"ann"' not in bytes_below(copy / "chunks")
    assert (tally(again, "erased"), tally(again, "quarantined"), again.depth().events) == (2, 0, 1)
    again.close()


def test_file_that_cannot_be_read_any_more_goes_where_the_person_stands_in_it(tmp_path: Path) -> None:
    spool = prepared(tmp_path / "spool")
    (loaded,) = spool.ledger.chunks("loaded")
    (waiting,) = spool.pending()
    for chunk in (loaded, waiting):
        path = tmp_path / "spool" / "chunks" / f"{chunk.chunk_id}.rows"
        path.write_bytes(path.read_bytes() + b"?")
    removed = spool.remove(of_ann, ["somebody else"])
    assert removed["unreadable"] == 3 and spool.ledger.chunks("loaded") == []
    assert spool.remove(of_ann, ["somebody else"])["unreadable"] == 0
    assert spool.remove(of_ann, ["ann"])["unreadable"] == 2
    assert b'"ann"' not in bytes_below(tmp_path / "spool" / "chunks")
    spool.close()
