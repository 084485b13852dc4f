"""The data keys, wrapped, in the control data: all nodes seal and open with the same ones."""

import secrets

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    LargeBinary,
    Table,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateTable

from twintrack.control.tables import metadata, projects
from twintrack.errors import EncryptionKeyRefused
from twintrack.seal import KEY_BYTES, DataKeys, KeyRing, is_sealed, wrapper_of

data_keys = Table(
    "data_keys",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary, nullable=False),  # by the key of the settings; rewritten when that changes
    Column("created_at", BigInteger, nullable=False),  # milliseconds
)


def unlock(engine: Engine, ring: KeyRing | None, now_milliseconds: int) -> DataKeys | None:
    """The data keys; made where sealing is switched on for the first time, rewrapped where the key of the settings is
    another one than before. None where nothing is sealed.

    Raises: EncryptionKeyRefused, before anything is changed.
    """
    if not inspect(engine).has_table(data_keys.name):
        with engine.begin() as db:
            db.execute(CreateTable(data_keys, if_not_exists=True))
    if ring is None:
        with engine.connect() as db:
            row = db.execute(select(data_keys.c.wrapped)).first()
        if row is None:
            return None
        raise EncryptionKeyRefused(
            f"what is kept here is sealed by the encryption key {wrapper_of(row.wrapped)}, and none is given",
            hint="set TWINTRACK_ENCRYPTION_KEY (or TWINTRACK_ENCRYPTION_KEY_FILE) to it; nothing was changed",
        )
    found = _load(engine, ring)
    if not found:
        add(engine, ring, now_milliseconds)
    _rewrap(engine, ring)
    return DataKeys(lambda: _load(engine, ring))


def add(engine: Engine, ring: KeyRing, now_milliseconds: int) -> int:
    """A new data key, which seals from now on; its number."""
    number = secrets.randbelow(1 << 31)
    with engine.begin() as db:
        # Nodes' clocks may differ: whatever they say, the last one made is the newest.
        last = db.execute(select(func.max(data_keys.c.created_at))).scalar() or 0
        wrapped = ring.wrap(secrets.token_bytes(KEY_BYTES), _bound(number))
        created = max(now_milliseconds, last + 1)
        db.execute(insert(data_keys).values(number=number, wrapped=wrapped, created_at=created))
    return number


def wrappers(engine: Engine) -> list[str]:
    """Ids of the keys that data keys are wrapped by now."""
    with engine.connect() as db:
        return sorted({wrapper_of(row.wrapped) for row in db.execute(select(data_keys.c.wrapped))})


def sealed_secret(keys: DataKeys | None, project: str, secret: bytes) -> bytes:
    return keys.seal(secret, _secret_of(project)) if keys is not None else secret


def open_secret(keys: DataKeys | None, project: str, kept: bytes) -> bytes:
    """A project's secret as it is used. Raises: SealBroken."""
    return keys.open(kept, _secret_of(project)) if keys is not None else kept


def seal_secrets(engine: Engine, keys: DataKeys) -> None:
    """Seals what was written before sealing was switched on, and has SQLite forget the old bytes."""
    sealed = 0
    with engine.begin() as db:
        for row in db.execute(select(projects.c.number, projects.c.name, projects.c.secret)).all():
            if not is_sealed(row.secret):
                where = (projects.c.number == row.number) & (projects.c.secret == row.secret)
                db.execute(update(projects).where(where).values(secret=sealed_secret(keys, row.name, row.secret)))
                sealed += 1
    if sealed and engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(text("VACUUM"))
            db.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def _load(engine: Engine, ring: KeyRing) -> dict[int, bytes]:
    with engine.connect() as db:
        rows = db.execute(select(data_keys).order_by(data_keys.c.created_at, data_keys.c.number)).all()
    return {row.number: ring.unwrap(row.wrapped, _bound(row.number)) for row in rows}


def _rewrap(engine: Engine, ring: KeyRing) -> None:
    with engine.begin() as db:
        for row in db.execute(select(data_keys)).all():
            if wrapper_of(row.wrapped) != ring.id:
                secret = ring.unwrap(row.wrapped, _bound(row.number))
                where = (data_keys.c.number == row.number) & (data_keys.c.wrapped == row.wrapped)
                db.execute(update(data_keys).where(where).values(wrapped=ring.wrap(secret, _bound(row.number))))


def _secret_of(project: str) -> str:
    return f"secret of project {project}"


def _bound(number: int) -> bytes:
    return b"twintrack data key %d" % number
