"""The rights of people as a file apart from backups, small enough to be written each hour: dated, its owner's alone.

With an encryption key it is sealed by it, as a backup is. Without one it holds what control data hold: hashes of keys and
passwords, addresses of the team, keyed hashes of who was erased or withdrew consent. What would let anybody try a guess on
those, the secrets of the projects, is needed where a project is younger than the backup; so they are sealed under
the oldest project's, which every backup has and the file has not.
"""

import base64
import hashlib
import os
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Engine, select

from twintrack.backup.archive import BackupDamaged, opened, private
from twintrack.control.data_keys import open_secret
from twintrack.control.erasures import State, erasures
from twintrack.control.tables import projects
from twintrack.errors import RequestError, SealBroken
from twintrack.seal import DataKeys, KeyRing
from twintrack.sealed_file import SealedWriter

_FORMAT = 2
Rows = dict[str, list[dict[str, Any]]]  # table to rows


class Rights(NamedTuple):
    """What held at a time, milliseconds since 1970; `under` is the project whose secret seals those of the others."""

    made_at: int
    rows: Rows
    under: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    rights: Rows
    sha256: str
    made_at: int = 0  # an earlier version wrote none
    under: str = ""


def write_file(target: Path, rights: Rights, ring: KeyRing | None) -> None:
    """Raises: OSError; FileExistsError where the place is taken."""
    rights = _without_subjects(rights)
    if ring is None:
        rights = _sealed(rights)
    content = msgspec.json.encode(_File(_FORMAT, rights.rows, _digest(rights), rights.made_at, rights.under))
    with private(target) as file:
        if ring is None:
            file.write(content)
        else:
            sealed = SealedWriter(ring, file)
            sealed.write(content)
            sealed.finish()
        file.flush()
        os.fsync(file.fileno())


def read_file(source: Path, ring: KeyRing | None) -> Rights:
    """Raises: BackupDamaged, EncryptionKeyRefused, OSError."""
    try:
        read = msgspec.json.decode(opened(BytesIO(source.read_bytes()), ring).read(), type=_File)
    except (msgspec.DecodeError, msgspec.ValidationError, SealBroken) as error:
        raise BackupDamaged(f"{source} is no file of rights", hint="`twintrack backup --rights` writes one") from error
    rights = Rights(read.made_at, read.rights, read.under)
    if read.sha256 not in (_digest(rights), hashlib.sha256(msgspec.json.encode(read.rights)).hexdigest()):
        raise BackupDamaged(f"{source} was changed", hint="use another copy; nothing was restored")
    return rights


def unsealed(rights: Rights, engine: Engine, keys: DataKeys | None) -> Rights:
    """With the secrets of its projects, by that of one that the control database has.

    Raises: RequestError where it has not, or where the two are not of one installation.
    """
    if not rights.under:
        return rights
    with engine.connect() as db:
        kept = db.execute(select(projects.c.secret).where(projects.c.name == rights.under)).scalar_one_or_none()
    if kept is None:
        raise RequestError(
            f"the file of rights opens by project {rights.under}, and the backup is older than that",
            hint="name a newer backup; nothing was restored",
            code="foreign_backup",
        )
    cipher = DataKeys(lambda: {0: open_secret(keys, rights.under, kept)})
    try:
        made = [
            {**row, "secret": _text(cipher.open(base64.b64decode(row["secret"]), _bound(row)))}
            for row in rights.rows[projects.name]
        ]
    except SealBroken as error:
        raise RequestError(
            f"project {rights.under} has another secret here than in the file of rights: they are not of one installation",
            hint="name the file that was written beside this backup; nothing was restored",
            code="foreign_backup",
        ) from error
    return Rights(rights.made_at, {**rights.rows, projects.name: made})


def _sealed(rights: Rights) -> Rights:
    rows = sorted(rights.rows.get(projects.name, ()), key=lambda row: int(row["number"]))
    if not rows:
        return rights
    cipher = DataKeys(lambda: {0: base64.b64decode(rows[0]["secret"])})
    made = [{**row, "secret": _text(cipher.seal(base64.b64decode(row["secret"]), _bound(row)))} for row in rows]
    return Rights(rights.made_at, {**rights.rows, projects.name: made}, rows[0]["name"])


def _without_subjects(rights: Rights) -> Rights:
    """A request that is under way names its person, its tombstones do not."""
    done = [row for row in rights.rows.get(erasures.name, ()) if row["state"] == State.DONE]
    return rights._replace(rows={**rights.rows, erasures.name: done})


def _digest(rights: Rights) -> str:
    return hashlib.sha256(msgspec.json.encode([rights.made_at, rights.under, rights.rows])).hexdigest()


def _bound(row: dict[str, Any]) -> str:
    return f"rights of project {row['name']}"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
