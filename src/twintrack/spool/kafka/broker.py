"""The only code that speaks to a Kafka broker: a producer that says what arrived, and a member of the loaders' group.

Everything is sent with an idempotent producer and `acks=all`. The group gives out partitions; which messages are
settled is not its business but that of the verdicts. The client is an extra: `pip install twintrack[kafka]`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import structlog

from twintrack.errors import ChunkDamaged, SettingsError, Unavailable
from twintrack.spool.kafka.message import Outgoing

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, Producer, TopicPartition

log = structlog.get_logger()
# A request that is never answered holds up those behind it, for a minute unless told otherwise.
_ANSWER_SECONDS = 10
_ASK_SECONDS = 5.0
_READ_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 3.0
_LARGEST_MESSAGE_BYTES = 1_000_000
_KEEPS = ("retention.ms", "segment.ms")


def _client() -> Any:
    """The client library, loaded when a topic is used."""
    try:
        import confluent_kafka
    except ImportError as error:
        raise SettingsError(
            "TWINTRACK_SPOOL names a topic, but the Kafka client is not installed",
            hint="pip install 'twintrack[kafka]'",
        ) from error
    return confluent_kafka


class Address(NamedTuple):
    """`kafka://host:9092,other:9092/topic?partitions=6&replication=3`; the numbers serve to make the topic."""

    servers: str
    topic: str
    partitions: int = 3
    replication: int = -1

    @classmethod
    def of(cls, url: str) -> "Address":
        parts = urlsplit(url)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        topic = parts.path.strip("/")
        if (
            parts.scheme != "kafka"
            or not parts.netloc
            or not topic
            or "/" in topic
            or asked.keys() - {"partitions", "replication"}
        ):
            raise _unreadable()
        try:
            return cls(parts.netloc, topic, **{name: int(value) for name, value in asked.items()})
        except ValueError as error:
            raise _unreadable() from error


class Broker:
    """How to reach a topic. Shape: `options` are librdkafka's, for TLS and sign-in."""

    def __init__(self, address: Address, options: dict[str, str]) -> None:
        self.address = address
        quiet = logging.getLogger("twintrack.kafka")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False  # whether the broker is away is said by us, once
        self._options: dict[str, Any] = {
            "socket.timeout.ms": _ANSWER_SECONDS * 1000,
            **options,
            "bootstrap.servers": address.servers,
            "logger": quiet,
        }

    def partitions(self) -> int:
        """How many partitions the topic has; makes it where it is missing. Raises: Unavailable."""
        kafka = _client()
        from confluent_kafka import admin as administration

        admin = administration.AdminClient(self._options)
        topic = self.address.topic
        try:
            if topic not in admin.list_topics(timeout=_ASK_SECONDS).topics:
                made = admin.create_topics(
                    [kafka.admin.NewTopic(topic, self.address.partitions, self.address.replication)]
                )
                made[topic].result(_ASK_SECONDS)
        except kafka.KafkaException as error:
            if error.args[0].code() != kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise Unavailable(
                    f"the broker does not show or make the topic ({error.args[0].name()})",
                    hint="see TWINTRACK_SPOOL; the first start needs the broker",
                ) from error
        found = admin.list_topics(topic, timeout=_ASK_SECONDS).topics[topic]
        return len(found.partitions)

    def keeps(self) -> dict[str, int]:
        """What the broker tells of how long the topic keeps messages: `retention.ms`, `segment.ms`. Not every one does."""
        kafka = _client()
        from confluent_kafka import admin as administration

        named = kafka.admin.ConfigResource(kafka.admin.ResourceType.TOPIC, self.address.topic)
        admin = administration.AdminClient(self._options)
        try:
            told = admin.describe_configs([named], request_timeout=_ASK_SECONDS)[named].result(_ASK_SECONDS)
        except (kafka.KafkaException, TimeoutError) as error:
            log.warning("kafka_settings_not_told", kind=type(error).__name__)
            return {}
        found = {name: told[name].value for name in _KEEPS if name in told}
        return {name: int(value) for name, value in found.items() if value is not None}

    def sender(self, timeout_seconds: float) -> "Sender":
        return Sender(self.address.topic, self._options, timeout_seconds)

    def reader(self) -> "Reader":
        return Reader(self.address.topic, self._options)

    def member(self, session_seconds: float) -> "Member":
        return Member(self.address.topic, self._options, session_seconds)


