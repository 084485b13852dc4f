"""The index of event ids: which (project, id) pairs have been accepted. LMDB, never synced, bounded in bytes.

It is a cache of the log and the store: a killed process leaves it whole (the system has the pages), a machine that
went down does not, and then it is thrown away and rebuilt. Recent ids (UUIDv7 in the window) leave by time; late ones
leave when their chunk is loaded. One thread writes at a time; LMDB sees to that.
"""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import lmdb

from twintrack.spool.pages import release_pages

# Above the promised size the map has room for what the driver needs to delete and for what comes between two sweeps.
_ROOM = 1.25
_BATCH = 5_000


class IndexFull(Exception):
    """The index has no room for more ids."""


@lru_cache(maxsize=1024)
def project_tag(project: str) -> bytes:
    """Eight bytes that stand for a project in the index."""
    return hashlib.blake2b(project.encode(), digest_size=8).digest()


def claim_key(event_id: bytes, project: str) -> bytes:
    """Id first, so that UUIDv7 claims stand in the order of their time."""
    return event_id + project_tag(project)


def is_timed(key: bytes) -> bool:
    """Whether an id is a UUIDv7, so that its first 48 bits are its time."""
    return key[6] >> 4 == 7


def split_ids(ids: bytes) -> Iterable[bytes]:
    return (ids[i : i + 16] for i in range(0, len(ids), 16))


