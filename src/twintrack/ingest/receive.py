"""The HTTP half of ingest: `POST /api/analytics/events`. An answer of 200 means that the events are on disk.

Order: type, address limit, key of the head, body, inflate, decode, key of the envelope, limits of key and people, then
the pipeline, the spool, the answer. A bare ASGI callable: routing and request objects cost more than the events of
a small request. The rest of an event's way: admit, decode, validate, enrich, mask, pipeline.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

import msgspec
import structlog
from crawlerdetect import CrawlerDetect
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from twintrack import auth
from twintrack.bounds import UNBOUND, foreign_address, foreign_origin
from twintrack.clock import Clock, milliseconds_of
from twintrack.control.control import Control
from twintrack.control.person_keys import PersonKeys
from twintrack.control.rollout import Rollout, document
from twintrack.errors import RequestError, TwintrackError, Unavailable
from twintrack.event import RequestContext, Tenancy, WireEvent
from twintrack.ingest.admit import Buffer, Gate
from twintrack.ingest.agreed import Denials
from twintrack.ingest.decode import Batch, decode, inflate
from twintrack.ingest.enrich import client_address, clock_skew, cut_address
from twintrack.ingest.health import Pages
from twintrack.ingest.pipeline import Rules
from twintrack.ingest.prepared import Preparing
from twintrack.ingest.receipts import judge
from twintrack.ingest.visit import Gone, Visit, error_answer
from twintrack.metrics import Metrics
from twintrack.outcomes import Reason, Refusal, Status
from twintrack.permissions import Permission
from twintrack.pii import LiveMaskers
from twintrack.settings import Settings
from twintrack.spans import Spans
from twintrack.spool.protocol import Delivery, Refused, Slab, Spool
from twintrack.tokens import Tokens

log = structlog.get_logger()
_ENCODER = msgspec.json.Encoder()
_TYPES = frozenset({b"application/json", b"text/plain", b""})
_JSON = (b"content-type", b"application/json")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_AGENT_CHARACTERS = 512
_TURN_EVENTS = 500
# Bodies beyond this are decoded a few at a time: decoded, they are several times as large.
_LARGE_BYTES = 256 << 10
_LARGE_AT_ONCE = 2
_KEPT_ANSWERS = 10_000
_STATUSES = tuple(status.value for status in Status)
_EXPOSED = (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-Id")
_VARY = (b"vary", b"Origin")
_ALREADY_ACCEPTED = Refusal(
    Status.DUPLICATE, Reason.ALREADY_ACCEPTED, "this event_id was accepted before; nothing more to do"
)


class _Judged(NamedTuple):
    """A batch behind the pipeline: its events are bytes now, and each other one has its verdict."""

    batch_id: str
    events: int
    rollout: Rollout
    delivery: Delivery
    places: list[int]  # of the slabs' events, in their order
    refusals: dict[int, Refusal]
    ids: dict[int, str | None]  # of the refusals, where readable
    unmasked: int


class Receiver:
    """Answers POSTs of events. `config` and `preflight` are ordinary routes."""

    def __init__(
        self,
        settings: Settings,
        control: Control,
        spool: Spool,
        clock: Clock,
        metrics: Metrics,
        spans: Spans | None = None,
        person_keys: PersonKeys | None = None,
    ) -> None:
        self.preparing = Preparing(settings.sealed, person_keys)
        self._settings, self._control, self._spool = settings, control, spool
        self._clock, self._metrics, self._spans = clock, metrics, spans
        self._limits = settings.limits
        self.maskers = LiveMaskers(
            Path(settings.masking_rules) if settings.masking_rules else None,
            on=settings.masking,
            told=lambda outcome: metrics.masking_reloads.labels(outcome).inc(),
        )
        self._origins = [o.strip() for o in settings.allowed_origins.split(",") if o.strip()]
        self._gate = Gate(settings, clock, metrics)
        self._pages = Pages(metrics)
        self.buffer = Buffer(settings.ingest_buffer_bytes, metrics)
        self.waiting = 0
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self.tokens = Tokens(settings, clock, metrics)
        self._crawlers = CrawlerDetect()
        self._bots: dict[str, bool] = {}
        self._addresses: dict[tuple[str, str], tuple[str, str]] = {}
        self._log = log.bind()
        self._log_from = {"all": 0, "errors": 400, "none": 1000}[settings.log_batches]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One batch: every event of it gets exactly one of five statuses."""
        visit = Visit(scope, receive, send, self._clock.monotonic_seconds())
        status, headers = 200, [_JSON]
        try:
            body = await self._accept(visit)
        except Gone:
            self._finish(visit, 499)
            return
        except TwintrackError as error:
            status, visit.code = error.status, error.code
            body, headers = error_answer(error)
        except Exception:
            status, visit.code = 500, "internal"
            log.error("ingest_failed", code="internal", request=visit.request_id, exc_info=True)
            body, headers = error_answer(TwintrackError("something went wrong here", hint="see the service's log"))
        finally:
            self.buffer.give(visit.held)
        await visit.answer(status, [*headers, _NO_SNIFF, *self._cors(visit.origin)], body)
        self._finish(visit, status)

    def _finish(self, visit: Visit, status: int) -> None:
        """Tells about the request: numbers, one line, one span. Nothing of what was sent."""
        ended = self._clock.monotonic_seconds()
        metrics = self._metrics
        stages = visit.stages(ended)
        for stage, start, end in stages:
            metrics.stages[stage].observe(end - start)
        metrics.answered(status)
        metrics.body_bytes.inc(visit.body_bytes)
        if visit.code:
            metrics.refused_requests.labels(visit.code).inc()
        elif visit.body_here:
            metrics.inflated_bytes.inc(visit.inflated_bytes)
            metrics.acknowledge_seconds.observe(ended - visit.body_here)
        if self._log_from <= status:
            line = visit.line(status, stages)
            self._log.info("batch", line=line)
        if self._spans is not None:
            self._spans.request(visit, status, stages, ended)

    async def config(self, request: Request) -> Response:
        """What a client is told about its environment; killed and excluded clients ask too."""
        visit = Visit(request.scope, request.receive, request._send, 0.0)
        # A cache may keep the answer, so it never depends on an origin that was not named in `Vary`.
        headers = {name.decode(): value.decode() for name, value in self._cors(visit.origin or b"*")}
        headers["Vary"] = ", ".join(filter(None, ("Authorization, X-Write-Key", headers.pop("vary", ""))))
        try:
            # A page asks its own site without an `Origin`; what it may send is judged when it sends.
            asked_from = None if visit.origin is None else visit.origin.decode("latin-1")
            principal = self._principal(visit.header_key() or visit.query_key())
            self._check_bounds(principal, self._address(visit)[0], asked_from, told=asked_from is not None)
        except TwintrackError as error:
            headers["Cache-Control"] = "no-store"
            return Response(_ENCODER.encode(error.body()), error.status, headers, "application/json")
        told = document(self._control.rollout(principal.tenancy))
        headers |= {"ETag": told.tag, "Cache-Control": "max-age=30"}
        if _matches(visit.all_of(b"if-none-match"), told.tag):
            return Response(status_code=304, headers=headers)
        return Response(told.body, media_type="application/json", headers=headers)

    async def preflight(self, request: Request) -> Response:
        """What a browser asks before it sends with a header of ours. A foreign origin gets no leave, and no error."""
        origin = request.headers.get("origin")
        cors = {
            name.decode(): value.decode() for name, value in self._cors(None if origin is None else origin.encode())
        }
        if "access-control-allow-origin" in cors:
            cors |= {
                "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
                "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, if-none-match, "
                "x-write-key, traceparent",
                "Access-Control-Max-Age": "86400",
            }
        return Response(status_code=204, headers=cors)

    def _cors(self, origin: bytes | None) -> Iterable[tuple[bytes, bytes]]:
        """Never with credentials: ingest ignores cookies. A page may read when to come again."""
        if "*" in self._origins:
            if origin is None:
                return ()
            return ((b"access-control-allow-origin", b"*"), _EXPOSED)
        # Caches must not hand one origin's answer, or the lack of one, to another.
        if origin is None or origin.decode("latin-1") not in self._origins:
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), _EXPOSED, _VARY)

    def _principal(self, key: str) -> auth.Principal:
        if not key:
            raise RequestError(
                "no key was sent",
                hint="send it as `Authorization: Bearer`, `X-Write-Key` or `key` in the envelope",
                code="missing_key",
                status=401,
            )
        principal = self._control.principal(key)
        if principal is None:
            raise RequestError(
                "the key is unknown, revoked or expired",
                hint="`twintrack keys list` shows the live keys",
                code="unknown_key",
                status=401,
            )
        if not principal.may(Permission.SEND):
            raise RequestError(
                f"a {principal.role} key cannot send events",
                hint="use a write or server key",
                code="wrong_role",
                status=403,
            )
        return principal

    def _sender(self, visit: Visit, key: str) -> auth.Principal:
        principal = self._principal(key)
        if principal.bounds is not UNBOUND:
            self._check_bounds(
                principal, visit.address, None if visit.origin is None else visit.origin.decode("latin-1")
            )
        return principal

    def _check_bounds(self, principal: auth.Principal, address: str, origin: str | None, *, told: bool = True) -> None:
        """Raises: RequestError 403 where the key may not be used from this address or origin."""
        if not principal.bounds.allows_address(address):
            raise foreign_address()
        if told and not principal.bounds.allows_origin(origin):
            raise foreign_origin()

    async def _body(self, visit: Visit) -> bytes:
        declared = visit.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            self._too_large()
        # The server under us has a clock on the head and the first piece; ours starts where a body comes in pieces.
        message = await visit.receive()
        body: bytes = self._piece(visit, message)
        if not message.get("more_body"):
            return body
        parts = [body]
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while message.get("more_body"):
                    message = await visit.receive()
                    parts.append(self._piece(visit, message))
        except TimeoutError as error:
            raise RequestError(
                f"the body did not arrive within {self._settings.body_seconds:g} seconds (body_seconds)",
                hint="send smaller batches",
                code="body_too_slow",
                status=408,
            ) from error
        return b"".join(parts)

    def _piece(self, visit: Visit, message: Any) -> bytes:
        if message["type"] == "http.disconnect":
            raise Gone
        piece: bytes = message.get("body", b"")
        visit.body_bytes += len(piece)
        if visit.body_bytes > self._limits.body_bytes:
            self._too_large()
        self._hold(visit, len(piece))
        return piece

    def _hold(self, visit: Visit, size: int) -> None:
        self.buffer.take(size, visit.held + size)
        visit.held += size

    def _too_large(self) -> NoReturn:
        raise RequestError(
            f"the body is larger than {self._limits.body_bytes} bytes (body_bytes)",
            hint="send smaller batches, or compress them",
            code="body_too_large",
            status=413,
        )

    async def _accept(self, visit: Visit) -> bytes:
        kind = visit.headers.get(b"content-type", b"")
        if kind not in _TYPES and kind.partition(b";")[0].strip().lower() not in _TYPES:
            raise RequestError(
                "the body must be application/json or text/plain",
                hint="set Content-Type",
                code="unsupported_type",
                status=415,
            )
        address, stored_address = self._address(visit)
        await self._gate.address(address)
        visit.address = address
        key = visit.header_key()
        principal = self._sender(visit, key) if key else None
        body = await self._body(visit)
        visit.body_here = self._clock.monotonic_seconds()
        if self.waiting >= self._settings.ingest_concurrency:
            self._metrics.limits["requests"].inc()
            raise Unavailable(
                f"more than {self._settings.ingest_concurrency} requests at once (ingest_concurrency)",
                hint="nothing was kept; send again after Retry-After",
                code="overloaded",
            )
        self.waiting += 1
        try:
            plain = inflate(body, visit.encoding, self._limits)
            if plain is not body:
                self._hold(visit, len(plain))
            visit.inflated_bytes = len(plain)
            visit.inflated = self._clock.monotonic_seconds()
            del body
            if len(plain) <= _LARGE_BYTES:
                judged = await self._prepare(visit, plain, principal, stored_address)
            else:
                async with self._large:
                    judged = await self._prepare(visit, plain, principal, stored_address)
            del plain
            return await self._append(visit, judged)
        finally:
            self.waiting -= 1

    async def _prepare(
        self, visit: Visit, plain: bytes, sent_by: auth.Principal | None, stored_address: str
    ) -> _Judged:
        """From an inflated body to what the spool shall make durable, and a verdict for every other event."""
        batch = decode(plain, self._limits)
        visit.decoded = self._clock.monotonic_seconds()
        envelope = batch.envelope
        principal = sent_by or self._sender(visit, envelope.key or visit.query_key())
        visit.key_id, visit.tenancy = principal.key_id, principal.tenancy
        context = self._context(visit, principal, batch, stored_address)
        project = self._control.project(principal.tenancy.project)
        rollout = self._control.rollout(principal.tenancy)
        await self._gate.key(principal, len(batch.elements))
        await self._gate.people(batch, context, project.secret)
        if envelope.sdk is not None:
            self._pages.heard(principal.key_id, envelope.sdk)
        if batch.unknown_fields:
            self._metrics.unknown_fields.inc(batch.unknown_fields)
        settings = self._settings
        rules = Rules(
            self._limits,
            project.secret,
            rollout,
            settings.require_verified_ids,
            self.maskers.of(principal.tenancy.environment),
            settings.id_window_days,
            self._control.retention.policies().of(principal.tenancy.project),
            self.denials(principal.tenancy, project.secret),
            self._control.tombstones(principal.tenancy.project),
        )
        slabs: list[Slab] = []
        places: list[int] = []
        refusals: dict[int, Refusal] = {}
        unmasked = 0
        for start in range(0, len(batch.elements), _TURN_EVENTS):
            if start:
                await asyncio.sleep(0)  # a large batch does not hold up its neighbours
            prepared = await self.preparing.prepared(batch.elements[start : start + _TURN_EVENTS], context, rules)
            slabs += prepared.slabs
            places += [start + place for place in prepared.places] if start else prepared.places
            refusals.update((start + place, refusal) for place, refusal in prepared.refusals.items())
            unmasked += prepared.unmasked
        ids = {index: _id(batch, index) for index in refusals}
        delivery = Delivery(
            context.tenancy,
            context.received_milliseconds,
            slabs,
            # An event that shall come again is counted now and looked for later.
            [
                Refused("" if refusal.status is Status.RETRY else ids[index] or "", refusal.status, refusal.reason)
                for index, refusal in refusals.items()
            ],
            self._receipts(batch, context, rollout),
        )
        visit.prepared = self._clock.monotonic_seconds()
        return _Judged(
            (envelope.batch_id or visit.request_id)[:100],
            len(batch.elements),
            rollout,
            delivery,
            places,
            refusals,
            ids,
            unmasked,
        )

    def denials(self, tenancy: Tenancy, secret: bytes) -> Denials | None:
        """Who denies analytics here; None where nobody does, which costs nothing."""
        consents = self._control.consents
        if not consents.asks(tenancy):
            return None
        return Denials(secret, self.maskers.of(tenancy.environment), partial(consents.denied_at, tenancy))

    async def _append(self, visit: Visit, judged: _Judged) -> bytes:
        """The answer, once everything that must be durable is."""
        delivery, refusals, ids = judged.delivery, judged.refusals, judged.ids
        if delivery.slabs or delivery.refused or delivery.receipts:
            fresh = await self._spool.append(delivery)
            if not all(fresh):
                event_ids = chain.from_iterable(slab.ids for slab in delivery.slabs)
                for place, event_id, new in zip(judged.places, event_ids, fresh, strict=True):
                    if not new:
                        refusals[place] = _ALREADY_ACCEPTED
                        ids[place] = str(UUID(bytes=event_id))
        visit.appended = self._clock.monotonic_seconds()
        counts = dict.fromkeys(_STATUSES, 0)
        if judged.events > len(refusals):
            counts["accepted"] = judged.events - len(refusals)
            self._metrics.verdict(Status.ACCEPTED, "", counts["accepted"])
        if judged.unmasked:
            self._metrics.unmasked.inc(judged.unmasked)
        results = []
        for index, (status, code, message) in sorted(refusals.items()):
            counts[status] += 1
            self._metrics.verdict(status, code, 1)
            results.append({"index": index, "event_id": ids[index], "status": status, "code": code, "message": message})
        visit.counts = counts
        return _ENCODER.encode(
            {
                "batch_id": judged.batch_id,
                **counts,
                "results": results,
                "config": {"version": judged.rollout.version, "kill": judged.rollout.kill},
            }
        )

    def _receipts(self, batch: Batch, context: RequestContext, rollout: Rollout) -> list[tuple[int, bytes]]:
        if rollout.kill:  # then nothing is taken, whatever it is
            self._metrics.receipts["killed"].inc(len(batch.receipts) + batch.bad_receipts.total())
            return []
        if not batch.receipts and not batch.bad_receipts:
            return []
        rows, counts = judge(batch.receipts, context, self._limits)
        for result, receipts in (counts + batch.bad_receipts).items():
            self._metrics.receipts[result].inc(receipts)
        return rows

    def _address(self, visit: Visit) -> tuple[str, str]:
        """The client's address, and the form of it that is stored."""
        client = visit.scope.get("client")
        peer = client[0] if client else ""
        trusted = self._settings.trusted_proxies
        forwarded = visit.all_of(b"x-forwarded-for") if trusted and b"x-forwarded-for" in visit.headers else ""
        known = self._addresses.get((peer, forwarded))
        if known is None:
            address = client_address(peer, forwarded, trusted)
            known = address, cut_address(address, keep_full=self._settings.keep_full_address)
            if len(forwarded) < _AGENT_CHARACTERS:
                if len(self._addresses) >= _KEPT_ANSWERS:
                    self._addresses.clear()
                self._addresses[peer, forwarded] = known
        return known

    def _context(self, visit: Visit, principal: auth.Principal, batch: Batch, stored_address: str) -> RequestContext:
        agent = visit.header(b"user-agent")[:_AGENT_CHARACTERS]
        received = self._clock.milliseconds()
        sent, token = batch.envelope.sent_at, batch.envelope.token
        return RequestContext(
            tenancy=principal.tenancy,
            server_key=principal.may(Permission.VOUCH),
            subject=self.tokens.subject(token) if token else None,
            received_milliseconds=received,
            skew_milliseconds=clock_skew(received, None if sent is None else milliseconds_of(sent)),
            ip_address=stored_address,
            user_agent=agent,
            is_bot=self._is_bot(agent),
        )

    def _is_bot(self, agent: str) -> bool:
        """Bots are marked, not dropped. A pattern of a thousand crawlers is slow, so answers are kept."""
        known = self._bots.get(agent)
        if known is None:
            if len(self._bots) >= _KEPT_ANSWERS:
                self._bots.clear()
            known = self._bots[agent] = bool(agent) and ("HeadlessChrome" in agent or self._crawlers.isCrawler(agent))
        return known


def _id(batch: Batch, index: int) -> str | None:
    element = batch.elements[index]
    return str(element.event_id) if isinstance(element, WireEvent) else batch.ids[index]


def _matches(wanted: str, tag: str) -> bool:
    """Whether an If-None-Match names the tag; what a proxy compressed on the way has a weak one."""
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in wanted.split(","))
