"""Fills the index of ids from the store, a page at each turn of the loader, so that loading goes on meanwhile.

A row was received at most an hour before its id was born (ids from further ahead are looked up), so the hours of
arrival since the wanted birth hold nearly all of them; what a clock that ran behind has stored elsewhere is one page more.
"""

from collections.abc import Iterator

from twintrack.clock import iso
from twintrack.spool.protocol import Spool
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

_ROWS = 50_000
_AHEAD_MILLISECONDS = 2 * 3_600_000


class Restoring:
    def __init__(self, spool: Spool, store: Store) -> None:
        self._spool, self._store = spool, store
        self._pages: Iterator[None] | None = None

    def turn(self) -> bool:
        """Reads one page where the index is being filled; whether it did. Raises: StoreError, and starts again then."""
        if not self._spool.rebuilding:
            self._pages = None
            return False
        pages = self._pages or self._read()
        self._pages = None
        if next(pages, self) is not self:
            self._pages = pages
        return True

    def _read(self) -> Iterator[None]:
        since = self._spool.begin_restore()
        arrived = f"toDateTime64('{iso(max(0, since - _AHEAD_MILLISECONDS))[:-1]}', 3, 'UTC')"
        born = f"UUIDv7ToDateTime(event_id) >= toDateTime64('{iso(since)[:-1]}', 3, 'UTC')"
        hours = self._store.select(
            f"SELECT DISTINCT toStartOfHour(server_timestamp) AS hour FROM {DATABASE}.events"
            f" WHERE server_timestamp >= {arrived} ORDER BY hour"
        ).rows
        conditions = [
            f"toStartOfHour(server_timestamp) = toDateTime('{hour:%Y-%m-%d %H:%M:%S}', 'UTC')" for (hour,) in hours
        ]
        for condition in (f"server_timestamp < {arrived}", *conditions):
            page = []
            for project, event_id in self._store.stream(
                f"SELECT project, event_id FROM {DATABASE}.events WHERE {condition} AND {born}"
            ):
                page.append((project, event_id.bytes))
                if len(page) >= _ROWS:
                    self._spool.restore(page)
                    page = []
            self._spool.restore(page)
            yield
        self._spool.restored()
