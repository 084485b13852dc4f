"""An event's way in, as a list: validate, admit, enrich, mask. One bad event never sinks its batch.

Each step sees one event and lets it go on or says why not, with a reason of the closed list. The result is what
the spool makes durable: encoded rows, and a verdict for every event.
"""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import msgspec

from twintrack import pii
from twintrack.event import Limits, RequestContext, WireEvent, uuid7_milliseconds
from twintrack.ingest.enrich import enrich, identify
from twintrack.ingest.mask import mask
from twintrack.ingest.validate import validate
from twintrack.outcomes import Reason, Refusal, dropped, rejected

_ENCODER = msgspec.json.Encoder()


class Rules(NamedTuple):
    """What the steps need to know beside the request: limits, and the project's own switches."""

    limits: Limits
    secret: bytes
    kill: bool
    require_verified_ids: bool
    masking: bool


class Prepared(NamedTuple):
    """One accepted event, ready for the spool."""

    place: int  # in the batch
    event_id: UUID
    milliseconds: int
    body: bytes


Step = Callable[[WireEvent, RequestContext, Rules], Refusal | None]


def _kill(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    if rules.kill:
        return dropped(Reason.KILLED, "tracking is switched off for this project; stop sending")
    return None


def _consent(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    if event.consent == "denied":
        return dropped(Reason.CONSENT, "the event says that consent was denied; do not send it")
    return None


def _validate(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    return validate(event, context, rules.limits)


def _verified(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    if rules.require_verified_ids and identify(event, context)[1] == "claimed":
        return rejected(
            Reason.UNVERIFIED_USER, "user_id is not verified, and this project demands it; send a fresh user token"
        )
    return None


STEPS: tuple[Step, ...] = (_kill, _consent, _validate, _verified)


def prepare(index: int, event: WireEvent, context: RequestContext, rules: Rules) -> Prepared | Refusal:
    """The encoded, masked row of one event, or why it goes no further."""
    for step in STEPS:
        refusal = step(event, context, rules)
        if refusal is not None:
            return refusal
    row = enrich(event, context)
    row.masking_version = pii.RULES_VERSION if rules.masking else ""
    body = _ENCODER.encode(row)
    if rules.masking and pii.suspicious(body):
        try:
            mask(row, rules.secret)
            body = _ENCODER.encode(row)
        except Exception:
            # Fails closed: whatever went wrong, an event that could not be masked is not kept.
            return rejected(
                Reason.MASKING_FAILED, "the event could not be masked, so it was not kept; report this as a bug"
            )
    if len(body) > rules.limits.event_bytes:
        return rejected(
            Reason.TOO_LONG, f"the event is larger than {rules.limits.event_bytes} bytes (event_bytes); send less"
        )
    return Prepared(index, event.event_id, round(row.event_timestamp * 1000), body)


def id_is_recent(event_id: UUID, now_milliseconds: int, window_days: int) -> bool:
    """Whether the door remembers this id: a UUIDv7 whose time lies in [now - window, now + 1 h]."""
    born = uuid7_milliseconds(event_id)
    return born is not None and now_milliseconds - window_days * 86_400_000 <= born <= now_milliseconds + 3_600_000
