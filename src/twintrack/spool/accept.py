"""One writer thread: claims the ids of every waiting batch, appends the batches to the log, keeps the claims, answers.

All batches that wait share one sync. What fails ends as an answer, never as the thread's end: a full or broken disk is
asked again at the next group and every second, and takes events again without a restart.
Next: spool/freeze.py.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from twintrack.errors import Unavailable
from twintrack.metrics import Metrics
from twintrack.spool.balance import Balance
from twintrack.spool.claims import project_tag
from twintrack.spool.known import KnownIds, Wanted
from twintrack.spool.log import Log
from twintrack.spool.protocol import Delivery, Kind
from twintrack.spool.segment import Part, Position, Record

log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_RENEW_SECONDS = 30.0


class _Waiting(NamedTuple):
    delivery: Delivery
    future: "asyncio.Future[list[bool]]"
    loop: asyncio.AbstractEventLoop


class Limits(NamedTuple):
    """When the door closes."""

    spool_bytes: int
    segment_bytes: int
    reserve_bytes: int  # of free disk


class Writer:
    def __init__(
        self,
        folder: Path,
        spool_log: Log,
        known: KnownIds,
        balance: Balance,
        metrics: Metrics,
        limits: Limits,
        held_bytes: Callable[[], int],
        reached: Callable[[str], None],
    ) -> None:
        self._folder, self._log, self._known, self._balance = folder, spool_log, known, balance
        self._metrics, self._limits, self._held_bytes, self._reached = metrics, limits, held_bytes, reached
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._waiting: deque[_Waiting] = deque()
        self._kicked: set[asyncio.AbstractEventLoop] = set()  # loops that will wake the writer
        self._unclaimed: list[tuple[bytes, bool]] = []  # accepted, but their claims could not be written
        self._stopping = False
        self._renew = False  # the open segment shall end, so that its file can go
        self._renewed = threading.Event()
        self._disk = ""
        self.readable = spool_log.end  # up to here the log is synced and claimed
        self.appended = threading.Event()  # set when there is something to freeze
        self._thread = threading.Thread(target=self._write_forever, name="spool-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """Answers everything that waits, then ends; whether the index knows all that was accepted."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        return not self._unclaimed

    def renew(self) -> None:
        """What is appended from now on stands in another segment. Returns when that is so.

        Raises: Unavailable when the disk does not take one.
        """
        before = self._log.end.epoch
        self._renewed.clear()
        with self._wake:
            self._renew = True
            self._wake.notify()
        self._renewed.wait(_RENEW_SECONDS)
        if self._log.end.epoch == before:
            raise Unavailable("the log cannot begin a new segment", hint="free space or mend the disk")

    async def append(self, delivery: Delivery) -> list[bool]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[bool]] = loop.create_future()
        with self._wake:
            reason = self._closed()
            if reason:
                raise Unavailable(reason, hint="nothing was kept; send again after Retry-After")
            self._waiting.append(_Waiting(delivery, future, loop))
            kicked = loop in self._kicked
            self._kicked.add(loop)
        if not kicked:
            # The writer wakes when the loop has been through all that is ready: one wake for all of them, and no
            # thread that wants the interpreter while requests are being read.
            loop.call_soon(self._kick, loop)
        return await future

    def _kick(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._wake:
            self._kicked.discard(loop)
            self._wake.notify()

    def _closed(self) -> str:
        if self._stopping:
            return "the service is stopping"
        if self._held_bytes() > self._limits.spool_bytes:
            return (
                f"the spool holds more than {self._limits.spool_bytes} bytes (TWINTRACK_SPOOL_BYTES):"
                " the store is behind"
            )
        return ""

    def why_not_ready(self) -> str:
        """Why no event can be accepted durably now; empty where it can."""
        return self._closed() or self._disk or self._log.trouble

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping and not self._renew:
                    troubled = bool(self._disk or self._log.trouble or self._unclaimed)
                    if not self._wake.wait(_RETRY_SECONDS if troubled else None) and troubled:
                        break
                group = list(self._waiting)
                self._waiting.clear()
                if not group and self._stopping:
                    return
                renew = self._renew
            if renew:
                self._begin_segment()
            if group:
                self._write(group)
            else:
                with contextlib.suppress(Exception):
                    self._mend()

    def _begin_segment(self) -> None:
        with contextlib.suppress(Exception):
            self._mend()
            if not self._unclaimed:
                self._log.renew()
                self._publish(self._log.end)
        self._renew = False
        self._renewed.set()

    def _write(self, group: list[_Waiting]) -> None:
        answers: Iterable[list[bool] | BaseException]
        try:
            answers = self._keep(group)
        except BaseException as error:
            failure = error
            if not isinstance(error, Unavailable):
                log.error("spool_append_failed", kind=type(error).__name__)
                failure = Unavailable(
                    "the disk did not take the batch", hint="free space or mend the disk; nothing was kept, send again"
                )
            answers = [failure] * len(group)
        self._reached("before_answer")
        self._answer(group, answers)

    def _mend(self) -> None:
        """Whatever went wrong before is set right, or stays the reason why nothing is accepted.

        Raises: Unavailable, or what the index says.
        """
        space = os.statvfs(self._folder)
        free = space.f_bavail * space.f_frsize
        self._disk = ""
        if free < self._limits.reserve_bytes:
            self._disk = (
                f"the disk has {free >> 20} MiB left, less than TWINTRACK_DISK_RESERVE_BYTES"
                f" ({self._limits.reserve_bytes >> 20} MiB)"
            )
            raise Unavailable(self._disk, hint="free space; nothing was kept, send again")
        self._log.mend()
        if self._log.trouble:
            raise Unavailable(self._log.trouble, hint="free space or mend the disk; nothing was kept, send again")
        if self._unclaimed:
            self._known.add(self._unclaimed)
            self._unclaimed = []
            self._publish(self._log.end)

    def _keep(self, group: list[_Waiting]) -> list[list[bool]]:
        """One transaction of claims and one sync for the group; for each batch which of its events are new.

        Raises: Unavailable, or whatever failed; then nothing was kept.
        """
        self._mend()
        wanted = [
            Wanted(slab.ids, project_tag(one.delivery.tenancy.project), slab.recent)
            for one in group
            for slab in one.delivery.slabs
        ]
        claimed = self._known.claim(wanted)
        try:
            verdicts, late = iter(claimed.verdicts), iter(claimed.late)
            answers = [list(islice(verdicts, len(one.delivery.slabs))) for one in group]
            records = [
                _record(one.delivery, a, list(islice(late, len(one.delivery.slabs))))
                for one, a in zip(group, answers, strict=True)
            ]
            started = time.perf_counter()
            end = self._log.append(records)
            self._metrics.sync_seconds.observe(time.perf_counter() - started)
        except BaseException:
            if claimed.transaction is not None:
                claimed.transaction.abort()
            raise
        if claimed.transaction is not None:
            try:
                claimed.transaction.commit()
            except Exception as error:
                # Accepted all the same; the log is not read beyond here until these claims are made.
                log.error("spool_index_failed", kind=type(error).__name__)
                self._unclaimed += [
                    (i + w.tag, side)
                    for w, side, verdict in zip(wanted, claimed.late, claimed.verdicts, strict=True)
                    for i, fresh in zip(w.ids, verdict, strict=True)
                    if fresh
                ]
        else:
            self._known.lose()  # a filling of the index that began meanwhile does not know of these
        fresh = sum(record.events() for record in records)
        self._balance.appended(end, records, fresh)
        if not self._unclaimed:
            self._publish(end)
        self._metrics.group_events.observe(fresh)
        if end.offset >= self._limits.segment_bytes:
            self._log.renew()
        return [list(chain.from_iterable(answer)) for answer in answers]

    def _publish(self, end: Position) -> None:
        self.readable = end
        self.appended.set()

    @staticmethod
    def _answer(group: list[_Waiting], answers: Iterable[list[bool] | BaseException]) -> None:
        def settle(pairs: "list[tuple[asyncio.Future[list[bool]], list[bool] | BaseException]]") -> None:
            for future, answer in pairs:
                if future.cancelled():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        # One call for the whole group: each call wakes its loop.
        by_loop: defaultdict[asyncio.AbstractEventLoop, list[Any]] = defaultdict(list)
        for waiting, answer in zip(group, answers, strict=True):
            by_loop[waiting.loop].append((waiting.future, answer))
        for loop, pairs in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop of a sender that is gone is closed
                loop.call_soon_threadsafe(settle, pairs)


def _record(delivery: Delivery, verdicts: list[list[bool]], late: list[bool]) -> Record:
    """What the log keeps of a delivery: the rows of its new events, and how all were answered."""
    parts, accepted, duplicates = [], 0, 0
    for slab, verdict, is_late in zip(delivery.slabs, verdicts, late, strict=True):
        ids, lines = slab.ids, slab.lines
        if not all(verdict):
            ids = [i for i, fresh in zip(ids, verdict, strict=True) if fresh]
            lines = b"\n".join([line for line, fresh in zip(lines.split(b"\n"), verdict, strict=True) if fresh])
        accepted += len(ids)
        duplicates += len(verdict) - len(ids)
        if ids:
            parts.append(Part(Kind.EVENTS.value, slab.month, is_late, len(ids), b"".join(ids), lines))
    parts += [Part(Kind.RECEIPTS.value, month, False, 1, b"", row) for month, row in delivery.receipts]
    counts = Counter(f"{refused.status}|{refused.reason}" for refused in delivery.refused)
    if accepted:
        counts["accepted|"] = accepted
    if duplicates:
        counts["duplicate|already_accepted"] = duplicates
    return Record(
        delivery.tenancy.project,
        delivery.tenancy.environment,
        delivery.received_milliseconds,
        delivery.import_id,
        dict(counts),
        parts,
        [(r.event_id, r.status, r.reason) for r in delivery.refused if r.event_id],
    )
