"""Which of a topic's loaders erases, expires and makes rollups again: one at a time, and another when that one dies.

The holder moves a number while it lives. Whoever sees the number stand still by a clock of their own takes its place,
so that clocks of several machines are never compared. Some of that work needs that no insert of anybody is in doubt:
then the holder asks for quiet. No loader opens a chunk any more, because each verdict reads the same row in its own
transaction, and once every open chunk is settled it is quiet, until `release`.

A holder that sleeps through its time and wakes in the middle of such work finds at its next look that it is none any more.
"""

import contextlib
import math
import threading

import structlog
from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from twintrack.clock import Clock
from twintrack.spool.kafka.ledger import Verdicts
from twintrack.spool.kafka.tables import chunks, housework

log = structlog.get_logger()
_BEAT_SECONDS = 2.0
_SURE_SECONDS = 5.0  # so long after a beat the place is surely ours
_LEASE_SECONDS = 10.0  # so long without one it may be taken
_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0  # loading is not held up longer by a chunk that does not settle
_GONE_MILLISECONDS = 60_000
_NOBODY = ""


class Housework:
    """`leads`, `quiet` and `release` are called by the loader's thread."""

    def __init__(self, ledger: Verdicts, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._here: ColumnElement[bool] = housework.c.topic == ledger.topic
        self._lock = threading.Lock()
        self._beat_at: float | None = None  # monotonic seconds; None while somebody else holds the place
        self._seen, self._seen_at, self._looked_at = ("", 0), 0.0, -math.inf
        self._asked_at: float | None = None
        self._again_at = -math.inf
        self._granted = self._wanted = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        with contextlib.suppress(IntegrityError), ledger.begin() as db:
            if db.execute(select(housework.c.topic).where(self._here)).first() is None:
                db.execute(
                    insert(housework).values(topic=ledger.topic, holder=_NOBODY, beat=0, quiet=0, seen_milliseconds=0)
                )

    def close(self) -> None:
        """The next one need not wait for the end of our time."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(SQLAlchemyError), self._lock:
            if self._beat_at is not None:
                self._set(holder=_NOBODY, quiet=0)
                self._beat_at = None

    def leads(self) -> bool:
        """Whether this loader has the place; takes it where it is free. Raises: SQLAlchemyError."""
        with self._lock:
            now = self._clock.monotonic_seconds()
            if self._beat_at is not None:
                return now - self._beat_at < _SURE_SECONDS or self._beat()
            if now - self._looked_at < _LOOK_SECONDS:
                return False
            self._looked_at = now
            return self._take(now)

    def led(self) -> bool:
        """Whether any loader has had the place within the last minute, by this node's clock. Raises: SQLAlchemyError."""
        with self._ledger.begin() as db:
            row = db.execute(select(housework.c.holder, housework.c.seen_milliseconds).where(self._here)).one()
        return bool(row.holder != _NOBODY and row.seen_milliseconds > self._clock.milliseconds() - _GONE_MILLISECONDS)

    def _take(self, now: float) -> bool:
        with self._ledger.begin() as db:
            row = db.execute(select(housework.c.holder, housework.c.beat).where(self._here)).one()
            if row.holder != _NOBODY:
                if (row.holder, row.beat) != self._seen:
                    self._seen, self._seen_at = (row.holder, row.beat), now
                    return False
                if now - self._seen_at < _LEASE_SECONDS:
                    return False
            same = self._here & (housework.c.holder == row.holder) & (housework.c.beat == row.beat)
            values = {"holder": self._ledger.loader, "beat": row.beat + 1, "quiet": 0}
            values["seen_milliseconds"] = self._clock.milliseconds()
            if db.execute(update(housework).where(same).values(values)).rowcount != 1:
                return False
        self._beat_at = now
        if row.holder != _NOBODY:
            log.warning("housework_taken_over")
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat_forever, name="housework", daemon=True)
            self._thread.start()
        return True

    def _beat_forever(self) -> None:
        while not self._ending.wait(_BEAT_SECONDS):
            with contextlib.suppress(SQLAlchemyError), self._lock:
                if self._beat_at is not None:
                    self._beat()

    def _beat(self) -> bool:
        """Says that we live; whether the place is ours still."""
        now = self._clock.monotonic_seconds()  # others may see it before we know that it is written
        if self._set(beat=housework.c.beat + 1, seen_milliseconds=self._clock.milliseconds()):
            self._beat_at = now
            return True
        log.warning("housework_lost")
        self._beat_at, self._asked_at, self._granted = None, None, False
        return False

    def _set(self, **values: object) -> bool:
        mine = self._here & (housework.c.holder == self._ledger.loader)
        with self._ledger.begin() as db:
            return db.execute(update(housework).where(mine).values(values)).rowcount == 1

    def quiet(self) -> bool:
        """Whether no chunk of any loader is open, and none is opened before `release`; asks for that.

        Raises: SQLAlchemyError.
        """
        if not self.leads():
            return False
        self._wanted = True
        now = self._clock.monotonic_seconds()
        if self._granted:
            return True
        if self._asked_at is None:
            if now < self._again_at or not self._set(quiet=1):
                return False
            self._asked_at = now
        with self._ledger.begin() as db:
            open_chunk = (chunks.c.topic == self._ledger.topic) & (chunks.c.state == "open")
            self._granted = db.execute(select(chunks.c.chunk_id).where(open_chunk).limit(1)).first() is None
        if not self._granted and now - self._asked_at > _PATIENCE_SECONDS:
            self._again_at = now + _PATIENCE_SECONDS
            self._end_quiet()
        return self._granted

    def release(self) -> None:
        """The others may go on, also where it was asked for and nobody waits for it any more. Raises: SQLAlchemyError."""
        if self._granted or (self._asked_at is not None and not self._wanted):
            self._end_quiet()
        self._wanted = False

    def _end_quiet(self) -> None:
        self._granted = False  # also where the next line fails: it is tried again as long as it is asked for
        self._set(quiet=0)
        self._asked_at = None
