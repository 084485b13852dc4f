"""What becomes of a chunk: looked up, halved, quarantined, loaded, found damaged, put back, forgotten.

Each is one transaction of the ledger. Files are written and synced before it and deleted after it, so that a crash in
between leaves at most a file that nothing names. The index is told last: a claim that stays too long only costs a look-up.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from twintrack.clock import Clock
from twintrack.outcomes import Reason
from twintrack.spool import chunks, segment
from twintrack.spool.balance import Balance, Place
from twintrack.spool.chunks import Folder, Frozen, Gathered, Group
from twintrack.spool.claims import Claims, claim_key
from twintrack.spool.known import KnownIds
from twintrack.spool.ledger import Ledger
from twintrack.spool.protocol import Chunk, Kind

_REFUSED_DAYS = 7


class Settling:
    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        balance: Balance,
        claims: Claims,
        known: KnownIds,
        clock: Clock,
        reached: Callable[[str], None],
    ) -> None:
        self._folder, self._ledger, self._balance, self._clock = folder, ledger, balance, clock
        self._claims, self._known, self._reached = claims, known, reached

    def identities(self, chunk: Chunk) -> list[tuple[str, bytes]]:
        return [chunks.identity_of(row) for row in chunks.read(self._folder, chunk)]

    def settle_lookup(self, chunk: Chunk, found: set[tuple[str, bytes]]) -> None:
        """Freezes the rows that the store lacks in place of the chunk. A second copy inside it is a duplicate too."""
        kept, gone, seen = Gathered(), Counter[Place](), set(found)
        for row in chunks.read(self._folder, chunk):
            place, identity = chunks.place_of(row), chunks.identity_of(row)
            if chunk.kind is Kind.EVENTS and identity in seen:
                gone[place] += 1
            else:
                seen.add(identity)
                kept.add(row, 1, place, chunk.received_milliseconds)
        fates = [(p, "duplicate", Reason.FOUND_IN_STORE.value, n) for p, n in gone.items()]
        self._replace(chunk, [kept] if kept.rows else [], fates)
        if fates:
            self._balance.moved(fates)
        self._known.loaded(claim_key(event_id, project) for project, event_id in found)

    def bisect(self, chunk: Chunk, why: str) -> None:
        rows = chunks.read(self._folder, chunk)
        if len(rows) == 1:
            self._leave(chunk, "quarantined", why, "store_refused_data")
            return
        halves = []
        for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            half = Gathered()
            for row in part:
                half.add(row, 1, chunks.place_of(row), chunk.received_milliseconds)
            halves.append(half)
        self._replace(chunk, halves, [])

    def _replace(self, chunk: Chunk, parts: list[Gathered], fates: list[tuple[Place, str, str, int]]) -> None:
        group = Group(chunk.kind, chunk.month, False, chunk.import_id)
        written: list[Frozen] = []
        try:
            for part in parts:
                written.append(chunks.write(self._folder, group, part))
            segment.sync_folder(self._folder.path)
            self._reached("after_chunk_write")
            with self._ledger as ledger:
                place = ledger.place(chunk.chunk_id)
                ledger.remove_chunk(chunk.chunk_id)
                for frozen in written:
                    ledger.add_chunk(frozen, place)
                for where, outcome, reason, events in fates:
                    ledger.tally(*where, outcome, reason, events)
                if chunk.import_id and fates:
                    ledger.count_import(chunk.import_id, found=sum(events for *_, events in fates))
        except BaseException:
            if not self._ledger.in_doubt:  # else the next freeze deletes what is not named
                for frozen in written:
                    chunks.path(self._folder, frozen.chunk.chunk_id).unlink(missing_ok=True)
            raise
        chunks.path(self._folder, chunk.chunk_id).unlink(missing_ok=True)

    def damaged(self, chunk: Chunk) -> None:
        """The chunk's rows cannot be trusted any more. The file stays for whoever can mend it."""
        self._leave(chunk, "damaged", "file", "chunk_file")

    def _leave(self, chunk: Chunk, outcome: str, why: str, reason: str) -> None:
        places = self._ledger.places(chunk.chunk_id) if chunk.kind is Kind.EVENTS else {}
        with self._ledger as ledger:
            ledger.settle(chunk.chunk_id, outcome, why, self._clock.milliseconds())
            for place, events in places.items():
                ledger.tally(*place, outcome, reason, events)
        self._balance.moved([(place, outcome, reason, events) for place, events in places.items()])

    def replay(self, chunk: Chunk) -> None:
        """Puts a quarantined chunk back where it stood. Its ids may have come again since, so they are looked up."""
        places = self._ledger.places(chunk.chunk_id) if chunk.kind is Kind.EVENTS else {}
        with self._ledger as ledger:
            if ledger.state(chunk.chunk_id) != "quarantined":
                return  # another command has put it back meanwhile
            state = "lookup" if chunk.kind is Kind.EVENTS else "frozen"
            ledger.settle(chunk.chunk_id, state, "", self._clock.milliseconds())
            for place, events in places.items():
                ledger.tally(*place, "quarantined", "store_refused_data", -events)
        for place, events in places.items():
            self._balance.returned(place, "quarantined", "store_refused_data", events)

    def loaded(self, chunk: Chunk) -> None:
        places = self._ledger.places(chunk.chunk_id) if chunk.kind is Kind.EVENTS else {}
        self._reached("before_forget")
        with self._ledger as ledger:
            ledger.settle(chunk.chunk_id, "loaded", "", self._clock.milliseconds())
            for place, events in places.items():
                ledger.tally(*place, "stored", "", events)
            if chunk.import_id:
                ledger.count_import(chunk.import_id, loaded=chunk.rows)
        self._balance.moved([(place, "stored", "", events) for place, events in places.items()])
        if chunk.kind is Kind.EVENTS and (chunk.import_id or self._claims.has_late()):
            self._known.loaded(claim_key(event_id, project) for project, event_id in self.identities(chunk))

    def reinsert(self, again: Iterable[Chunk], months: Iterable[int]) -> None:
        """Chunks that the store has lost, or may have half, go in again under a token of their own."""
        unloaded = []
        with self._ledger as ledger:
            ledger.add_stale_months(months)
            for chunk in again:
                if ledger.state(chunk.chunk_id) == "loaded":
                    for place, events in ledger.places(chunk.chunk_id).items():
                        if chunk.kind is Kind.EVENTS:
                            ledger.tally(*place, "stored", "", -events)
                            unloaded.append((place, events))
                ledger.retoken(chunk.chunk_id, chunks.next_token(chunk.token))
        for place, events in unloaded:
            self._balance.returned(place, "stored", "", events)

    def sweep(self, grace_seconds: int, grace_bytes: int, window_milliseconds: int, oldest: int | None) -> None:
        """Deletes what has outlived its use: loaded chunks, old refusals, ids behind the window."""
        now = self._clock.milliseconds()
        gone = self._ledger.out_of_grace(now - grace_seconds * 1000, grace_bytes)
        with self._ledger as ledger:
            for chunk_id in gone:
                ledger.remove_chunk(chunk_id)
            ledger.forget_refused(now - _REFUSED_DAYS * 86_400_000)
        for chunk_id in gone:
            chunks.path(self._folder, chunk_id).unlink(missing_ok=True)
            chunks.amended(self._folder, chunk_id).unlink(missing_ok=True)
        self._known.sweep(now, oldest, window_milliseconds)
