"""What retention does to the spool: rows leave its chunk files, its manifests and its counts in one transaction.

Exactly-once meets expiry here. Before the store is told to delete anything, the ledger says durably what will be gone:
how many events of whom, until which deadline, and what each manifest still holds. So a crash anywhere in between
leaves a deletion that is only repeated, and a comparison after it that expects what is left, no more.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from twintrack.errors import ChunkDamaged
from twintrack.spool import chunks
from twintrack.spool.balance import Balance, Place
from twintrack.spool.ledger import Ledger
from twintrack.spool.protocol import Chunk, Kind

_NEVER_INSERTED = ("lookup", "quarantined")
Change = Callable[[bytes], bytes | None]  # a row as it shall be, None where it goes


class _Amendment(NamedTuple):
    chunk: Chunk
    rows: int
    size_bytes: int
    places: Counter[Place]
    token: str
    damaged: bool = False


class Removals:
    """Called by the loader's thread alone, when no insert is in doubt."""

    def __init__(self, folder: chunks.Folder, ledger: Ledger, balance: Balance, renew: Callable[[], None]) -> None:
        self._folder, self._ledger, self._balance, self.renew = folder, ledger, balance, renew

    # -- rows get other deadlines --------------------------------------------------------------------------------

    def version(self) -> int:
        """Of the policies whose deadlines the rows carry, months that are still to be rewritten aside."""
        return self._ledger.get("retention_version")

    def begin_rewrite(self, version: int, months: Iterable[int]) -> None:
        with self._ledger as ledger:
            ledger.put("retention_version", version)
            ledger.add_rewrites(months)

    def rewrites(self) -> list[int]:
        return self._ledger.rewrites()

    def rewritten(self, month: int) -> None:
        self._ledger.rewritten(month)

    # -- rows go -------------------------------------------------------------------------------------------------

    def begin(
        self,
        month: int,
        until_seconds: int,
        gone: Mapping[Place, int],
        complete: Mapping[str, int],
        amended: Iterable[str],
        change: Change,
    ) -> None:
        """Counts rows of a month as expired and amends the manifests that have any of them.

        Shape: `gone` are rows of the store by (project, environment), `complete` the new watermarks in milliseconds,
        `amended` the chunks they came in, `change` says of a row what is left of it.
        """
        amendments = self._amend(amended, change)
        with self._ledger as ledger:
            ledger.add_removal(month, until_seconds)
            for (project, environment), events in gone.items():
                ledger.tally(project, environment, "stored", "", -events)
                ledger.tally(project, environment, "expired", "retention", events)
            for project, milliseconds in complete.items():
                ledger.set_complete_since(project, milliseconds)
            self._write(ledger, amendments)
        self._balance.moved(
            fate
            for place, events in gone.items()
            for fate in ((place, "stored", "", -events), (place, "expired", "retention", events))
        )
        self._put_in_place(amendments)

    def pending(self) -> dict[int, int]:
        """Months whose rows the store may still have although they are counted as expired, until when."""
        return self._ledger.removals()

    def done(self, month: int) -> None:
        self._ledger.removed(month)

    def amend(self, amended: Iterable[str], change: Change) -> None:
        """Changes rows of chunks that are in the store; none of them goes."""
        amendments = self._amend(amended, change)
        if amendments:
            with self._ledger as ledger:
                self._write(ledger, amendments)
            self._put_in_place(amendments)

    def expire_held(self, until_month: int, change: Change) -> int:
        """Takes expired rows out of what the store never had: quarantine, and chunks that wait for a look-up.

        Shape: chunks of months up to `until_month` are read. How many events went.
        """
        total = 0
        for chunk in self._ledger.chunks(*_NEVER_INSERTED):
            if chunk.kind is Kind.EVENTS and chunk.month <= until_month:
                total += self._expire(chunk, change)
        return total

    def _expire(self, chunk: Chunk, change: Change) -> int:
        state = self._ledger.state(chunk.chunk_id)
        one = self._amendment(chunk, change)
        if one is None or one.damaged:  # a damaged one is counted by whoever wants to load it
            return 0
        with self._ledger as ledger:
            if ledger.state(chunk.chunk_id) != state:  # put back by a command meanwhile
                return 0
            before = ledger.places(chunk.chunk_id)
            gone = {place: rows - one.places[place] for place, rows in before.items() if rows > one.places[place]}
            self._write(ledger, [one])
            for (project, environment), events in gone.items():
                if state == "quarantined":
                    ledger.tally(project, environment, "quarantined", "store_refused_data", -events)
                ledger.tally(project, environment, "expired", "retention", events)
        for place, events in gone.items():
            self._balance.moved([(place, "expired", "retention", events)])
            if state == "quarantined":
                self._balance.moved([(place, "quarantined", "store_refused_data", -events)])
        self._put_in_place([one])
        return sum(gone.values())

    # -- manifests -----------------------------------------------------------------------------------------------

    def in_grace(self, month: int) -> list[str]:
        """Chunks of events of a month that are in the store and whose files are still there."""
        loaded = self._ledger.chunks("loaded")
        return [chunk.chunk_id for chunk in loaded if chunk.month == month and chunk.kind is Kind.EVENTS]

    def _amend(self, amended: Iterable[str], change: Change) -> list[_Amendment]:
        """What is to be amended, with the new files on disk. Raises: OSError."""
        amendments = []
        wanted = set(amended)
        for chunk in self._ledger.chunks("loaded") if wanted else []:
            one = self._amendment(chunk, change) if chunk.chunk_id in wanted else None
            if one is not None:
                amendments.append(one)
        return amendments

    def _amendment(self, chunk: Chunk, change: Change) -> _Amendment | None:
        """What a chunk becomes, its new file on disk; None where nothing of it changes."""
        try:
            rows = chunks.read(self._folder, chunk)
        except ChunkDamaged:  # it could mend nothing, and its count would be wrong from now on
            return _Amendment(chunk, 0, 0, Counter(), "", damaged=True)
        kept = [change(row) for row in rows]
        if kept == rows:
            return None
        lines = [row for row in kept if row is not None]
        places = Counter(chunks.place_of(row) for row in lines)
        if not lines:
            return _Amendment(chunk, 0, 0, places, "")
        size_bytes, token = chunks.write_amendment(self._folder, chunk, lines)
        return _Amendment(chunk, len(lines), size_bytes, places, token)

    @staticmethod
    def _write(ledger: Ledger, amendments: list[_Amendment]) -> None:
        for one in amendments:
            if one.rows:
                ledger.amend_chunk(one.chunk.chunk_id, one.rows, one.size_bytes, one.places, one.token)
            else:
                ledger.remove_chunk(one.chunk.chunk_id)

    def _put_in_place(self, amendments: list[_Amendment]) -> None:
        for one in amendments:
            if one.rows:
                chunks.content(self._folder, one.chunk._replace(token=one.token))  # the new file takes its place
            else:
                chunks.path(self._folder, one.chunk.chunk_id).unlink(missing_ok=True)
