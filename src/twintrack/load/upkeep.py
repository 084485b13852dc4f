"""What the loader does beside loading, in its own thread, so that no insert runs meanwhile.

Before a pass: chunks are compared with the store after the machine went down, and a page of ids is read back where the
index is incomplete. After a pass that left no insert in doubt: rollups of months that were marked are made again.
"""

import structlog

from twintrack.errors import ChunkDamaged
from twintrack.load.reconcile import reconcile, remove_rows, rows_of
from twintrack.load.restore import Restoring
from twintrack.load.rollup import rebuild
from twintrack.spool.protocol import Chunk, Kind, Spool
from twintrack.store.protocol import Store

log = structlog.get_logger()


class Upkeep:
    def __init__(self, spool: Spool, store: Store) -> None:
        self._spool, self._store = spool, store
        self._restoring = Restoring(spool, store)

    def before(self) -> bool:
        """Before a pass; whether there was anything to do. Raises: StoreError."""
        if self._spool.reconciling:
            reconcile(self._spool, self._store)
            return True
        return self._restoring.turn()

    def after(self) -> bool:
        """After a pass; whether there was anything to do. Raises: StoreError."""
        stale = self._spool.stale_months()
        if not stale or self._spool.in_grace()[0]:
            return False
        for month in stale:
            rebuild(self._store, month)
            self._spool.month_rebuilt(month)
            log.info("rollups_rebuilt", month=month)
        return True

    def refused(self, chunk: Chunk) -> None:
        """Before a chunk is halved: where a view refused it, raw has its rows already. Raises: StoreError."""
        if chunk.kind is Kind.EVENTS and rows_of(self._store, [chunk]):
            # The token of deleted rows is remembered: killed between here and the halving, only a count can tell.
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
