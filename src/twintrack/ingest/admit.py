"""How much may come in: token buckets for people, keys and addresses, and a bound on the bytes held at once.

The buckets are GCRA (a token bucket that stores one instant): each has a rate and a burst. They live in this process,
bounded in number, or in Redis for many nodes. Names of buckets are keyed hashes: who sends is written nowhere.
A person's excess costs those events alone (`retry`); a key's or an address's excess answers the whole request 429.
"""

import asyncio
import math
from hashlib import blake2b

import structlog
from throttled.asyncio import BaseRateLimiter, MemoryStore, RateLimiterRegistry, RateLimitResult, RedisStore, per_min
from throttled.asyncio.store import BaseStore

from twintrack.auth import Principal
from twintrack.clock import Clock
from twintrack.errors import SettingsError, TooMany, Unavailable
from twintrack.event import RequestContext, WireEvent, limits
from twintrack.ingest.decode import Batch
from twintrack.metrics import Metrics
from twintrack.outcomes import Reason, Refusal, Status
from twintrack.peer import network_of
from twintrack.settings import Settings

log = structlog.get_logger()
# Who sends less than the rate in every window of this length can never empty a bucket, so none is asked for them.
_QUIET_SECONDS = 6.0
# A shared store that is slower than this is taken as away: the request goes on unlimited.
_STORE_SECONDS = 0.25
_STORE_PAUSE_SECONDS = 1.0
# Events whose people are counted in one window before the counts start again.
_MOST_COUNTED = 200_000
_MOST_CHARACTERS = limits().identifier_characters
# The last quarter of the buffer is for small bodies: many large ones that come slowly must not shut them out.
_SMALL_BYTES = 64 << 10
_SHARE_OF_LARGE = 0.75


class Buffer:
    """Counts the bytes of bodies that are held. What would go beyond the bound is refused before it is kept."""

    def __init__(self, most_bytes: int, metrics: Metrics) -> None:
        self._most, self._most_of_large = most_bytes, int(most_bytes * _SHARE_OF_LARGE)
        self._metrics = metrics
        self.held = 0

    def take(self, size: int, body: int) -> None:
        """Takes `size` bytes for a body that is `body` bytes large so far.

        Raises: Unavailable when there is no room.
        """
        held = self.held + size
        if held > self._most_of_large and (held > self._most or body > _SMALL_BYTES):
            self._metrics.limits["buffer"].inc()
            raise Unavailable(
                "too many bytes of bodies at once (TWINTRACK_INGEST_BUFFER_BYTES)",
                hint="nothing was kept; send again after Retry-After",
                code="overloaded",
            )
        self.held = held

    def give(self, size: int) -> None:
        self.held -= size


class _Bucket:
    """One kind of bucket: so many a minute, so many at once."""

    def __init__(self, kind: str, per_minute: int, burst: int, store: BaseStore, shared: "_Shared | None") -> None:
        self.per_minute, self.burst = per_minute, burst
        self._shared = shared
        self._limiter = RateLimiterRegistry.get("gcra")(
            per_min(per_minute, burst), store, key_prefix=f"twintrack:{kind}"
        )

    async def ask(self, name: str, cost: int) -> RateLimitResult | None:
        """All of `cost` or nothing; None where the shared store is away."""
        if self._shared is None:
            return await self._limiter.limit(name, cost)
        return await self._shared.ask(self._limiter, name, cost)

    async def take(self, name: str, cost: int) -> int:
        """How many of `cost` are let in."""
        result = await self.ask(name, cost)
        if result is None or not result.limited:
            return cost
        left = min(cost - 1, result.state.remaining)
        if left < 1:
            return 0
        result = await self.ask(name, left)
        return 0 if result is not None and result.limited else left


