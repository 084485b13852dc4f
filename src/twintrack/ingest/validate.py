"""An event against the limits of the contract: kept, or refused by a message that names field, limit and hint.

Pure. `json` values are checked with an explicit stack: depth cannot hurt. Next: ingest/enrich.py.
"""

from datetime import UTC, datetime
from typing import Any

from twintrack.clock import milliseconds_of
from twintrack.event import Context, Limits, RequestContext, WireConsent, WireEvent
from twintrack.ingest.checked import CheckedEvent, FlatEvent
from twintrack.outcomes import Reason, Refusal, rejected

_INT_LEAST, _INT_MOST = -(2**63), 2**64 - 1
# What every time column of the store can hold, dates and hours of the rollups included. Beyond it the engine wraps
# dates around, and an instant after 9999 can be stored but never read.
_TIME_LEAST = 0
_TIME_MOST = milliseconds_of(datetime(2106, 1, 1, tzinfo=UTC)) - 1


def validate(event: WireEvent, context: RequestContext, limits: Limits) -> Refusal | None:
    """None where the event may go on."""
    if not isinstance(event, CheckedEvent):
        refusal = _fields(event, limits)
        if refusal is not None:
            return refusal
    if event.event_name.isspace():
        return rejected(Reason.MISSING_FIELD, "event_name is empty; give the event a name")
    if event.client_timestamp is not None:
        refusal = _time(event.client_timestamp, context, limits)
        if refusal is not None:
            return refusal
    if isinstance(event.consent, WireConsent) and event.consent.at is not None:
        refusal = _storable("consent.at", milliseconds_of(event.consent.at))
        if refusal is not None:
            return refusal
    metadata = event.event_metadata
    if not metadata or (isinstance(event, FlatEvent) and "." not in "".join(metadata)):
        return None
    return _metadata(metadata, limits)


def _fields(event: WireEvent, limits: Limits) -> Refusal | None:
    if not event.event_name:
        return rejected(Reason.MISSING_FIELD, "event_name is empty; give the event a name")
    if len(event.event_name) > limits.event_name_characters:
        return _long("event_name", limits.event_name_characters)
    most = limits.identifier_characters
    for field in ("user_id", "anonymous_id", "session_id", "thread_id"):
        value = getattr(event, field)
        if value is not None and len(value) > most:
            return _long(field, most)
    if event.event_value is not None and len(event.event_value) > limits.event_value_characters:
        return _long("event_value", limits.event_value_characters)
    if event.message_content is not None and len(event.message_content) > limits.message_content_characters:
        return _long("message_content", limits.message_content_characters)
    if event.source is not None and len(event.source) > limits.label_characters:
        return _long("source", limits.label_characters)
    if event.sequence is not None and not 0 <= event.sequence <= limits.sequence_maximum:
        return rejected(
            Reason.NUMBER_OUT_OF_RANGE, f"sequence must lie in 0..{limits.sequence_maximum}; count from 0 per session"
        )
    return None if event.context is None else _context(event.context, limits)


def _long(field: str, most: int) -> Refusal:
    return rejected(Reason.TOO_LONG, f"{field} is longer than {most} characters; shorten it")


def _context(context: Context, limits: Limits) -> Refusal | None:
    for field, value in (
        ("context.page.url", context.page.url),
        ("context.page.path", context.page.path),
        ("context.page.title", context.page.title),
        ("context.referrer", context.referrer),
    ):
        if len(value) > limits.url_characters:
            return _long(field, limits.url_characters)
    if len(context.locale) > limits.label_characters:
        return _long("context.locale", limits.label_characters)
    for side in (context.viewport.width, context.viewport.height):
        if not 0 <= side <= limits.viewport_pixels:
            return rejected(
                Reason.NUMBER_OUT_OF_RANGE,
                f"context.viewport must lie in 0..{limits.viewport_pixels} pixels; send CSS pixels",
            )
    return None


