"""What a page's SDK tells of itself, as metrics. It is hearsay: whatever is sent, the batch is not harmed by it.

Counts come cumulated for one load of a page; what is added is the difference to what that page said before, so that a
batch that comes twice adds nothing. No value that was sent becomes a label.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

from twintrack.metrics import SDK_STATES, Metrics

_PAGE_CHARACTERS = 64
_MOST_PAGES = 10_000  # remembered; one that was forgotten counts again from its start
_MOST_EVENTS = 1_000_000  # between two batches of one page; more is no count
_MOST_MILLISECONDS = 86_400_000


class Health(NamedTuple):
    page: str
    counts: tuple[int, ...]  # by SDK_STATES
    storage: str  # disk, memory or unknown
    blocked: bool
    main_thread_milliseconds: float


def read(sdk: Any) -> Health | None:
    """The health inside an envelope's `sdk`, a bad member as if it were absent; None where no page tells of itself."""
    told = sdk.get("health") if isinstance(sdk, dict) else None
    page = told.get("page") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(page, str) or not 0 < len(page) <= _PAGE_CHARACTERS:
        return None
    storage = told.get("storage")
    return Health(
        page,
        tuple(int(_number(told.get(state), 2**53)) for state in SDK_STATES),
        storage if storage in ("disk", "memory") else "unknown",
        told.get("blocked") is True,
        _number(told.get("main_thread_milliseconds"), _MOST_MILLISECONDS),
    )


def _number(value: Any, most: int) -> float:
    # A comparison with NaN is false.
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most else 0


class Pages:
    """The pages heard of lately, and what each said last."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: OrderedDict[tuple[str, str], Health] = OrderedDict()

    def heard(self, key_id: str, sdk: Any) -> None:
        """Adds what is new since this page's last batch under the same key."""
        now = read(sdk)
        if now is None:
            return
        name = (key_id, now.page)
        before = self._last.pop(name, None)
        if before is None:
            self._metrics.sdk_pages_by[now.storage].inc()
            before = Health(now.page, (0,) * len(SDK_STATES), now.storage, False, 0)
        if now.blocked and not before.blocked:
            self._metrics.sdk_blocked_pages.inc()
        # Batches overtake each other: an older count is less, and adds nothing.
        counts = tuple(map(max, now.counts, before.counts))
        for state, count, was in zip(SDK_STATES, counts, before.counts, strict=True):
            if 0 < count - was <= _MOST_EVENTS:
                self._metrics.sdk_events_by[state].inc(count - was)
        tracked = counts[0] - before.counts[0]
        spent = now.main_thread_milliseconds - before.main_thread_milliseconds
        if 0 < tracked <= _MOST_EVENTS and spent > 0:
            self._metrics.sdk_main_thread_seconds.observe(spent / tracked / 1000)
        self._last[name] = Health(
            now.page,
            counts,
            before.storage,
            now.blocked or before.blocked,
            max(now.main_thread_milliseconds, before.main_thread_milliseconds),
        )
        if len(self._last) > _MOST_PAGES:
            self._last.popitem(last=False)