class Sender:
    """Sends messages and says of each batch, once, which of them the broker confirmed."""

    def __init__(self, topic: str, options: dict[str, Any], timeout_seconds: float) -> None:
        self._topic = topic
        self._options = {
            "linger.ms": 2,
            "compression.type": "lz4",
            **options,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": round(timeout_seconds * 1000),
            "message.max.bytes": _LARGEST_MESSAGE_BYTES,
            "error_cb": self._failed,
        }
        self._lock = threading.Lock()
        self._error: type[Exception] = _client().KafkaException
        # Behind messages that were not confirmed in time a client counts on in a way that not every broker follows: then
        # each later message is refused, until another producer begins anew. The delivery's key tells copies, not its count.
        kinds = _client().KafkaError
        self._given_up = (kinds.PRODUCER_FENCED, kinds.INVALID_PRODUCER_EPOCH, kinds.OUT_OF_ORDER_SEQUENCE_NUMBER)
        self._producer: Producer = _client().Producer(self._options)
        self._fatal = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-sender", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for what is under way, no longer than a message may take."""
        self._producer.flush()
        self._stopping.set()
        self._thread.join()

    def send(self, messages: Sequence[Outgoing], done: Callable[[list[int | None]], None]) -> None:
        """Calls `done` from a thread of its own with each message's offset, None where it may not have arrived."""
        offsets: list[int | None] = [None] * len(messages)
        left = len(messages)

        def report(place: int, offset: int | None) -> None:
            nonlocal left
            with self._lock:
                offsets[place] = offset
                left -= 1
                if left:
                    return
            done(offsets)

        for place, message in enumerate(messages):

            def arrived(error: Any, sent: "Message", place: int = place) -> None:
                self._fatal = self._fatal or (error is not None and error.code() in self._given_up)
                report(place, None if error is not None else sent.offset())

            try:
                self._producer.produce(
                    self._topic, message.value, message.key, partition=message.partition, on_delivery=arrived
                )
            except (BufferError, self._error):
                report(place, None)

    def _failed(self, error: Any) -> None:
        self._fatal = self._fatal or error.fatal()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)
            if self._fatal:
                # The client gives such a producer up; what it still held is reported as not arrived.
                old, self._fatal = self._producer, False
                self._producer = _client().Producer(self._options)
                old.purge()
                old.flush(_ASK_SECONDS)


