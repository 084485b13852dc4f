"""Where a fault test may kill this process: named points on the way of an event, silent in a running service.

`TWINTRACK_CRASH_POINT=before_sync:3` kills at the third time the point is reached, as `kill -9` does.
"""

import os
import signal
from collections.abc import Callable
from itertools import count

from twintrack.errors import SettingsError

CRASH_POINTS = (
    "after_write",
    "before_sync",
    "after_sync",
    "before_answer",
    "after_chunk_write",
    "before_insert",
    "after_insert",
    "before_forget",
)
# On the way of an erasure, in this order.
ERASURE_POINTS = (
    "erasure_planned",
    "before_amend",
    "after_amend",
    "erasure_spool_done",
    "erasure_deleted",
    "erasure_settled",
)
_BACKUP_POINT = "in_backup"
_POINTS = (*CRASH_POINTS, *ERASURE_POINTS, _BACKUP_POINT)


def crash_at(point: str) -> Callable[[str], None]:
    """What to call where a point is reached. Raises: SettingsError."""
    name, _, number = point.partition(":")
    if not name:
        return lambda _: None
    if name not in _POINTS or not (number or "1").isdigit():
        raise SettingsError(f"TWINTRACK_CRASH_POINT is one of {', '.join(_POINTS)}, with :N for the N-th time")
    times, last = count(1), int(number or 1)

    def reached(here: str) -> None:
        if here == name and next(times) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached
