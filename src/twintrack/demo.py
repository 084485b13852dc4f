"""The demo: its page's configuration, a vendor sandbox that speaks Statsig's wire format, and the printed sign-in link.

Exists only under `serve --demo`, which binds loopback only. The sandbox records what arrives, in memory, bounded;
it never feeds the store. It can be told to fail, drop, double and delay while it runs.
"""

import asyncio
import gzip
import json
import random
import secrets
from collections import OrderedDict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse, RedirectResponse

from twintrack.access.admission import Admission
from twintrack.auth import Role
from twintrack.clock import Clock, iso
from twintrack.control.control import Control
from twintrack.control.sessions import Session
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.privacy.audit import SERVICE, Who
from twintrack.privacy.audited import Audited
from twintrack.query.execute import Executor
from twintrack.settings import Settings
from twintrack.spool.protocol import WholeSpool
from twintrack.trace.fate import fate

DEMO = Tenancy("demo", "local")
_MOST_RECORDED = 5_000
_MOST_BODY_BYTES = 1 << 20


Part = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """How badly the sandbox behaves; each part of 0 to 1 by chance. Without faults it takes everything once, at once."""

    fail: Part = 0  # of requests: answered 500, nothing taken
    drop: Part = 0  # of events: answered as taken, but lost
    double: Part = 0  # of events: taken twice
    delay_milliseconds: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0  # before a request is taken and answered


class Sandbox:
    """What stands in for Statsig without internet: takes real client requests and remembers them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.faults = Faults()
        self._chance = random.Random()  # noqa: S311 nothing secret: which request fails
        self._recorded: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._next = 0

    async def take(self, body: bytes) -> bool:
        """Takes a request as the faults have it; whether it is answered as taken.

        Raises: RequestError for a body that is not Statsig's format.
        """
        faults = self.faults
        if faults.delay_milliseconds:
            await asyncio.sleep(faults.delay_milliseconds / 1000)
        if self._falls(faults.fail):
            return False
        self._record(body, faults)
        return True

    def _falls(self, part: float) -> bool:
        return self._chance.random() < part

    def _record(self, body: bytes, faults: Faults) -> None:
        try:
            if body[:2] == b"\x1f\x8b":
                body = gzip.decompress(body)
            events = json.loads(body)["events"]
            for event in events:
                metadata = event.get("metadata") or {}
                taken = {
                    "event_id": metadata.get("event_id"),
                    "event_name": event["eventName"],
                    "value": event.get("value"),
                    "metadata": metadata,
                    "received_at": iso(self._clock.milliseconds()),
                }
                if self._falls(faults.drop):
                    continue
                for _ in range(1 + self._falls(faults.double)):
                    self._recorded[self._next] = taken
                    self._next += 1
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            raise RequestError(
                "the body is not a Statsig log_event request", hint="point the real client here", code="not_statsig"
            ) from error
        while len(self._recorded) > _MOST_RECORDED:
            self._recorded.popitem(last=False)

    def events(self, event_id: str | None) -> list[dict[str, Any]]:
        return [e for e in self._recorded.values() if event_id is None or e["event_id"] == event_id]


def demo_write_key(control: Control) -> str:
    """The demo project's public write key, the same at every start."""
    control.ensure_project(DEMO.project)
    for key in control.list_keys(DEMO.project):
        if key["role"] == Role.WRITE and key["environment"] == DEMO.environment and key["revoked_at"] is None:
            return str(key["write_key"])
    return control.create_key(Role.WRITE, DEMO.project, DEMO.environment)


class SignInLink:
    """One link for one session; it is worth nothing after its first use."""

    def __init__(self) -> None:
        self.token: str | None = secrets.token_urlsafe(24)

    def use(self, token: str) -> bool:
        if self.token is None or not secrets.compare_digest(self.token.encode(), token.encode()):
            return False
        self.token = None
        return True


def demo_routes(
    control: Control,
    settings: Settings,
    spool: WholeSpool,
    executor: Executor,
    clock: Clock,
    admission: Admission,
    link: SignInLink,
    audited: Audited,
) -> APIRouter:
    router = APIRouter(tags=["demo"], include_in_schema=False)
    sandbox = Sandbox(clock)
    write_key = demo_write_key(control)

    @router.get("/sign-in")
    def sign_in(token: str, request: Request) -> Response:
        if not link.use(token):
            return RedirectResponse("/?link=used", 303)
        with audited.audit.change(
            SERVICE._replace(**DEMO._asdict()), "key.create", where=audited.where(request)
        ) as told:
            owner = control.create_key(Role.OWNER, DEMO.project, DEMO.environment)
            principal = control.principal(owner)
            assert principal is not None
            told.update(key=principal.key_id, role=principal.role.value)
        audited.audit.record(Who.of(principal), "session.open", where=audited.where(request))
        response = RedirectResponse("/", 303)
        session = Session(principal.key_id, "", principal.tenancy)
        admission.set_cookie(response, request, control.sessions.open(session, settings.session_days))
        return response

    @router.get("/demo/config.json")
    def config() -> dict[str, Any]:
        vendor = "/demo/vendor/v1"
        return {
            "write_key": write_key,
            "endpoint": "/api/analytics/events",
            "statsig": {
                "sdk_key": "client-demo",
                "log_event_url": f"{vendor}/rgstr",
                "initialize_url": f"{vendor}/initialize",
                "exception_url": f"{vendor}/sdk_exception",
            },
        }

    @router.get("/demo/trace/{event_id}")
    async def trace(event_id: str) -> dict[str, Any]:
        try:
            return await fate(event_id, DEMO, spool, executor)
        except RequestError as error:
            if error.code != "outside_the_record":
                raise
            # The panel asks before the SDK has sent; a 404 would fill the browser's console with false alarms.
            return {"event_id": event_id, "fate": "not_arrived", "reason": None, "event": None, "masked": []}

    @router.post("/demo/vendor/v1/rgstr")
    async def rgstr(request: Request) -> Response:
        body = await request.body()
        if len(body) > _MOST_BODY_BYTES:
            raise RequestError(
                "the body is larger than 1 MiB", hint="send fewer events", code="body_too_large", status=413
            )
        if not await sandbox.take(body):
            return JSONResponse({"success": False}, 500)
        return JSONResponse({"success": True}, 202)

    @router.post("/demo/vendor/v1/initialize")
    async def initialize() -> dict[str, Any]:
        return {
            "has_updates": True,
            "time": 1,
            "feature_gates": {},
            "dynamic_configs": {},
            "layer_configs": {},
            "hash_used": "djb2",
        }

    @router.post("/demo/vendor/v1/sdk_exception")
    async def sdk_exception() -> dict[str, Any]:
        return {"success": True}

    @router.get("/demo/vendor/events")
    def recorded(event_id: str | None = None) -> dict[str, Any]:
        return {"events": sandbox.events(event_id)}

    @router.get("/demo/vendor/faults")
    def faults() -> dict[str, Any]:
        return dict(msgspec.structs.asdict(sandbox.faults))

    @router.put("/demo/vendor/faults")
    async def set_faults(request: Request) -> dict[str, Any]:
        """Takes the place of all faults before; `{}` ends them."""
        try:
            sandbox.faults = msgspec.json.decode(await request.body(), type=Faults)
        except msgspec.DecodeError as error:
            raise RequestError(
                str(error), hint="fail, drop and double are 0 to 1, delay_milliseconds 0 to 60000", code="bad_faults"
            ) from error
        return faults()

    return router
