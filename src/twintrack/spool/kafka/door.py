"""The accepting half of a topic: a delivery is split by partition, sent with `acks=all`, and answered when the broker
has confirmed every message.

What it does not confirm in time goes to a synced fallback on this node's disk, is acknowledged from there and sent
again later under the same keys. While the broker is away no request waits for it. Next: partition.py.
"""

import asyncio
import secrets
import threading
from collections.abc import Callable
from typing import Any

import structlog

from twintrack.clock import Clock
from twintrack.control.retention import NONE as NO_RULES
from twintrack.errors import Unavailable
from twintrack.metrics import Metrics
from twintrack.seal import DataKeys
from twintrack.spool.kafka.broker import Sender
from twintrack.spool.kafka.fallback import Fallback
from twintrack.spool.kafka.message import Outgoing, delivery_id, sifted, split
from twintrack.spool.kafka.sieve import Rights, Sieve
from twintrack.spool.protocol import Delivery, TakenLink

log = structlog.get_logger()
_DRAIN_SECONDS = 1.0
_DRAIN_MESSAGES = 500
_DRAINED = -1  # stands for a partition: an import went through the fallback


class Door:
    """Called from the event loop; `fallback` and `sender` end with it."""

    def __init__(
        self,
        fallback: Fallback,
        sender: Sender,
        clock: Clock,
        metrics: Metrics,
        *,
        ledger: str,
        partitions: int,
        rights: Rights,
        note_links: Callable[[set[TakenLink]], None],
        keys: DataKeys | None = None,
    ) -> None:
        self.fallback = fallback
        self._sender, self._clock, self._metrics = sender, clock, metrics
        self._ledger, self._partitions, self._keys = ledger, partitions, keys
        self._rights, self._note_links = rights, note_links
        self._away = ""  # why messages go to the fallback
        self._imports: dict[str, dict[int, int]] = {}  # import id to the end of what it appended, by partition
        self._drained: dict[int, int] = {}  # newest offset sent out of the fallback, by partition
        self.newest: dict[int, int] = {}  # newest offset that the broker confirmed to us, by partition
        self._closing = threading.Event()
        self._drainer = threading.Thread(target=self._drain_forever, name="fallback-drain", daemon=True)
        self._drainer.start()

    def close(self) -> None:
        """What the fallback holds stays for the next start."""
        self._closing.set()
        self._drainer.join()
        self._sender.close()
        self.fallback.close()

    async def append(self, delivery: Delivery) -> None:
        """Durable on return. Raises: Unavailable."""
        reason = self.why_not_ready()
        if reason:
            raise Unavailable(reason, hint="nothing was kept; send again after Retry-After")
        name = delivery_id(self._clock.milliseconds(), secrets.token_bytes(8))
        messages = split(delivery, name, self._ledger, self._partitions, self._keys)
        left = messages
        if not self._away:
            offsets = await self._send(messages)
            left = [message for message, offset in zip(messages, offsets, strict=True) if offset is None]
            self._note(self.newest, messages, offsets)
            if delivery.import_id:
                self._note(self._imports.setdefault(delivery.import_id, {}), messages, offsets)
            if left:
                self._turn_away("the broker did not confirm messages in time")
        if left:
            if delivery.import_id:
                self._imports.setdefault(delivery.import_id, {})[_DRAINED] = 0
            await self.fallback.append(left)
        self._metrics.group_events.observe(sum(message.events for message in messages))

    async def _send(self, messages: list[Outgoing]) -> list[int | None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[int | None]] = loop.create_future()

        def settle(offsets: list[int | None]) -> None:
            if not future.cancelled():
                future.set_result(offsets)

        def done(offsets: list[int | None]) -> None:
            loop.call_soon_threadsafe(settle, offsets)

        self._sender.send(messages, done)
        return await future

    @staticmethod
    def _note(ends: dict[int, int], messages: list[Outgoing], offsets: list[int | None]) -> None:
        for message, offset in zip(messages, offsets, strict=True):
            if offset is not None:
                ends[message.partition] = max(ends.get(message.partition, -1), offset)

    def _turn_away(self, reason: str) -> None:
        if not self._away:
            log.error("kafka_away", reason=reason)
        self._away = reason

    def why_not_ready(self) -> str:
        """Why no event can be accepted durably now; empty where it can."""
        if self._closing.is_set():
            return "the service is stopping"
        if not self._away:
            return ""
        reason = self.fallback.why_not_ready() or self.fallback.failing
        return f"{self._away}, and {reason}" if reason else ""

    def works(self) -> dict[str, Any]:
        """What takes events now, for `/readyz`."""
        return {
            "kind": "kafka",
            "broker": self._away or "ok",
            "fallback": self.fallback.why_not_ready() or self.fallback.failing or "ok",
            "fallback_events": self.fallback.events(),
        }

    def _drain_forever(self) -> None:
        """Sends what the fallback holds, and finds out whether the broker is back."""
        while not self._closing.wait(_DRAIN_SECONDS):
            try:
                if all(self._drain(number) for number in self.fallback.segments()) and self._away:
                    log.info("kafka_back")
                    self._away = ""
            except Exception:
                log.error("fallback_drain_failed", exc_info=True)

    def _drain(self, number: int) -> bool:
        """Whether the broker has all of a segment now. Who was erased meanwhile does not come into the topic."""
        batch: list[Outgoing] = []
        for message in self.fallback.read(number):
            batch.append(self._sifted(message))
            if len(batch) >= _DRAIN_MESSAGES:
                if not self._confirmed(batch):
                    return False
                batch = []
        if batch and not self._confirmed(batch):
            return False
        self.fallback.remove(number)
        log.info("fallback_drained", segment=number)
        return True

    def _sifted(self, message: Outgoing) -> Outgoing:
        links: set[TakenLink] = set()
        sieve = Sieve(self._rights.tombstones, NO_RULES, None, self._clock.milliseconds())
        message = sifted(message, lambda record: sieve.sifted(record, links), self._keys)
        if links:
            self._note_links(links)
        return message

    def _confirmed(self, batch: list[Outgoing]) -> bool:
        answered = threading.Event()
        answer: list[int | None] = []

        def done(offsets: list[int | None]) -> None:
            answer.extend(offsets)
            answered.set()

        self._sender.send(batch, done)
        answered.wait()
        if None in answer:
            return False
        self._note(self._drained, batch, answer)
        self._note(self.newest, batch, answer)
        self._away = ""
        return True

    def ends(self, import_id: str) -> dict[int, int] | None:
        """The newest offset of what an import appended here, by partition; None while some of it is in the fallback."""
        ends = dict(self._imports.get(import_id, {}))
        if ends.pop(_DRAINED, None) is not None:
            if self.fallback.size_bytes():
                return None
            for number, offset in self._drained.items():
                ends[number] = max(ends.get(number, -1), offset)
        return ends
