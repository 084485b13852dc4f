"""Whether a person's own word keeps an event out: the latest statement on `analytics`, as the consent history has it.

Pure but for the cache it asks. Who an event is of is decided as everywhere: the user where there is one, else the
anonymous id. Next: ingest/sample.py.
"""

from collections.abc import Callable
from typing import NamedTuple

from twintrack.clock import milliseconds_of
from twintrack.control.tombstones import ANONYMOUS, USER, subject_hash
from twintrack.event import RequestContext, WireConsent, WireEvent
from twintrack.ingest.enrich import identify
from twintrack.outcomes import Reason, Refusal, dropped
from twintrack.pii import Masker


class Denials(NamedTuple):
    """Who denies in one environment. Shape: `denied_at(kind, hash)` is a time in milliseconds, or None."""

    secret: bytes
    masker: Masker | None
    denied_at: Callable[[str, str], int | None]


def agreed(event: WireEvent, context: RequestContext, denials: Denials) -> Refusal | None:
    """None where the person may be tracked: nothing was denied, or the event carries a grant that is newer."""
    user, _ = identify(event, context)
    kind, identifier = (USER, user) if user else (ANONYMOUS, event.anonymous_id or "")
    if not identifier:
        return None
    stored = denials.masker.stored_identifier(identifier, denials.secret)[0] if denials.masker else identifier
    at = denials.denied_at(kind, subject_hash(denials.secret, stored))
    if at is None or _granted_after(event, context, at):
        return None
    return dropped(Reason.CONSENT_WITHDRAWN, "this person has withdrawn consent to analytics; do not send it")


def _granted_after(event: WireEvent, context: RequestContext, at: int) -> bool:
    """Whether the event itself says that consent was given anew. Such a word lets in this event, and no other."""
    consent = event.consent
    if not isinstance(consent, WireConsent) or consent.state != "granted" or consent.at is None:
        return False
    given = milliseconds_of(consent.at) + context.skew_milliseconds
    return at < given <= context.received_milliseconds
