"""Takes personal data out of every string of a row before anything touches the disk.

Text, URLs, metadata (keys and values, numbers too) are masked as the rules' actions say; identifiers become keyed
pseudonyms. Next: spool/local.py.
"""

from typing import Any

from twintrack.event import Row
from twintrack.ingest.validate import collides
from twintrack.pii import Masked, Masker

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
_KEPT = ("event_name", "locale", "consent", "source")  # what a row is not without; masked, never dropped
_LEAST_NUMBER = 1000  # no number that a rule knows is smaller: a PIN has four digits
_LEAST_CODE = 10**6  # a smaller number is no card or telephone; one that is called `code` is a program's own
_IDENTIFIERS = ("user_id", "anonymous_id", "session_id", "thread_id")
_MOST_VALUES = 2048  # of one event's metadata that are read; garbage can hold thousands, at 20 us each
_UNREAD = Masked("[REDACTED]", ["crowded"])
_GONE = object()
UNMASKED = "masking_failed"  # the name of an event that could not be masked


class _Found:
    """What was found in one row: `field:rule`, each once, in order; and whether its texts must go."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.quarantine = False

    def note(self, field: str, rules: list[str], *, quarantine: bool = False) -> None:
        for rule in rules:
            if f"{field}:{rule}" not in self.labels:
                self.labels.append(f"{field}:{rule}")
        self.quarantine = self.quarantine or quarantine


def mask(row: Row, masker: Masker, key: bytes) -> None:
    """Masks the row in place and records what was found.

    Raises: ValueError where masked keys would collide.
    """
    found = _Found()
    for field in _TEXTS:
        value = getattr(row, field)
        if value:
            masked = masker.mask(value, key)
            if masked.rules:
                dropped = masked.drop and field not in _KEPT
                setattr(row, field, _nothing(value, field) if dropped else masked.text)
                found.note(field, masked.rules, quarantine=masked.quarantine)
    for field in _IDENTIFIERS:
        value = getattr(row, field)
        if value:
            stored, rules = masker.stored_identifier(value, key)
            if rules:
                setattr(row, field, stored)
                found.note(field, rules)
    if row.event_metadata:
        metadata = _Metadata(masker, key, found).members(row.event_metadata)
        if metadata != row.event_metadata:
            if collides(metadata):
                raise ValueError("masked keys collide")
            row.event_metadata = metadata
    if found.quarantine:
        _without_texts(row)
        found.note("*", ["quarantine"])
    row.masked = found.labels


def quarantine(row: Row) -> None:
    """Leaves of a row that could not be masked its id, its times and its numbers, under a name of ours."""
    _without_texts(row)
    row.event_name, row.locale, row.consent, row.source = UNMASKED, "", "", ""
    row.user_id, row.anonymous_id, row.session_id, row.thread_id = "", "", "", None
    row.masked = ["*:failed"]


def _nothing(value: str, field: str) -> str | None:
    return None if field in ("event_value", "message_content") else ""


def _without_texts(row: Row) -> None:
    for field in _TEXTS:
        if field not in _KEPT:
            setattr(row, field, _nothing("", field))
    row.event_metadata = {}


class _Metadata:
    """One walk over metadata. Depth was bounded by validation, so recursion is too."""

    def __init__(self, masker: Masker, key: bytes, found: _Found) -> None:
        self._masker, self._key, self._found = masker, key, found
        self._left = _MOST_VALUES
        self._harmless: set[tuple[str, int]] = set()  # names of small numbers, and their digits

    def members(self, value: dict[str, Any]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, item in value.items():
            kept = self._noted(self._masker.mask(name, self._key))
            masked = self._value(name, item)
            if kept is not _GONE and masked is not _GONE:
                members[_free(kept, members)] = masked
        return members

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._noted(self._read(name, value)) if value else value
        if isinstance(value, dict):
            return self.members(value)
        if isinstance(value, list):
            return [item for item in (self._value(name, item) for item in value) if item is not _GONE]
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= _least(name):
            digits = str(abs(int(value)))
            # A small number is a secret by its name alone: of a long list one is read.
            alike = (name, len(digits)) if abs(value) < _LEAST_CODE and self._masker.small_numbers_are_alike else None
            if alike in self._harmless:
                return value
            masked = self._read(name, digits)
            if masked.rules:
                return self._noted(masked)
            if alike is not None:
                self._harmless.add(alike)
        return value

    def _read(self, name: str, value: str) -> Masked:
        """Fails closed: what would cost too much to read is not kept."""
        if not self._left:
            return _UNREAD
        self._left -= 1
        return self._masker.mask_member(name, value, self._key)

    def _noted(self, masked: Masked) -> Any:
        self._found.note("event_metadata", masked.rules, quarantine=masked.quarantine)
        return _GONE if masked.drop else masked.text


def _least(name: str) -> int:
    return _LEAST_CODE if name.casefold() == "code" else _LEAST_NUMBER


def _free(name: str, taken: dict[str, Any]) -> str:
    """The name, numbered where two keys became one by masking: no value is lost."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
