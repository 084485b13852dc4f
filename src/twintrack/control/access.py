"""Tables of who may come in: bounds and use of keys, people, what they are of a project, links, sessions.

Of a secret only its hash is kept: SHA-256 where it is random, argon2 where a person chose it.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table, Text

from twintrack.control.tables import metadata

# One row for each key that has bounds or was made in place of another; without one there are none.
key_bounds = Table(
    "key_bounds",
    metadata,
    Column("key_id", String(26), ForeignKey("keys.id"), primary_key=True),
    Column("document", Text, nullable=False),  # a `Bounds` as JSON
    Column("replaces", String(26)),  # id of the key whose successor this one is
)

key_uses = Table(
    "key_uses",
    metadata,
    Column("key_id", String(26), ForeignKey("keys.id"), primary_key=True),
    Column("used_at", BigInteger, nullable=False),  # milliseconds; up to a minute old
)

people = Table(
    "people",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),  # in lower case
    Column("password", String(200)),  # argon2id; NULL for one who comes by link alone
    Column("created_at", BigInteger, nullable=False),  # milliseconds
)

members = Table(
    "members",
    metadata,
    Column("person_id", String(26), ForeignKey("people.id"), primary_key=True),
    Column("project", String(100), ForeignKey("projects.name"), primary_key=True),
    Column("role", String(20), nullable=False),
    Column("since", BigInteger, nullable=False),  # milliseconds
)

# Invitations and sign-in links: good once, until they expire. A used one is kept until then, to say that it was used.
links = Table(
    "links",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("kind", String(10), nullable=False),  # invite or sign_in
    Column("email", String(254), nullable=False),
    Column("project", String(100), ForeignKey("projects.name"), nullable=False),
    Column("role", String(20), nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # milliseconds
    Column("used_at", BigInteger),  # milliseconds
)

signins = Table(
    "signins",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("key_id", String(26)),  # of the key that opened it, else of whom:
    Column("person_id", String(26)),
    Column("project", String(100), nullable=False),
    Column("environment", String(100), nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # milliseconds
    Column("seen_at", BigInteger, nullable=False),  # milliseconds; up to a minute old
)
