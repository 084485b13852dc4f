"""The composition root: settings to services to one ASGI application. Nothing else wires parts together."""

import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twintrack import __version__
from twintrack.access.admission import Admission
from twintrack.access.guesses import Guesses
from twintrack.access.people_routes import people_routes
from twintrack.access.session_routes import session_routes
from twintrack.backup.place import settle
from twintrack.backup.snapshot import clear
from twintrack.clock import Clock, SystemClock, boot_id
from twintrack.control.control import Control
from twintrack.control.person_keys import PersonKeys, are_there
from twintrack.control.saved import SavedQueries
from twintrack.crash import crash_at
from twintrack.demo import SignInLink, demo_routes
from twintrack.errors import DataFolderInUse, RequestError, SettingsError, TwintrackError, Unavailable
from twintrack.event import Tenancy
from twintrack.ingest.openapi import describe_ingest
from twintrack.ingest.receive import Receiver
from twintrack.invalid import told
from twintrack.load.loader import Loader
from twintrack.metrics import Metrics
from twintrack.permissions import Permission
from twintrack.privacy.audit import Audit
from twintrack.privacy.audited import Audited, audit_routes
from twintrack.privacy.consents import consent_routes
from twintrack.privacy.erase import Eraser
from twintrack.privacy.export import Exporter
from twintrack.privacy.masking import masking_routes
from twintrack.privacy.retention import retention_routes
from twintrack.privacy.routes import privacy_routes
from twintrack.privacy.subject import forms_in
from twintrack.privacy.vendors import GTM, Statsig
from twintrack.query.answer import Answers
from twintrack.query.cohort_routes import cohort_routes
from twintrack.query.execute import Executor
from twintrack.query.kind_routes import kind_routes
from twintrack.query.routes import query_routes
from twintrack.query.sealed import Sealed
from twintrack.query.sql_routes import sql_routes
from twintrack.settings import Settings
from twintrack.spans import Spans, exported_spans
from twintrack.spool.kafka.broker import Address, Broker
from twintrack.spool.kafka.spool import KafkaSpool
from twintrack.spool.local import LocalSpool, SpoolSizes
from twintrack.spool.protocol import WholeSpool
from twintrack.store.embedded import open_store
from twintrack.store.migrate import migrate
from twintrack.store.protocol import Store
from twintrack.trace.routes import trace_routes

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_ONLY_TLS = (b"strict-transport-security", b"max-age=31536000")
EVENTS_PATH = "/api/analytics/events"
_STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a running Twintrack is made of."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    control: Control
    store: Store
    spool: WholeSpool
    loader: Loader
    eraser: Eraser
    exporter: Exporter
    executor: Executor
    answers: Answers
    receiver: Receiver
    spans: Spans | None
    started_milliseconds: int
    audit: Audit
    person_keys: PersonKeys | None  # None where nobody seals under keys of people, nor ever did
    sealed: Sealed  # what readers must know of texts under keys of people, also where only older ones are

    def close(self) -> None:
        """Drains: what is accepted is loaded, then every file is closed and the folder marked clean."""
        self.executor.close()
        self.receiver.maskers.stop()
        self.receiver.tokens.close()
        self.loader.stop()
        self.spool.close()
        self.store.close()
        self.audit.close()
        if self.person_keys is not None:
            self.person_keys.close()
        self.control.close()
        if self.spans is not None:
            self.spans.close()


