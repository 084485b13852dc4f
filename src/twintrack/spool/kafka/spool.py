"""The durable queue of several nodes: a topic. Ingest appends to it, loaders share its partitions.

Append is door.py. Freeze: each partition's messages become a verdict (partition.py), which is in
the control data before the first insert (ledger.py). One verdict of a partition is open at a time, so
everything before it is in the store.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from twintrack.clock import Clock
from twintrack.errors import SettingsError, TwintrackError, Unavailable
from twintrack.metrics import Metrics
from twintrack.seal import DataKeys
from twintrack.spool.chunks import identity_of
from twintrack.spool.claims import claim_key
from twintrack.spool.kafka import look
from twintrack.spool.kafka.broker import Broker, Member
from twintrack.spool.kafka.door import Door
from twintrack.spool.kafka.fallback import Fallback
from twintrack.spool.kafka.fence import Fence, remains
from twintrack.spool.kafka.housework import Housework
from twintrack.spool.kafka.ledger import Hushed, Outdated, Overtaken, Verdicts
from twintrack.spool.kafka.message import partition_of
from twintrack.spool.kafka.partition import Fetch, Partition, discard_indexes
from twintrack.spool.kafka.removals import TopicRemovals
from twintrack.spool.kafka.sieve import Rights, Sieve
from twintrack.spool.kafka.verdict import Decided, Tally
from twintrack.spool.local import SpoolSizes
from twintrack.spool.protocol import Chunk, Delivery, Depth, Kind, Sizes

log = structlog.get_logger()
_SESSION_SECONDS = 10.0
_POLL_SECONDS = 0.1
_READ_MESSAGES = 5_000
_LOOK_BACK_SECONDS = 1.0
_REFUSED_DAYS = 7
_HUSHED_SECONDS = 0.2


class KafkaSpool:
    """Shape: `folder/fallback`, `folder/indexes/PARTITION`. One process owns the folder, any number the topic."""

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        control_url: str,
        clock: Clock,
        metrics: Metrics,
        sizes: SpoolSizes,
        *,
        timeout_seconds: float,
        catch_up_messages: int,
        rights: Rights,
        keys: DataKeys | None = None,
    ) -> None:
        self._clock, self._metrics, self._broker = clock, metrics, broker
        self._sizes, self._chunk_rows = sizes, sizes.chunk_rows
        self._window_milliseconds = sizes.window_days * 86_400_000
        self._folder, self._catch_up_messages = folder, catch_up_messages
        self._keys, self._rights = keys, rights
        self.ledger = Verdicts(control_url, broker.address.topic, keys)
        self._ledger_id, self._partition_count = self.ledger.opened() or self.ledger.open(broker.partitions())
        self.stale_months, self.month_rebuilt = self.ledger.stale_months, self.ledger.month_rebuilt
        self._housework = work = Housework(self.ledger, clock)
        self.leads, self.quiet, self.release, self.led = work.leads, work.quiet, work.release, work.led
        self.removals = out = TopicRemovals(self.ledger)
        self.remove, self.plan_erasure, self.settle_erasure = out.remove, out.plan, out.settle
        self.erased_ids, self.forget_erased = out.erased_ids, out.forget_erased
        self.taken_links, self.forget_links = out.taken_links, out.forget_links
        self._fence: Fence | None = None
        self._hushed_until = -math.inf  # monotonic seconds; another loader needs quiet
        self._clean = folder / "clean"
        if not self._clean.exists():
            discard_indexes(folder / "indexes")
        self._clean.unlink(missing_ok=True)
        self._partitions: dict[int, Partition] = {}
        self._lock = threading.Lock()  # of the partitions' indexes, which readers ask too
        self._restoring: set[int] = set()
        self._held = False
        self._stopping = False
        self._woken = threading.Event()
        self._looked_back = -math.inf  # when we last asked for what was put back, monotonic seconds
        self._joined: Member | None = None
        self._door = Door(
            Fallback(folder / "fallback", sizes.spool_bytes),
            broker.sender(timeout_seconds),
            clock,
            metrics,
            ledger=self._ledger_id,
            partitions=self._partition_count,
            rights=rights,
            note_links=self.removals.note_links,
            keys=keys,
        )

    def close(self) -> None:
        """Ends after the loader. What the fallback holds stays for the next start."""
        self._door.close()
        self._housework.close()
        if self._joined is not None:
            self._joined.close()
        self._drop(set(self._partitions))
        self._clean.touch()
        self.ledger.close()

    async def append(self, delivery: Delivery) -> list[bool]:
        await self._door.append(delivery)
        # Copies are found by the loader, and counted there.
        return [True] * sum(len(slab.ids) for slab in delivery.slabs)

    def why_not_ready(self) -> str:
        """Why no event can be accepted durably now; empty where it can."""
        return self._door.why_not_ready()

    def works(self) -> dict[str, Any]:
        """What takes events now, for `/readyz`."""
        return self._door.works()

    @property
    def _member(self) -> Member:
        """This loader in the group, from its first step on: a node that does not load is no member."""
        if self._joined is None:
            self._joined = self._broker.member(_SESSION_SECONDS)
        return self._joined

    # -- take partitions over and read them ----------------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        for _ in range(max(1, round(seconds / _POLL_SECONDS))):
            if self._woken.is_set():
                self._woken.clear()
                return True
            hushed = self._hushed()
            if self._stopping or self._member.gained:
                return True
            if not hushed and any(p.waiting for p in self._partitions.values()):
                return True
            self._hold(hushed or self._has_open())
            self._receive(1, _POLL_SECONDS)
        return False

    def wake(self) -> None:
        self._looked_back = -math.inf
        self._woken.set()

    def last_call(self) -> None:
        """Nothing more is decided: others can. What is decided is still settled."""
        self._stopping = True

    def freeze(self) -> int:
        if self._stopping:
            return 0
        hushed = self._hushed()
        self._hold(hushed or self._has_open())
        self._receive(_READ_MESSAGES, 0)
        if self._member.gained or self._partitions.keys() - self._member.owned:
            self._take_over()
        if self._has_open():
            return 0
        if (returned := self._take_back()) or hushed:
            return returned
        while sum(p.rows_waiting for p in self._partitions.values()) < 2 * self._chunk_rows:
            if not self._receive(_READ_MESSAGES, 0):
                break
        return sum(self._decide(partition) for partition in list(self._partitions.values()))

    def _take_back(self) -> int:
        """Takes up what any node put back out of quarantine, before anything else is decided; how many chunks."""
        now = self._clock.monotonic_seconds()
        if now - self._looked_back < _LOOK_BACK_SECONDS:
            return 0
        self._looked_back = now
        returned = self.ledger.put_back(self._partitions)
        for one in returned:
            self._partitions[one.partition].decided[one.chunk.chunk_id] = one
        return len(returned)

    def _has_open(self) -> bool:
        return any(partition.decided for partition in self._partitions.values())

    def _hold(self, hold: bool) -> None:
        """While something is decided and not loaded the topic is the queue, not our memory."""
        if hold and not self._held:
            self._member.pause()
        elif self._held and not hold:
            self._member.resume()
        self._held = hold

    def _receive(self, most: int, seconds: float) -> int:
        messages = self._member.poll(most, seconds)
        for number, offset, value in messages:
            if number in self._partitions:
                self._partitions[number].take(look.read(number, offset, value, self._keys))
        return len(messages)

    def _take_over(self) -> None:
        """Gives up what the group took from us and adopts what it gave."""
        self._drop(self._partitions.keys() - self._member.owned)
        if not self._member.gained:
            return
        # What the topic got later holds nothing of ours.
        gained = {number for number in self._member.gained if number < self._partition_count}
        for number in sorted(gained):
            if number not in self._partitions:
                index = self._folder / "indexes" / str(number)
                self._partitions[number] = Partition(number, index, self._sizes.index_bytes, self.ledger)
            self._adopt(self._partitions[number])
        self._read_on()
        self._member.gained = set()
        log.info("partitions_taken", partitions=sorted(gained))

    def _adopt(self, partition: Partition) -> None:
        self._restoring.discard(partition.number)
        horizon = self._clock.milliseconds() - self._window_milliseconds
        with self._lock:
            oldest = self._member.reader.oldest(partition.number)
            partition.adopt(self._fetch(partition.number), oldest, self._catch_up_messages, horizon)

    def _read_on(self) -> None:
        self._member.read_from({number: partition.next_offset() for number, partition in self._partitions.items()})
        self._held = False

    def _drop(self, numbers: set[int]) -> None:
        for number in numbers:
            self._restoring.discard(number)
            with self._lock:
                self._partitions.pop(number).close()

    def _fetch(self, number: int) -> Fetch:
        return look.fetch(self._member.reader, number, self._keys)

    # -- decide and settle ---------------------------------------------------------------------------------------

    def _decide(self, partition: Partition) -> int:
        if any(read.message.ledger != self._ledger_id for read in partition.waiting):
            raise SettingsError(
                "the topic has messages of nodes with other control data",
                hint="all nodes of a topic share one TWINTRACK_CONTROL; a new one needs a new topic",
            )
        try:
            done = self._judge(partition)
        except Overtaken:
            self._overtaken(partition)
            return 1
        except Hushed:
            self._hushed_until = self._clock.monotonic_seconds() + _HUSHED_SECONDS
            self._housework.leads()  # where who asked for quiet has died, its place is taken
            return 0
        if done:
            self._commit(partition)
        return done

    def _judge(self, partition: Partition) -> int:
        now = self._clock.milliseconds()
        for anew in (False, True):
            with contextlib.suppress(Outdated):  # erasures come one behind another; the next turn knows them
                return partition.decide(self._chunk_rows, Sieve.of(self._rights, now, anew=anew))
        return 0

    def _hushed(self) -> bool:
        return self._clock.monotonic_seconds() < self._hushed_until

    def _overtaken(self, partition: Partition) -> None:
        log.warning("partition_overtaken", partition=partition.number)
        self._adopt(partition)
        self._read_on()

    def _commit(self, partition: Partition) -> None:
        if not partition.decided:
            self._member.commit({partition.number: partition.head})

    def pending(self) -> list[Chunk]:
        """Of this loader. Readers ask too, so that what is gone through are copies."""
        return [one.chunk for partition in list(self._partitions.values()) for one in list(partition.decided.values())]

    def _owner(self, chunk: Chunk) -> tuple[Partition, Decided] | None:
        """Who has a chunk; None where it has been settled or given up."""
        for partition in self._partitions.values():
            if chunk.chunk_id in partition.decided:
                return partition, partition.decided[chunk.chunk_id]
        return None

    def content(self, chunk: Chunk) -> bytes:
        """For an insert: who has slept must not insert what another loader has settled, since its rows may have been
        erased, and its token forgotten. Raises: Unavailable."""
        content = self._content(chunk)
        if not self.ledger.is_open(chunk):
            if owner := self._owner(chunk):
                self._overtaken(owner[0])
            raise Unavailable("the chunk was given up", hint="its new owner loads it")
        return content

    def _content(self, chunk: Chunk) -> bytes:
        owner = self._owner(chunk)
        if owner is None:
            raise Unavailable("the chunk was given up", hint="its new owner loads it")
        return owner[0].content(chunk.chunk_id, self._fetch(owner[0].number))

    def identities(self, chunk: Chunk) -> list[tuple[str, bytes]]:
        return [identity_of(row) for row in self._content(chunk).split(b"\n")]

    def _settle(self, chunk: Chunk, step: Callable[[Partition, Decided], None]) -> None:
        """Takes a step with a chunk, unless another loader has taken it: then that one's is adopted."""
        owner = self._owner(chunk)
        if owner is None:
            return
        try:
            step(*owner)
        except Overtaken:
            self._overtaken(owner[0])
            return
        self._commit(owner[0])

    def settle_lookup(self, chunk: Chunk, found: set[tuple[str, bytes]]) -> None:
        content = self._content(chunk)
        self._settle(chunk, lambda partition, one: partition.settle_lookup(one, content, found))

    def bisect(self, chunk: Chunk, why: str) -> None:
        content, now = self._content(chunk), self._clock.milliseconds()
        self._settle(chunk, lambda partition, one: partition.bisect(one, content, why, now))

    def damaged(self, chunk: Chunk) -> None:
        now = self._clock.milliseconds()
        self._settle(chunk, lambda partition, one: partition.leave(one, "damaged", "topic", "chunk_file", now))

    def loaded(self, chunk: Chunk) -> None:
        def step(partition: Partition, one: Decided) -> None:
            late = chunk.kind is Kind.EVENTS and (chunk.import_id or partition.has_late())
            keys = [claim_key(event_id, project) for project, event_id in self.identities(chunk)] if late else []
            partition.loaded(one, keys, self._clock.milliseconds())

        self._settle(chunk, step)

    # -- repair --------------------------------------------------------------------------------------------------

    @property
    def rebuilding(self) -> bool:
        return any(partition.rebuilding for partition in self._partitions.values())

    def begin_restore(self) -> int:
        since = max(0, self._clock.milliseconds() - self._window_milliseconds)
        self._restoring = {number for number, partition in self._partitions.items() if partition.rebuilding}
        for number in self._restoring:
            self._partitions[number].begin_restore(since)
        return since

    def restore(self, ids: Iterable[tuple[str, bytes]]) -> None:
        mine: dict[int, list[tuple[str, bytes]]] = {number: [] for number in self._restoring}
        for project, event_id in ids:
            number = partition_of(event_id, project, self._partition_count)
            if number in mine:
                mine[number].append((project, event_id))
        for number, found in mine.items():
            self._partitions[number].restore(found)

    def restored(self) -> None:
        for number in self._restoring & self._partitions.keys():
            self._partitions[number].restored()
        self._restoring = set()

    @property
    def reconciling(self) -> bool:
        return any(partition.suspect for partition in self._partitions.values())

    def in_grace(self) -> tuple[list[Chunk], list[Chunk]]:
        """Loaded chunks are the store's affair: a server syncs them, or has replicas."""
        return self.pending(), []

    def reinsert(self, again: Iterable[Chunk], months: Iterable[int]) -> None:
        owned = [owner for chunk in again if (owner := self._owner(chunk))]
        try:
            renewed = self.ledger.reinsert([one for _, one in owned], months)
        except Overtaken as error:
            for partition, _ in owned:
                self._overtaken(partition)
            raise Unavailable("another loader has these chunks", hint="what it decided is read again") from error
        for (partition, _), one in zip(owned, renewed, strict=True):
            partition.decided[one.chunk.chunk_id] = one

    def suspect(self) -> None:
        self.ledger.suspect(self._partitions, True)

    def reconciled(self) -> None:
        self.ledger.suspect(self._partitions, False)
        for partition in self._partitions.values():
            partition.suspect = False

    def sweep(self) -> None:
        """Deletes what has outlived its use, and is heard of by the group while the store is left alone."""
        now = self._clock.milliseconds()
        self.ledger.forget(now - self._sizes.grace_seconds * 1000, now - _REFUSED_DAYS * 86_400_000, self._partitions)
        for partition in self._partitions.values():
            partition.sweep(now, self._window_milliseconds)
        self._hold(self._has_open())
        self._receive(1, 0)

    # -- erase ---------------------------------------------------------------------------------------------------

    def fence(self) -> Fence:
        """Whether everything that stands in the topic now is settled: messages that come later are judged by today's
        tombstones. What a node that is down has in its fallback is taken out before it is sent."""
        return Fence(lambda: not self._door.fallback.size_bytes(), self._ends, self.ledger.open_before)

    def _ends(self) -> dict[int, int]:
        with contextlib.closing(self._broker.reader()) as reader:  # the loader's is at work
            return reader.ends(self._partition_count)

    def renew(self) -> None:
        self._fence = self.fence()

    def passed(self) -> bool:
        return self._fence is not None and self._fence()

    def remains(self) -> dict[str, Any]:
        """Of the topic: until which offsets it was looked at, and by when these messages are gone."""
        keeps, ends = self._broker.keeps(), (self._fence.ends if self._fence else None) or {}
        topic, now = self._broker.address.topic, self._clock.milliseconds()
        return remains(topic, ends, keeps.get("retention.ms"), keeps.get("segment.ms"), now)

    @property
    def erasing(self) -> bool:
        return self.removals.erasing()

    # -- look ----------------------------------------------------------------------------------------------------

    def depth(self) -> Depth:
        """Decided and not loaded by any loader; unread as far as we know of it, a message for one event; our fallback."""
        events, oldest = self.ledger.waiting()
        events += self._door.fallback.events()
        ends = {number: offset + 1 for number, offset in self._door.newest.items()}
        if self._joined is not None:
            for number, end in self._joined.ends.items():
                ends[number] = max(end, ends.get(number, 0))
        heads = self.ledger.heads()
        for number, partition in list(self._partitions.items()):
            heads[number] = max(heads[number], partition.next_offset())
            events += partition.rows_waiting
            first = partition.oldest_waiting()
            oldest = first if oldest is None else min(oldest, oldest if first is None else first)
        events += sum(max(0, end - heads.get(number, 0)) for number, end in ends.items())
        return Depth(events, self._door.fallback.size_bytes(), oldest)

    def complete_since(self) -> dict[str, int]:
        return self.ledger.complete_since()

    def sizes(self) -> Sizes:
        """Of this node: what its fallback and its indexes take; quarantined rows stand in the control data."""
        with self._lock:
            indexes = [partition.index_size() for partition in list(self._partitions.values())]
        entries, size = sum(one[0] for one in indexes), sum(one[1] for one in indexes)
        return Sizes(self._door.fallback.size_bytes(), 0, sum(map(len, self.ledger.quarantined())), entries, size)

    def tallies(self) -> dict[Tally, int]:
        """Events by (project, environment, outcome, reason) of all nodes, since the topic was opened."""
        return self.ledger.tallies()

    def holds(self, event_id: UUID, project: str) -> bool:
        """Whether this loader knows the id, or it is in quarantine. Ids on their way to another loader are not known."""
        number = partition_of(event_id.bytes, project, self._partition_count)
        if self._lock.acquire(timeout=_POLL_SECONDS):
            try:
                if number in self._partitions and self._partitions[number].holds(event_id, project):
                    return True
            finally:
                self._lock.release()
        return self.quarantined(event_id, project)

    def quarantined(self, event_id: UUID, project: str) -> bool:
        number = partition_of(event_id.bytes, project, self._partition_count)
        return (project, event_id.bytes) in map(identity_of, self.ledger.quarantined(number))

    def rows(self, *states: str) -> Iterator[tuple[str, Kind, bytes]]:
        return look.rows(self.ledger, self._broker, self._keys, *states)

    def unreadable(self) -> dict[str, TwintrackError]:
        return look.unreadable(self.ledger, self._broker, self._keys)

    def replay(self, event_id: UUID | None = None) -> list[Chunk]:
        """The loader of their partition finds them within a second. Raises: Unavailable."""
        back = look.put_back(self.ledger, event_id)
        if back:
            self.wake()
        return back

    def waiting_for(self, import_id: str) -> bool:
        """Whether anything that this process appended for an import is not settled."""
        ends = self._door.ends(import_id)
        if ends is None:
            return True
        heads = self.ledger.heads()
        return any(heads[n] <= offset for n, offset in ends.items()) or self.ledger.open_imports(import_id)
