"""The closed list of what can become of a delivered event, and why.

    received = accepted + duplicate + dropped + rejected + retry          (at the door)
    accepted = stored + in spool + expired + erased + quarantined + damaged + duplicate(found_in_store)  (behind it)

`tests/test_balance.py` holds both lines.
"""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """What one event of a batch is answered with."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    DROPPED = "dropped"
    RETRY = "retry"


class Reason(StrEnum):
    """Why an event was not accepted. Stable codes: clients and dashboards may compare them."""

    ALREADY_ACCEPTED = "already_accepted"
    FOUND_IN_STORE = "found_in_store"
    RATE_LIMITED = "rate_limited"
    KILLED = "killed"
    NOT_IN_ROLLOUT = "not_in_rollout"
    SAMPLED = "sampled"
    CONSENT = "consent"
    ERASED = "erased"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    EXPIRED = "expired"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    TOO_LONG = "too_long"
    TOO_DEEP = "too_deep"
    TOO_MANY_KEYS = "too_many_keys"
    COLLIDING_KEYS = "colliding_keys"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    TOO_OLD = "too_old"
    IN_THE_FUTURE = "in_the_future"
    UNVERIFIED_USER = "unverified_user"


class Refusal(NamedTuple):
    """One event that is not accepted: the message names field, limit and what to do, never a value."""

    status: Status
    reason: Reason
    message: str


def rejected(reason: Reason, message: str) -> Refusal:
    return Refusal(Status.REJECTED, reason, message)


def dropped(reason: Reason, message: str) -> Refusal:
    return Refusal(Status.DROPPED, reason, message)
