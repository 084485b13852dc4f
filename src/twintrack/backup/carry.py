"""What people were promised after a backup was made, taken over into the restored control data: who was erased, who
withdrew consent, which keys were revoked and how they are bound, who may come in, how long a project keeps what.

It comes from the folder that is replaced, and from a file that was written apart from the backup (`rights.py`). Each
says when it was so. What is newer than the backup replaces what the backup says of rules of retention and of the people
of a project: those that hold now hold. What is older than the backup only adds what it lacks. Every session of the
backup ends, since nobody can say which of them ended behind it.
"""

import base64
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, delete, insert, inspect, select

from twintrack.backup.rights import Rights, unsealed
from twintrack.backup.trail import FOLDER, last_of
from twintrack.clock import milliseconds_of
from twintrack.control.access import key_bounds, links, members, people, signins
from twintrack.control.consents import Statement, add, consents
from twintrack.control.data_keys import data_keys, open_secret, unlock
from twintrack.control.erasures import State, erasures
from twintrack.control.retention import retention
from twintrack.control.tables import keys, projects
from twintrack.control.tombstones import tombstones
from twintrack.errors import RequestError
from twintrack.seal import DataKeys, KeyRing

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


def rights_of(engine: Engine, made_at: int) -> Rights:
    """What holds since then at least. Raises: SQLAlchemyError."""
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
    return Rights(made_at, found)


def rights_in(folder: Path) -> Rights | None:
    """Of a data folder, as of the last record of its audit log: no change goes by that. None where there are none.

    One without a project is as old as can be: it never promised anything to anybody, whenever it was started.
    """
    if not (folder / "control.db").exists():
        return None
    last = last_of(folder / FOLDER, tried=False) if has_projects(folder) else None
    engine = create_engine(f"sqlite:///{folder / 'control.db'}")
    try:
        return rights_of(engine, milliseconds_of(datetime.fromisoformat(last.at)) if last is not None else 0)
    finally:
        engine.dispose()


def has_projects(folder: Path) -> bool:
    """Whether control data in it know a project, and so may have promised something to somebody."""
    if not (folder / "control.db").exists():
        return False  # also where they are kept on a server, of which the caller knows
    engine = create_engine(f"sqlite:///{folder / 'control.db'}")
    try:
        with engine.connect() as db:
            there = inspect(db).has_table(projects.name)
            return there and db.execute(select(projects.c.name).limit(1)).first() is not None
    finally:
        engine.dispose()


def carry(
    engine: Engine, sources: Iterable[Rights], backup_made_at: int, ring: KeyRing | None, now_milliseconds: int
) -> int:
    """Brings the rows into a control database; how many were added or changed. The newest source has the last word.

    Raises: RequestError where a project of the same name has another secret: then it is another installation's;
    EncryptionKeyRefused where the key of the settings does not open what is sealed.
    """
    ordered, changed = sorted(sources, key=lambda one: one.made_at), 0
    for source in ordered:
        changed += _carry_all(engine, source, backup_made_at, [data_keys], None)
    keys_of_data = unlock(engine, ring, now_milliseconds)
    with engine.begin() as db:
        db.execute(delete(signins))
    others = [table for table, _ in CARRIED if table is not data_keys]
    for source in ordered:
        changed += _carry_all(engine, unsealed(source, engine, keys_of_data), backup_made_at, others, keys_of_data)
    return changed


def _carry_all(
    engine: Engine, source: Rights, backup_made_at: int, tables: Iterable[Table], opened: DataKeys | None
) -> int:
    changed, known, newer = 0, dict(CARRIED), source.made_at >= backup_made_at
    with engine.begin() as db:
        for table in tables:
            rows = source.rows.get(table.name)
            if rows is None or (table in _REPLACED and not newer):
                continue
            if table in _REPLACED:
                db.execute(delete(table))
            for row in rows:
                changed += _carry(db, table, known[table], _bytes(table, row), opened, newer=newer)
    return changed


def _carry(
    db: Connection, table: Table, known_by: Iterable[str], row: dict[str, Any], opened: DataKeys | None, *, newer: bool
) -> int:
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
        if not newer and not (table is keys and values["revoked_at"] is not None):
            return 0
        db.execute(delete(table).where(*same))
    db.execute(insert(table).values(**values))
    return 1


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {n: base64.b64encode(v).decode() if isinstance(v, bytes) else v for n, v in row.items()}


def _bytes(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    binary = {column.name for column in table.columns if column.type.python_type is bytes}
    return {n: base64.b64decode(v) if n in binary and v is not None else v for n, v in row.items() if n in table.c}