class Claims:
    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._open()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(self._folder),
            map_size=round(self._most_bytes * _ROOM) // 4096 * 4096,
            max_dbs=2,
            sync=False,
            metasync=False,
            writemap=False,
            readahead=False,
        )
        self._env.reader_check()
        self._recent = self._env.open_db(b"recent")
        self._late = self._env.open_db(b"late")

    def discard(self) -> None:
        """Forgets everything, because it may not be true."""
        self._env.close()
        shutil.rmtree(self._folder)
        self._open()

    def close(self) -> None:
        self._env.sync(True)
        self._env.close()

    def claim(self, wanted: Sequence[tuple[list[bytes], bool]]) -> tuple[Any, list[list[bool]]]:
        """Claims lists of (keys, late) in order; the open transaction, and for each key whether it was free.

        The claims vanish unless the transaction is committed. An id may be late now and recent then, so both sides
        are asked. Whole lists go into one call each: the driver lets go of the interpreter's lock around every
        call, and getting it back costs more than the call.
        Raises: IndexFull.
        """
        keys = [key for part, _ in wanted for key in part]
        transaction = self._env.begin(write=True)
        try:
            if not any(late for _, late in wanted) and not self._late_entries(transaction):
                # Nearly always nothing is taken, and one call says so.
                _, added = transaction.cursor(db=self._recent).putmulti([(key, b"") for key in keys], overwrite=False)
                if added == len(keys):
                    return transaction, [[True] * len(part) for part, _ in wanted]
                transaction.abort()
                transaction = self._env.begin(write=True)
            verdicts, free = self._judge(transaction, wanted)
            for late in (False, True):
                side = self._late if late else self._recent
                transaction.cursor(db=side).putmulti([(key, b"") for key in free[late]], overwrite=False)
            return transaction, verdicts
        except lmdb.MapFullError as error:
            transaction.abort()
            raise IndexFull from error
        except BaseException:
            transaction.abort()
            raise

    def judge(self, wanted: Sequence[tuple[list[bytes], bool]]) -> list[list[bool]]:
        """For each key whether it is free, without claiming it."""
        with self._env.begin() as transaction:
            return self._judge(transaction, wanted)[0]

    def _judge(
        self, transaction: Any, wanted: Sequence[tuple[list[bytes], bool]]
    ) -> tuple[list[list[bool]], tuple[list[bytes], list[bytes]]]:
        keys = [key for part, _ in wanted for key in part]
        taken = self._taken(transaction, self._recent, keys) | self._taken(transaction, self._late, keys)
        free: tuple[list[bytes], list[bytes]] = ([], [])
        verdicts = []
        for part, late in wanted:
            verdict = []
            for key in part:
                verdict.append(key not in taken)
                if verdict[-1]:
                    taken.add(key)
                    free[late].append(key)
            verdicts.append(verdict)
        return verdicts, free

    @staticmethod
    def _taken(transaction: Any, side: Any, keys: list[bytes]) -> set[bytes]:
        return {bytes(key) for key, _ in transaction.cursor(db=side).getmulti(keys)}

    def _late_entries(self, transaction: Any) -> int:
        return int(transaction.stat(self._late)["entries"])

    def add(self, keys: Iterable[tuple[bytes, bool]]) -> None:
        """Claims (key, late) pairs that are known to be accepted. Raises: IndexFull."""
        sides: tuple[list[bytes], list[bytes]] = ([], [])
        for key, late in keys:
            sides[late].append(key)
        transaction, _ = self.claim([(sides[False], False), (sides[True], True)])
        try:
            transaction.commit()
        except lmdb.MapFullError as error:
            raise IndexFull from error

    def loaded(self, keys: Iterable[bytes]) -> None:
        """Late ids whose rows the store has now: UUIDv7 move to the recent side, the others are looked up from now on.

        Raises: IndexFull, when some of them stay late.
        """
        try:
            with self._env.begin(write=True) as transaction:
                for key in keys:
                    if transaction.delete(key, db=self._late) and is_timed(key):
                        transaction.put(key, b"", db=self._recent)
        except lmdb.MapFullError as error:
            raise IndexFull from error

    def get(self, name: str, default: int = 0) -> int:
        """A number that is kept in the index and lost with it."""
        with self._env.begin() as transaction:
            found = transaction.get(name.encode())
        return default if found is None else int(found)

    def put(self, name: str, value: int) -> None:
        with self._env.begin(write=True) as transaction:
            transaction.put(name.encode(), b"%d" % value)

    def settle_late(self) -> None:
        """Treats every late id as loaded: whoever knows better claims those that are not again."""
        while True:
            with self._env.begin() as transaction:
                cursor = transaction.cursor(db=self._late)
                keys = [bytes(key) for key, _ in zip(cursor.iternext(values=False), range(_BATCH), strict=False)]
            if not keys:
                return
            self.loaded(keys)

    def forget_older(self, milliseconds: int, most: int) -> int:
        """Forgets recent ids born before that time, up to a number of them; how many. Raises: IndexFull."""
        bound = max(0, milliseconds).to_bytes(6, "big")
        gone = 0
        while gone < most:
            before = gone
            try:
                with self._env.begin(write=True) as transaction:
                    cursor = transaction.cursor(db=self._recent)
                    alive = cursor.first()
                    while alive and gone - before < _BATCH and cursor.key()[:6] < bound:
                        alive = cursor.delete() and bool(cursor.key())
                        gone += 1
            except lmdb.MapFullError as error:
                raise IndexFull from error
            if gone - before < _BATCH:
                break
        return gone

    def time_behind(self, entries: int) -> int:
        """The birth of the recent id that stands behind so many older ones, milliseconds; 0 where there is none."""
        with self._env.begin() as transaction:
            cursor = transaction.cursor(db=self._recent)
            alive = cursor.first()
            for _ in range(entries):
                alive = alive and cursor.next()
            return int.from_bytes(cursor.key()[:6], "big") + 1 if alive else 0

    def entries(self) -> int:
        with self._env.begin() as transaction:
            return sum(int(transaction.stat(db)["entries"]) for db in (self._recent, self._late))

    def used_bytes(self) -> int:
        """Pages that hold ids; what was freed is used again."""
        with self._env.begin() as transaction:
            stats = [transaction.stat(db) for db in (self._recent, self._late)]
        return sum(int(s["psize"]) * int(s["branch_pages"] + s["leaf_pages"]) for s in stats)

    def release(self) -> None:
        """Keeps out of this process's memory what was only looked at once; 53 bytes an event otherwise."""
        release_pages(self._folder / "data.mdb")

    @property
    def most_bytes(self) -> int:
        return self._most_bytes

    def has_late(self) -> bool:
        with self._env.begin() as transaction:
            return self._late_entries(transaction) > 0

    def holds(self, event_id: UUID, project: str) -> bool:
        key = claim_key(event_id.bytes, project)
        with self._env.begin() as transaction:
            return any(transaction.get(key, db=db) is not None for db in (self._recent, self._late))

    def size(self) -> tuple[int, int]:
        """(entries, bytes) of the index."""
        with self._env.begin() as transaction:
            entries = sum(int(transaction.stat(db)["entries"]) for db in (self._recent, self._late))
        return entries, self._env.info()["last_pgno"] * self._env.stat()["psize"]
