"""Whether everything that a topic held at a moment has been settled: what an erasure and an export wait for."""

from collections.abc import Callable, Mapping
from typing import Any

from twintrack.clock import iso

_DAY_MILLISECONDS = 86_400_000
_SEGMENT_MILLISECONDS = 7 * _DAY_MILLISECONDS  # a broker's default


class Fence:
    """Called until it says yes. First what this node could not send must be in the topic; only then its ends are read."""

    def __init__(
        self,
        drained: Callable[[], bool],
        ends: Callable[[], dict[int, int]],
        open_before: Callable[[Mapping[int, int]], bool],
    ) -> None:
        self._drained, self._ends_now, self._open_before = drained, ends, open_before
        self.ends: dict[int, int] | None = None  # by partition: what stood before these is looked at

    def __call__(self) -> bool:
        """Raises: Unavailable while the broker is away."""
        if self.ends is None:
            if not self._drained():
                return False
            self.ends = self._ends_now()
        return not self._open_before(self.ends)


def remains(
    topic: str, ends: Mapping[int, int], retention_milliseconds: int | None, segment_milliseconds: int | None, now: int
) -> dict[str, Any]:
    """What a certificate says of the topic. Pure.

    A broker deletes a segment when its youngest message is older than the retention, and a segment may be open for its
    own time: the last message of today is gone behind both. Shape: `gone_by` is a day, the first one that is surely behind.
    """
    kept = {
        "name": topic,
        "offsets_before": {str(partition): end for partition, end in sorted(ends.items())},
        "retention_milliseconds": retention_milliseconds,
        "segment_milliseconds": segment_milliseconds,
    }
    if retention_milliseconds is None:
        words = "the broker did not tell its retention.ms: by when is unknown"
        gone_by = None
    elif retention_milliseconds < 0:
        words = "its retention.ms is unlimited: delete the records before these offsets"
        gone_by = None
    else:
        segment = _SEGMENT_MILLISECONDS if segment_milliseconds is None else segment_milliseconds
        until = now + retention_milliseconds + segment + _DAY_MILLISECONDS
        gone_by = iso(until)[:10]
        words = f"its retention ends by {gone_by}"
    return {**kept, "gone_by": gone_by, "words": words}
