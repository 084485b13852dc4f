"""The audit chain: whatever is done to its bytes is found, and the place is named."""

import shutil
import string
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.privacy import chain
from twintrack.privacy.audit import OPERATOR, Audit
from twintrack.privacy.chain import Entry, Head, Verdict
from twintrack.testing import ManualClock

RECORDS = 30


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records over several files."""
    folder = tmp_path_factory.mktemp("written") / "audit"
    audit = Audit(folder, ManualClock(), file_bytes=2_000)
    for number in range(RECORDS):
        audit.record(OPERATOR, "sql", rows=number, where="socket", detail={"sql": "SELECT ?", "times": number})
    audit.close()
    assert len(chain.files(folder)) > 3
    return folder


def lines_of(folder: Path) -> list[tuple[Path, bytes]]:
    return [(file, line) for file in chain.files(folder) for line in file.read_bytes().splitlines(keepends=True)]


def changed(written: Path, copy: Path, change: Callable[[list[bytes]], list[bytes]]) -> Verdict:
    """The verdict on a copy whose lines were changed; the first file takes what is more, the last what is left."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(written, copy)
    lines = change([line for _, line in lines_of(written)])
    sizes = [len(file.read_bytes().splitlines()) for file in chain.files(written)]
    for file, size in zip(chain.files(copy)[:-1], sizes, strict=False):
        file.write_bytes(b"".join(lines[:size]))
        lines = lines[size:]
    chain.files(copy)[-1].write_bytes(b"".join(lines))
    return chain.verify(copy)


def forged(line: bytes, **fields: object) -> bytes:
    """The record with other fields and a hash that fits them, as somebody who knows the format would write it."""
    entry = msgspec.json.decode(line.partition(b" ")[2], type=Entry)
    return chain.encode(msgspec.structs.replace(entry, **fields))[0]


def test_chain_that_nobody_touched_is_whole(written: Path) -> None:
    verdict = chain.verify(written)
    assert (verdict.records, verdict.fault) == (RECORDS, None)
    assert verdict.head.sequence == RECORDS


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_byte_that_is_changed_is_found_at_its_record(
    tmp_path_factory: pytest.TempPathFactory, written: Path, data: st.DataObject
) -> None:
    found = lines_of(written)
    number = data.draw(st.integers(0, RECORDS - 1))
    place = data.draw(st.integers(0, len(found[number][1]) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda v: v != found[number][1][place]))

    def change(lines: list[bytes]) -> list[bytes]:
        line = lines[number]
        return [*lines[:number], line[:place] + bytes([value]) + line[place + 1 :], *lines[number + 1 :]]

    fault = changed(written, tmp_path_factory.mktemp("changed") / "audit", change).fault
    assert fault is not None and fault.sequence == number + 1, fault


@settings(deadline=None, max_examples=60)
@given(first=st.integers(0, RECORDS - 2), size=st.integers(1, 5))
def test_records_taken_out_are_found_at_the_first_of_them(
    tmp_path_factory: pytest.TempPathFactory, written: Path, first: int, size: int
) -> None:
    size = min(size, RECORDS - 1 - first)  # the tail is told by the head alone
    verdict = changed(
        written, tmp_path_factory.mktemp("out") / "audit", lambda lines: lines[:first] + lines[first + size :]
    )
    assert verdict.fault is not None and verdict.fault.sequence == first + 1
    assert "missing" in verdict.fault.what


