"""The nouns: an event as sent, a row as stored, what a request brings along, and the limits of each.

`Row` is the stored form: its field order is the column order of `analytics.events` (without `chunk_id`, which
the loader puts first), so that a row is encoded once, at the door, and never rebuilt.
"""

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec

CONSENT_STATES = ("granted", "denied", "pending")
VENDORS = ("statsig", "gtm")
RECEIPT_STATUSES = ("handed", "delivered", "failed", "absent", "blocked")

AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`contract/limits.json`: what both languages hold themselves to. Units are in the names."""

    body_bytes: int
    inflated_bytes: int
    batch_events: int
    batch_receipts: int
    event_bytes: int
    event_name_characters: int
    event_value_characters: int
    identifier_characters: int
    message_content_characters: int
    url_characters: int
    label_characters: int  # of consent, source and locale
    viewport_pixels: int
    metadata_keys: int
    metadata_depth: int
    metadata_key_characters: int
    event_age_days: int
    event_future_hours: int
    sequence_maximum: int


@cache
def limits() -> Limits:
    """The shared limits; the wheel carries a copy, a checkout reads `contract/`."""
    here = Path(__file__).resolve()
    for place in (here.parent / "contract" / "limits.json", here.parents[2] / "contract" / "limits.json"):
        if place.exists():
            return msgspec.convert(json.loads(place.read_text()), Limits)
    raise FileNotFoundError("contract/limits.json is neither in the package nor in the checkout")


class Page(msgspec.Struct):
    url: str = ""
    path: str = ""
    title: str = ""


class Viewport(msgspec.Struct):
    width: int = 0
    height: int = 0


class Context(msgspec.Struct):
    page: Page = msgspec.field(default_factory=Page)
    viewport: Viewport = msgspec.field(default_factory=Viewport)
    referrer: str = ""
    locale: str = ""


class WireConsent(msgspec.Struct):
    """What the person said: the state of our own backend, when it was granted, and who may get nothing all the same."""

    state: str
    at: AwareTime | None = None
    denied: list[str] = []


class WireEvent(msgspec.Struct):
    """An event as sent. Absent and null mean the same."""

    event_id: UUID
    event_name: str
    event_value: str | None = None
    event_metadata: dict[str, Any] | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    sequence: int | None = None
    client_timestamp: AwareTime | None = None
    message_content: str | None = None
    thread_id: str | None = None
    context: Context | None = None
    consent: str | WireConsent | None = None
    source: str | None = None


class WireReceipt(msgspec.Struct):
    """What a vendor did with one event."""

    event_id: UUID
    vendor: str
    status: str
    at: AwareTime


class Envelope(msgspec.Struct):
    """A body that is more than a bare array of events."""

    events: list[WireEvent] = []
    receipts: list[WireReceipt] = []
    batch_id: str | None = None
    sent_at: AwareTime | None = None
    sdk: Any = None
    key: str | None = None
    token: str | None = None


class Row(msgspec.Struct, array_like=True):
    """One row of `analytics.events` without its `chunk_id`; instants are seconds since 1970, to the millisecond.

    The engine reads an unquoted number as seconds, which is cheaper on both sides than a formatted time.
    """

    project: str
    environment: str
    event_id: UUID
    event_name: str
    event_timestamp: float
    user_id: str
    anonymous_id: str
    session_id: str
    identity: str
    sequence: int
    event_value: str | None
    event_metadata: dict[str, Any]
    message_content: str | None
    message_length: int | None
    thread_id: str | None
    client_timestamp: float
    server_timestamp: float
    ip_address: str
    user_agent: str
    is_bot: bool
    page_url: str
    page_path: str
    page_title: str
    referrer: str
    locale: str
    viewport_width: int
    viewport_height: int
    consent: str
    source: str
    masked: list[str]
    masking_version: str
    # Behind these stands what came later: rows of an older version are shorter, and wait in the spool over an update.
    consent_at: float | None
    consent_denied: list[str]


class ReceiptRow(msgspec.Struct, array_like=True):
    """One row of `analytics.receipts` without its `chunk_id`."""

    project: str
    environment: str
    event_id: UUID
    vendor: str
    status: str
    at: float
    server_timestamp: float


class Tenancy(NamedTuple):
    """Where a key's events go. It comes from the key, never from the body."""

    project: str
    environment: str


class RequestContext(msgspec.Struct):
    """What is true of every event of one request."""

    tenancy: Tenancy
    server_key: bool
    subject: str | None
    received_milliseconds: int
    skew_milliseconds: int
    ip_address: str
    user_agent: str
    is_bot: bool
    imported: bool = False


def uuid7_milliseconds(event_id: UUID) -> int | None:
    """The time inside a UUIDv7, None for any other id. Source: RFC 9562 section 5.7."""
    number: int = event_id.int
    return number >> 80 if (number >> 76) & 0xF == 7 else None
