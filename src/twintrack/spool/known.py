"""What the door knows about ids: every accepted id born since `since` stands in the index, about others the store is asked.

`since` is durable and is raised before any id is forgotten, so forgetting is always safe: by age, for want of room,
after a clock that ran ahead, or all of it after the machine went down (`since` is then `NOTHING`, until the index is
filled again from the store). An id born before `since`, one that is no UUIDv7 and one outside the door's window are
"late": their chunk waits for every earlier one and asks the store, so a claim may be missing but never wrong.
"""

import contextlib
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import structlog

from twintrack.spool.claims import Claims, IndexFull, claim_key, is_timed, split_ids
from twintrack.spool.segment import Record

log = structlog.get_logger()
NOTHING = 1 << 47  # milliseconds; some 4,400 years
_STEP_MILLISECONDS = 600_000  # `since` moves in such steps, each one synced write
_FULL_SHARE = 0.9
_ROOMY_SHARE = 0.8
_SWEEP_IDS = 200_000
_LEAST_EVICTED = 1_000


class Notes(Protocol):
    """Where `since` is kept: durable, or lost together with the index."""

    def get(self, name: str, default: int = 0) -> int: ...

    def put(self, name: str, value: int) -> None: ...


class Wanted(NamedTuple):
    """Ids of one slab that want to be claimed."""

    ids: list[bytes]
    tag: bytes  # of their project
    recent: bool  # by the door's window


class Claimed(NamedTuple):
    """The claims of a group: they vanish unless the transaction is committed. None: the index had no room for them."""

    transaction: Any
    verdicts: list[list[bool]]  # for each slab, which ids were free
    late: list[bool]  # for each slab, whether its ids must be looked up


class KnownIds:
    def __init__(self, claims: Claims, notes: Notes) -> None:
        self._claims, self._notes = claims, notes
        self._lock = threading.Lock()  # writer and loader both change what is known
        self._parked = False  # the index could not be filled again for want of room
        self._losses = 0
        self._restoring = (0, 0)  # (since, losses when it began)
        self._evicted = 0
        self._set(notes.get("known_since", NOTHING))

    def _set(self, since: int) -> None:
        self._since = since
        self._bound = since.to_bytes(6, "big")

    @property
    def since(self) -> int:
        return self._since

    @property
    def rebuilding(self) -> bool:
        """Whether the index must be filled from the store."""
        return self._since == NOTHING and not self._parked

    def raise_to(self, milliseconds: int) -> None:
        """Durably: ids born before that are looked up from now on."""
        with self._lock:
            if self._since == NOTHING:
                self._evicted = max(self._evicted, milliseconds)
            elif milliseconds > self._since:
                self._notes.put("known_since", milliseconds)
                self._set(milliseconds)

    def lose(self, *, park: bool = False) -> None:
        """Durably: every id is looked up, until the index is filled from the store again; parked, until there is room."""
        with self._lock:
            if self._since != NOTHING:
                self._notes.put("known_since", NOTHING)
                self._set(NOTHING)
            self._losses += 1
            self._parked |= park

    # -- claim ---------------------------------------------------------------------------------------------------

    def claim(self, wanted: list[Wanted]) -> Claimed:
        """Claims what is free. An index without room forgets its oldest ids; in the end it asks the store for all."""
        keys = [[i + w.tag for i in w.ids] for w in wanted]
        without_room = 0
        while without_room < 2:
            bound = self._bound
            late = [not w.recent or min(w.ids, default=b"") < bound for w in wanted]
            try:
                transaction, verdicts = self._claims.claim(list(zip(keys, late, strict=True)))
            except IndexFull:
                without_room += 1
                if not self._make_room():
                    break
                continue
            if bound == self._bound:
                return Claimed(transaction, verdicts, late)
            transaction.abort()  # the loader forgot ids before the transaction began; what is free may be forgotten
        log.error("spool_index_full")
        self.lose(park=True)
        late = [True] * len(wanted)
        return Claimed(None, self._claims.judge(list(zip(keys, late, strict=True))), late)

    def _make_room(self) -> bool:
        """Forgets a tenth of the recent ids, the oldest."""
        share = max(_LEAST_EVICTED, min(_SWEEP_IDS, self._claims.entries() // 10))
        bound = self._claims.time_behind(share)
        if not bound:
            return False
        self.raise_to(bound)
        try:
            return self._claims.forget_older(bound, share) > 0
        except IndexFull:
            return False
        finally:
            self.raise_to(bound)  # also for a filling that began meanwhile

    def add(self, keys: Iterable[tuple[bytes, bool]]) -> None:
        """Claims (key, late) pairs that are known to be accepted, or stops claiming to know them."""
        pairs = list(keys)
        for _ in range(3):
            try:
                self._claims.add(pairs)
                return
            except IndexFull:
                if not self._make_room():
                    break
        self.lose(park=True)

    def add_record(self, record: Record, tag: bytes) -> None:
        """Claims the ids of a record of the log again."""
        self.add((i + tag, part.late) for part in record.parts for i in split_ids(part.ids))

    def settle_late(self) -> None:
        """Treats every late id as loaded; whoever knows better claims it again."""
        try:
            self._claims.settle_late()
        except IndexFull:
            self.lose(park=True)

    def loaded(self, keys: Iterable[bytes]) -> None:
        """The store has these late ids now."""
        pairs = list(keys)
        try:
            self._claims.loaded(pairs)
        except IndexFull:
            if self._make_room():
                with contextlib.suppress(IndexFull):  # then they stay late, which costs look-ups and no more
                    self._claims.loaded(pairs)

    # -- fill again ----------------------------------------------------------------------------------------------

    def restore(self, ids: Iterable[tuple[str, bytes]]) -> None:
        """Claims (project, id) pairs that the store holds."""
        self.add((claim_key(event_id, project), False) for project, event_id in ids if is_timed(event_id))

    def begin_restore(self, since: int) -> None:
        """The store is about to be read for every id born since then."""
        with self._lock:
            self._restoring = (since, self._losses)
            self._evicted = 0

    def restored(self) -> None:
        """The store has been read to its end; where ids were lost meanwhile it must be read again."""
        since, losses = self._restoring
        with self._lock:
            if losses == self._losses:
                since = max(since, self._evicted)
                self._notes.put("known_since", since)
                self._set(since)

    # -- forget --------------------------------------------------------------------------------------------------

    def sweep(self, now: int, oldest_waiting: int | None, window_milliseconds: int) -> None:
        """Forgets ids behind the window, and more where room is short; notices a clock that had run ahead.

        By age no id is forgotten before its chunk is loaded.
        """
        bound = min(now, now if oldest_waiting is None else oldest_waiting) - window_milliseconds - 3_600_000
        bound -= bound % _STEP_MILLISECONDS
        if bound > 0:
            self.raise_to(bound)
            with contextlib.suppress(IndexFull):
                self._claims.forget_older(bound, _SWEEP_IDS)
        self._claims.release()
        used = self._claims.used_bytes()
        if used > self._claims.most_bytes * _FULL_SHARE:
            self._make_room()
        elif self._parked and used < self._claims.most_bytes * _ROOMY_SHARE:
            self._parked = False
        if now + 2 * 3_600_000 < self._since < NOTHING:
            log.error("spool_clock_ran_ahead")
            self.lose()
