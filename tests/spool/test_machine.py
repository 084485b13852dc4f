"""The spool against a model in memory: whatever happens in whatever order, each accepted id is one row in the end."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.spool.kit import KEYS, opened, send, tally
from twintrack.load.reconcile import Action, decide
from twintrack.seal import DataKeys, is_sealed
from twintrack.spool.protocol import Chunk
from twintrack.testing import ManualClock, uuid7

HOUR = 3_600_000
WINDOW_DAYS = 10
Row = tuple[str, bytes]


class Shelf:
    """The store as the loader sees it: rows by chunk, each token once. A power cut may take its memory of tokens."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.tokens: set[str] = set()

    def insert(self, chunk: Chunk, rows: list[Row]) -> None:
        if chunk.token not in self.tokens:
            self.tokens.add(chunk.token)
            self.rows.setdefault(chunk.chunk_id, []).extend(rows)

    def all(self) -> list[Row]:
        return [row for rows in self.rows.values() for row in rows]


class SpoolMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="spool-machine-"))
        self.generation, self.boots = 0, 1
        self.clock = ManualClock()
        self.shelf = Shelf()
        self.accepted: set[Row] = set()
        self.poison: set[bytes] = set()
        self.pool: list[UUID] = []
        self.keys: DataKeys | None = None
        self.spool = opened(self.folder, self.clock, boot="boot-1", index_bytes=1 << 18)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            try:
                self.drain()
            finally:
                self.spool.close()
                shutil.rmtree(self.root)

    @property
    def folder(self) -> Path:
        return self.root / f"{self.generation}" / "spool"

    # -- the door ------------------------------------------------------------------------------------------------

    @rule(
        new=st.integers(0, 12),
        old=st.lists(st.integers(0, 1000), max_size=6),
        age_hours=st.sampled_from([0, 0, 0, 5, 24 * 9, 24 * 20, -48]),
        timed=st.booleans(),
        project=st.sampled_from(["demo", "demo", "other"]),
    )
    def append(self, new: int, old: list[int], age_hours: int, timed: bool, project: str) -> None:
        now = self.clock.milliseconds()
        made = [UUID(uuid7(now - age_hours * HOUR)) for _ in range(new)]
        if not timed:
            made = [UUID(int=i.int & ~(0xF << 76) | 4 << 76) for i in made]
        self.pool += made
        ids = made + [self.pool[i % len(self.pool)] for i in old if self.pool]
        for recent in (True, False):
            part = [i for i in ids if self.is_recent(i, now) == recent]
            if part:
                fresh = send(self.spool, part, recent=recent, received=now, project=project)
                for event_id, is_new in zip(part, fresh, strict=True):
                    row = (project, event_id.bytes)
                    # Nothing is called a duplicate that was not accepted before.
                    assert is_new or row in self.accepted
                    self.accepted.add(row)

    @staticmethod
    def is_recent(event_id: UUID, now: int) -> bool:
        born = event_id.int >> 80
        return event_id.bytes[6] >> 4 == 7 and now - WINDOW_DAYS * 24 * HOUR <= born < now + HOUR

    # -- stops ---------------------------------------------------------------------------------------------------

    @rule(garbage=st.binary(max_size=40), reboot=st.booleans(), forgets=st.booleans(), seal=st.booleans())
    def crash(self, garbage: bytes, reboot: bool, forgets: bool, seal: bool) -> None:
        before = self.folder
        self.generation += 1
        shutil.copytree(before, self.folder)
        self.spool.close()
        shutil.rmtree(before)
        last = max((self.folder / "log").glob("*.log"))
        with last.open("ab") as file:
            file.write(garbage)
        if reboot:
            self.boots += 1
            if forgets:
                self.shelf.tokens.clear()
        self.reopen(seal=seal)

    @rule(seal=st.booleans())
    def stop_and_start(self, seal: bool) -> None:
        self.spool.close()
        self.reopen(seal=seal)

    def reopen(self, *, seal: bool) -> None:
        """Sealing may be switched on at any start, for good."""
        if seal:
            self.keys = KEYS
        boot = f"boot-{self.boots}"
        self.spool = opened(self.folder, self.clock, boot=boot, keys=self.keys, index_bytes=1 << 18)
        if self.keys is not None:
            assert all(is_sealed(file.read_bytes()) for file in (self.folder / "chunks").iterdir())
            assert all(file.read_bytes()[:4] == b"TTLS" for file in (self.folder / "log").iterdir())
        if self.spool.reconciling:
            maybe, loaded = self.spool.in_grace()
            again = []
            for chunk in (*maybe, *loaded):
                found = len(self.shelf.rows.get(chunk.chunk_id, []))
                action = decide(chunk, found, loaded=chunk in loaded).action
                if action is Action.SETTLE:
                    self.spool.loaded(chunk)
                elif action is not Action.KEEP:
                    self.shelf.rows.pop(chunk.chunk_id, None)
                    again.append(chunk)
            self.spool.reinsert(again, ())
            self.spool.reconciled()

    # -- the loader ----------------------------------------------------------------------------------------------

    @rule()
    def freeze(self) -> None:
        self.spool.freeze()

    @rule(number=st.integers(0, 5), told=st.booleans())
    def load(self, number: int, told: bool) -> None:
        """Inserts one chunk that need not be looked up; the answer may get lost."""
        plain = [chunk for chunk in self.spool.pending() if not chunk.lookup]
        if plain:
            self.load_chunk(plain[number % len(plain)], told=told)

    def load_chunk(self, chunk: Chunk, *, told: bool = True) -> None:
        rows = self.spool.identities(chunk)
        if any(event_id in self.poison for _, event_id in rows):
            self.spool.bisect(chunk, "INCORRECT_DATA (117)")
            return
        self.shelf.insert(chunk, rows)
        if told:
            self.spool.loaded(chunk)

    @rule()
    def look_up(self) -> None:
        pending = self.spool.pending()
        if pending and pending[0].lookup:
            self.look_up_chunk(pending[0])

    def look_up_chunk(self, chunk: Chunk) -> None:
        self.spool.settle_lookup(chunk, set(self.spool.identities(chunk)) & set(self.shelf.all()))

    @rule(number=st.integers(0, 1000))
    def poison_one(self, number: int) -> None:
        stored = {event_id for _, event_id in self.shelf.all()}
        if self.pool and self.pool[number % len(self.pool)].bytes not in stored:
            self.poison.add(self.pool[number % len(self.pool)].bytes)

    @rule()
    def cure_and_replay(self) -> None:
        self.poison.clear()
        self.spool.replay()

    # -- time ----------------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 1, 12, 24 * 3, 24 * 11, 24 * 400, -1, -24 * 5, -24 * 400]))
    def clock_moves(self, hours: int) -> None:
        self.clock.advance(hours * 3600)

    @rule()
    def sweep(self) -> None:
        self.spool.sweep()

    @precondition(lambda self: self.spool.rebuilding)
    @rule()
    def restore(self) -> None:
        since = self.spool.begin_restore()
        self.spool.restore((p, i) for p, i in self.shelf.all() if int.from_bytes(i[:6], "big") >= since)
        self.spool.restored()

    # -- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def each_row_is_stored_once(self) -> None:
        if hasattr(self, "shelf"):
            counted = Counter(self.shelf.all())
            assert [row for row, n in counted.items() if n > 1] == []
            assert set(counted) <= self.accepted

    def drain(self) -> None:
        for _ in range(2000):
            more = self.spool.freeze()
            pending = self.spool.pending()
            plain = [chunk for chunk in pending if not chunk.lookup]
            for chunk in plain:
                self.load_chunk(chunk)
            if not plain and pending:
                self.look_up_chunk(pending[0])
            if not more and not pending:
                break
        assert self.spool.depth().events == 0
        quarantined = {row for chunk in self.spool.ledger.chunks("quarantined") for row in self.spool.identities(chunk)}
        stored = Counter(self.shelf.all())
        assert max(stored.values(), default=1) == 1
        assert set(stored) | quarantined == self.accepted
        found = sum(
            n
            for (*_, outcome, reason), n in self.spool.tallies().items()
            if (outcome, reason) == ("duplicate", "found_in_store")
        )
        assert tally(self.spool, "accepted") == len(stored) + tally(self.spool, "quarantined") + found
        assert self.spool.tallies() == {k: n for k, n in self.spool.ledger.tallies().items()} | {
            k: n for k, n in self.spool.tallies().items() if n == 0
        }


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
