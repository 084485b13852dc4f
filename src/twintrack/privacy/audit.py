"""Who did what, when, from where, and how many rows it showed: on disk before the answer leaves.

Promises: `record` returns when the record is synced, or raises and nothing may be shown; several that wait share one
sync. Files are only appended to. What a write that failed left behind is cut off before the next one; what a crash left
unfinished is cut off at the next start, which records that it did so. Records that cannot be read are never touched:
the chain goes on behind the last whole one, and `chain.py` names the place.
Next: privacy/chain.py.
"""

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from hmac import digest
from pathlib import Path
from typing import NamedTuple

import structlog

from twintrack.auth import Principal
from twintrack.clock import Clock, iso
from twintrack.errors import TwintrackError, Unavailable
from twintrack.event import Tenancy
from twintrack.privacy import chain
from twintrack.privacy.chain import FIRST_BEFORE, Entry, Head

log = structlog.get_logger()
_FILE_BYTES = 16 << 20
_REPEAT_SECONDS = 60.0
_MOST_REPEATED = 10_000
Detail = dict[str, str | int]


class Who(NamedTuple):
    """Whose act it is, as the log keeps it."""

    id: str
    role: str
    project: str
    environment: str

    @classmethod
    def of(cls, principal: Principal) -> "Who":
        return cls(principal.key_id, principal.role.value, *principal.tenancy)


OPERATOR = Who("operator", "operator", "", "")  # whoever may open the data folder or its socket
SOCKET = "socket"  # where a command comes from
NOBODY = Who("", "nobody", "", "")
SERVICE = Who("service", "service", "", "")


def operator(place: Tenancy | None) -> Who:
    """The operator, acting on one environment of a project."""
    return OPERATOR._replace(**place._asdict()) if place is not None else OPERATOR


def subject_mark(secret: bytes, stored_form: str) -> bytes:
    """A person as audit and certificates name them: HMAC-SHA256 by the project's secret."""
    return digest(secret, stored_form.encode("utf-8", "surrogatepass"), "sha256")


class Change(dict[str, str | int]):
    """What the body of a change says of it: more detail, and how many rows it took or showed."""

    rows: int | None = None


class _Act(NamedTuple):
    who: Who
    what: str
    where: str
    rows: int | None
    subject: bytes
    outcome: str
    detail: Detail
    milliseconds: int


class _Waiting:
    """An act on its way to the disk, and what became of it."""

    def __init__(self, act: _Act) -> None:
        self.act = act
        self.kept: bool | None = None


class _Window:
    """What was done again since the act that was recorded."""

    def __init__(self, act: _Act, started: float) -> None:
        self.act, self.started = act, started
        self.times = self.rows = 0


