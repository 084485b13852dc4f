"""The audit log's writer: durable before anything is shown, whole over restarts, crashes and full disks."""

import hashlib
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twintrack.errors import RequestError, Unavailable
from twintrack.privacy import chain
from twintrack.privacy.audit import OPERATOR, Audit, Who, subject_mark
from twintrack.privacy.chain import Entry
from twintrack.testing import ManualClock

ANN = Who("key-1", "analyst", "demo", "local")


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file may grow beyond a size: the system refuses the write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def entries(folder: Path) -> list[Entry]:
    return [line.entry for file in chain.files(folder) for line in chain.lines(file) if line.entry is not None]


def whole(folder: Path) -> int:
    """How many records there are; fails where the chain does not hold."""
    verdict = chain.verify(folder)
    assert verdict.fault is None, verdict
    return verdict.records


def test_record_says_who_what_when_where_and_how_many(tmp_path: Path) -> None:
    clock = ManualClock()
    audit = Audit(tmp_path, clock)
    mark = subject_mark(b"secret", "ann@example.com")
    audit.record(ANN, "sql", where="::ffff:192.0.2.0", rows=7, subject=mark, detail={"sql": "SELECT ?"})
    audit.close()
    (entry,) = entries(tmp_path)
    assert (entry.who, entry.role, entry.project, entry.environment) == ANN
    assert (entry.what, entry.where, entry.rows, entry.outcome) == ("sql", "::ffff:192.0.2.0", 7, "done")
    assert (entry.at, entry.subject) == ("2026-01-01T00:00:00.000Z", mark.hex())
    assert b"ann@example" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_subject_has_the_same_mark_in_one_project_and_another_in_another(tmp_path: Path) -> None:
    assert subject_mark(b"one", "ann") == subject_mark(b"one", "ann") != subject_mark(b"two", "ann")
    assert subject_mark(b"one", "ann") != hashlib.sha256(b"ann").digest()


def test_chain_goes_on_over_restarts_and_files(tmp_path: Path) -> None:
    for _ in range(5):
        audit = Audit(tmp_path, ManualClock(), file_bytes=1_000)
        for _ in range(4):
            audit.record(OPERATOR, "key.create")
        audit.close()
    assert whole(tmp_path) == 20
    assert len({entry.node for entry in entries(tmp_path)}) == 1
    assert len(chain.files(tmp_path)) > 3


