"""Messages that the broker did not take: synced to this node's disk, acknowledged from there, sent again later.

Segments of length, CRC-32 and message. A segment goes when the broker has all of it; sent twice, a message counts
once, so nothing is marked in between and the rest of a failed write may be sent as well.
"""

import asyncio
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from twintrack.errors import Unavailable
from twintrack.spool import segment
from twintrack.spool.kafka.message import Outgoing

log = structlog.get_logger()
_HEAD = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, int]).decode


class _Waiting(NamedTuple):
    data: bytes
    events: int
    future: "asyncio.Future[None]"
    loop: asyncio.AbstractEventLoop


class Fallback:
    """Shape: `folder/NUMBER.log`. One process owns the folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._waiting: deque[_Waiting] = deque()
        self._stopping = False
        self.failing = ""  # why the last write failed
        self._handle: int | None = None
        known = segment.epochs(folder)
        self._number = max(known, default=0)
        self._sizes = {number: segment.segment_path(folder, number).stat().st_size for number in known}
        self._events = {number: sum(one.events for one in self.read(number)) for number in known}
        self._thread = threading.Thread(target=self._write_forever, name="fallback-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        self._end_segment()

    def why_not_ready(self) -> str:
        if self.size_bytes() > self._most_bytes:
            return f"the fallback holds more than {self._most_bytes} bytes (TWINTRACK_SPOOL_BYTES): the broker is away"
        return ""

    def size_bytes(self) -> int:
        return sum(list(self._sizes.values()))

    def events(self) -> int:
        """Events that the broker has not confirmed."""
        return sum(list(self._events.values()))

    async def append(self, messages: list[Outgoing]) -> None:
        """Durable on return. Raises: Unavailable when the disk did not take them."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        payloads = [_encode(tuple(message)) for message in messages]
        data = b"".join(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload for payload in payloads)
        with self._wake:
            reason = "the service is stopping" if self._stopping else self.why_not_ready()
            if reason:
                raise Unavailable(reason, hint="nothing was kept; send again after Retry-After")
            self._waiting.append(_Waiting(data, sum(message.events for message in messages), future, loop))
            self._wake.notify()
        await future

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                group = list(self._waiting)
                self._waiting.clear()
            if not group:
                return
            failure: Unavailable | None = None
            with self._lock:
                try:
                    self._write(group)
                    self.failing = ""
                except OSError as error:
                    self.failing = f"the disk does not take the fallback: {error.strerror}"
                    log.error("fallback_write_failed", error=type(error).__name__)
                    self._end_segment()
                    failure = Unavailable(
                        "neither the broker nor the disk took the batch", hint="mend one of them, then send again"
                    )
            for waiting in group:
                waiting.loop.call_soon_threadsafe(_settle, waiting.future, failure)

    def _write(self, group: list[_Waiting]) -> None:
        if self._handle is None:
            self._number += 1
            self._handle, _ = segment.create_segment(self._folder, self._number, segment.Position(0, 0))
            self._sizes[self._number] = self._events[self._number] = 0
        data = b"".join(waiting.data for waiting in group)
        segment.write_all(self._handle, data)
        os.fdatasync(self._handle)
        self._sizes[self._number] += len(data)
        self._events[self._number] += sum(waiting.events for waiting in group)

    def _end_segment(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def segments(self) -> list[int]:
        """Segments to send, oldest first. None of them grows any more."""
        with self._lock:
            self._end_segment()
            return sorted(self._sizes)

    def read(self, number: int) -> Iterator[Outgoing]:
        """The messages of a segment, up to the first that is torn: nothing behind it was acknowledged."""
        with segment.segment_path(self._folder, number).open("rb") as file:
            file.seek(segment.HEADER_BYTES)
            while True:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    return
                length, check = _HEAD.unpack(head)
                payload = file.read(length)
                if len(payload) < length or zlib.crc32(payload) != check:
                    return
                yield Outgoing(*_decode(payload))

    def remove(self, number: int) -> None:
        """The broker has all of this segment."""
        segment.remove_segment(self._folder, number)
        segment.sync_folder(self._folder)
        with self._lock:
            del self._sizes[number], self._events[number]


def _settle(future: "asyncio.Future[None]", failure: Unavailable | None) -> None:
    if future.cancelled():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