class Audit:
    """Called from any thread. One process owns the folder."""

    def __init__(self, folder: Path, clock: Clock, *, file_bytes: int = _FILE_BYTES) -> None:
        """Raises: OSError where the folder cannot be made or read."""
        self._folder, self._clock, self._file_bytes = folder, clock, file_bytes
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
            _sync(folder.parent)
        self._queue = threading.Lock()
        self._disk = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._windows: dict[tuple[Who, str, str, str], _Window] = {}
        self.failures = 0
        self.failing = ""  # why nothing can be recorded now
        self._handle = -1
        self._size = 0
        self._found: tuple[str, Detail] | None = None
        self._head, self._node = self._take_up()
        self._published = self._head
        if self._found is not None:
            what, detail = self._found
            with contextlib.suppress(Unavailable):
                self.record(SERVICE, what, detail=detail)

    def head(self) -> Head:
        """The last record that is on disk."""
        return self._published

    @property
    def node(self) -> str:
        """The name of this chain among those of other nodes; a new one where the folder was empty."""
        return self._node

    @property
    def folder(self) -> Path:
        return self._folder

    def record(
        self,
        who: Who,
        what: str,
        *,
        where: str = "",
        rows: int | None = None,
        subject: bytes = b"",
        outcome: str = "done",
        detail: Detail | None = None,
    ) -> None:
        """Durable on return. `subject` is a `subject_mark`, never an identifier; `detail` never holds what was sent.

        Raises: Unavailable where it could not be kept: then nothing may be shown or changed.
        """
        self._keep([_Act(who, what, where, rows, subject, outcome, detail or {}, self._clock.milliseconds())])

    def repeated(
        self,
        who: Who,
        what: str,
        *,
        where: str = "",
        rows: int = 0,
        outcome: str = "done",
        detail: Detail | None = None,
    ) -> None:
        """For what a page asks again and again: the first one is recorded, the others of its minute are summed up in one
        record that is written when the minute is over and something is recorded, or at the end.

        Raises: Unavailable where the first one could not be kept.
        """
        now = self._clock.monotonic_seconds()
        key = (who, what, where, outcome)
        act = _Act(who, what, where, rows, b"", outcome, detail or {}, self._clock.milliseconds())
        with self._queue:
            over = self._over(now)
            window = self._windows.get(key)
            if window is not None:
                window.times += 1
                window.rows += rows
            elif len(self._windows) < _MOST_REPEATED:
                self._windows[key] = _Window(act, now)
        if window is None:
            over.append(act)
        if over:
            try:
                self._keep(over)
            except Unavailable:
                with self._queue:
                    self._windows.pop(key, None)
                raise

    def _over(self, now: float) -> list[_Act]:
        """Ends the windows that are over; what was repeated in them."""
        ended = [key for key, window in self._windows.items() if now - window.started >= _REPEAT_SECONDS]
        windows = [self._windows.pop(key) for key in ended]
        return [
            w.act._replace(
                rows=w.rows, detail={**w.act.detail, "times": w.times}, milliseconds=self._clock.milliseconds()
            )
            for w in windows
            if w.times
        ]

    def masking_changed(self, outcome: str, detail: Detail) -> None:
        """As `record`: the rules file was changed, and taken or refused."""
        self.record(SERVICE, "masking.change", outcome=outcome, detail=detail)

    @contextlib.contextmanager
    def change(
        self, who: Who, what: str, *, where: str = "", subjects: Sequence[bytes] = (), detail: Detail | None = None
    ) -> Iterator[Change]:
        """Records that a change is begun, before it is made, and then how it ended; the body may add to the detail.

        Shape: of several `subjects` the beginning is one record, and the end one for each, so that each is found.
        Raises: Unavailable where its beginning could not be kept, and where its end could not: then it was made.
        """
        told = Change(detail or {})

        def keep(outcome: str, marks: Sequence[bytes]) -> None:
            now = self._clock.milliseconds()
            self._keep([_Act(who, what, where, told.rows, mark, outcome, dict(told), now) for mark in marks])

        keep("begun", subjects if len(subjects) == 1 else [b""])
        try:
            yield told
        except TwintrackError as error:
            keep(error.code, subjects or [b""])
            raise
        except Exception:
            keep("internal", subjects or [b""])
            raise
        keep("done", subjects or [b""])

    def close(self) -> None:
        with self._queue:
            acts = self._over(float("inf"))
        with contextlib.suppress(Unavailable):
            if acts:
                self._keep(acts)
        with self._disk:
            self._end_file()

    # -- disk ----------------------------------------------------------------------------------------------------

    def _keep(self, acts: list[_Act]) -> None:
        mine = [_Waiting(act) for act in acts]
        with self._queue:
            self._waiting += mine
        with self._disk:
            if mine[-1].kept is None:  # else whoever had the disk before took it along
                with self._queue:
                    group, self._waiting = self._waiting, []
                self._write(group)
        if not mine[-1].kept:
            raise Unavailable(
                f"the audit log cannot be written: {self.failing}",
                hint="nothing is shown or changed without a record; free space or mend the disk",
                code="audit_unavailable",
            )

    def _write(self, group: list[_Waiting]) -> None:
        head, pieces = self._head, []
        for one in group:
            line, head = self._line(one.act, head)
            pieces.append(line)
        data = b"".join(pieces)
        try:
            self._mend()
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fdatasync(self._handle)
        except OSError as error:
            self.failures += len(group)
            self.failing = error.strerror or type(error).__name__
            log.error("audit_write_failed", error=self.failing)
            for one in group:
                one.kept = False
            return
        self.failing = ""
        self._size += len(data)
        self._head = self._published = head
        for one in group:
            one.kept = True
        if self._size >= self._file_bytes:
            self._end_file()

    def _line(self, act: _Act, head: Head) -> tuple[bytes, Head]:
        who = act.who
        entry = Entry(
            head.sequence + 1,
            iso(act.milliseconds),
            self._node,
            who.id,
            who.role,
            who.project,
            who.environment,
            act.what,
            act.outcome,
            act.where,
            act.rows,
            act.subject.hex(),
            act.detail,
            head.hash,
        )
        line, found = chain.encode(entry)
        return line, Head(entry.sequence, found)

    def _mend(self) -> None:
        """An open file that ends behind the last synced record. Raises: OSError."""
        if self.failing and self._handle >= 0:
            os.ftruncate(self._handle, self._size)  # what the failed write left there was told to nobody
            os.fsync(self._handle)
        if self._handle < 0:
            self._handle = os.open(
                chain.next_file(self._folder), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600
            )
            self._size = 0
            _sync(self._folder)

    def _end_file(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take_up(self) -> tuple[Head, str]:
        """The head of what is there, and the node's name; its file is opened where it can be gone on with."""
        for file in reversed(chain.files(self._folder)):
            last = None
            for line in chain.lines(file):
                last = line if line.entry is not None else last
            end = last.end if last is not None else 0
            if self._found is None and file.stat().st_size > end:
                self._found = self._rest_of(file, end)
            if last is not None and last.entry is not None:
                if self._found is None or self._found[0] != "audit.damaged":
                    self._handle = os.open(file, os.O_WRONLY | os.O_APPEND)
                    self._size = end
                return Head(last.entry.sequence, last.hash), last.entry.node
        return Head(0, FIRST_BEFORE), secrets.token_hex(4)

    @staticmethod
    def _rest_of(file: Path, end: int) -> tuple[str, Detail]:
        """Cuts off what a crash left unfinished: it has no end of a line. Anything else is left for whoever asks."""
        with file.open("r+b") as opened:
            opened.seek(end)
            rest = opened.read()
            if b"\n" in rest:
                log.error("audit_damaged", file=file.name)
                return "audit.damaged", {"file": file.name}
            opened.truncate(end)
            os.fsync(opened.fileno())
        log.warning("audit_unfinished_record_cut", bytes=len(rest))
        return "audit.unfinished_record_cut", {"file": file.name, "bytes": len(rest)}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
