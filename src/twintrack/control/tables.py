"""The small control data: projects, rollouts, keys; people stand in `access.py`. SQLite by default, PostgreSQL by URL.

A column is never changed here alone: `upgrade.py` brings older databases to this shape.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

projects = Table(
    "projects",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),  # key of pseudonyms and of import ids; never rotated away
)

# One row for each environment whose rollout was ever changed; without one the defaults hold.
rollouts = Table(
    "rollouts",
    metadata,
    Column("project", String(100), ForeignKey("projects.name"), primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),  # a `Rollout` as JSON: what is told to clients, and nothing else
    Column("changed_at", BigInteger, nullable=False),  # milliseconds
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("project", String(100), ForeignKey("projects.name"), nullable=False),
    Column("environment", String(100), nullable=False),
    Column("role", String(20), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("prefix", String(40), nullable=False),
    Column("public_value", String(200)),  # write keys only: they stand in every page's source anyway
    Column("created_at", BigInteger, nullable=False),  # milliseconds
    Column("revoked_at", BigInteger),  # milliseconds
)
