"""Sessions of the dashboard: opened at sign-in with a fresh secret, ended by sign-out, by idling, or at their end."""

import secrets
from typing import NamedTuple

from sqlalchemy import Engine, delete, insert, select, update

from twintrack.auth import key_hash
from twintrack.clock import Clock
from twintrack.control.access import signins
from twintrack.event import Tenancy

_SEEN_MILLISECONDS = 60_000


class Session(NamedTuple):
    """Of a key or of a person; the other id is empty."""

    key_id: str
    person_id: str
    tenancy: Tenancy


class Sessions:
    """`idle_milliseconds` is set by whoever has the settings."""

    idle_milliseconds = 12 * 3_600_000

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def open(self, session: Session, days: int, *, instead_of: str = "") -> str:
        """The secret of a new session. The one it takes the place of ends: what was known before is worth nothing."""
        secret, now = secrets.token_urlsafe(32), self._clock.milliseconds()
        with self._engine.begin() as db:
            db.execute(delete(signins).where(signins.c.expires_at < now))
            db.execute(delete(signins).where(signins.c.seen_at < now - self.idle_milliseconds))
            if instead_of:
                db.execute(delete(signins).where(signins.c.hash == key_hash(instead_of)))
            db.execute(
                insert(signins).values(
                    hash=key_hash(secret),
                    key_id=session.key_id or None,
                    person_id=session.person_id or None,
                    **session.tenancy._asdict(),
                    expires_at=now + days * 86_400_000,
                    seen_at=now,
                )
            )
        return secret

    def read(self, secret: str) -> Session | None:
        """None where it ended. Its use is written down at most once a minute."""
        now, hashed = self._clock.milliseconds(), key_hash(secret)
        with self._engine.connect() as db:
            row = db.execute(select(signins).where(signins.c.hash == hashed, signins.c.expires_at > now)).first()
        if row is None or row.seen_at <= now - self.idle_milliseconds:
            return None
        if row.seen_at <= now - _SEEN_MILLISECONDS:
            with self._engine.begin() as db:
                db.execute(update(signins).where(signins.c.hash == hashed).values(seen_at=now))
        return Session(row.key_id or "", row.person_id or "", Tenancy(row.project, row.environment))

    def move(self, secret: str, tenancy: Tenancy) -> None:
        """From now on this session looks at another environment."""
        with self._engine.begin() as db:
            db.execute(update(signins).where(signins.c.hash == key_hash(secret)).values(**tenancy._asdict()))

    def close(self, secret: str) -> None:
        with self._engine.begin() as db:
            db.execute(delete(signins).where(signins.c.hash == key_hash(secret)))