def lock_folder(data: Path, wait_seconds: float) -> int:
    """The data folder's lock; held until its descriptor is closed or the process ends, however it ends.

    Raises: DataFolderInUse when another process holds it for longer than `wait_seconds`.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError as error:
            if time.monotonic() >= until:
                os.close(handle)
                raise DataFolderInUse(
                    f"another twintrack uses {data}", hint="stop it, or give this one its own --data"
                ) from error
            time.sleep(0.05)


def open_spool(
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    reached: Callable[[str], None],
    control: Control,
) -> WholeSpool:
    """The spool that `TWINTRACK_SPOOL` names. Raises: SettingsError, SpoolFormat, Unavailable."""
    sizes = SpoolSizes(
        settings.index_bytes,
        settings.spool_bytes,
        settings.segment_bytes,
        settings.disk_reserve_bytes,
        settings.chunk_rows,
        settings.chunk_grace_seconds,
        settings.chunk_grace_bytes,
        settings.id_window_days,
    )
    if settings.spool == "local":
        boot, keys = settings.boot or boot_id(), control.data_keys
        folder, marks_of = settings.data / "spool", control.tombstones
        return LocalSpool(folder, clock, metrics, sizes, boot=boot, reached=reached, marks_of=marks_of, keys=keys)
    return KafkaSpool(
        settings.data / "kafka",
        Broker(Address.of(settings.spool), settings.kafka_properties),
        settings.control_url,
        clock,
        metrics,
        sizes,
        timeout_seconds=settings.kafka_timeout_seconds,
        catch_up_messages=settings.kafka_catch_up_messages,
        rights=control,
        keys=control.data_keys,
    )


def build(
    settings: Settings, clock: Clock | None = None, spans: Spans | None = None, *, only_load: bool = False
) -> Services:
    """Opens control, store and spool of a data folder and starts the loader. The caller holds the folder's lock.

    `spans` beats what the settings say.
    """
    if settings.spool == "local" and not settings.load:
        raise SettingsError("a local spool is loaded by its own node", hint="TWINTRACK_LOAD=false needs kafka://...")
    clock = clock or SystemClock()
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    settle(settings.data)
    clear(settings)
    metrics = Metrics()
    spans = spans or (exported_spans(clock) if settings.spans else None)
    control = Control(settings.control_url, clock, settings.key_ring)
    audit = Audit(settings.data / "audit", clock)
    control.sessions.idle_milliseconds = settings.session_idle_minutes * 60_000
    store = open_store(settings, metrics.engine_deaths.inc)
    if store.engine == "chdb":
        migrate(store)
    reached = crash_at(settings.crash_point)
    person_keys = None
    # Over a control database of several nodes another one may seal, or begin to: then we open and destroy all the same.
    if control.data_keys is not None and (settings.sealed or settings.control or are_there(settings.person_keys_url)):
        person_keys = PersonKeys(
            settings.person_keys_url,
            control.data_keys,
            clock,
            metrics,
            lambda project: control.project(project).secret,
            control.tombstones,
        )
    spool = open_spool(settings, clock, metrics, reached, control)
    statsig = Statsig(settings.statsig_deletion_url, settings.statsig_deletion_key.get_secret_value())
    eraser = Eraser(control, spool, store, clock, (statsig, GTM), settings.id_window_days, reached, person_keys)
    loader = Loader(
        spool,
        store,
        clock,
        metrics,
        age_milliseconds=settings.chunk_age_milliseconds,
        chunk_rows=settings.chunk_rows,
        backoff_seconds=settings.store_backoff_seconds,
        reached=reached,
        spans=spans,
        erase=eraser.step,
        policies=control.retention.policies,
    )
    receiver = Receiver(settings, control, spool, clock, metrics, spans, person_keys)
    receiver.maskers.start(audit.masking_changed)
    if settings.load or only_load:
        loader.start()
    executor = Executor(store, settings, metrics)
    fields = settings.sealed.names if settings.sealed else frozenset()
    sealed = Sealed(fields, person_keys.opened if person_keys else None)
    return Services(
        settings,
        clock,
        metrics,
        control,
        store,
        spool,
        loader,
        eraser,
        Exporter(control, spool, store, clock, settings.data, person_keys),
        executor,
        Answers(
            executor,
            clock,
            control.cohorts.all,
            settings.query_cache_answers,
            spool.complete_since,
            sealed,
            partial(forms_in, control),
        ),
        receiver,
        spans,
        clock.milliseconds(),
        audit,
        person_keys,
        sealed,
    )


def create_app(services: Services, *, demo_link: SignInLink | None = None) -> FastAPI:
    """The public application over running services. Whoever built them closes them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = _Application(
        services.receiver,
        title="Twintrack",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    _errors(app)
    receiver = services.receiver
    app.add_route("/api/analytics/config", receiver.config, methods=["GET"])
    for path in (EVENTS_PATH, "/api/analytics/config"):
        app.add_route(path, receiver.preflight, methods=["OPTIONS"])
    app.add_route(EVENTS_PATH, _only_post, methods=["GET", "HEAD", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    control, settings = services.control, services.settings
    admission = Admission(control, settings, services.metrics)
    audited = Audited(services.audit, settings)
    guesses = Guesses(services.clock)
    app.include_router(session_routes(control, settings, admission, guesses, audited, demo=demo_link is not None))
    app.include_router(people_routes(control, settings, admission, services.clock, audited))
    app.include_router(query_routes(services.executor, admission, audited))
    saved = SavedQueries(control.engine, services.clock)
    app.include_router(sql_routes(services.executor, saved, admission, audited))
    app.include_router(
        kind_routes(services.answers, services.executor, services.clock, admission, audited, services.sealed)
    )
    app.include_router(
        cohort_routes(
            control.cohorts, admission, audited, services.clock, partial(_stored_form, services), services.sealed
        )
    )
    app.include_router(audit_routes(audited, admission.may(Permission.AUDIT)))
    app.include_router(privacy_routes(services.eraser, services.exporter, control, admission, audited))
    app.include_router(
        trace_routes(
            services.spool,
            services.loader,
            services.executor,
            services.clock,
            services.metrics,
            services.store.engine,
            admission,
            services.started_milliseconds,
            audited,
            services.sealed,
        )
    )
    app.include_router(retention_routes(services, admission, audited))
    app.include_router(masking_routes(receiver.maskers, admission))
    app.include_router(consent_routes(control, services.executor, services.clock, admission, audited))
    if demo_link is not None:
        app.include_router(
            demo_routes(
                services.control,
                services.settings,
                services.spool,
                services.executor,
                services.clock,
                admission,
                demo_link,
                audited,
            )
        )
    _health(app, services)
    _pages(app, demo=demo_link is not None)
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe_ingest(generated(), services.settings.limits)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _stored_form(services: Services, tenancy: Tenancy, identifier: str) -> str:
    """An identifier as its rows hold it."""
    masker = services.receiver.maskers.of(tenancy.environment)
    secret = services.control.project(tenancy.project).secret
    return masker.stored_identifier(identifier, secret)[0] if masker else identifier


def _errors(app: FastAPI) -> None:
    @app.exception_handler(TwintrackError)
    async def ours(_: Request, error: TwintrackError) -> Response:
        headers = {"Retry-After": str(error.retry_after_seconds)} if isinstance(error, Unavailable) else None
        return JSONResponse(error.body(), error.status, headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        body = RequestError(
            str(error.detail), hint="docs/reference/http.md lists every path", code=_code(error.status_code)
        )
        return JSONResponse(body.body(), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        asked = request.url.path.startswith("/api/analytics/query/")
        hint = "docs/questions.md has examples, /openapi.json every field" if asked else "see /openapi.json"
        return JSONResponse(RequestError(told(error.errors()), hint=hint, code="invalid").body(), 422)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return JSONResponse(TwintrackError("something went wrong here", hint="see the service's log").body(), 500)

    app.add_middleware(_SecurityHeaders)


async def _only_post(_: Request) -> Response:
    error = RequestError(
        "events are sent by POST", hint="docs/reference/http.md", code="method_not_allowed", status=405
    )
    return JSONResponse(error.body(), error.status, {"Allow": "POST, OPTIONS"})


class _Application(FastAPI):
    """Answers ingest before any middleware and routing: they were half of a small request's cost."""

    def __init__(self, receiver: Receiver, **more: Any) -> None:
        super().__init__(**more)
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == EVENTS_PATH and scope["method"] == "POST":
            await self._receiver(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _SecurityHeaders:
    """Adds our headers to every answer that does not set them itself. Plain ASGI: it stands on the hot path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [*_HEADERS, _ONLY_TLS] if scope["scheme"] == "https" else _HEADERS
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, with_headers)


def _code(status: int) -> str:
    return {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")


def _health(app: FastAPI, services: Services) -> None:
    @app.get("/healthz", tags=["health"], summary="The process answers")
    def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/readyz", tags=["health"], summary="Whether an event can be accepted durably", response_model=None)
    def readyz() -> Response:
        reason = services.spool.why_not_ready()
        body = {
            "ready": not reason,
            "reason": reason or None,
            "spool": services.spool.works() if isinstance(services.spool, KafkaSpool) else {"kind": "local"},
            "store": {"engine": services.store.engine, **services.loader.condition()},
        }
        return JSONResponse(body, 503 if reason else 200)

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_model=None)
    def metrics() -> Response:
        _gauge(services)
        return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _gauge(services: Services) -> None:
    """Reads what is a level, not a count."""
    metrics, depth, sizes = services.metrics, services.spool.depth(), services.spool.sizes()
    now = services.clock.milliseconds()
    oldest = depth.oldest_milliseconds
    metrics.in_spool.set(depth.events)
    metrics.breaker_open.set(services.loader.condition()["state"] != "loading")
    metrics.lag_seconds.set(0 if oldest is None else max(0, now - oldest) / 1000)
    metrics.log_bytes.set(sizes.log_bytes)
    metrics.chunk_bytes.set(sizes.chunk_bytes)
    metrics.quarantine_bytes.set(sizes.quarantine_bytes)
    metrics.index_entries.set(sizes.index_entries)
    metrics.index_bytes.set(sizes.index_bytes)
    metrics.buffer_bytes.set(services.receiver.buffer.held)
    metrics.waiting_requests.set(services.receiver.waiting)
    head = services.audit.head()
    metrics.audit_sequence.set(head.sequence)
    metrics.audit_head.set(head.number)
    metrics.audit_failures.set(services.audit.failures)
    metrics.masking_rules_refused.set(bool(services.receiver.maskers.fault))


def _pages(app: FastAPI, *, demo: bool) -> None:
    """The built pages. Hashed files may be kept for ever, the pages that name them may not."""
    for name, prefix in (("demo", "/demo"), ("dashboard", "")):
        folder = _STATIC / name
        if not (folder / "index.html").exists() or (name == "demo" and not demo):
            continue
        app.mount(f"{prefix}/assets", _Assets(directory=folder / "assets"), name=f"{name}-assets")

        async def page(request: Request, folder: Path = folder) -> Response:
            path = request.path_params.get("path", "")
            file = folder / path
            if path and "/" not in path and file.suffix in (".js", ".svg", ".png", ".ico", ".txt") and file.is_file():
                return FileResponse(file)
            if path.startswith("api/"):
                raise HTTPException(404, "there is no such path")
            return FileResponse(folder / "index.html", headers={"Cache-Control": "no-cache"})

        if prefix:
            app.add_route(prefix, page, methods=["GET"], include_in_schema=False)
        app.add_route(f"{prefix}/{{path:path}}", page, methods=["GET"], include_in_schema=False)


class _Assets(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