def test_records_of_many_threads_form_one_chain(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    threads = [threading.Thread(target=lambda: [audit.record(ANN, "sql", rows=n) for n in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audit.head().sequence == whole(tmp_path) == 160
    audit.close()


def test_record_that_the_disk_refuses_is_an_error_and_the_next_one_is_kept(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    audit.record(ANN, "sql", detail={"sql": "first"})
    with no_room_beyond(600), pytest.raises(Unavailable, match="audit log"):
        audit.record(ANN, "sql", detail={"sql": "x" * 2_000})
    assert (audit.failures, audit.failing != "") == (1, True)
    audit.record(ANN, "sql", detail={"sql": "last"})
    audit.close()
    assert [entry.detail["sql"] for entry in entries(tmp_path)] == ["first", "last"]
    assert whole(tmp_path) == 2 and not audit.failing


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_unfinished_record_of_a_crash_is_cut_off_and_told(tmp_path: Path, cut: int) -> None:
    audit = Audit(tmp_path, ManualClock())
    for _ in range(3):
        audit.record(ANN, "sql")
    audit.close()
    (file,) = chain.files(tmp_path)
    file.write_bytes(file.read_bytes()[:-cut])
    Audit(tmp_path, ManualClock()).close()
    assert whole(tmp_path) == 3
    assert [entry.what for entry in entries(tmp_path)] == ["sql", "sql", "audit.unfinished_record_cut"]


def test_crash_inside_the_first_record_of_a_file_leaves_a_whole_chain(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock(), file_bytes=1)
    audit.record(ANN, "sql")
    audit.record(ANN, "sql")
    audit.close()
    last = chain.files(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:30])
    audit = Audit(tmp_path, ManualClock(), file_bytes=1)
    audit.record(ANN, "sql")
    audit.close()
    assert whole(tmp_path) == 3


def test_record_that_was_altered_stays_for_the_auditor_and_the_service_goes_on(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    for _ in range(3):
        audit.record(ANN, "sql")
    audit.close()
    (file,) = chain.files(tmp_path)
    altered = file.read_bytes().replace(b"analyst", b"nobody!")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1] + altered.splitlines(keepends=True)[2])
    before = file.read_bytes()
    audit = Audit(tmp_path, ManualClock())
    audit.record(ANN, "key.list")
    audit.close()
    assert file.read_bytes() == before
    assert [entry.what for entry in entries(tmp_path)][-2:] == ["audit.damaged", "key.list"]
    fault = chain.verify(tmp_path).fault
    assert fault is not None and fault.sequence == 3


def test_what_is_asked_again_within_a_minute_is_summed_up(tmp_path: Path) -> None:
    clock = ManualClock()
    audit = Audit(tmp_path, clock)
    for _ in range(30):
        audit.repeated(ANN, "live.read", rows=5)
        clock.advance(1)
    audit.repeated(OPERATOR, "live.read", rows=1)
    clock.advance(40)
    audit.repeated(ANN, "live.read", rows=2)  # the minute is over
    audit.repeated(ANN, "live.read", rows=3)
    audit.close()
    told = [(e.who, e.rows, e.detail.get("times")) for e in entries(tmp_path)]
    assert told == [("key-1", 5, None), ("operator", 1, None), ("key-1", 145, 29), ("key-1", 2, None), ("key-1", 3, 1)]
    assert whole(tmp_path) == 5


def test_act_that_ends_otherwise_is_recorded_beside_the_one_that_is_repeated(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    for outcome in ("unknown_key", "wrong_role", "unknown_key"):
        audit.repeated(ANN, "session.open", outcome=outcome)
    assert [entry.outcome for entry in entries(tmp_path)] == ["unknown_key", "wrong_role"]
    audit.close()


def test_repeated_act_whose_first_record_failed_is_recorded_at_the_next_try(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    audit.record(ANN, "sql")
    with no_room_beyond(400), pytest.raises(Unavailable):
        audit.repeated(ANN, "live.read", rows=1)
    audit.repeated(ANN, "live.read", rows=2)
    assert [entry.rows for entry in entries(tmp_path)] == [None, 2]
    audit.close()


def test_change_is_recorded_before_it_is_made_and_after(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    mark = subject_mark(b"secret", "ann")
    with audit.change(OPERATOR, "key.create", subjects=[mark], detail={"role": "read"}) as told:
        assert [(entry.outcome, entry.subject) for entry in entries(tmp_path)] == [("begun", mark.hex())]
        told["key"] = "k1"
    with pytest.raises(RequestError), audit.change(OPERATOR, "key.revoke"):
        raise RequestError("no such key", code="unknown_key")
    with pytest.raises(ZeroDivisionError), audit.change(OPERATOR, "replay"):
        raise ZeroDivisionError
    outcomes = [(entry.what, entry.outcome, entry.detail.get("key")) for entry in entries(tmp_path)]
    assert outcomes == [
        ("key.create", "begun", None), ("key.create", "done", "k1"), ("key.revoke", "begun", None),
        ("key.revoke", "unknown_key", None), ("replay", "begun", None), ("replay", "internal", None),
    ]  # fmt: skip
    audit.close()


def test_change_is_not_made_where_its_beginning_cannot_be_recorded(tmp_path: Path) -> None:
    audit = Audit(tmp_path, ManualClock())
    audit.record(ANN, "sql")
    made = []
    with no_room_beyond(400), pytest.raises(Unavailable), audit.change(OPERATOR, "key.create"):
        made.append(1)
    assert made == []
    audit.close()
