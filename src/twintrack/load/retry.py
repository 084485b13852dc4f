"""How long to wait after the n-th failure in a row: full jitter, from a tenth of a second to half a minute. Pure.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

_FIRST_SECONDS = 0.1
_MOST_SECONDS = 30.0


def backoff_seconds(failures: int, random: float) -> float:
    """Shape: failures >= 1, random in [0, 1)."""
    return random * min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failures, 20))