class Member:
    """One loader in the group. Called by one thread; partitions come and go inside `poll`."""

    def __init__(self, topic: str, options: dict[str, Any], session_seconds: float) -> None:
        self._kafka = _client()
        self._topic = topic
        self.reader = Reader(topic, options)
        self._group: Consumer = self._kafka.Consumer(
            {
                "session.timeout.ms": round(session_seconds * 1000),
                "heartbeat.interval.ms": round(session_seconds * 1000 / 5),
                "queued.max.messages.kbytes": 65_536,
                **options,
                "enable.auto.commit": False,
                "group.id": f"twintrack.{topic}",
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "range",
            }
        )
        self.gained: set[int] = set()
        self.owned: set[int] = set()
        self.ends: dict[int, int] = {}  # of the owned partitions, about a second old
        self._looked = 0.0
        self._group.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def close(self) -> None:
        """Leaves the group, so that others need not wait for the end of our session."""
        _close(self._group)
        self.reader.close()

    def _assigned(self, group: "Consumer", partitions: list[Any]) -> None:
        # Nothing is read before the caller has said from where.
        group.assign([])
        self.owned = {one.partition for one in partitions}
        self.gained = set(self.owned)

    def _revoked(self, group: "Consumer", partitions: list[Any]) -> None:
        group.unassign()
        self.owned, self.gained = set(), set()

    def read_from(self, heads: dict[int, int]) -> None:
        """Reads the owned partitions from these offsets on."""
        self._group.assign([self._place(number, offset) for number, offset in heads.items()])

    def pause(self) -> None:
        self._group.pause(self._group.assignment())

    def resume(self) -> None:
        self._group.resume(self._group.assignment())

    def poll(self, most: int, seconds: float) -> list[tuple[int, int, bytes]]:
        """(partition, offset, value) of what arrived."""
        found = []
        for message in self._group.consume(most, seconds):
            error = message.error()
            if error is None:
                number, offset = message.partition(), message.offset()
                assert number is not None and offset is not None
                found.append((number, offset, message.value() or b""))
            elif not error.retriable():
                log.warning("kafka_read_failed", kind=error.name())
        self._look_ahead()
        return found

    def commit(self, heads: dict[int, int]) -> None:
        """Tells the group, for those who watch its lag: the verdicts are what counts."""
        try:
            self._group.commit(offsets=[self._place(n, offset) for n, offset in heads.items()], asynchronous=True)
        except self._kafka.KafkaException as error:
            log.warning("kafka_commit_failed", kind=error.args[0].name())

    def _look_ahead(self) -> None:
        """Notes the end of each owned partition as far as the client has heard of it, once a second.

        Asked for from another thread, the client waits for ever while this one polls.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        ends = {}
        for number in self.owned - self.gained:
            try:
                _, high = self._group.get_watermark_offsets(self._place(number), cached=True)
            except self._kafka.KafkaException:
                continue
            ends[number] = int(high)
        self.ends = ends

    def _place(self, partition: int, offset: int = 0) -> "TopicPartition":
        place: TopicPartition = self._kafka.TopicPartition(self._topic, partition, offset)
        return place


class Reader:
    """Reads offsets again, beside the group. Called by one thread."""

    def __init__(self, topic: str, options: dict[str, Any]) -> None:
        self._kafka = _client()
        self._gone = (self._kafka.KafkaError.OFFSET_OUT_OF_RANGE, self._kafka.KafkaError._AUTO_OFFSET_RESET)
        self._topic = topic
        self._again: Consumer = self._kafka.Consumer(
            {
                **options,
                "enable.auto.commit": False,
                "group.id": f"twintrack.{topic}.again",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )

    def close(self) -> None:
        _close(self._again)

    def oldest(self, partition: int) -> int:
        """The first offset that the topic still holds. Raises: Unavailable."""
        try:
            low, _ = self._again.get_watermark_offsets(self._place(partition), timeout=_ASK_SECONDS)
        except self._kafka.KafkaException as error:
            raise _away(error) from error
        return max(0, int(low))

    def ends(self, partitions: int) -> dict[int, int]:
        """By partition the offset behind its last message, 0 where it holds none. Raises: Unavailable.

        Read up to, not only asked for: some brokers answer with where the last batch begins.
        """
        ends = dict.fromkeys(range(partitions), 0)
        last = []
        for number in ends:
            try:
                low, high = self._again.get_watermark_offsets(self._place(number), timeout=_ASK_SECONDS)
            except self._kafka.KafkaException as error:
                raise _away(error) from error
            if high > max(low, 0):
                last.append(self._place(number, max(low, high - 1)))
        left, until = {one.partition for one in last}, time.monotonic() + _READ_SECONDS
        self._again.assign(last)
        try:
            while left:
                if time.monotonic() > until:
                    raise Unavailable("the broker did not answer in time", hint="it is asked again")
                message = self._again.poll(0.5)
                fault = message.error() if message is not None else None
                if message is None or fault is None:
                    continue
                if fault.code() != self._kafka.KafkaError._PARTITION_EOF:
                    raise _away(self._kafka.KafkaException(fault))
                place, offset = message.partition(), message.offset()
                assert place is not None and offset is not None
                ends[place] = offset
                left.discard(place)
        finally:
            self._again.unassign()
        return ends

    def fetch(self, partition: int, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(offset, value) of a range. Raises: Unavailable, ChunkDamaged."""
        at, until = first, time.monotonic() + _READ_SECONDS
        self._again.assign([self._place(partition, first)])
        try:
            while at < end:
                if time.monotonic() > until:
                    raise Unavailable("the broker did not answer in time", hint="it is asked again")
                for message in self._again.consume(min(10_000, end - at), 0.5):
                    error = message.error()
                    if error is None:
                        offset = message.offset()
                        assert offset is not None
                        at, until = offset + 1, time.monotonic() + _READ_SECONDS
                        if at <= end:
                            yield offset, message.value() or b""
                    elif error.code() in self._gone:
                        raise ChunkDamaged(
                            "the topic no longer holds offsets that were decided and not loaded",
                            hint="docs/operations/kafka.md says what the topic must keep",
                        )
                    elif error.code() != self._kafka.KafkaError._PARTITION_EOF:
                        raise _away(self._kafka.KafkaException(error))
                    elif at < end:
                        raise Unavailable(
                            "the topic ends before offsets that were decided", hint="see the broker's log"
                        )
        finally:
            self._again.unassign()

    def _place(self, partition: int, offset: int = 0) -> "TopicPartition":
        place: TopicPartition = self._kafka.TopicPartition(self._topic, partition, offset)
        return place


def _close(consumer: "Consumer") -> None:
    """Closes a client, or leaves it to the end of the process: without a broker its own close waits for ever.

    Nothing is lost by it: the group gives our partitions away when the session ends.
    """
    closing = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_SECONDS)
    if closing.is_alive():
        log.warning("kafka_not_closed", waited_seconds=_CLOSE_SECONDS)


def _unreadable() -> SettingsError:
    return SettingsError(
        "TWINTRACK_SPOOL cannot be read",
        hint="`local` or `kafka://host:9092,other:9092/topic`, with `?partitions=6&replication=3` if wanted",
    )


def _away(error: Any) -> Unavailable:
    return Unavailable(f"the broker did not answer ({error.args[0].name()})", hint="it is asked again")
