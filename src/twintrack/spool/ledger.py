"""What the spool knows durably beside the log: how far it is frozen, each chunk's state, each event's fate in numbers.

SQLite with full sync: the cursor, the chunks of a freeze and the counts of its records change in one transaction.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

from twintrack.errors import SpoolFormat
from twintrack.spool.chunks import Frozen
from twintrack.spool.protocol import Chunk, Kind, TakenLink
from twintrack.spool.segment import Position

FORMAT = 3
_MOST_REFUSED = 100_000
SUSPECT = 2  # as a boot's number; no boot has it
STATES = ("lookup", "frozen", "loaded", "quarantined", "damaged")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL,
    chunk_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, month INTEGER NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, token TEXT NOT NULL, import_id TEXT NOT NULL,
    received_milliseconds INTEGER NOT NULL, places TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('lookup', 'frozen', 'loaded', 'quarantined', 'damaged')),
    reason TEXT NOT NULL DEFAULT '', settled_milliseconds INTEGER);
CREATE INDEX IF NOT EXISTS chunks_by_state ON chunks (state, place, sequence);
CREATE TABLE IF NOT EXISTS stale_months (month INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS complete (project TEXT PRIMARY KEY, since_milliseconds INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rewrites (month INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS removals (month INTEGER PRIMARY KEY, until_seconds INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tallies (
    project TEXT NOT NULL, environment TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    events INTEGER NOT NULL, PRIMARY KEY (project, environment, outcome, reason)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imports (
    import_id TEXT PRIMARY KEY, found INTEGER NOT NULL DEFAULT 0, loaded INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, project TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, received_milliseconds INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS refused_by_id ON refused (event_id);
CREATE TABLE IF NOT EXISTS erasures (
    request TEXT NOT NULL, project TEXT NOT NULL, environment TEXT NOT NULL, events INTEGER NOT NULL,
    PRIMARY KEY (request, project, environment)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased (project TEXT NOT NULL, event_id BLOB NOT NULL, PRIMARY KEY (project, event_id))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased_links (
    project TEXT NOT NULL, environment TEXT NOT NULL, anonymous_id TEXT NOT NULL, user_id TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (project, environment, anonymous_id, user_id, at)) WITHOUT ROWID;
"""


