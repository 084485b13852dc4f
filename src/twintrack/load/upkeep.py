"""What the loader does beside loading, in its own thread, so that no insert runs meanwhile.

Chunks are compared with the store after the machine went down, and nothing is inserted before that is done. The other
two may fail while loading goes on: a page of ids is read back where the index is incomplete, and rollups of months that
were marked are made again when no insert is in doubt.
"""

import structlog

from twintrack.errors import ChunkDamaged, Unavailable
from twintrack.load.expiry import Expiry
from twintrack.load.reconcile import reconcile, remove_rows, rows_of
from twintrack.load.restore import Restoring
from twintrack.load.rollup import first_whole_month, rebuild
from twintrack.spool.protocol import Chunk, Kind, Spool
from twintrack.store.protocol import Store

log = structlog.get_logger()


class Upkeep:
    def __init__(self, spool: Spool, store: Store, expiry: Expiry) -> None:
        self._spool, self._store, self._expiry = spool, store, expiry
        self._restoring = Restoring(spool, store)

    def before(self) -> bool:
        """Compares chunks with the store where that is due; whether it was. Raises: StoreError.

        First what was counted as expired goes from the store: an insert behind that count must not go with it, and a
        comparison must not find it.
        """
        self._expiry.go_on()
        if not self._spool.reconciling:
            return False
        reconcile(self._spool, self._store)
        return True

    def fill_index(self) -> bool:
        """Reads a page of ids back where the index is incomplete; whether it did. Raises: StoreError."""
        return self._restoring.turn()

    def mend_rollups(self) -> bool:
        """Makes marked months again where no insert is in doubt; whether it did. Raises: StoreError.

        What has expired from raw lives on in the rollups alone: such months stay as they are, and stay marked.
        """
        first = first_whole_month(self._spool.complete_since())
        stale = [month for month in self._spool.stale_months() if month >= first]
        if not stale or self._spool.erasing or not self._spool.quiet():
            return False  # what is made of raw while a person goes would hold them still
        for month in stale:
            rebuild(self._store, month, self._spool.quiet)
            self._spool.month_rebuilt(month)
            log.info("rollups_rebuilt", month=month)
        return True

    def expire(self) -> bool:
        """A step of retention where no insert is in doubt; whether there was one. Raises: StoreError."""
        if self._spool.erasing:
            return False
        try:
            return self._expiry.turn()
        except (OSError, Unavailable) as error:  # the disk; loading has its own ways with that
            log.error("expiry_waits", kind=type(error).__name__)
            return False

    @property
    def expired(self) -> bool:
        return self._expiry.rested

    def refused(self, chunk: Chunk) -> None:
        """Before a chunk is halved: where a view refused it, raw has its rows already. Raises: StoreError."""
        if chunk.kind is Kind.EVENTS and rows_of(self._store, [chunk]):
            # The token of deleted rows is remembered: where the deletion's answer is lost, or this process ends before
            # the halving, only a count can tell.
            self._spool.suspect()
            self._spool.reinsert((), (chunk.month, 0))
            remove_rows(self._store, [chunk])

    def halved(self) -> None:
        """After a refused chunk was halved."""
        self._spool.reconciled()

    def damaged(self, chunk: Chunk, error: ChunkDamaged) -> None:
        """Its rows cannot be read; where the store has them all from an earlier try, nothing is lost.

        Raises: StoreError.
        """
        if rows_of(self._store, [chunk]).get(chunk.chunk_id, 0) == chunk.rows:
            if chunk.kind is Kind.EVENTS:
                self._spool.reinsert((), (chunk.month, 0))
            self._spool.loaded(chunk)
            return
        log.error("chunk_damaged", chunk=chunk.chunk_id, rows=chunk.rows, message=error.message)
        self._spool.damaged(chunk)