class _Shared:
    """The store in Redis. While it is away nobody is limited: a counter must not cost an event."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        self._away_until = 0.0

    async def ask(self, limiter: BaseRateLimiter, name: str, cost: int) -> RateLimitResult | None:
        if self._clock.monotonic_seconds() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                return await limiter.limit(name, cost)
        except Exception as error:  # the client's own, its driver's, or the timeout: all mean that it is away
            self._metrics.limit_store_errors.inc()
            self._away_until = self._clock.monotonic_seconds() + _STORE_PAUSE_SECONDS
            log.warning("limit_store_away", code="limit_store_away", kind=type(error).__name__)
            return None


class Gate:
    """The limits of one server, as the settings have them. A limit of 0 costs nothing."""

    def __init__(self, settings: Settings, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        url = settings.limit_store.get_secret_value()
        self._salt = blake2b(url.encode(), digest_size=32).digest()
        shared = _Shared(clock, metrics) if url else None

        def bucket(kind: str, per_minute: int, burst: int) -> _Bucket | None:
            if not per_minute:
                return None
            # A store for each kind: a flood of addresses or names must not push out the keys' buckets.
            try:
                store: BaseStore = RedisStore(url) if url else MemoryStore(options={"MAX_SIZE": settings.limit_buckets})
                return _Bucket(kind, per_minute, burst, store, shared)
            except Exception as error:
                raise SettingsError(
                    f"TWINTRACK_LIMIT_STORE cannot be used: {type(error).__name__}",
                    hint="install `twintrack[redis]`, and write it as redis://host:6379/0",
                ) from error

        self._people = bucket("person", settings.limit_person_per_minute, settings.limit_person_burst)
        self._keys = bucket("key", settings.limit_key_per_minute, settings.limit_key_burst)
        self._addresses = bucket("address", settings.limit_address_per_minute, settings.limit_address_burst)
        self._quiet = 0
        if self._people is not None and shared is None:
            self._quiet = min(int(self._people.per_minute * _QUIET_SECONDS / 60), self._people.burst // 4)
        self._counts: dict[str, dict[int, int]] = {}
        self._counted = 0
        self._window_ends = 0.0
        self.limits_addresses = self._addresses is not None

    async def address(self, address: str) -> None:
        """One request of a client address.

        Raises: TooMany.
        """
        if self._addresses is not None:
            await self._whole(self._addresses, "address", self._name(network_of(address), self._salt), 1)

    async def key(self, principal: Principal, events: int) -> None:
        """The events of one request of a key.

        Raises: TooMany.
        """
        if self._keys is not None and events:
            await self._whole(self._keys, "key", principal.key_id, min(events, self._keys.burst))

    async def _whole(self, bucket: _Bucket, kind: str, name: str, cost: int) -> None:
        result = await bucket.ask(name, cost)
        if result is not None and result.limited:
            self._metrics.limits[kind].inc()
            unit = "requests" if kind == "address" else "events"
            raise TooMany(
                f"this {kind} sent more than {bucket.per_minute} {unit} a minute (limit_{kind}_per_minute)",
                hint="nothing was kept; send again after Retry-After",
                retry_after_seconds=max(1, math.ceil(result.state.retry_after)),
            )

    async def people(self, batch: Batch, context: RequestContext, secret: bytes) -> None:
        """Puts `retry` in the place of each event that is beyond its person's limit; its neighbours stay.

        A server key speaks for many people and is not asked. A user whose token is verified has a bucket of their
        own: who merely claims to be them cannot empty it.
        """
        bucket = self._people
        if bucket is None or context.server_key:
            return
        counts, quiet = self._window(context.tenancy.project), self._quiet
        subject = context.subject
        loud: dict[str, list[int]] = {}
        crossed: set[str] = set()
        for index, event in enumerate(batch.elements):
            if isinstance(event, Refusal):
                continue
            person = event.user_id or event.anonymous_id or f"@{context.ip_address}"
            if subject is not None and (person == subject or not (event.user_id or event.anonymous_id)):
                person = f"verified {subject}"
            number = hash(person)
            count = counts.get(number, 0) + 1
            counts[number] = count
            if count > quiet and len(person) <= _MOST_CHARACTERS:  # a longer one is refused by its length
                loud.setdefault(person, []).append(index)
                if count == quiet + 1:
                    crossed.add(person)
        self._counted += len(batch.elements)
        for person, places in loud.items():
            name = self._name(f"{context.tenancy.project} {person}", secret)
            if person in crossed and quiet:
                await bucket.ask(name, quiet)  # what went by unasked in this window is paid for now
            allowed = await bucket.take(name, len(places))
            for index in places[allowed:]:
                self._turn_away(batch, index, bucket)

    def _turn_away(self, batch: Batch, index: int, bucket: _Bucket) -> None:
        event = batch.elements[index]
        if isinstance(event, WireEvent):
            batch.ids[index] = str(event.event_id)
        batch.elements[index] = Refusal(
            Status.RETRY,
            Reason.RATE_LIMITED,
            f"one person may send {bucket.per_minute} events a minute (limit_person_per_minute), "
            f"{bucket.burst} at once; keep the event and send it later",
        )
        self._metrics.limits["person"].inc()

    def _window(self, project: str) -> dict[int, int]:
        now = self._clock.monotonic_seconds()
        if now >= self._window_ends or self._counted > _MOST_COUNTED:
            self._counts, self._counted = {}, 0
            self._window_ends = now + _QUIET_SECONDS
        return self._counts.setdefault(project, {})

    @staticmethod
    def _name(text: str, key: bytes) -> str:
        return blake2b(text.encode("utf-8", "surrogatepass"), key=key[:64], digest_size=16).hexdigest()