def _time(moment: datetime, context: RequestContext, limits: Limits) -> Refusal | None:
    """The client's time as it was sent and as corrected. What is imported may be old, but must be storable."""
    sent = milliseconds_of(moment)
    age = context.received_milliseconds - (sent + context.skew_milliseconds)
    if not context.imported and age > limits.event_age_days * 86_400_000:
        return rejected(
            Reason.TOO_OLD,
            f"client_timestamp is older than {limits.event_age_days} days (event_age_days); "
            "bring older events in with `twintrack import`",
        )
    if not context.imported and -age > limits.event_future_hours * 3_600_000:
        return rejected(
            Reason.IN_THE_FUTURE,
            f"client_timestamp is more than {limits.event_future_hours} hours ahead (event_future_hours); "
            "check the clock, or send `sent_at` so that it can be corrected",
        )
    return _storable("client_timestamp", sent)


def _storable(field: str, milliseconds: int) -> Refusal | None:
    if milliseconds < _TIME_LEAST:
        return rejected(Reason.TOO_OLD, f"{field} lies before 1970, which cannot be stored; check the clock")
    if milliseconds > _TIME_MOST:
        return rejected(Reason.IN_THE_FUTURE, f"{field} lies after 2105, which cannot be stored; check the clock")
    return None


def _metadata(metadata: dict[str, Any], limits: Limits) -> Refusal | None:
    """A dot in a key counts as a level, since the store reads it as one."""
    keys = 0
    dotted = False
    stack: list[tuple[Any, int]] = [(metadata, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > limits.metadata_depth:
            return _deep(limits)
        if isinstance(value, dict):
            keys += len(value)
            for key, item in value.items():
                if len(key) > limits.metadata_key_characters:
                    return _long("a key of event_metadata", limits.metadata_key_characters)
                if not key:
                    return rejected(Reason.MISSING_FIELD, "event_metadata has an empty key; name every key")
                dots = key.count(".")
                if dots:
                    dotted = True
                    if depth + dots > limits.metadata_depth:
                        return _deep(limits)
                if isinstance(item, dict | list):
                    stack.append((item, depth + 1 + dots))
                elif isinstance(item, int) and not _INT_LEAST <= item <= _INT_MOST:
                    return _range()
        else:
            for item in value:
                if isinstance(item, dict | list):
                    stack.append((item, depth + 1))
                elif isinstance(item, int) and not _INT_LEAST <= item <= _INT_MOST:
                    return _range()
    if keys > limits.metadata_keys:
        return rejected(
            Reason.TOO_MANY_KEYS,
            f"event_metadata has more than {limits.metadata_keys} keys (metadata_keys); send fewer",
        )
    if dotted and collides(metadata):
        return rejected(
            Reason.COLLIDING_KEYS,
            "event_metadata names one path twice (as in `a.b` beside `a: {b}`); rename one of them",
        )
    return None


def _deep(limits: Limits) -> Refusal:
    return rejected(
        Reason.TOO_DEEP,
        f"event_metadata is nested deeper than {limits.metadata_depth} levels (metadata_depth), each dot in a key "
        "counted; flatten it",
    )


def _range() -> Refusal:
    return rejected(
        Reason.NUMBER_OUT_OF_RANGE, "event_metadata holds a whole number beyond 64 bits; send it as a string"
    )


_Tree = dict[str, "_Tree | None"]  # a part of a path to what lies below it; None: a value


def collides(metadata: dict[str, Any]) -> bool:
    """Whether two keys flatten to one dotted path, or one path is both a value and a parent; inside lists too.

    The JSON column of the store refuses the first, and with it the whole insert; the second it takes, and then no
    row of that answer can be read.
    """
    roots: list[Any] = [metadata]
    while roots:
        root = roots.pop()
        if isinstance(root, list):
            roots += [item for item in root if isinstance(item, dict | list)]
            continue
        stack: list[tuple[_Tree, dict[str, Any]]] = [({}, root)]
        while stack:
            tree, members = stack.pop()
            for key, value in members.items():
                if value is None or value == {}:
                    continue  # the store keeps no path for these
                below, last = _parent(tree, key)
                if below is None:
                    return True
                if isinstance(value, dict):
                    child = below.setdefault(last, {})
                    if child is None:
                        return True
                    stack.append((child, value))
                elif last in below:
                    return True
                else:
                    below[last] = None
                    if isinstance(value, list):
                        roots.append(value)
    return False


def _parent(tree: _Tree, key: str) -> tuple[_Tree | None, str]:
    """Where the last part of a dotted key belongs, None where a value stands in the way; and that part."""
    *parts, last = key.split(".")
    for part in parts:
        below = tree.setdefault(part, {})
        if below is None:
            return None, last
        tree = below
    return tree, last
