"""The index of event ids: which (project, id) pairs have been accepted. LMDB, never synced.

It is a cache of the log and the store: after a boot without a clean mark it is thrown away and rebuilt. Recent ids
(UUIDv7 in the window) leave by time; late ones leave when their chunk is loaded. One thread writes.
"""

import hashlib
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import lmdb

from twintrack.errors import Unavailable


@lru_cache(maxsize=1024)
def project_tag(project: str) -> bytes:
    """Eight bytes that stand for a project in the index."""
    return hashlib.blake2b(project.encode(), digest_size=8).digest()


def claim_key(event_id: bytes, project: str) -> bytes:
    """Id first, so that UUIDv7 claims stand in the order of their time."""
    return event_id + project_tag(project)


class Claims:
    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._open()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(self._folder),
            map_size=self._most_bytes,
            max_dbs=2,
            sync=False,
            metasync=False,
            writemap=False,
            readahead=False,
        )
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

    def begin(self) -> Any:
        """A write transaction: claims in it vanish unless it is committed."""
        return self._env.begin(write=True)

    def claim(self, transaction: Any, wanted: list[tuple[bytes, bool]]) -> list[bool]:
        """Claims (key, late) pairs in order; for each whether it was free.

        An id may be late now and recent then, so both sides are asked. Whole lists go into one call each: the
        driver lets go of the interpreter's lock around every call, and getting it back costs more than the call.
        Raises: Unavailable when the index is full.
        """
        keys = [key for key, _ in wanted]
        try:
            taken = self._taken(transaction, self._recent, keys)
            if self._late_entries(transaction):
                taken |= self._taken(transaction, self._late, keys)
            verdicts = []
            for key in keys:
                verdicts.append(key not in taken)
                taken.add(key)
            for side, late in ((self._recent, False), (self._late, True)):
                fresh = [
                    (key, b"")
                    for (key, is_late), free in zip(wanted, verdicts, strict=True)
                    if free and is_late is late
                ]
                if fresh:
                    transaction.cursor(db=side).putmulti(fresh, overwrite=False)
        except lmdb.MapFullError as error:
            raise Unavailable(
                "the index of event ids is full", hint="raise TWINTRACK_INDEX_BYTES or shorten TWINTRACK_ID_WINDOW_DAYS"
            ) from error
        return verdicts

    @staticmethod
    def _taken(transaction: Any, side: Any, keys: list[bytes]) -> set[bytes]:
        return {bytes(key) for key, _ in transaction.cursor(db=side).getmulti(keys)}

    def _late_entries(self, transaction: Any) -> int:
        return int(transaction.stat(self._late)["entries"])

    def add(self, keys: Iterable[tuple[bytes, bool]]) -> None:
        """Claims (key, late) pairs that are known to be accepted."""
        with self._env.begin(write=True) as transaction:
            self.claim(transaction, list(keys))

    def loaded(self, keys: Iterable[bytes]) -> None:
        """Late ids whose rows the store has now: UUIDv7 move to the recent side, the others are looked up from now on."""
        with self._env.begin(write=True) as transaction:
            for key in keys:
                if transaction.delete(key, db=self._late) and key[6] >> 4 == 7:
                    transaction.put(key, b"", db=self._recent)

    def forget_older(self, milliseconds: int, most: int = 5_000) -> int:
        """Forgets recent ids born before that time, some at a time; how many."""
        bound = max(0, milliseconds).to_bytes(6, "big")
        gone = 0
        with self._env.begin(write=True) as transaction:
            cursor = transaction.cursor(db=self._recent)
            alive = cursor.first()
            while alive and gone < most and cursor.key()[:6] < bound:
                alive = cursor.delete() and bool(cursor.key())
                gone += 1
        return gone

    def has_late(self) -> bool:
        with self._env.begin() as transaction:
            return self._late_entries(transaction) > 0

    def holds(self, event_id: UUID, project: str) -> bool:
        key = claim_key(event_id.bytes, project)
        with self._env.begin() as transaction:
            return any(transaction.get(key, db=db) is not None for db in (self._recent, self._late))
