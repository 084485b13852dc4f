"""Makes the tables of the control data, and brings those of an older version to this one. Runs at each start.

A step that another process did first counts as done: several nodes may start on one database.
"""

from collections.abc import Callable

import msgspec
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from twintrack.control.rollout import Rollout
from twintrack.control.tables import metadata, rollouts

# Until 0.1 a project had one switch and one share for all of its environments.
_OLD = ("config_version", "kill", "share")
# Of two nodes that start at once PostgreSQL fails one, by a name that is taken or a deadlock; by then the other is done.
_TRIES = 5


def upgrade(engine: Engine, now_milliseconds: int) -> None:
    """Raises: SQLAlchemyError where the database refuses; nothing is half done then."""
    make_tables(engine, metadata)
    _beside_others(lambda: _split_rollouts(engine, now_milliseconds) if _is_old(engine) else None)
    _beside_others(lambda: _forget_sessions(engine))


def _forget_sessions(engine: Engine) -> None:
    """Until 0.1 sessions were of keys only; whoever had one signs in again."""
    with engine.begin() as db:
        db.execute(text("DROP TABLE IF EXISTS sessions"))


def make_tables(engine: Engine, tables: MetaData) -> None:
    """Makes what is missing. Raises: SQLAlchemyError where the database refuses."""
    _beside_others(lambda: _make(engine, tables))


def _beside_others(step: Callable[[], None]) -> None:
    for left in reversed(range(_TRIES)):
        try:
            return step()
        except SQLAlchemyError:
            if not left:
                raise


def _make(engine: Engine, tables: MetaData) -> None:
    with engine.begin() as db:
        for table in tables.sorted_tables:
            db.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                db.execute(CreateIndex(index, if_not_exists=True))


def _is_old(engine: Engine) -> bool:
    return any(column["name"] in _OLD for column in inspect(engine).get_columns("projects"))


def _split_rollouts(engine: Engine, now_milliseconds: int) -> None:
    """One rollout for each environment, as its project had it; then the old columns go."""
    with engine.begin() as db:
        # Takes the write lock before anything is read, so that nobody else is half way through.
        db.execute(text("UPDATE projects SET kill = kill"))
        for row in db.execute(
            text(
                "SELECT DISTINCT p.name, k.environment, p.config_version, p.kill, p.share"
                " FROM projects p JOIN keys k ON k.project = p.name"
            )
        ).all():
            rollout = Rollout(version=row.config_version, kill=bool(row.kill), share=min(1.0, max(0.0, row.share)))
            if rollout != Rollout():
                db.execute(
                    rollouts.insert().values(
                        project=row.name,
                        environment=row.environment,
                        version=rollout.version,
                        document=msgspec.json.encode(rollout).decode(),
                        changed_at=now_milliseconds,
                    )
                )
        for column in _OLD:
            db.execute(text(f"ALTER TABLE projects DROP COLUMN {column}"))
