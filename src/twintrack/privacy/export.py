"""Everything that is held about a person, as one ZIP: each table as JSON and as CSV, and a manifest that can be checked.

The same tables and links as an erasure takes: a subject's stored forms, and the rows without a user of anonymous ids that
were first linked to it. What waits in the spool is waited for, and what stands there all the same is a table of its own.
"""

import contextlib
import csv
import hashlib
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from twintrack.clock import Clock, iso
from twintrack.control import subjects
from twintrack.control.control import Control
from twintrack.control.erasures import Subject
from twintrack.control.person_keys import PersonKeys
from twintrack.control.tombstones import Marks, subject_hash
from twintrack.errors import Unavailable
from twintrack.event import Row
from twintrack.load.rollup import feeds
from twintrack.privacy.erase import environments_of
from twintrack.privacy.held import Held, held, in_words, links
from twintrack.privacy.subject import Link, named, owned, tombstones_of, typed
from twintrack.query.execute import plain
from twintrack.spool.erase import told
from twintrack.spool.protocol import Kind, WholeSpool
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

_DRAIN_SECONDS = 20.0
_EVER = 1 << 62  # milliseconds: an export has no bound of time
_WAITING = ("lookup", "frozen", "quarantined")
_IN_MEMORY_BYTES = 32 << 20
_OPENED_AT_ONCE = 1_000  # rows


class _Written(NamedTuple):
    name: str
    rows: int
    bytes: int
    sha256: str


class Exported(NamedTuple):
    file: IO[bytes]
    rows: int


