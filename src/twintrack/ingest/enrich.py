"""What the server knows and the event does not say: times, address, agent, identity.

Pure: the request's facts come in as values. Next: ingest/mask.py.
"""

from ipaddress import IPv4Address, IPv6Network
from typing import Any

from twintrack.clock import milliseconds_of
from twintrack.event import VENDORS, Context, RequestContext, Row, WireConsent, WireEvent
from twintrack.peer import client_address as client_address
from twintrack.peer import parsed_address

# A clock that is off by less is taken as right: the difference is the network's.
SKEW_TOLERANCE_MILLISECONDS = 5_000
_NO_CONTEXT = Context()


def clock_skew(received_milliseconds: int, sent_milliseconds: int | None) -> int:
    """Milliseconds to add to the client's times; 0 where it sent none or is nearly right.

    Source: the rule of Segment and RudderStack, received_at - sent_at. Vectors: contract/vectors/skew.json.
    """
    if sent_milliseconds is None:
        return 0
    skew = received_milliseconds - sent_milliseconds
    return 0 if abs(skew) <= SKEW_TOLERANCE_MILLISECONDS else skew


def cut_address(address: str, *, keep_full: bool) -> str:
    """The address as stored: cut to /24 or /48 unless kept whole, as IPv6; `::` where it is unknown."""
    parsed = parsed_address(address)
    if parsed is None:
        return "::"
    if isinstance(parsed, IPv4Address):
        kept = parsed if keep_full else IPv4Address(int(parsed) & 0xFFFFFF00)
        return f"::ffff:{kept}"
    return str(parsed if keep_full else IPv6Network((parsed, 48), strict=False).network_address)


def identify(event: WireEvent, context: RequestContext) -> tuple[str, str]:
    """The user of this event and how sure we are: verified, server, claimed or anonymous.

    A token verifies only events whose `user_id` equals its subject, and fills in an absent one only where the
    event has no `anonymous_id`.
    """
    user = event.user_id or ""
    if context.server_key:
        return user, "server" if user else "anonymous"
    if context.subject is not None:
        if user == context.subject:
            return user, "verified"
        if not user and not event.anonymous_id:
            return context.subject, "verified"
    return user, "claimed" if user else "anonymous"


def _driven(metadata: dict[str, Any] | None) -> bool:
    """Whether the browser itself said that a program drives it."""
    return metadata is not None and metadata.get("tt_automation") is True


def _consent(consent: str | WireConsent | None, context: RequestContext) -> tuple[str, float | None, list[str]]:
    """State, time of the grant in seconds, and the vendors it does not hold for (those that there are, in one order).

    A grant cannot lie ahead: where correcting the clock would put it there, the clock was right when it was given.
    """
    if not isinstance(consent, WireConsent):
        return consent or "", None, []
    denied = [vendor for vendor in VENDORS if vendor in consent.denied] if consent.denied else []
    if consent.at is None:
        return consent.state, None, denied
    sent = milliseconds_of(consent.at)
    corrected = sent + context.skew_milliseconds
    return consent.state, (corrected if 0 <= corrected <= context.received_milliseconds else sent) / 1000, denied


def happened_at(event: WireEvent, context: RequestContext) -> int:
    """The event's time by our clock, milliseconds since 1970: the client's, corrected, or that of its arrival."""
    if event.client_timestamp is None:
        return context.received_milliseconds
    return milliseconds_of(event.client_timestamp) + context.skew_milliseconds


def enrich(event: WireEvent, context: RequestContext, masking_version: str) -> Row:
    """The row of an event, before masking."""
    received = context.received_milliseconds
    client = happened = received
    if event.client_timestamp is not None:
        client = milliseconds_of(event.client_timestamp)
        happened = client + context.skew_milliseconds
    where = event.context or _NO_CONTEXT
    user, identity = identify(event, context)
    consent, consent_at, consent_denied = _consent(event.consent, context)
    content = event.message_content
    tenancy = context.tenancy
    return Row(
        tenancy.project,
        tenancy.environment,
        event.event_id,
        event.event_name,
        happened / 1000,
        user,
        event.anonymous_id or "",
        event.session_id or "",
        identity,
        event.sequence or 0,
        event.event_value,
        event.event_metadata or {},
        content,
        None if content is None else len(content),
        event.thread_id,
        client / 1000,
        received / 1000,
        context.ip_address,
        context.user_agent,
        context.is_bot or _driven(event.event_metadata),
        where.page.url,
        where.page.path,
        where.page.title,
        where.referrer,
        where.locale,
        where.viewport.width,
        where.viewport.height,
        consent,
        event.source or "",
        [],
        masking_version,
        consent_at,
        consent_denied,
    )
