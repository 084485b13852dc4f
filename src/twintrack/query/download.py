"""A file that is being taken: what the engine has said already waits on the disk for a client that is slower.

So the engine, and the turn with it, is held for as long as it computes and no longer. The file has no name and its bytes are
sealed by a key that is nowhere else: a machine that stops leaves nothing that could be read.
"""

import asyncio
import contextlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from twintrack.errors import StoreError
from twintrack.seal import KEY_BYTES, Cipher

_BOUND = b"download"


class Room:
    """The disk that all files which are being taken share. Called from any thread.

    Shape: `most_bytes` of them in all, and `reserve_bytes` of the disk stay free, for events go before files.
    """

    def __init__(self, folder: Path, most_bytes: int, reserve_bytes: int) -> None:
        self._folder = folder if folder.is_dir() else Path(tempfile.gettempdir())
        self._most, self._reserve = most_bytes, reserve_bytes
        self._lock = threading.Lock()
        self._of: Counter[str] = Counter()

    @property
    def used(self) -> int:
        return self._of.total()

    def file(self) -> int:
        """A descriptor of a file without a name. Raises: OSError."""
        with tempfile.TemporaryFile(dir=self._folder) as made:
            return os.dup(made.fileno())

    def take(self, size: int, asker: str) -> None:
        """One asker has half of it at most. Raises: StoreError where so much more does not fit; OSError."""
        space = os.statvfs(self._folder)
        with self._lock:
            if self._of[asker] + size > self._most // 2 or self.used + size > self._most:
                raise StoreError(
                    f"files that are being taken fill their {self._most:,} bytes, or one asker's half (query_file_bytes)",
                    hint="ask for less, or when others have been taken",
                    code="query_limit",
                    status=400,
                )
            if space.f_bavail * space.f_frsize - size < self._reserve:
                raise StoreError(
                    "the disk is too full for this file (disk_reserve_bytes)",
                    hint="free disk space, or ask for less",
                    code="query_limit",
                    status=503,
                )
            self._of[asker] += size

    def give_back(self, size: int, asker: str) -> None:
        with self._lock:
            self._of[asker] -= size
            self._of += Counter()  # only those who have any


class Download:
    """The pieces of one file, in order. One thread puts them in, the loop's side takes them out."""

    def __init__(self, room: Room, asker: str) -> None:
        self._room, self._asker, self._cipher = room, asker, Cipher(os.urandom(KEY_BYTES))
        self._places: list[tuple[int, int]] = []
        self._size = 0
        self._lock = threading.Lock()
        self._file: int | None = None
        self._came = asyncio.Event()
        self._closed, self._whole = False, False
        self._error: Exception | None = None

    def put(self, piece: bytes) -> None:
        """On the thread of the engine. Raises: StoreError where there is no room; where nobody takes it any more."""
        with self._lock:
            if self._closed:
                raise _late()
            sealed = self._cipher.seal(len(self._places), piece, _BOUND)
            try:
                self._room.take(len(sealed), self._asker)
                place, self._size = self._size, self._size + len(sealed)
                if self._file is None:
                    self._file = self._room.file()
                view = memoryview(sealed)
                while view:
                    view = view[os.pwrite(self._file, view, place + len(sealed) - len(view)) :]
            except OSError as error:
                raise StoreError(
                    "the file cannot be kept on the disk", hint="see the disk's space and health"
                ) from error
            self._places.append((place, len(sealed)))

    def came(self) -> None:
        """On the loop, after `put`."""
        self._came.set()

    def end(self, error: Exception | None = None) -> None:
        """No piece comes any more; the error is raised to the taker behind the last one."""
        self._whole, self._error = True, error
        self._came.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Each piece once, as they come. Raises: what `end` was told."""
        taken = 0
        while True:
            self._came.clear()
            if taken < len(self._places):
                yield await asyncio.to_thread(self._piece, taken)
                taken += 1
            elif self._whole:
                if self._error is not None:
                    raise self._error
                return
            else:
                await self._came.wait()

    def _piece(self, number: int) -> bytes:
        with self._lock:
            if self._file is None:
                raise _late()
            place, size = self._places[number]
            return self._cipher.open(number, os.pread(self._file, size, place), _BOUND)

    def close(self) -> None:
        """Not on the loop, since the disk may be slow. The file is gone; who still takes it is told that he was too slow."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.close(self._file)
                self._file = None
            self._room.give_back(self._size, self._asker)
            self._size = 0


def _late() -> StoreError:
    return StoreError("the file was taken too slowly", hint="ask for less, or read faster", code="too_slow", status=400)