class Exporter:
    """`folder` is where a large export lies while it is made and sent: on the disk of the data, without a name, and gone
    with the process."""

    def __init__(
        self,
        control: Control,
        spool: WholeSpool,
        store: Store,
        clock: Clock,
        folder: Path,
        person_keys: PersonKeys | None = None,
        *,
        in_memory_bytes: int = _IN_MEMORY_BYTES,
    ) -> None:
        self._person_keys, self._folder, self._in_memory_bytes = person_keys, str(folder.absolute()), in_memory_bytes
        self._control, self._spool, self._store, self._clock = control, spool, store, clock

    def export(self, project: str, user_id: str | None, anonymous_id: str | None) -> Exported:
        """The ZIP, at its start; it has no name on the disk, and is gone when it is closed.

        Raises: RequestError for a project that is not here, or a subject that is none; StoreError.
        """
        kind, identifier = typed(user_id, anonymous_id)
        secret = self._control.known_project(project).secret
        subject = named(kind, identifier, secret, environments_of(self._control, self._spool, project))
        drained = self._drained()
        known = [Link(*row) for row in links(self._store, project, in_words(subject))]
        subject = Subject(kind, identifier, subject.users, sorted({*subject.anonymous, *owned(known, subject.users)}))
        spooled = self._spooled(project, subject, secret)
        found = held(self._store, project, None, in_words(subject))
        derived = {feed.table for feed in feeds(self._store)}
        file = self._unnamed()
        written: list[_Written] = []
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            stored: set[str] = set()
            for one in sorted(found, key=lambda one: one.table != "events"):
                rows = _noting(self._rows(one), one.columns, stored if one.table == "events" else None)
                written += self._write(archive, one.table, one.columns, self._opened(project, rows))
            # Loaded while we read: then the store has them, and once is enough.
            waiting = [row for row in spooled if row[_EVENT_ID] not in stored]
            written += self._write(archive, "spool", _SPOOLED, self._opened(project, waiting))
            for name, held_rows in subjects.rows_of(self._control.engine, project, subject, secret).items():
                columns = tuple(held_rows[0]) if held_rows else ()
                written += self._write(archive, f"control_{name}", columns, [list(row.values()) for row in held_rows])
            rows_held = sum(item.rows for item in written) // 2  # each table is two files
            manifest = {
                "kind": "twintrack-export",
                "version": 1,
                "project": project,
                "subject": {"kind": kind, "typed": identifier, "stored_forms": subject.users},
                "subject_hmac": subject_hash(secret, identifier),
                "anonymous_ids": [{"environment": place, "anonymous_id": found} for place, found in subject.anonymous],
                "made_at": iso(self._clock.milliseconds()),
                "rows": rows_held,
                "nothing_found": not rows_held,
                "looked_at": [
                    {
                        "table": one.table,
                        "by": "event_id" if one.by_event else "person",
                        "derived": one.table in derived,
                    }
                    for one in found
                ],
                "spool": {"drained_first": drained, "rows_on_their_way_or_in_quarantine": len(waiting)},
                "files": [item._asdict() for item in written],
            }
            archive.writestr("manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False))
        file.seek(0)
        return Exported(file, rows_held)

    def _unnamed(self) -> IO[bytes]:
        made: IO[bytes] = tempfile.SpooledTemporaryFile(self._in_memory_bytes, dir=self._folder)  # noqa: SIM115
        return made

    def _opened(self, project: str, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """The rows with what is sealed in them opened."""
        rows = iter(rows)
        while some := list(islice(rows, _OPENED_AT_ONCE)):
            yield from some if self._person_keys is None else self._person_keys.opened(project, plain(some))

    def _write(
        self, archive: zipfile.ZipFile, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> list[_Written]:
        """A table as NAME.json, an array of objects, and NAME.csv; row by row, since a person may have very many."""
        with self._unnamed() as text_file:
            csv_file = io.TextIOWrapper(text_file, "utf-8", newline="", write_through=True)
            writer = csv.writer(csv_file)
            writer.writerow(columns)
            with archive.open(f"{name}.json", "w", force_zip64=True) as json_file:
                whole, count = _Hashed(json_file), 0
                whole.write(b"[")
                for row in rows:
                    cells = [plain(cell) for cell in row]
                    whole.write(
                        (b",\n" if count else b"\n") + msgspec.json.encode(dict(zip(columns, cells, strict=True)))
                    )
                    writer.writerow(
                        [msgspec.json.encode(c).decode() if isinstance(c, dict | list) else c for c in cells]
                    )
                    count += 1
                whole.write(b"\n]\n")
            csv_file.flush()
            text_file.seek(0)
            with archive.open(f"{name}.csv", "w", force_zip64=True) as target:
                copied = _Hashed(target)
                while piece := text_file.read(1 << 20):
                    copied.write(piece)
            csv_file.detach()
        return [
            _Written(f"{name}.json", count, whole.bytes, whole.digest.hexdigest()),
            _Written(f"{name}.csv", count, copied.bytes, copied.digest.hexdigest()),
        ]

    def _drained(self) -> bool:
        """Waits for what was accepted before to be loaded; whether it was, in the time that is."""
        until = time.monotonic() + _DRAIN_SECONDS
        with contextlib.suppress(Unavailable):
            passed = self._spool.fence()
            while not passed():
                if time.monotonic() > until:
                    return False
                time.sleep(0.05)
            return True
        return False

    def _rows(self, one: Held) -> Iterator[Sequence[Any]]:
        return self._store.stream(f"SELECT {', '.join(one.columns)} FROM {DATABASE}.{one.table} WHERE {one.where}")

    def _spooled(self, project: str, subject: Subject, secret: bytes) -> list[list[Any]]:
        """The person's events in chunks that are not loaded."""
        marks = Marks(secret, tombstones_of(project, subject, secret, _EVER))
        found = []
        for state, kind, row in self._spool.rows(*_WAITING):
            if kind is Kind.EVENTS:
                event = told(row)
                if event.project == project and marks.covers(
                    event.environment, event.user_id, event.anonymous_id, event.moment
                ):
                    found.append([state, *msgspec.json.decode(row)])
        return found


_SPOOLED = ("state", *Row.__struct_fields__)
_EVENT_ID = _SPOOLED.index("event_id")


def _noting(rows: Iterable[Sequence[Any]], columns: Sequence[str], ids: set[str] | None) -> Iterator[Sequence[Any]]:
    place = columns.index("event_id") if ids is not None else -1
    for row in rows:
        if ids is not None:
            ids.add(str(row[place]))
        yield row


class _Hashed:
    """Writes through, and knows length and SHA-256 of what it wrote."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self.bytes, self.digest = 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._target.write(data)
        self.bytes += len(data)
        self.digest.update(data)
