"""Who had been there before is known however they were seen then, and forgotten with the events that said so."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.query.conftest import Asked
from twintrack.auth import Principal, Role
from twintrack.event import Tenancy
from twintrack.query.answer import Answers
from twintrack.query.kinds import KINDS

_ONCE = datetime(2024, 9, 1, 12, tzinfo=UTC)
_DAY = datetime(2024, 10, 28, tzinfo=UTC)
_RANGE = {"from": "2024-10-28", "to": "2024-10-28"}
# Each came back on that day: with both ids, by a server that knows the user alone, never signed in, signed in later.
_SEEN = [("u1", "a1"), ("u2", ""), ("", "a3"), ("", "a4")]
_BACK = [*_SEEN[:3], ("u4", "a4")]
_NEW = [("u5", "a5"), ("u6", ""), ("", "a7")]
KNOWN, NEW = {"u1", "u2", "a3", "u4"}, {"u5", "u6", "a7"}


def _row(at: datetime, user: str, anonymous: str) -> dict[str, Any]:
    return {
        "event_id": uuid4(),
        "event_name": "view",
        "event_timestamp": at,
        "user_id": user,
        "anonymous_id": anonymous,
        "event_metadata": {"plan": "pro"},
    }


def _there(of: Asked, tenancy: Tenancy) -> Principal:
    """The people of this file in a project of their own, once."""
    found = of.stage.store.select("SELECT count() FROM analytics.events WHERE project = '" + tenancy.project + "'")
    if not found.rows[0][0]:
        rows = [_row(_ONCE, *ids) for ids in [*_SEEN, ("", "")]]
        # The first instant of the range is in it.
        rows += [_row(_DAY, *ids) for ids in [*_BACK, *_NEW, ("", "")]]
        of.stage.insert(rows, tenancy)
    return Principal("key", Role.OWNER, tenancy)


QUESTIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("lifecycle", {"range": _RANGE, "interval": "day"}, {"step": 0, "outcome": "new"}),
    ("retention", {"range": _RANGE, "interval": "day", "periods": 1}, {"row": 0}),
    ("retention", {"range": _RANGE, "interval": "day", "periods": 1, "back": {"event": "view"}}, {"row": 0}),
    ("retention", {"range": _RANGE, "interval": "day", "periods": 1, "breakdown": ["event_name"]}, {"row": 0}),
    (
        "lifecycle",
        {"range": _RANGE, "interval": "day", "filter": {"property": "event_metadata.plan", "value": "pro"}},
        {"step": 0, "outcome": "new"},
    ),
]


def check(of: Asked, asked: dict[str, Any], kinds: Any = KINDS) -> None:
    principal = _there(of, Tenancy("returners", "production"))
    for kind, body, point in QUESTIONS:
        answer = of.stage.ask("actors", {"of": {"kind": kind, **body}, "point": point, **asked}, principal, kinds)
        assert {row[0] for row in answer["rows"]} == NEW, (kind, body)


def test_person_is_new_only_who_was_never_seen_before_in_any_way(many_people: Asked) -> None:
    check(many_people, {})


@pytest.mark.parametrize("kind,body,point", QUESTIONS[:2])
def test_person_whose_earlier_events_expired_is_new_though_a_link_remains(
    many_people: Asked, kind: str, body: dict[str, Any], point: dict[str, Any]
) -> None:
    stage = many_people.stage
    principal = _there(many_people, Tenancy("forgetful", "production"))
    stage.store.command(
        "ALTER TABLE analytics.events DELETE WHERE project = 'forgetful' AND date < '2024-10-01'"
        " SETTINGS mutations_sync = 2"
    )
    remains = "SELECT count() FROM analytics.identities WHERE project = 'forgetful' AND first_linked_at < '2024-10-01'"
    assert stage.store.select(remains).rows[0][0] == 1
    asked = stage.answers
    stage.answers = Answers(stage.executor, stage.clock, lambda _: {}, complete_since=lambda: {"forgetful": 1})
    try:
        answer = stage.ask("actors", {"of": {"kind": kind, **body}, "point": point}, principal)
    finally:
        stage.answers = asked
    assert {row[0] for row in answer["rows"]} == KNOWN | NEW
