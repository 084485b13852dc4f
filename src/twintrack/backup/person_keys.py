"""The keys of people in a file of their own, sealed by `TWINTRACK_ENCRYPTION_KEY`: no backup of the data has one.

A file is good for as long as an erasure may take (`TWINTRACK_ERASURE_DAYS`) and is to be deleted then: until then it could
open texts of people who were erased since. What it brings back is judged by the tombstones before anything is served.
"""

import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from twintrack.backup.archive import BackupDamaged, private
from twintrack.clock import iso
from twintrack.control.person_keys import Kept, PersonKeys
from twintrack.errors import RequestError, SealBroken
from twintrack.seal import KeyRing
from twintrack.sealed_file import SealedReader, SealedWriter

_FORMAT = "twintrack-person-keys/1"
_DAY_MILLISECONDS = 86_400_000


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    made_at: int  # milliseconds


def write_keys(target: Path, keys: PersonKeys, ring: KeyRing, now_milliseconds: int) -> int:
    """A line for each key behind a head; how many. Raises: OSError; FileExistsError where the place is taken."""
    count = 0
    with private(target) as file:
        sealed = SealedWriter(ring, file)
        sealed.write(msgspec.json.encode(_Head(_FORMAT, now_milliseconds)) + b"\n")
        for key in keys.all():
            sealed.write(msgspec.json.encode(key) + b"\n")
            count += 1
        sealed.finish()
        file.flush()
        os.fsync(file.fileno())
    return count


def read_keys(source: Path, ring: KeyRing | None, now_milliseconds: int, most_days: int) -> list[Kept]:
    """Raises: BackupDamaged; RequestError where the file is too old, or no key is given; EncryptionKeyRefused; OSError."""
    if ring is None:
        raise RequestError(
            "a file of person keys is sealed, and no encryption key is given", hint="set TWINTRACK_ENCRYPTION_KEY"
        )
    try:
        with source.open("rb") as file:
            lines = _lines(BufferedReader(SealedReader(ring, file)))
            head = msgspec.json.decode(next(lines, b""), type=_Head)
            if head.format != _FORMAT:
                raise BackupDamaged(f"{source} is no file of person keys", hint="`twintrack backup --keys` writes one")
            if now_milliseconds - head.made_at > most_days * _DAY_MILLISECONDS:
                raise RequestError(
                    f"the keys are of {iso(head.made_at)}, more than {most_days} days ago (TWINTRACK_ERASURE_DAYS):"
                    " people who were erased since could be read again",
                    hint="name a newer file, and delete this one; nothing was restored",
                    code="keys_too_old",
                )
            return [msgspec.json.decode(line, type=Kept) for line in lines]
    except (SealBroken, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BackupDamaged(f"{source} is no whole file of person keys", hint="use another copy") from error


def _lines(file: Any) -> Iterator[bytes]:
    yield from (line.rstrip(b"\n") for line in file)
