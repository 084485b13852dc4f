"""The log's bytes: what was written is read, torn tails end a segment, a flipped bit costs one record."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.spool.kit import KEYS
from twintrack.errors import SealBroken
from twintrack.seal import DataKeys
from twintrack.spool import segment
from twintrack.spool.segment import HEADER_BYTES, Damage, Part, Position, Record

texts = st.text(max_size=30)
parts = st.builds(
    lambda month, late, ids, line: Part("events", month, late, len(ids), b"".join(ids), line),
    st.integers(197001, 210012),
    st.booleans(),
    st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=4),
    st.binary(max_size=60),
)
records = st.builds(
    Record,
    texts,
    texts,
    st.integers(0, 1 << 45),
    texts,
    st.dictionaries(texts, st.integers(0, 1 << 40), max_size=3),
    st.lists(parts, max_size=3),
    st.lists(st.tuples(texts, texts, texts), max_size=3),
)


PLAIN_AND_SEALED = pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])


def write(folder: Path, groups: list[list[Record]], epoch: int = 1, keys: DataKeys | None = None) -> Position:
    handle, binding = segment.create_segment(folder, epoch, Position(0, 0), keys)
    end = Position(epoch, HEADER_BYTES)
    for group in groups:
        data, end = segment.encode_records(group, binding, end)
        segment.write_all(handle, data)
    os.close(handle)
    return end


def read(folder: Path, end: Position | None, keys: DataKeys | None = None) -> list[Record | Damage]:
    return [found for _, found in segment.read_records(folder, 1, Position(1, 0), end, keys)]


def simple(number: int, text: bytes = b"row") -> Record:
    part = Part("events", 202601, False, 2, bytes([number]) * 32, text)
    return Record("demo", "local", number, "", {"accepted|": 2}, [part], [])


@PLAIN_AND_SEALED
@given(groups=st.lists(st.lists(records, min_size=1, max_size=3), max_size=4))
@settings(deadline=None)
def test_records_written_are_read_with_and_without_a_marked_end(
    tmp_path_factory: pytest.TempPathFactory, keys: DataKeys | None, groups: list[list[Record]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    end = write(folder, groups, keys=keys)
    flat = [record for group in groups for record in group]
    assert read(folder, end, keys) == flat
    assert read(folder, None, keys) == flat
    assert end.events == sum(record.events() for record in flat)


@PLAIN_AND_SEALED
@given(data=st.data())
@settings(deadline=None)
def test_torn_tail_ends_the_segment_at_the_last_whole_record(
    tmp_path_factory: pytest.TempPathFactory, keys: DataKeys | None, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    whole = write(folder, [[simple(1)], [simple(2)]], keys=keys)
    path = segment.segment_path(folder, 1)
    content = path.read_bytes()
    opened = segment.read_header(folder, 1, keys)
    assert opened is not None
    third, _ = segment.encode_records([simple(3)], opened.binding, whole)
    cut = data.draw(st.integers(0, len(third) - 1))
    torn = third[:cut] + data.draw(st.binary(max_size=40))
    assume(not torn.startswith(third))  # one byte in 256 happens to be the one that is missing: a whole record
    path.write_bytes(content + torn)
    assert read(folder, None, keys) == [simple(1), simple(2)]


@PLAIN_AND_SEALED
def test_each_flipped_bit_costs_its_own_record_and_no_other(tmp_path: Path, keys: DataKeys | None) -> None:
    """Also in headers, lengths and marks: the next whole record is found, and how many events were lost is known."""
    originals = [simple(n) for n in (1, 2, 3)]
    end = write(tmp_path, [[record] for record in originals], keys=keys)
    path = segment.segment_path(tmp_path, 1)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        found = read(tmp_path, end, keys)
        whole = [one for one in found if isinstance(one, Record)]
        lost = sum(one.events for one in found if isinstance(one, Damage))
        assert len(whole) == (3 if place < HEADER_BYTES else 2), place
        assert [record for record in originals if record in whole] == whole
        assert sum(record.events() for record in whole) + lost == 6


def test_flip_before_a_crash_is_damage_where_a_later_record_proves_it_was_synced(tmp_path: Path) -> None:
    write(tmp_path, [[simple(1)], [simple(2)], [simple(3)]])
    path = segment.segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[content.index(bytes([1]) * 32)] ^= 1
    path.write_bytes(content)
    found = read(tmp_path, None)
    assert isinstance(found[0], Damage) and found[0].events == 2
    assert found[1:] == [simple(2), simple(3)]


def test_hole_in_the_last_group_is_a_torn_tail_though_a_later_record_of_it_is_whole(tmp_path: Path) -> None:
    """Pages of one write reach the disk in any order; nobody was told about any of them."""
    write(tmp_path, [[simple(1)], [simple(2), simple(3)]])
    path = segment.segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[content.index(bytes([2]) * 32)] ^= 1
    path.write_bytes(content)
    assert read(tmp_path, None) == [simple(1)]


def test_bytes_of_an_event_are_never_taken_for_a_record(tmp_path: Path) -> None:
    """A record as another segment would hold it, sent inside an event whose own record is then broken."""
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    write(elsewhere, [[simple(9)]])
    forged = segment.segment_path(elsewhere, 1).read_bytes()[HEADER_BYTES:]
    end = write(tmp_path, [[simple(1, forged)], [simple(2)]])
    path = segment.segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES] ^= 1
    path.write_bytes(content)
    found = read(tmp_path, end)
    assert [one for one in found if isinstance(one, Record)] == [simple(2)]


def test_what_stands_behind_a_marked_end_is_not_read(tmp_path: Path) -> None:
    end = write(tmp_path, [[simple(1)]])
    binding = segment.read_header(tmp_path, 1).binding  # type: ignore[union-attr]
    with segment.segment_path(tmp_path, 1).open("ab") as file:
        file.write(segment.encode_records([simple(2)], binding, end)[0])
    assert read(tmp_path, end) == [simple(1)]


def test_sealed_segment_shows_nothing_of_its_rows(tmp_path: Path) -> None:
    end = write(tmp_path, [[simple(1, b"a row with marker-1729")]], keys=KEYS)
    content = segment.segment_path(tmp_path, 1).read_bytes()
    assert b"marker" not in content and bytes([1]) * 16 not in content
    assert read(tmp_path, end, KEYS) == [simple(1, b"a row with marker-1729")]
    with pytest.raises(SealBroken):
        read(tmp_path, end)


def test_sealed_body_put_into_another_record_with_fitting_checksums_is_damage(tmp_path: Path) -> None:
    """Checksums tell accidents; whoever can write the file can make them anew, but cannot seal."""
    end = write(tmp_path, [[simple(1)], [simple(2)]], keys=KEYS)
    path = segment.segment_path(tmp_path, 1)
    opened = segment.read_header(tmp_path, 1, KEYS)
    assert opened is not None
    content = path.read_bytes()
    size = (len(content) - HEADER_BYTES) // 2
    first, second = content[HEADER_BYTES : HEADER_BYTES + size], content[HEADER_BYTES + size :]
    mark, head_bytes, body_bytes, _, _ = segment._HEAD.unpack(second[: segment._HEAD.size])
    head, body = second[segment._HEAD.size :][:head_bytes], first[-body_bytes:]
    seed = segment._seed(opened.binding.salt, HEADER_BYTES + size)
    body_check = zlib.crc32(body, seed)
    head_check = zlib.crc32(head, zlib.crc32(struct.pack("<III", head_bytes, body_bytes, body_check), seed))
    moved = segment._HEAD.pack(mark, head_bytes, body_bytes, head_check, body_check) + head + body
    path.write_bytes(content[: HEADER_BYTES + size] + moved)
    found = read(tmp_path, end, KEYS)
    assert found[0] == simple(1)
    assert isinstance(found[1], Damage) and found[1].events == 2
