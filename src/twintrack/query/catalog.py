"""What may be asked about: the columns of an event and the paths inside `event_metadata`, as typed expressions.

A property is a column's name, `person`, or `event_metadata.path`. Three readings of each: as text (NULL where it is not
set), as a number (NULL where it is none), and whether it is set. An empty text counts as not set, as does JSON null. An
object can only be asked whether it is set: what is compared or broken down by is one of the values in it.
"""

from typing import NamedTuple

from twintrack.auth import Role
from twintrack.permissions import Permission, hidden_from
from twintrack.query.compile.statement import named
from twintrack.query.scope import Scope, refused
from twintrack.store.schema import HIDDEN

METADATA = "event_metadata."
PERSON = "person"
# What is stored under a keyed pseudonym where it holds personal data; `twintrack.pii` decides that.
IDENTIFIERS = frozenset({PERSON, "user_id", "anonymous_id", "session_id", "thread_id"})
_PATH_CHARACTERS = 200

# How a column is kept: text, number, bool, time.
COLUMNS = {
    "event_id": "text",
    "event_name": "text",
    "event_timestamp": "time",
    "user_id": "text",
    "anonymous_id": "text",
    "session_id": "text",
    "identity": "text",
    "sequence": "number",
    "event_value": "text",
    "message_content": "text",
    "message_length": "number",
    "thread_id": "text",
    "client_timestamp": "time",
    "server_timestamp": "time",
    "loaded_at": "time",
    "ip_address": "text",
    "user_agent": "text",
    "is_bot": "bool",
    "page_url": "text",
    "page_path": "text",
    "page_title": "text",
    "referrer": "text",
    "locale": "text",
    "viewport_width": "number",
    "viewport_height": "number",
    "consent": "text",
    "source": "text",
    "masking_version": "text",
}
_NULLABLE = frozenset({"event_value", "message_content", "message_length", "thread_id"})
_NO_TEXT = frozenset({"event_id", "ip_address"})


class Property(NamedTuple):
    """Expressions of one property over the columns of `analytics.events` (and `person`, where the source gives it)."""

    name: str
    kept: str  # text, number, bool, time, json
    raw: str

    @property
    def text(self) -> str:
        """Nullable(String); instants as ISO 8601 UTC, truth as true and false."""
        if self.kept == "text":
            return f"nullIf(CAST({self.raw}, 'Nullable(String)'), '')"
        if self.kept == "time":
            return f"CAST(formatDateTime({self.raw}, '%Y-%m-%dT%H:%i:%SZ', 'UTC'), 'Nullable(String)')"
        if self.kept == "bool":
            return f"CAST(if({self.raw}, 'true', 'false'), 'Nullable(String)')"
        return f"nullIf(CAST({self.raw}, 'Nullable(String)'), '')"

    @property
    def never_null(self) -> bool:
        """Whether the bare column is a text that is never NULL."""
        return self.kept == "text" and self.name not in _NULLABLE and self.name not in _NO_TEXT

    @property
    def number(self) -> str:
        """Nullable(Float64): a number, or a text that reads as a finite one."""
        if self.kept == "number":
            return f"CAST({self.raw}, 'Nullable(Float64)')"
        read = f"toFloat64OrNull({self.text})"
        return f"if(isFinite({read}), {read}, NULL)"

    @property
    def whole(self) -> str:
        """Nullable(Int256): a number without its fraction; whole ones exact, also where `number` takes several for one."""
        if self.kept == "number":
            return f"CAST({self.raw}, 'Nullable(Int256)')"
        return f"ifNull(toInt256OrNull({self.text}), toInt256(greatest(least({self.number}, 1e75), -1e75)))"

    @property
    def moment(self) -> str:
        """Nullable(DateTime64(3)): an instant, or a text that reads as one; without a zone it is UTC."""
        if self.kept == "time":
            return self.raw
        return f"parseDateTime64BestEffortOrNull({self.text}, 3, 'UTC')"

    @property
    def is_set(self) -> str:
        """An object is set where it holds anything; it has no text, and reading it takes twice as long as a value."""
        if self.kept == "json":
            inside = self.raw.replace("event_metadata.", "event_metadata.^", 1)
            return f"(isNotNull({self.text}) OR notEmpty(JSONAllPaths({inside})))"
        return f"isNotNull({self.text})"


def covered(role: Role) -> dict[str, str]:
    """Columns that this role does not see as they are, and what is shown in their place. A person may be a claimed id."""
    lacks = hidden_from(role)
    shown = dict(HIDDEN[Permission.TEXT]["events"]) if Permission.TEXT in lacks else {}
    if Permission.CLAIMS in lacks:
        shown["user_id"] = "if(identity = 'claimed', '[CLAIMED]', user_id)"
        shown[PERSON] = "if(identity = 'claimed' OR user_id = '', '[CLAIMED]', person)"
    return shown


def hidden(role: Role) -> frozenset[str]:
    """Columns that this role may not ask about: a filter would tell as much as an answer."""
    return frozenset(covered(role))


def check_sees_people(role: Role) -> None:
    """Raises: RequestError where this role may count people but not see who they are."""
    if Permission.CLAIMS in hidden_from(role):
        raise refused(
            f"a {role} may count people, not see who they are",
            "ask with a role that sees claimed ids: docs/reference/permissions.md",
            "hidden_people",
        )


def property_of(name: str, scope: Scope, *, only_whether_set: bool = False) -> Property:
    """Raises: RequestError for a name that nothing has, that this role may not ask about, or whose values are sealed."""
    if not only_whether_set and any(name == field or name.startswith(f"{field}.") for field in scope.sealed):
        raise refused(
            f"{name[:60]} is sealed under the keys of people here: the store cannot compare it",
            "ask for the events and read it there; only `is set` and `is not set` work on it",
            "sealed_property",
        )
    role = scope.role
    if name in hidden(role):
        raise refused(
            f"a {role} may not ask about {name}", "ask with a key of a role that sees text of people", "hidden_property"
        )
    if name == PERSON:
        return Property(name, "text", PERSON)
    if name in COLUMNS:
        return Property(name, COLUMNS[name], named(name))
    path = name.removeprefix(METADATA)
    if path == name or not path:
        raise refused(
            f"there is no property {name[:60]!r}",
            "write `event_metadata.` before a property of metadata; else it is a column of events, or `person`;"
            " POST /api/analytics/query/properties lists them",
            "unknown_property",
        )
    if len(path) > _PATH_CHARACTERS or any(ord(c) < 32 for c in path) or "" in path.split("."):
        raise refused(
            "the path of a property is too long, or part of it is empty or holds control signs",
            f"at most {_PATH_CHARACTERS} characters, parts joined by single dots",
            "unknown_property",
        )
    return Property(name, "json", "event_metadata." + ".".join(named(part) for part in path.split(".")))
