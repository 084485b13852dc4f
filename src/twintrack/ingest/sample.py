"""Who is in the rollout and in a sample: a fixed position in [0, 1) for each identity.

Pure, and the same function as in the browser SDK (vectors: contract/vectors/position.json), so that both halves
agree without asking each other. Nested: who is in at 1 % is in at 10 %. Next: ingest/enrich.py.
"""

from functools import lru_cache

from twintrack.control.rollout import Rollout
from twintrack.event import WireEvent
from twintrack.outcomes import Reason, Refusal, dropped

_OFFSET, _PRIME, _32_BITS = 0x811C9DC5, 0x01000193, 0xFFFFFFFF


def sample(event: WireEvent, rollout: Rollout) -> Refusal | None:
    """None where the event's identity is in the share, and in what is kept of this event's name.

    The identity is the `anonymous_id` as sent, before masking, so that signing in changes nothing; the `user_id` only
    where there is none.
    """
    if rollout.keeps_all:
        return None
    identity = event.anonymous_id or event.user_id or ""
    if not within(identity, "rollout", rollout.shared):
        return dropped(
            Reason.NOT_IN_ROLLOUT,
            f"this identity is not in the {rollout.shared:.4g} of the rollout (share); nothing to do",
        )
    rate = rollout.sampling.events.get(event.event_name, rollout.sampling.default)
    if not within(identity, "sampling", rate):
        return dropped(Reason.SAMPLED, f"only {rate:.4g} of this event is kept (sampling); nothing to do")
    return None


@lru_cache(maxsize=10_000)  # the events of a batch are mostly one person's
def position(identity: str, purpose: str) -> float:
    """Where an identity stands in [0, 1), apart for each purpose (`rollout`, `sampling`).

    FNV-1a of 32 bits over the UTF-8 of `purpose:identity`, then the last step of murmur3 (FNV alone barely moves the
    high bits for ids that differ in their last sign). A lone surrogate counts as U+FFFD, as in the browser's encoder.
    """
    number = _OFFSET
    for byte in _utf8(f"{purpose}:{identity}"):
        number = (number ^ byte) * _PRIME & _32_BITS
    number = (number ^ number >> 16) * 0x85EBCA6B & _32_BITS
    number = (number ^ number >> 13) * 0xC2B2AE35 & _32_BITS
    return (number ^ number >> 16) / 2**32


def within(identity: str, purpose: str, share: float) -> bool:
    """Whether an identity is in a share of 0 (nobody) to 1 (all)."""
    return share >= 1 or position(identity, purpose) < share


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
