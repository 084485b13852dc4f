"""The HTTP half of ingest: `POST /api/analytics/events`. An answer of 200 means that the events are on disk.

Order: size, key of the header, inflate, decode, key of the envelope, then the pipeline event by event, the spool,
the answer. The rest of an event's way: decode, validate, enrich, mask, pipeline.
"""

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from crawlerdetect import CrawlerDetect
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from twintrack import auth
from twintrack.clock import Clock, milliseconds_of, month_of
from twintrack.control.control import Control
from twintrack.errors import RequestError, TwintrackError, Unavailable
from twintrack.event import ReceiptRow, RequestContext, WireEvent, WireReceipt, limits
from twintrack.ingest.decode import Batch, decode, inflate
from twintrack.ingest.enrich import client_address, clock_skew, cut_address
from twintrack.ingest.pipeline import Rules, prepare
from twintrack.metrics import Metrics
from twintrack.outcomes import Reason, Refusal, Status
from twintrack.settings import Settings
from twintrack.spool.protocol import Delivery, Refused, Slab, Spool

log = structlog.get_logger()
_ENCODER = msgspec.json.Encoder()
_RECEIPT_STATUSES = frozenset({"handed", "delivered", "failed", "absent", "blocked"})
_TYPES = frozenset({"application/json", "text/plain", ""})
_AGENT_CHARACTERS = 512
# A browser that is older than the server's clock by more than this sends nonsense, not a receipt.
_BODY_SECONDS = 30.0
_TURN_EVENTS = 500
_ALREADY_ACCEPTED = Refusal(
    Status.DUPLICATE, Reason.ALREADY_ACCEPTED, "this event_id was accepted before; nothing more to do"
)