@settings(deadline=None, max_examples=60)
@given(places=st.lists(st.integers(0, RECORDS - 1), min_size=2, max_size=2, unique=True))
def test_records_that_changed_places_are_found_at_the_first_of_them(
    tmp_path_factory: pytest.TempPathFactory, written: Path, places: list[int]
) -> None:
    one, other = sorted(places)

    def swap(lines: list[bytes]) -> list[bytes]:
        lines[one], lines[other] = lines[other], lines[one]
        return lines

    fault = changed(written, tmp_path_factory.mktemp("swap") / "audit", swap).fault
    assert fault is not None and fault.sequence == one + 1


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, RECORDS - 1), copied=st.integers(0, RECORDS - 1))
def test_record_put_in_is_found_where_it_stands(
    tmp_path_factory: pytest.TempPathFactory, written: Path, place: int, copied: int
) -> None:
    def put_in(lines: list[bytes]) -> list[bytes]:
        return [*lines[:place], lines[copied], *lines[place:]]

    copy = tmp_path_factory.mktemp("in") / "audit"
    fault = changed(written, copy, put_in).fault
    assert fault is not None
    before = (len(file.read_bytes().splitlines()) for file in chain.files(copy) if file.name < fault.file)
    # A copy put right before its own record is that record; the second one is the fault.
    assert sum(before) + fault.line - 1 == place + (copied == place)
    assert fault.sequence == (place + 1 if copied > place else copied + 1)


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, RECORDS - 2), rows=st.integers(1_000, 2_000))
def test_record_written_anew_with_a_hash_that_fits_is_found_by_the_next_one(
    tmp_path_factory: pytest.TempPathFactory, written: Path, place: int, rows: int
) -> None:
    def forge(lines: list[bytes]) -> list[bytes]:
        return [*lines[:place], forged(lines[place], rows=rows), *lines[place + 1 :]]

    fault = changed(written, tmp_path_factory.mktemp("forged") / "audit", forge).fault
    assert fault is not None and fault.sequence == place + 1


def test_file_that_is_gone_is_found_at_its_first_record(written: Path, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(written, copy)
    second = chain.files(copy)[1]
    first = msgspec.json.decode(second.read_bytes().splitlines()[0].partition(b" ")[2], type=Entry).sequence
    second.unlink()
    fault = chain.verify(copy).fault
    assert fault is not None and fault.sequence == first


@pytest.mark.parametrize("form", ["hash", "prefix", "metric"])
def test_tail_that_was_cut_off_is_told_by_a_published_head(written: Path, tmp_path: Path, form: str) -> None:
    head = chain.verify(written).head
    published = {"hash": head.hash, "prefix": head.hash[:12], "metric": f"{head.sequence}:{float(head.number)}"}[form]
    assert chain.verify(written, published).fault is None
    verdict = changed(written, tmp_path / "audit", lambda lines: lines[:-3])
    assert verdict.fault is None  # a shorter chain is a chain
    fault = chain.verify(tmp_path / "audit", published).fault
    assert fault is not None and fault.sequence == (RECORDS if form == "metric" else RECORDS - 2)
    assert "published" in fault.what


def test_chain_written_anew_from_a_record_on_is_told_by_a_published_head(written: Path, tmp_path: Path) -> None:
    """Whoever can write the files can make a chain that is whole; what was published before says otherwise."""
    head = chain.verify(written).head

    def forge(lines: list[bytes]) -> list[bytes]:
        before = lines[9].partition(b" ")[0].decode()
        for place in range(10, len(lines)):
            lines[place] = forged(lines[place], who="somebody", before=before)
            before = lines[place].partition(b" ")[0].decode()
        return lines

    assert changed(written, tmp_path / "audit", forge).fault is None
    fault = chain.verify(tmp_path / "audit", f"{head.sequence}:{head.number}").fault
    assert fault is not None and (fault.sequence, "rewritten" in fault.what) == (RECORDS, True)


@given(st.text(alphabet=string.printable, max_size=20))
def test_published_head_that_is_none_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    digits = text.strip().lower()
    if ":" in text or (len(digits) >= 12 and not digits.strip("0123456789abcdef")) or not text:
        return
    with pytest.raises(ValueError):
        chain.verify(tmp_path_factory.mktemp("none"), text)


def test_head_number_is_what_a_metric_can_hold() -> None:
    head = Head(1, "ffffffffffff" + "0" * 52)
    assert int(float(head.number)) == head.number == 2**48 - 1
