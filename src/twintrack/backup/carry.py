"""What people were promised after a backup was made, taken over into the restored control data: who was erased, who
withdrew consent, which keys were revoked and how they are bound, who may come in, how long a project keeps what.

It comes from the folder that is replaced, or from a file that was written apart from the backup. Rows are added or
replaced, never taken away, but for the rules of retention and the people of a project: those that hold now hold. Every
session of the backup ends, since nobody can say which of them ended behind it.
"""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Table, create_engine, delete, insert, inspect, select

from twintrack.backup.archive import BackupDamaged
from twintrack.control.access import key_bounds, links, members, people, signins
from twintrack.control.consents import Statement, add, consents
from twintrack.control.data_keys import data_keys, open_secret, unlock
from twintrack.control.erasures import State, erasures
from twintrack.control.retention import retention
from twintrack.control.tables import keys, projects
from twintrack.control.tombstones import tombstones
from twintrack.errors import RequestError
from twintrack.seal import DataKeys, KeyRing

Rights = dict[str, list[dict[str, Any]]]  # table to rows

# Table, and the columns by which a row is known again. In this order: keys name projects.
CARRIED: tuple[tuple[Table, tuple[str, ...]], ...] = (
    (data_keys, ("number",)),
    (projects, ("name",)),
    (keys, ("id",)),
    (key_bounds, ("key_id",)),
    (people, ("id",)),
    (members, ("person_id", "project")),
    (links, ("id",)),
    (retention, ("project", "event", "field")),
    (consents, ("project", "environment", "kind", "hash", "purpose", "state", "at", "source")),
    (tombstones, ("project", "environment", "kind", "hash", "requested_at")),
    (erasures, ("id",)),
)
_REPLACED = (retention, members, people, links)  # who was removed since stays out
_LOCAL = {
    "projects": ("number",),
    "consents": ("number",),
    "tombstones": ("number",),
}  # columns that each database counts for itself


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    rights: Rights
    sha256: str


def rights_of(engine: Engine) -> Rights:
    """Raises: SQLAlchemyError."""
    there = set(inspect(engine).get_table_names())
    with engine.connect() as db:
        found = {
            table.name: [_plain(row._asdict()) for row in db.execute(select(table))]
            for table, _ in CARRIED
            if table.name in there
        }
    for row in found.get(erasures.name, ()):
        if row["state"] != State.DONE:  # what it has done so far is undone by the restore
            row["state"] = State.REQUESTED.value
    return found


def without_subjects(rights: Rights) -> Rights:
    """As they may lie in a file: a request that is under way names its person, its tombstones do not."""
    done = [row for row in rights.get(erasures.name, ()) if row["state"] == State.DONE]
    return {**rights, erasures.name: done}


def rights_in(control_file: Path) -> Rights:
    """Of the control data of a folder; nothing where there are none."""
    if not control_file.exists():
        return {}
    engine = create_engine(f"sqlite:///{control_file}")
    try:
        return rights_of(engine)
    finally:
        engine.dispose()


def together(first: Rights, second: Rights) -> Rights:
    """What either knows: where both know a row, or a table that is replaced whole, the second one's holds."""
    whole = {table.name for table in _REPLACED}
    return {
        name: second[name] if name in whole and name in second else [*first.get(name, ()), *second.get(name, ())]
        for name in {**first, **second}
    }


def carry(engine: Engine, rights: Rights, ring: KeyRing | None, now_milliseconds: int) -> int:
    """Brings the rows into a control database; how many were added or changed.

    Raises: RequestError where a project of the same name has another secret: then it is another installation's;
    EncryptionKeyRefused where the key of the settings does not open what is sealed.
    """
    changed = _carry_all(engine, rights, [data_keys], None)
    keys_of_data = unlock(engine, ring, now_milliseconds)
    with engine.begin() as db:
        db.execute(delete(signins))
    return changed + _carry_all(engine, rights, [table for table, _ in CARRIED if table is not data_keys], keys_of_data)


def _carry_all(engine: Engine, rights: Rights, tables: Iterable[Table], opened: DataKeys | None) -> int:
    changed, known = 0, dict(CARRIED)
    with engine.begin() as db:
        for table in tables:
            rows = rights.get(table.name)
            if rows is None:
                continue
            if table in _REPLACED:
                db.execute(delete(table))
            for row in rows:
                changed += _carry(db, table, known[table], _bytes(table, row), opened)
    return changed


def _carry(db: Connection, table: Table, known_by: Iterable[str], row: dict[str, Any], opened: DataKeys | None) -> int:
    values = {name: value for name, value in row.items() if name not in _LOCAL.get(table.name, ())}
    if table is consents:  # the door asks for the latest word, which is kept beside the history
        return int(add(db, Statement(**values)))
    same = [table.c[name] == row[name] for name in known_by]
    found = db.execute(select(table).where(*same)).first()
    if found is not None:
        held = {name: value for name, value in found._asdict().items() if name in values}
        if held == values or (table is keys and found.revoked_at is not None):  # whichever of the two is newer
            return 0
        if table is projects:
            # The same secret looks different where it was sealed since.
            if open_secret(opened, row["name"], found.secret) == open_secret(opened, row["name"], row["secret"]):
                return 0
            raise RequestError(
                f"project {row['name']} has another secret here than in the backup: they are not of one installation",
                hint="restore into a new folder",
                code="foreign_backup",
            )
        db.execute(delete(table).where(*same))
    db.execute(insert(table).values(**values))
    return 1


def write_file(target: Path, rights: Rights) -> None:
    """Raises: OSError; FileExistsError where the place is taken."""
    rights = without_subjects(rights)
    content = msgspec.json.encode(rights)
    with target.open("xb") as file:
        file.write(msgspec.json.encode(_File(1, rights, hashlib.sha256(content).hexdigest())))
    target.chmod(0o600)


def read_file(source: Path) -> Rights:
    """Raises: BackupDamaged, OSError."""
    try:
        read = msgspec.json.decode(source.read_bytes(), type=_File)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BackupDamaged(f"{source} is no file of rights", hint="`twintrack backup --rights` writes one") from error
    if hashlib.sha256(msgspec.json.encode(read.rights)).hexdigest() != read.sha256:
        raise BackupDamaged(f"{source} was changed", hint="use another copy; nothing was restored")
    return read.rights


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {n: base64.b64encode(v).decode() if isinstance(v, bytes) else v for n, v in row.items()}


def _bytes(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    binary = {column.name for column in table.columns if column.type.python_type is bytes}
    return {n: base64.b64decode(v) if n in binary and v is not None else v for n, v in row.items() if n in table.c}
