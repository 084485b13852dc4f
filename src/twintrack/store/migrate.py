"""Numbered SQL files, applied once each, in order, with a ledger of names and checksums.

Statements are separated by a semicolon at the end of a line and are safe to repeat, so a migration that was cut
short is run again. A changed file or a ledger from a newer version is refused.
"""

import hashlib
from importlib.resources import files
from typing import NamedTuple

from twintrack.errors import StoreDenied
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

LEDGER = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE}",
    f"CREATE TABLE IF NOT EXISTS {DATABASE}.migrations (name String, checksum String, applied_at"
    " DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY name"
    " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
)
# Checksums of earlier texts of the same tables: what they lacked, 0007 gave to the tables that they made.
_EARLIER = {
    "0001_events": "7755ef8ae0d9fa4f",  # pragma: allowlist secret
    "0002_rollups": "b5f51e403603669d",  # pragma: allowlist secret
    "0003_identities": "5061b79120ab6184",  # pragma: allowlist secret
}


class Migration(NamedTuple):
    name: str
    checksum: str
    statements: list[str]


def known() -> list[Migration]:
    """The migrations of this version, in order."""
    found = []
    for file in sorted(files("twintrack.store").joinpath("migrations").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".sql"):
            text = file.read_text()
            body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
            statements = [part.strip() for part in body.split(";\n") if part.strip()]
            found.append(
                Migration(
                    file.name.removesuffix(".sql"),
                    hashlib.sha256(text.encode()).hexdigest()[:16],
                    [s.rstrip(";") for s in statements],
                )
            )
    return found


def missing(store: Store) -> list[Migration]:
    """What `migrate` would apply. Only reads.

    Raises: StoreDenied when the store is newer than this version or an applied file was changed.
    """
    applied: dict[str, str] = {}
    # Asked of a table every user may read, so that a store without ours is no error.
    there = f"SELECT count() FROM system.tables WHERE database = '{DATABASE}' AND name = 'migrations'"
    if store.select(there).rows[0][0]:
        rows = store.select(f"SELECT name, any(checksum) FROM {DATABASE}.migrations GROUP BY name").rows
        applied = {row[0]: row[1] for row in rows}
    ours = {migration.name: migration for migration in known()}
    for name, checksum in applied.items():
        if name not in ours:
            raise StoreDenied(
                f"the store has migration {name}, which this version does not know", hint="run a newer twintrack"
            )
        if checksum not in (ours[name].checksum, _EARLIER.get(name)):
            raise StoreDenied(f"migration {name} differs from the one applied", hint="restore the file as released")
    return [migration for migration in known() if migration.name not in applied]


def migrate(store: Store) -> list[str]:
    """Applies what is missing; the names of what was applied."""
    done = []
    for migration in missing(store):
        for statement in (*LEDGER, *migration.statements):
            store.command(statement)
        store.command(
            f"INSERT INTO {DATABASE}.migrations (name, checksum) VALUES ('{migration.name}', '{migration.checksum}')"
        )
        done.append(migration.name)
    return done
