"""An event against the limits of the contract: kept, or refused by a message that names field, limit and hint.

Pure. `json` values are checked with an explicit stack: depth cannot hurt. Next: ingest/enrich.py.
"""

from typing import Any

from twintrack.clock import milliseconds_of
from twintrack.event import Limits, RequestContext, WireEvent
from twintrack.outcomes import Reason, Refusal, rejected

_INT_LEAST, _INT_MOST = -(2**63), 2**64 - 1


def validate(event: WireEvent, context: RequestContext, limits: Limits) -> Refusal | None:
    """None where the event may go on."""
    name = event.event_name
    if not name or name.isspace():
        return rejected(Reason.MISSING_FIELD, "event_name is empty; give the event a name")
    if len(name) > limits.event_name_characters:
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
    for field in ("consent", "source"):
        value = getattr(event, field)
        if value is not None and len(value) > 40:
            return _long(field, 40)
    if event.sequence is not None and not 0 <= event.sequence <= limits.sequence_maximum:
        return rejected(
            Reason.NUMBER_OUT_OF_RANGE, f"sequence must lie in 0..{limits.sequence_maximum}; count from 0 per session"
        )
    if event.context is not None:
        refusal = _context(event, limits)
        if refusal is not None:
            return refusal
    if event.client_timestamp is not None and not context.imported:
        refusal = _time(event, context, limits)
        if refusal is not None:
            return refusal
    return _metadata(event.event_metadata, limits) if event.event_metadata else None


def _long(field: str, most: int) -> Refusal:
    return rejected(Reason.TOO_LONG, f"{field} is longer than {most} characters; shorten it")


def _context(event: WireEvent, limits: Limits) -> Refusal | None:
    context = event.context
    assert context is not None
    for field, value in (
        ("context.page.url", context.page.url),
        ("context.page.path", context.page.path),
        ("context.page.title", context.page.title),
        ("context.referrer", context.referrer),
    ):
        if len(value) > limits.url_characters:
            return _long(field, limits.url_characters)
    if len(context.locale) > 40:
        return _long("context.locale", 40)
    for side in (context.viewport.width, context.viewport.height):
        if not 0 <= side <= 65_535:
            return rejected(Reason.NUMBER_OUT_OF_RANGE, "context.viewport must lie in 0..65535 pixels; send CSS pixels")
    return None


def _time(event: WireEvent, context: RequestContext, limits: Limits) -> Refusal | None:
    assert event.client_timestamp is not None
    happened = milliseconds_of(event.client_timestamp) + context.skew_milliseconds
    age = context.received_milliseconds - happened
    if age > limits.event_age_days * 86_400_000:
        return rejected(
            Reason.TOO_OLD,
            f"client_timestamp is older than {limits.event_age_days} days (event_age_days); "
            "bring older events in with `twintrack import`",
        )
    if -age > limits.event_future_hours * 3_600_000:
        return rejected(
            Reason.IN_THE_FUTURE,
            f"client_timestamp is more than {limits.event_future_hours} hours ahead (event_future_hours); "
            "check the clock, or send `sent_at` so that it can be corrected",
        )
    return None


def _metadata(metadata: dict[str, Any], limits: Limits) -> Refusal | None:
    keys = 0
    nested = False
    dotted = False
    stack: list[tuple[Any, int]] = [(metadata, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > limits.metadata_depth:
            return rejected(
                Reason.TOO_DEEP, f"event_metadata is nested deeper than {limits.metadata_depth} levels; flatten it"
            )
        if isinstance(value, dict):
            keys += len(value)
            for key, item in value.items():
                if len(key) > limits.metadata_key_characters:
                    return _long("a key of event_metadata", limits.metadata_key_characters)
                if not key:
                    return rejected(Reason.MISSING_FIELD, "event_metadata has an empty key; name every key")
                if "." in key:
                    dotted = True
                if isinstance(item, dict | list):
                    nested = True
                    stack.append((item, depth + 1))
                elif isinstance(item, int) and not _INT_LEAST <= item <= _INT_MOST:
                    return _range()
        else:
            for item in value:
                if isinstance(item, dict | list):
                    stack.append((item, depth + 1))
                elif isinstance(item, int) and not _INT_LEAST <= item <= _INT_MOST:
                    return _range()
    if keys > limits.metadata_keys:
        return rejected(Reason.TOO_MANY_KEYS, f"event_metadata has more than {limits.metadata_keys} keys; send fewer")
    if dotted and (nested or len(metadata) > 1) and collides(metadata):
        return rejected(
            Reason.COLLIDING_KEYS,
            "event_metadata names one path twice (as in `a.b` beside `a: {b}`); rename one of them",
        )
    return None


def _range() -> Refusal:
    return rejected(
        Reason.NUMBER_OUT_OF_RANGE, "event_metadata holds a whole number beyond 64 bits; send it as a string"
    )


def collides(metadata: dict[str, Any]) -> bool:
    """Whether two keys flatten to one dotted path, or one path is both a value and a parent.

    The JSON column of the store refuses such an object, and with it the whole insert.
    """
    leaves: set[str] = set()
    stack: list[tuple[str, dict[str, Any]]] = [("", metadata)]
    while stack:
        prefix, node = stack.pop()
        for key, value in node.items():
            path = f"{prefix}{key}"
            if isinstance(value, dict) and value:
                stack.append((path + ".", value))
            elif path in leaves:
                return True
            else:
                leaves.add(path)
    return any(path[:at] in leaves for path in leaves for at, sign in enumerate(path) if sign == ".")