class Receiver:
    def __init__(self, settings: Settings, control: Control, spool: Spool, clock: Clock, metrics: Metrics) -> None:
        self._settings, self._control, self._spool = settings, control, spool
        self._clock, self._metrics = clock, metrics
        self._limits = limits()
        self._origins = [o.strip() for o in settings.allowed_origins.split(",") if o.strip()]
        self._crawlers = CrawlerDetect()
        self._bots: dict[str, bool] = {}
        self._busy = 0
        self._accepted = metrics.events.labels(Status.ACCEPTED, "")

    async def events(self, request: Request) -> Response:
        """One batch: every event of it gets exactly one of five statuses."""
        started = self._clock.monotonic_seconds()
        if self._busy >= self._settings.ingest_concurrency:
            return self.error(request, Unavailable("too many requests at once", hint="send again in a moment"))
        self._busy += 1
        try:
            answer = await self._accept(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except TwintrackError as error:
            return self.error(request, error)
        finally:
            self._busy -= 1
        self._metrics.acknowledge_seconds.observe(self._clock.monotonic_seconds() - started)
        return Response(_ENCODER.encode(answer), media_type="application/json", headers=self._cors(request))

    async def config(self, request: Request) -> Response:
        """The configuration that a client polls: version, kill switch, share."""
        try:
            principal = self._principal(self._header_key(request) or "")
        except TwintrackError as error:
            return self.error(request, error)
        project = self._control.project(principal.tenancy.project)
        body = {"version": project.config_version, "kill": project.kill, "share": project.share}
        tag = f'"{project.config_version}-{int(project.kill)}-{project.share}"'
        headers = {**self._cors(request), "ETag": tag, "Cache-Control": "private, max-age=30"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(_ENCODER.encode(body), media_type="application/json", headers=headers)

    async def preflight(self, request: Request) -> Response:
        return Response(
            status_code=204,
            headers=self._cors(request)
            | {
                "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
                "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, x-write-key",
                "Access-Control-Max-Age": "86400",
            },
        )

    def error(self, request: Request, error: TwintrackError) -> Response:
        headers = self._cors(request)
        if isinstance(error, Unavailable):
            headers["Retry-After"] = str(error.retry_after_seconds)
        return Response(_ENCODER.encode(error.body()), error.status, media_type="application/json", headers=headers)

    def _cors(self, request: Request) -> dict[str, str]:
        """Never with credentials: ingest ignores cookies."""
        origin = request.headers.get("origin")
        if origin is None or not ("*" in self._origins or origin in self._origins):
            return {}
        return {"Access-Control-Allow-Origin": "*" if "*" in self._origins else origin, "Vary": "Origin"}

    @staticmethod
    def _header_key(request: Request) -> str | None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            return value.strip()
        return request.headers.get("x-write-key") or None

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
                "the key is unknown or revoked",
                hint="`twintrack keys list` shows the live keys",
                code="unknown_key",
                status=401,
            )
        if principal.role not in auth.MAY_SEND:
            raise RequestError(
                f"a {principal.role} key cannot send events",
                hint="use a write or server key",
                code="wrong_role",
                status=403,
            )
        return principal

    async def _body(self, request: Request) -> bytes:
        most = self._limits.body_bytes
        too_large = RequestError(
            f"the body is larger than {most} bytes (body_bytes)",
            hint="send smaller batches, or compress them",
            code="body_too_large",
            status=413,
        )
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError as error:
            raise RequestError(
                f"the body did not arrive within {_BODY_SECONDS:.0f} seconds",
                hint="send smaller batches",
                code="body_too_slow",
                status=408,
            ) from error
        return b"".join(parts)

    async def _accept(self, request: Request) -> dict[str, Any]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise RequestError(
                "the body must be application/json or text/plain",
                hint="set Content-Type",
                code="unsupported_type",
                status=415,
            )
        header_key = self._header_key(request)
        principal = self._principal(header_key) if header_key else None
        body = await self._body(request)
        received = self._clock.milliseconds()
        plain = inflate(body, request.headers.get("content-encoding", "").strip().lower(), self._limits)
        batch = decode(plain, self._limits)
        envelope = batch.envelope
        if principal is None:
            principal = self._principal(envelope.key or request.query_params.get("write_key", ""))
        context = self._context(request, principal, envelope.token or "", received, batch)
        return await self._deliver(batch, context)

    def _context(
        self, request: Request, principal: auth.Principal, token: str, received: int, batch: Batch
    ) -> RequestContext:
        agent = request.headers.get("user-agent", "")[:_AGENT_CHARACTERS]
        peer = request.client.host if request.client else ""
        address = client_address(peer, request.headers.get("x-forwarded-for", ""), self._settings.trusted_proxies)
        sent = batch.envelope.sent_at
        return RequestContext(
            tenancy=principal.tenancy,
            server_key=principal.role is auth.Role.SERVER,
            subject=auth.subject_of(token, self._settings.jwt_secret.get_secret_value(), received),
            received_milliseconds=received,
            skew_milliseconds=clock_skew(received, None if sent is None else milliseconds_of(sent)),
            ip_address=cut_address(address, keep_full=self._settings.keep_full_address),
            user_agent=agent,
            is_bot=self._is_bot(agent),
        )

    def _is_bot(self, agent: str) -> bool:
        """Bots are marked, not dropped. A pattern of a thousand crawlers is slow, so answers are kept."""
        known = self._bots.get(agent)
        if known is None:
            if len(self._bots) > 10_000:
                self._bots.clear()
            known = self._bots[agent] = bool(agent) and ("HeadlessChrome" in agent or self._crawlers.isCrawler(agent))
        return known

    def _rules(self, project_name: str) -> Rules:
        project = self._control.project(project_name)
        return Rules(
            self._limits,
            project.secret,
            project.kill,
            self._settings.require_verified_ids,
            self._settings.masking,
            self._settings.id_window_days,
        )

    async def _deliver(self, batch: Batch, context: RequestContext) -> dict[str, Any]:
        rules = self._rules(context.tenancy.project)
        slabs: list[Slab] = []
        places: list[int] = []
        refusals: dict[int, Refusal] = {}
        for start in range(0, len(batch.elements), _TURN_EVENTS):
            if start:
                await asyncio.sleep(0)  # a large batch does not hold up its neighbours
            prepared = prepare(batch.elements[start : start + _TURN_EVENTS], context, rules)
            slabs += prepared.slabs
            places += [start + place for place in prepared.places]
            refusals.update((start + place, refusal) for place, refusal in prepared.refusals.items())
        refused = [
            Refused(self._id(batch, index) or "", refusal.status, refusal.reason) for index, refusal in refusals.items()
        ]
        receipts = self._receipts(batch.receipts, context)
        fresh: list[bool] = []
        if slabs or refused or receipts:
            fresh = await self._spool.append(
                Delivery(context.tenancy, context.received_milliseconds, slabs, refused, receipts)
            )
        for place, new in zip(places, fresh, strict=True):
            if not new:
                refusals[place] = _ALREADY_ACCEPTED
        if batch.unknown_fields:
            self._metrics.unknown_fields.inc(batch.unknown_fields)
        return self._answer(batch, refusals, rules, context)

    @staticmethod
    def _id(batch: Batch, index: int) -> str | None:
        element = batch.elements[index]
        return str(element.event_id) if isinstance(element, WireEvent) else batch.ids[index]

    def _receipts(self, receipts: list[WireReceipt], context: RequestContext) -> list[tuple[int, bytes]]:
        """(month, row) of receipts; what no vendor of ours can have sent is left out."""
        rows = []
        for receipt in receipts:
            at = milliseconds_of(receipt.at) + context.skew_milliseconds
            if (
                receipt.vendor in ("statsig", "gtm")
                and receipt.status in _RECEIPT_STATUSES
                and abs(context.received_milliseconds - at) < self._limits.event_age_days * 86_400_000
            ):
                row = ReceiptRow(
                    context.tenancy.project,
                    context.tenancy.environment,
                    receipt.event_id,
                    receipt.vendor,
                    receipt.status,
                    at / 1000,
                    context.received_milliseconds / 1000,
                )
                rows.append((month_of(row.at), _ENCODER.encode(row)))
        return rows

    def _answer(
        self, batch: Batch, verdicts: dict[int, Refusal], rules: Rules, context: RequestContext
    ) -> dict[str, Any]:
        """The answer: `results` has every event that is not accepted."""
        counts = dict.fromkeys(Status, 0)
        counts[Status.ACCEPTED] = len(batch.elements) - len(verdicts)
        results = []
        for index, (status, code, message) in sorted(verdicts.items()):
            counts[status] += 1
            results.append(
                {
                    "index": index,
                    "event_id": self._id(batch, index),
                    "status": status,
                    "code": code,
                    "message": message,
                }
            )
            self._metrics.events.labels(status, code).inc()
        if counts[Status.ACCEPTED]:
            self._accepted.inc(counts[Status.ACCEPTED])
        log.info("batch", project=context.tenancy.project, **{s.value: n for s, n in counts.items()})
        project = self._control.project(context.tenancy.project)
        return {
            "batch_id": (batch.envelope.batch_id or uuid4().hex)[:100],
            **{s.value: n for s, n in counts.items()},
            "results": results,
            "config": {"version": project.config_version, "kill": rules.kill},
        }
