"""Who was erased, and when: a keyed hash for each identifier, never the identifier itself.

A tombstone holds for everything of its person from before the request; what is newer comes in. Rows are only ever added:
a backup that lacks some is completed by those that are there.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, insert, select

from twintrack.control.tables import metadata

# No key to the number: the same person may be erased twice, and a restore brings back what it finds missing.
tombstones = Table(
    "tombstones",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(100), nullable=False, index=True),
    # Of an anonymous id; a user is one person in all of them. Without one: in each that was made after the request.
    Column("environment", String(100), nullable=False),
    Column("kind", String(10), nullable=False),  # user, anonymous, place: the environment was there at the request
    Column("hash", String(64), nullable=False),
    Column("requested_at", BigInteger, nullable=False),  # milliseconds
)

USER, ANONYMOUS, PLACE = "user", "anonymous", "place"
# As old as a cache of tombstones may be, and the time of a request that was judged by it.
FENCE_MILLISECONDS = 1_500
_NEVER = -(1 << 62)  # milliseconds


class Tombstone(NamedTuple):
    project: str
    environment: str
    kind: str
    hash: str
    requested_at: int


def subject_hash(secret: bytes, identifier: str) -> str:
    """What stands for an identifier in tombstones, certificates and audits: HMAC-SHA256 of its stored form, in hex.

    Promises: it tells nothing of the pseudonym of the same identifier, which has the same key.
    """
    return hmac.new(secret, b"subject:" + identifier.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


class Marks:
    """The tombstones of one project, ready to be asked."""

    def __init__(self, secret: bytes, rows: Iterable[Tombstone] = ()) -> None:
        self._secret, self.rows = secret, list(rows)
        self._until: dict[tuple[str, str, str], int] = {}
        self._later: dict[str, list[int]] = {}  # of anonymous ids in environments made behind these requests
        self._there_since: dict[str, int] = {}  # environments; others are younger than every request
        for row in self.rows:
            if row.kind == PLACE:
                since = self._there_since.get(row.environment, row.requested_at)
                self._there_since[row.environment] = min(row.requested_at, since)
                continue
            if row.kind == ANONYMOUS and not row.environment:
                self._later.setdefault(row.hash, []).append(row.requested_at)
            key = (row.kind, row.environment, row.hash)
            self._until[key] = max(row.requested_at, self._until.get(key, 0))
        self.latest_milliseconds = max(self._until.values(), default=_NEVER)

    def until(self, environment: str, user_id: str, anonymous_id: str) -> int:
        """Up to when, in milliseconds, events of these stored identifiers are erased; long ago where they never were.

        An event with a user is the user's alone; without one it is its anonymous id's.
        """
        if user_id:
            return self._until.get((USER, "", subject_hash(self._secret, user_id)), _NEVER)
        if anonymous_id:
            hash = subject_hash(self._secret, anonymous_id)
            # Where an environment was there, it was looked at, and the id may be somebody else's in it.
            later = max((at for at in self._later.get(hash, ()) if not self.knows(environment, at)), default=_NEVER)
            return max(later, self._until.get((ANONYMOUS, environment, hash), _NEVER))
        return _NEVER

    def knows(self, environment: str, milliseconds: int) -> bool:
        """Whether the environment was there at a request of that time."""
        return environment in self._there_since and self._there_since[environment] <= milliseconds

    def covers(self, environment: str, user_id: str, anonymous_id: str, milliseconds: float) -> bool:
        """Whether an event of that time was erased. Costs nothing for what is newer than every request."""
        return milliseconds <= self.latest_milliseconds and milliseconds <= self.until(
            environment, user_id, anonymous_id
        )


def write(db: Connection, rows: Iterable[Tombstone]) -> None:
    """Adds those that are not there yet."""
    for row in rows:
        same = [getattr(tombstones.c, name) == value for name, value in row._asdict().items()]
        if db.execute(select(tombstones.c.number).where(*same)).first() is None:
            db.execute(insert(tombstones).values(**row._asdict()))


def read(db: Connection) -> list[Tombstone]:
    """All of them, for the cache and for a backup."""
    columns = (getattr(tombstones.c, name) for name in Tombstone._fields)
    return [Tombstone(*row) for row in db.execute(select(*columns).order_by(tombstones.c.number))]
