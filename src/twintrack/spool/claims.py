"""The index of event ids: which (project, id) pairs have been accepted. LMDB, never synced.

It is a cache of the log and the store: after a boot without a clean mark it is thrown away and rebuilt. Recent ids
(UUIDv7 in the window) leave by time; late ones leave when their chunk is loaded. One thread writes.
"""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
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

    def claim(self, wanted: Sequence[tuple[list[bytes], bool]]) -> tuple[Any, list[list[bool]]]:
        """Claims lists of (keys, late) in order; the open transaction, and for each key whether it was free.

        The claims vanish unless the transaction is committed. An id may be late now and recent then, so both sides
        are asked. Whole lists go into one call each: the driver lets go of the interpreter's lock around every
        call, and getting it back costs more than the call.
        Raises: Unavailable when the index is full.
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
            taken = self._taken(transaction, self._recent, keys) | self._taken(transaction, self._late, keys)
            verdicts = []
            for part, late in wanted:
                free: list[bytes] = []
                verdict = []
                for key in part:
                    verdict.append(key not in taken)
                    if verdict[-1]:
                        taken.add(key)
                        free.append(key)
                verdicts.append(verdict)
                side = self._late if late else self._recent
                transaction.cursor(db=side).putmulti([(key, b"") for key in free], overwrite=False)
            return transaction, verdicts
        except lmdb.MapFullError as error:
            transaction.abort()
            raise Unavailable(
                "the index of event ids is full", hint="raise TWINTRACK_INDEX_BYTES or shorten TWINTRACK_ID_WINDOW_DAYS"
            ) from error
        except BaseException:
            transaction.abort()
            raise

    @staticmethod
    def _taken(transaction: Any, side: Any, keys: list[bytes]) -> set[bytes]:
        return {bytes(key) for key, _ in transaction.cursor(db=side).getmulti(keys)}

    def _late_entries(self, transaction: Any) -> int:
        return int(transaction.stat(self._late)["entries"])

    def add(self, keys: Iterable[tuple[bytes, bool]]) -> None:
        """Claims (key, late) pairs that are known to be accepted."""
        sides: tuple[list[bytes], list[bytes]] = ([], [])
        for key, late in keys:
            sides[late].append(key)
        transaction, _ = self.claim([(sides[False], False), (sides[True], True)])
        transaction.commit()

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

    def size(self) -> tuple[int, int]:
        """(entries, bytes) of the index."""
        with self._env.begin() as transaction:
            entries = sum(int(transaction.stat(db)["entries"]) for db in (self._recent, self._late))
        return entries, self._env.info()["last_pgno"] * self._env.stat()["psize"]
