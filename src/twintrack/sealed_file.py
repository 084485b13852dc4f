"""A file sealed as a stream, such as a backup: opens with `TWINTRACK_ENCRYPTION_KEY` alone, on any machine.

    magic, length and bytes of the file's own key, wrapped by the key ring
    frames of up to 1 MiB: length, sealed bytes; the number of a frame and whether it is the last one are bound in

So a file that was cut, or whose frames were moved, does not read to its end. A key that was replaced since still opens
files of its time: keep it for as long as they are kept, or give it in `TWINTRACK_ENCRYPTION_KEY_OLD`.
Next: seal.py.
"""

import io
import os
import struct
from typing import BinaryIO

from twintrack.errors import SealBroken
from twintrack.seal import KEY_BYTES, Cipher, KeyRing

_MAGIC = b"TTSEALF1"
_HEAD = struct.Struct("<8sH")
_LENGTH = struct.Struct("<I")
_FRAME_BYTES = 1 << 20
_MOST_BYTES = _FRAME_BYTES + 16
_BOUND = b"sealed file"
_MORE, _LAST = b"more", b"last"


def is_sealed_file(start: bytes) -> bool:
    """By its first bytes."""
    return start[: len(_MAGIC)] == _MAGIC


class SealedWriter(io.RawIOBase):
    """Seals what is written to it; the file is whole only once this is closed without an error."""

    def __init__(self, ring: KeyRing, target: BinaryIO) -> None:
        key = os.urandom(KEY_BYTES)
        wrapped = ring.wrap(key, _BOUND)
        self._target, self._cipher, self._number = target, Cipher(key), 0
        self._held = bytearray()
        target.write(_HEAD.pack(_MAGIC, len(wrapped)) + wrapped)

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._held += data
        while len(self._held) > _FRAME_BYTES:
            self._frame(bytes(self._held[:_FRAME_BYTES]), _MORE)
            del self._held[:_FRAME_BYTES]
        return len(data)

    def _frame(self, data: bytes, bound: bytes) -> None:
        sealed = self._cipher.seal(self._number, data, bound)
        self._target.write(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1

    def finish(self) -> None:
        """Writes the last frame: without it the file is not whole. The target stays open."""
        self._frame(bytes(self._held), _LAST)
        self._held.clear()


class SealedReader(io.RawIOBase):
    """Reads what a `SealedWriter` wrote. Each byte was checked before it is handed out; that none is missing is known
    only at the end.

    Raises: EncryptionKeyRefused where no key of the ring opens it; SealBroken where it is none, was altered or cut.
    """

    def __init__(self, ring: KeyRing, source: BinaryIO) -> None:
        magic, length = _HEAD.unpack(_exactly(source, _HEAD.size))
        if magic != _MAGIC:
            raise SealBroken("this is no sealed file")
        self._cipher = Cipher(ring.unwrap(_exactly(source, length), _BOUND))
        self._source, self._number, self._held, self._last = source, 0, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held:
            if self._last:
                return 0
            self._next()
        part, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def _next(self) -> None:
        (length,) = _LENGTH.unpack(_exactly(self._source, _LENGTH.size))
        if length > _MOST_BYTES:
            raise SealBroken("the sealed file was altered")
        sealed = _exactly(self._source, length)
        # All but the last frame are full, so that most are opened at the first try.
        bounds = (_MORE, _LAST) if length == _MOST_BYTES else (_LAST,)
        for bound in bounds:
            try:
                self._held = self._cipher.open(self._number, sealed, bound)
            except SealBroken:
                continue
            self._last = bound is _LAST
            self._number += 1
            if self._last and self._source.read(1):
                raise SealBroken("something stands behind the end of the sealed file")
            return
        raise SealBroken("the sealed file was altered, or a part of it is missing")


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise SealBroken("the sealed file was cut short")
    return data
