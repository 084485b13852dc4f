"""A sealed file reads to its end only where every byte of it is the one that was written."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.errors import EncryptionKeyRefused, SealBroken
from twintrack.seal import KeyRing
from twintrack.sealed_file import SealedReader, SealedWriter, is_sealed_file

ONE, OTHER = bytes(range(32)), bytes(range(1, 33))
FRAME = 1 << 20


def sealed(data: bytes, ring: KeyRing | None = None) -> bytes:
    target = io.BytesIO()
    writer = SealedWriter(ring or KeyRing(ONE), target)
    for start in range(0, len(data), 70_000):
        writer.write(data[start : start + 70_000])
    writer.finish()
    return target.getvalue()


def opened(file: bytes, ring: KeyRing | None = None) -> bytes:
    return SealedReader(ring or KeyRing(ONE), io.BytesIO(file)).readall() or b""


@pytest.mark.parametrize("size", [0, 1, 1000, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 3 * FRAME + 17])
def test_file_of_any_size_is_read_as_it_was_written(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    file = sealed(data[:size])
    assert opened(file) == data[:size]
    assert is_sealed_file(file) and not is_sealed_file(data[:8])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_file_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    file = bytearray(sealed(b"rows of a backup" * 20))
    file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SealBroken, EncryptionKeyRefused)):
        opened(bytes(file))


def test_file_cut_anywhere_is_refused() -> None:
    whole = sealed(b"x" * (2 * FRAME))
    frame = FRAME + 20
    head = len(whole) - 2 * frame
    for end in (0, 5, head, head + 3, head + frame, head + frame + 4, len(whole) - 1):
        with pytest.raises(SealBroken):
            opened(whole[:end])
    with pytest.raises(SealBroken):
        opened(whole + b"more")


def test_frames_that_changed_places_are_refused() -> None:
    file = sealed(bytes(FRAME) + b"x" * FRAME + b"end")
    frame, head = FRAME + 20, len(file) - 2 * (FRAME + 20) - 23
    first, second = file[head : head + frame], file[head + frame : head + 2 * frame]
    with pytest.raises(SealBroken):
        opened(file[:head] + second + first + file[head + 2 * frame :])


def test_file_of_an_older_key_opens_with_it_in_the_ring_alone() -> None:
    file = sealed(b"of its time")
    assert opened(file, KeyRing(OTHER, [ONE])) == b"of its time"
    with pytest.raises(EncryptionKeyRefused):
        opened(file, KeyRing(OTHER))


def test_archive_is_written_and_read_as_a_stream() -> None:
    target = io.BytesIO()
    writer = SealedWriter(KeyRing(ONE), target)
    with tarfile.open(fileobj=writer, mode="w|") as archive:
        entry = tarfile.TarInfo("control.db")
        entry.size = 3 * FRAME
        archive.addfile(entry, io.BytesIO(b"c" * entry.size))
    writer.finish()
    assert b"control.db" not in target.getvalue()
    target.seek(0)
    with tarfile.open(fileobj=SealedReader(KeyRing(ONE), target), mode="r|") as archive:
        member = archive.next()
        assert member is not None and member.name == "control.db"
        content = archive.extractfile(member)
        assert content is not None and content.read() == b"c" * 3 * FRAME
