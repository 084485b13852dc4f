"""Who is in the rollout and in a sample: a fixed position in [0, 1) for each identity.

Pure, and the same function as in the browser SDK (vectors: contract/vectors/position.json), so that both halves
agree without asking each other. Nested: who is in at 1 % is in at 10 %. Next: ingest/validate.py.
"""

from functools import lru_cache

_OFFSET, _PRIME, _32_BITS = 0x811C9DC5, 0x01000193, 0xFFFFFFFF


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