class Ledger:
    """Called from the loader's thread and from readers; one lock keeps the connection whole."""

    def __init__(self, path: Path) -> None:
        """Raises: SpoolFormat, before anything is changed."""
        self._lock = threading.RLock()
        self.in_doubt = False  # whether a transaction failed at its end and may stand there after a kill
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._check_format()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
            self._db.executescript(_SCHEMA)
            self.put("format", FORMAT)
        except BaseException:
            self._db.close()
            raise

    def _check_format(self) -> None:
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone():
            return
        found = self.get("format", 0)
        if found != FORMAT:
            age = "newer" if found > FORMAT else "older"
            raise SpoolFormat(
                f"the spool has format {found}, this version reads {FORMAT}: it was written by a {age} twintrack",
                hint="run that version until its spool is empty (`twintrack doctor`), or give this one its own --data",
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> "Ledger":
        """One transaction."""
        self._lock.acquire()
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                before, self.in_doubt = self.in_doubt, True
                self._db.execute("COMMIT")
                self.in_doubt = before  # only `settle_doubt` ends it, so that somebody deletes the files
        finally:
            try:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            finally:
                self._lock.release()

    def settle_doubt(self) -> bool:
        """Whether a transaction had failed at its end; from now on it is surely undone.

        What could not be synced stands whole in SQLite's journal until another write takes its place: a process that is
        killed before finds it there and counts it as done.
        """
        with self._lock:
            if not self.in_doubt:
                return False
            self.put("doubt", 0)
            self.in_doubt = False
            return True

    def get(self, name: str, default: int = 0) -> int:
        with self._lock:
            row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else default

    def put(self, name: str, value: int) -> None:
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def cursor(self) -> Position:
        """Everything in the log before this is frozen."""
        return Position(self.get("epoch"), self.get("offset"), self.get("events"))

    def set_cursor(self, position: Position) -> None:
        for name, value in zip(("epoch", "offset", "events"), position, strict=True):
            self.put(name, value)

    def set_end(self, position: Position) -> None:
        """Where the log ended at a clean stop."""
        for name, value in zip(("end_epoch", "end_offset", "end_events"), position, strict=True):
            self.put(name, value)

    def end(self) -> Position:
        return Position(self.get("end_epoch"), self.get("end_offset"), self.get("end_events"))

    def add_chunk(self, frozen: Frozen, place: int | None = None) -> None:
        """Names a chunk. One that takes another's place stands where that one stood in the order of loading."""
        chunk = frozen.chunk
        places = [[*where, rows] for where, rows in frozen.places.items()]
        with self._lock:
            self._db.execute(
                "INSERT INTO chunks (place, chunk_id, kind, month, rows, bytes, token, import_id,"
                " received_milliseconds, places, state) VALUES (coalesce(?, (SELECT coalesce(max(seq), 0) + 1 FROM"
                " sqlite_sequence WHERE name = 'chunks'), 1), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    place,
                    chunk.chunk_id,
                    chunk.kind,
                    chunk.month,
                    chunk.rows,
                    frozen.size_bytes,
                    chunk.token,
                    chunk.import_id,
                    chunk.received_milliseconds,
                    json.dumps(places),
                    "lookup" if chunk.lookup else "frozen",
                ),
            )

    def place(self, chunk_id: str) -> int | None:
        """Where a chunk stands in the order of loading; None for one that the ledger does not name."""
        with self._lock:
            row = self._db.execute("SELECT place FROM chunks WHERE chunk_id = ?", (chunk_id,)).fetchone()
        return int(row[0]) if row else None

    def state(self, chunk_id: str) -> str:
        with self._lock:
            row = self._db.execute("SELECT state FROM chunks WHERE chunk_id = ?", (chunk_id,)).fetchone()
        return str(row[0]) if row else ""

    def places(self, chunk_id: str) -> dict[tuple[str, str], int]:
        """Rows of a chunk by (project, environment)."""
        with self._lock:
            row = self._db.execute("SELECT places FROM chunks WHERE chunk_id = ?", (chunk_id,)).fetchone()
        return {(p, e): n for p, e, n in json.loads(row[0])} if row else {}

    def settle(self, chunk_id: str, state: str, reason: str, now_milliseconds: int) -> None:
        with self._lock:
            self._db.execute(
                "UPDATE chunks SET state = ?, reason = ?, settled_milliseconds = ? WHERE chunk_id = ?",
                (state, reason, now_milliseconds, chunk_id),
            )

    def retoken(self, chunk_id: str, token: str) -> None:
        """A chunk that the store has lost goes in again under another token."""
        with self._lock:
            self._db.execute(
                "UPDATE chunks SET token = ?, state = 'frozen', settled_milliseconds = NULL WHERE chunk_id = ?",
                (token, chunk_id),
            )

    def remove_chunk(self, chunk_id: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM chunks WHERE chunk_id = ?", (chunk_id,))

    def chunks(self, *states: str) -> list[Chunk]:
        marks = ",".join("?" * len(states))
        with self._lock:
            rows = self._db.execute(
                "SELECT chunk_id, kind, month, rows, token, state, import_id, received_milliseconds FROM chunks"
                f" WHERE state IN ({marks}) ORDER BY place, sequence",
                states,
            ).fetchall()
        return [Chunk(r[0], Kind(r[1]), r[2], r[3], r[4], r[5] == "lookup", r[6], r[7]) for r in rows]

    def named(self) -> set[str]:
        """Ids of all chunks."""
        with self._lock:
            return {r[0] for r in self._db.execute("SELECT chunk_id FROM chunks")}

    def out_of_grace(self, milliseconds: int, most_bytes: int) -> list[str]:
        """Loaded chunks that were settled before a time, and the oldest of those that together take too many bytes."""
        with self._lock:
            return [
                r[0]
                for r in self._db.execute(
                    "SELECT chunk_id FROM (SELECT chunk_id, settled_milliseconds AS at,"
                    " sum(bytes) OVER (ORDER BY settled_milliseconds DESC, sequence DESC) AS newer"
                    " FROM chunks WHERE state = 'loaded') WHERE at < ? OR newer > ? LIMIT 1000",
                    (milliseconds, most_bytes),
                )
            ]

    def waiting_bytes(self) -> int:
        with self._lock:
            row = self._db.execute(
                "SELECT coalesce(sum(bytes), 0) FROM chunks WHERE state IN ('lookup', 'frozen', 'quarantined')"
            ).fetchone()
        return int(row[0])

    def quarantined_bytes(self) -> int:
        with self._lock:
            row = self._db.execute("SELECT coalesce(sum(bytes), 0) FROM chunks WHERE state = 'quarantined'").fetchone()
        return int(row[0])

    def waiting_events(self) -> int:
        with self._lock:
            row = self._db.execute(
                "SELECT coalesce(sum(rows), 0) FROM chunks WHERE state IN ('lookup', 'frozen') AND kind = 'events'"
            ).fetchone()
        return int(row[0])

    # -- repair --------------------------------------------------------------------------------------------------

    def add_stale_months(self, months: Iterable[int]) -> None:
        """Months whose rollups must be made again from raw; 0 stands for what has no months."""
        with self._lock:
            self._db.executemany("INSERT OR IGNORE INTO stale_months VALUES (?)", [(month,) for month in months])

    def stale_months(self) -> list[int]:
        with self._lock:
            return [r[0] for r in self._db.execute("SELECT month FROM stale_months ORDER BY month")]

    def month_rebuilt(self, month: int) -> None:
        with self._lock:
            self._db.execute("DELETE FROM stale_months WHERE month = ?", (month,))

    def set_complete_since(self, project: str, milliseconds: int) -> None:
        """Raw has every event of a project from then on; before that, some were removed by a policy. Never goes back."""
        with self._lock:
            self._db.execute(
                "INSERT INTO complete VALUES (?, ?) ON CONFLICT DO UPDATE SET"
                " since_milliseconds = max(since_milliseconds, excluded.since_milliseconds)",
                (project, milliseconds),
            )

    def complete_since(self) -> dict[str, int]:
        with self._lock:
            return dict(self._db.execute("SELECT project, since_milliseconds FROM complete").fetchall())

    # -- erase ---------------------------------------------------------------------------------------------------

    def amend_chunk(
        self, chunk_id: str, rows: int, size_bytes: int, places: dict[tuple[str, str], int], token: str
    ) -> None:
        """Some rows of a chunk are gone or changed, in its file and in the store; the token is one never used."""
        with self._lock:
            self._db.execute(
                "UPDATE chunks SET rows = ?, bytes = ?, places = ?, token = ? WHERE chunk_id = ?",
                (rows, size_bytes, json.dumps([[*where, n] for where, n in places.items()]), token, chunk_id),
            )

    def plan_erasure(self, request: str, events: dict[tuple[str, str], int]) -> None:
        """How many events of the store a request takes out; what was written down first holds."""
        with self._lock:
            self._db.executemany(
                "INSERT OR IGNORE INTO erasures VALUES (?, ?, ?, ?)",
                [(request, *place, number) for place, number in events.items()],
            )

    def planned_erasure(self, request: str) -> dict[tuple[str, str], int]:
        with self._lock:
            found = self._db.execute("SELECT project, environment, events FROM erasures WHERE request = ?", (request,))
            return {(project, environment): events for project, environment, events in found}

    def erasing(self) -> bool:
        with self._lock:
            return self._db.execute("SELECT 1 FROM erasures LIMIT 1").fetchone() is not None

    def forget_erasure(self, request: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM erasures WHERE request = ?", (request,))

    def note_erased(self, identities: Iterable[tuple[str, bytes]]) -> None:
        """(project, event id) of events that were taken out of the log or a chunk: receipts of them may be in the store."""
        with self._lock:
            self._db.executemany("INSERT OR IGNORE INTO erased VALUES (?, ?)", list(identities))

    def erased(self) -> list[tuple[str, bytes]]:
        with self._lock:
            return [(project, bytes(event_id)) for project, event_id in self._db.execute("SELECT * FROM erased")]

    def forget_erased(self, identities: Iterable[tuple[str, bytes]]) -> None:
        with self._lock:
            self._db.executemany("DELETE FROM erased WHERE project = ? AND event_id = ?", list(identities))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def note_links(self, links: Iterable[TakenLink]) -> None:
        with self._lock:
            self._db.executemany("INSERT OR IGNORE INTO erased_links VALUES (?, ?, ?, ?, ?)", list(links))

    def links(self) -> list[TakenLink]:
        with self._lock:
            return [TakenLink(*row) for row in self._db.execute("SELECT * FROM erased_links")]

    def forget_links(self, links: Iterable[TakenLink]) -> None:
        same = " AND ".join(f"{name} = ?" for name in TakenLink._fields)
        with self._lock:
            self._db.executemany(f"DELETE FROM erased_links WHERE {same}", list(links))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def copy_to(self, path: Path) -> None:
        """A consistent copy, without what its free pages still hold. The path must not exist."""
        with self._lock:
            self._db.execute("VACUUM INTO ?", (str(path),))

    def check(self) -> str:
        """What SQLite says of its own file; `ok` when it is whole."""
        with self._lock:
            return str(self._db.execute("PRAGMA quick_check(1)").fetchone()[0])

    # -- retention -------------------------------------------------------------------------------------------------

    def add_rewrites(self, months: Iterable[int]) -> None:
        """Months whose rows do not carry the deadlines of the policies that hold now."""
        with self._lock:
            self._db.executemany("INSERT OR IGNORE INTO rewrites VALUES (?)", [(month,) for month in months])

    def rewrites(self) -> list[int]:
        with self._lock:
            return [r[0] for r in self._db.execute("SELECT month FROM rewrites ORDER BY month")]

    def rewritten(self, month: int) -> None:
        with self._lock:
            self._db.execute("DELETE FROM rewrites WHERE month = ?", (month,))

    def add_removal(self, month: int, until_seconds: int) -> None:
        """Rows of a month that expired until then are counted as expired; the store may still have them."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO removals VALUES (?, ?)", (month, until_seconds))

    def removals(self) -> dict[int, int]:
        with self._lock:
            return dict(self._db.execute("SELECT month, until_seconds FROM removals").fetchall())

    def removed(self, month: int) -> None:
        with self._lock:
            self._db.execute("DELETE FROM removals WHERE month = ?", (month,))

    # -- count ---------------------------------------------------------------------------------------------------

    def tally(self, project: str, environment: str, outcome: str, reason: str, events: int) -> None:
        with self._lock:
            self._db.execute(
                "INSERT INTO tallies VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
                (project, environment, outcome, reason, events),
            )

    def tallies(self) -> dict[tuple[str, str, str, str], int]:
        with self._lock:
            return {(p, e, o, r): n for p, e, o, r, n in self._db.execute("SELECT * FROM tallies")}

    def count_import(self, import_id: str, *, found: int = 0, loaded: int = 0) -> None:
        with self._lock:
            self._db.execute(
                "INSERT INTO imports VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET found = found + excluded.found,"
                " loaded = loaded + excluded.loaded",
                (import_id, found, loaded),
            )

    def import_counts(self, import_id: str) -> tuple[int, int]:
        """(found in the store, loaded) of one import."""
        with self._lock:
            row = self._db.execute("SELECT found, loaded FROM imports WHERE import_id = ?", (import_id,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def refuse(self, project: str, received: int, refused: list[tuple[str, str, str]]) -> None:
        """Remembers refused ids, the newest 100,000 of them."""
        with self._lock:
            self._db.executemany(
                "INSERT INTO refused (event_id, project, status, reason, received_milliseconds) VALUES (?, ?, ?, ?, ?)",
                [(event_id, project, status, reason, received) for event_id, status, reason in refused],
            )
            self._db.execute(
                "DELETE FROM refused WHERE sequence <= (SELECT max(sequence) FROM refused) - ?", (_MOST_REFUSED,)
            )

    def forget_refused(self, before_milliseconds: int) -> None:
        with self._lock:
            self._db.execute("DELETE FROM refused WHERE received_milliseconds < ?", (before_milliseconds,))

    def refusal(self, event_id: str, project: str) -> tuple[str, str, int] | None:
        """(status, reason, received) of the last refusal of an id."""
        with self._lock:
            row = self._db.execute(
                "SELECT status, reason, received_milliseconds FROM refused WHERE event_id = ? AND project = ?"
                " ORDER BY sequence DESC LIMIT 1",
                (event_id, project),
            ).fetchone()
        return (row[0], row[1], row[2]) if row else None
