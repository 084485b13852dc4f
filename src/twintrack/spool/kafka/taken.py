"""What is remembered of events that were taken out before the store had them, until an erasure has followed it: their
ids, since receipts of them may come, and whose browsers they named."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select

from twintrack.spool.kafka.tables import erased as erased_ids
from twintrack.spool.kafka.tables import erased_links
from twintrack.spool.protocol import TakenLink


def note_erased(db: Connection, topic: str, identities: Iterable[tuple[str, bytes]]) -> None:
    """(project, event id) of events that were taken out before the store had them: receipts of them may come."""
    for project, event_id in set(identities):
        same = (erased_ids.c.topic == topic) & (erased_ids.c.project == project) & (erased_ids.c.event_id == event_id)
        if db.execute(select(erased_ids.c.project).where(same)).first() is None:
            db.execute(insert(erased_ids).values(topic=topic, project=project, event_id=event_id))


def note_links(db: Connection, topic: str, links: Iterable[TakenLink]) -> None:
    """Once each: a message of a fallback is tried again until the broker takes it."""
    for link in links:
        if db.execute(select(erased_links.c.number).where(is_link(topic, link))).first() is None:
            db.execute(insert(erased_links).values(topic=topic, **_columns(link)))


def is_link(topic: str, link: TakenLink) -> ColumnElement[bool]:
    where: ColumnElement[bool] = erased_links.c.topic == topic
    for name, value in _columns(link).items():
        where &= erased_links.c[name] == value
    return where


def link_in(row: Any) -> TakenLink:
    anonymous_id, user_id = bytes(row.anonymous_id).decode(), bytes(row.user_id).decode()
    return TakenLink(row.project, row.environment, anonymous_id, user_id, row.at)


def _columns(link: TakenLink) -> dict[str, Any]:
    # As bytes: an identifier may have a NUL, which a text of PostgreSQL may not.
    return {**link._asdict(), "anonymous_id": link.anonymous_id.encode(), "user_id": link.user_id.encode()}
