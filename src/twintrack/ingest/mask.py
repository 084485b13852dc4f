"""Takes personal data out of every string of a row before anything touches the disk.

Text, URLs, metadata (keys and values, card numbers sent as numbers too) get typed tokens; identifiers become
keyed pseudonyms. Next: spool/local.py.
"""

from typing import Any

from twintrack import pii
from twintrack.event import Row
from twintrack.ingest.validate import collides

_TEXTS = (
    "event_name",
    "event_value",
    "message_content",
    "user_agent",
    "page_url",
    "page_path",
    "page_title",
    "referrer",
    "locale",
    "consent",
    "source",
)
_CARD_LEAST = 10**12  # a card number has 13 digits or more
_IDENTIFIERS = ("user_id", "anonymous_id", "session_id", "thread_id")


def mask(row: Row, key: bytes) -> None:
    """Masks the row in place and records what was found as `field:rule`, each once, in order."""
    found: list[str] = []

    def note(field: str, rules: list[str]) -> None:
        found.extend(f"{field}:{rule}" for rule in rules if f"{field}:{rule}" not in found)

    for field in _TEXTS:
        value = getattr(row, field)
        if value:
            masked, rules = pii.mask(value)
            if rules:
                setattr(row, field, masked)
                note(field, rules)
    for field in _IDENTIFIERS:
        value = getattr(row, field)
        if value:
            stored, rules = pii.stored_identifier(value, key)
            if rules:
                setattr(row, field, stored)
                note(field, rules)
    if row.event_metadata:
        rules = []
        masked_metadata = _value(row.event_metadata, rules)
        if rules:
            if collides(masked_metadata):
                raise ValueError("masked keys collide")
            row.event_metadata = masked_metadata
            note("event_metadata", rules)
    row.masked = found


def _value(value: Any, rules: list[str]) -> Any:
    """Depth was bounded by validation, so recursion is too."""
    if isinstance(value, str):
        masked, found = pii.mask(value)
        rules += found
        return masked
    if isinstance(value, dict):
        members: dict[str, Any] = {}
        for key, item in value.items():
            members[_free(_value(key, rules), members)] = _value(item, rules)
        return members
    if isinstance(value, list):
        return [_value(item, rules) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= _CARD_LEAST:
        masked, found = pii.mask(str(abs(int(value))))
        if found:
            rules += found
            return masked
    return value


def _free(name: str, taken: dict[str, Any]) -> str:
    """The name, numbered where two keys became one by masking: no value is lost."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
