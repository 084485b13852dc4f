"""What the spool knows durably beside the log: how far it is frozen, each chunk's state, each event's fate in numbers.

SQLite with full sync: the cursor, the chunks of a freeze and the counts of its records change in one transaction.
"""

import json
import sqlite3
import threading
from pathlib import Path

from twintrack.spool.chunks import Frozen
from twintrack.spool.protocol import Chunk, Kind
from twintrack.spool.segment import Position

FORMAT = 2
_MOST_REFUSED = 100_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    chunk_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, month INTEGER NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, token TEXT NOT NULL, import_id TEXT NOT NULL,
    received_milliseconds INTEGER NOT NULL, places TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('lookup', 'frozen', 'loaded', 'quarantined')),
    reason TEXT NOT NULL DEFAULT '', settled_milliseconds INTEGER);
CREATE INDEX IF NOT EXISTS chunks_by_state ON chunks (state, sequence);
CREATE TABLE IF NOT EXISTS tallies (
    project TEXT NOT NULL, environment TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    events INTEGER NOT NULL, PRIMARY KEY (project, environment, outcome, reason)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imports (
    import_id TEXT PRIMARY KEY, found INTEGER NOT NULL DEFAULT 0, loaded INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, project TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, received_milliseconds INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS refused_by_id ON refused (event_id);
"""


class Ledger:
    """Called from the loader's thread and from readers; one lock keeps the connection whole."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> "Ledger":
        """One transaction."""
        self._lock.acquire()
        self._db.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self._lock.release()

    def get(self, name: str, default: int = 0) -> int:
        with self._lock:
            row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else default

    def put(self, name: str, value: int) -> None:
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def cursor(self) -> Position:
        """Everything in the log before this is frozen."""
        return Position(self.get("epoch"), self.get("offset"))

    def set_cursor(self, position: Position) -> None:
        self.put("epoch", position.epoch)
        self.put("offset", position.offset)

    def add_chunk(self, frozen: Frozen) -> None:
        chunk = frozen.chunk
        places = [[*place, rows] for place, rows in frozen.places.items()]
        with self._lock:
            self._db.execute(
                "INSERT INTO chunks (chunk_id, kind, month, rows, bytes, token, import_id, received_milliseconds,"
                " places, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
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

    def remove_chunk(self, chunk_id: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM chunks WHERE chunk_id = ?", (chunk_id,))

    def chunks(self, *states: str) -> list[Chunk]:
        marks = ",".join("?" * len(states))
        with self._lock:
            rows = self._db.execute(
                "SELECT chunk_id, kind, month, rows, token, state, import_id, received_milliseconds FROM chunks"
                f" WHERE state IN ({marks}) ORDER BY sequence",
                states,
            ).fetchall()
        return [Chunk(r[0], Kind(r[1]), r[2], r[3], r[4], r[5] == "lookup", r[6], r[7]) for r in rows]

    def settled_before(self, milliseconds: int) -> list[str]:
        """Loaded chunks whose grace has ended."""
        with self._lock:
            return [
                r[0]
                for r in self._db.execute(
                    "SELECT chunk_id FROM chunks WHERE state = 'loaded' AND settled_milliseconds < ? LIMIT 1000",
                    (milliseconds,),
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
