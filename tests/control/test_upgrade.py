"""A control database of an older version opens with what was set in it, once, whoever comes first."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError

from twintrack.auth import Role
from twintrack.control.control import Control
from twintrack.control.rollout import Rollout
from twintrack.control.upgrade import upgrade
from twintrack.event import Tenancy
from twintrack.testing import ManualClock

# As version 0.1.0 made it, before an environment had a rollout of its own.
OLD = (
    "CREATE TABLE projects (number INTEGER NOT NULL, name VARCHAR(100) NOT NULL, secret BLOB NOT NULL,"
    " config_version INTEGER NOT NULL, kill INTEGER NOT NULL, share FLOAT NOT NULL, PRIMARY KEY (number), UNIQUE (name))",
    "CREATE TABLE keys (id VARCHAR(26) NOT NULL, project VARCHAR(100) NOT NULL, environment VARCHAR(100) NOT NULL,"
    " role VARCHAR(20) NOT NULL, hash VARCHAR(64) NOT NULL, prefix VARCHAR(40) NOT NULL, public_value VARCHAR(200),"
    " created_at INTEGER NOT NULL, revoked_at INTEGER, PRIMARY KEY (id), FOREIGN KEY(project) REFERENCES projects"
    " (name), UNIQUE (hash))",
    "INSERT INTO projects VALUES (1, 'shop', x'0102', 4, 1, 0.25), (2, 'blog', x'03', 1, 0, 1.0)",
    "INSERT INTO keys VALUES ('a', 'shop', 'live', 'write', 'h1', 'p', NULL, 1, NULL),"
    " ('b', 'shop', 'test', 'write', 'h2', 'p', NULL, 1, NULL), ('c', 'shop', 'live', 'owner', 'h3', 'p', NULL, 1, 2),"
    " ('d', 'blog', 'live', 'write', 'h4', 'p', NULL, 1, NULL)",
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'control.db'}"
    engine = create_engine(made)
    with engine.begin() as db:
        for statement in OLD:
            db.execute(text(statement))
    engine.dispose()
    return made


def columns(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return {column["name"] for column in inspect(engine).get_columns("projects")}
    finally:
        engine.dispose()


def test_old_switch_and_share_hold_in_every_environment_of_their_project(url: str) -> None:
    control = Control(url, ManualClock())
    was = Rollout(version=4, kill=True, share=0.25)
    assert control.list_rollouts() == [
        (Tenancy("blog", "live"), Rollout()),
        (Tenancy("shop", "live"), was),
        (Tenancy("shop", "test"), was),
    ]
    assert control.project("shop").secret == b"\x01\x02"
    control.close()
    assert columns(url) == {"number", "name", "secret"}


def test_upgraded_database_takes_new_projects_and_changes_and_opens_again(url: str) -> None:
    control = Control(url, ManualClock())
    control.create_key(Role.WRITE, "new", "live")
    control.change_rollout(Tenancy("shop", "live"), {"kill": False})
    control.close()
    again = Control(url, ManualClock())
    assert again.rollout(Tenancy("shop", "live")) == Rollout(version=5, kill=False, share=0.25)
    assert again.rollout(Tenancy("shop", "test")).kill
    again.close()


def test_processes_that_open_an_old_database_at_once_upgrade_it_once(url: str) -> None:
    barrier = threading.Barrier(6)
    faults: list[BaseException] = []

    def begin() -> None:
        try:
            barrier.wait(30)
            Control(url, ManualClock()).close()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    control = Control(url, ManualClock())
    assert [rollout.version for _, rollout in control.list_rollouts()] == [1, 4, 4]
    control.close()


@pytest.mark.parametrize("step", ["CREATE TABLE", "UPDATE projects", "ALTER TABLE"])
def test_step_that_fails_since_another_node_takes_it_is_tried_again(url: str, step: str) -> None:
    """PostgreSQL says so to one of two nodes that start at once: a type's name is taken, or a deadlock."""
    engine = create_engine(url)
    failed: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def fail(_db: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(step) and not failed:
            failed.append(statement)
            raise OperationalError(statement, None, Exception("deadlock detected"))

    upgrade(engine, 1)
    engine.dispose()
    assert failed
    control = Control(url, ManualClock())
    assert [rollout.version for _, rollout in control.list_rollouts()] == [1, 4, 4]
    control.close()
