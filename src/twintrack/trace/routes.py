"""The HTTP half of looking: live events, minutes, the pipeline, one event's fate."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock
from twintrack.load.loader import Loader
from twintrack.metrics import Metrics
from twintrack.permissions import Permission, hidden_from
from twintrack.privacy.audited import Audited
from twintrack.query.execute import Executor
from twintrack.query.sealed import NOTHING, Sealed
from twintrack.spool.protocol import WholeSpool
from twintrack.trace.fate import fate
from twintrack.trace.live import activity, live
from twintrack.trace.pipeline_state import pipeline_state


def named_event(event_id: str) -> dict[str, str | int]:
    """The id for the audit log, where it is one: whatever else was typed is not kept."""
    try:
        return {"event_id": str(UUID(event_id))}
    except ValueError:
        return {}


def trace_routes(
    spool: WholeSpool,
    loader: Loader,
    executor: Executor,
    clock: Clock,
    metrics: Metrics,
    engine: str,
    admission: Admission,
    started_milliseconds: int,
    audited: Audited,
    sealed: Sealed = NOTHING,
) -> APIRouter:
    router = APIRouter(prefix="/api/analytics", tags=["trace"])
    looker = Depends(admission.may(Permission.LOOK))

    @router.get("/live", summary="The last events in the store, newest first")
    async def live_events(
        request: Request,
        principal: Annotated[auth.Principal, looker],
        after: Annotated[str, Query(max_length=100)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> dict[str, Any]:
        answer = await live(principal.tenancy, executor, clock, after, limit, hidden_from(principal.role))
        answer["events"] = await sealed.shown(answer["events"], principal)
        await audited.looked(request, principal, "live.read", len(answer["events"]))
        return answer

    @router.get("/activity", summary="Events per minute by name")
    async def per_minute(
        request: Request,
        principal: Annotated[auth.Principal, looker],
        minutes: Annotated[int, Query(ge=1, le=1440)] = 60,
        top: Annotated[int, Query(ge=1, le=50)] = 8,
    ) -> dict[str, Any]:
        await audited.glanced(request, principal, "activity.read")
        return await activity(principal.tenancy, executor, clock, minutes, top)

    @router.get("/pipeline", summary="What came, what became of it, what is on its way")
    async def state(request: Request, principal: Annotated[auth.Principal, looker]) -> dict[str, Any]:
        await audited.glanced(request, principal, "pipeline.read")
        return await pipeline_state(
            spool,
            loader,
            executor,
            clock,
            metrics,
            engine,
            principal.tenancy,
            started_milliseconds,
        )

    @router.get("/events/{event_id}", summary="Where is my event?")
    async def one(event_id: str, request: Request, principal: Annotated[auth.Principal, looker]) -> dict[str, Any]:
        async with audited.read(request, principal, "event.read", named_event(event_id)) as read:
            answer = await fate(event_id, principal.tenancy, spool, executor, hidden_from(principal.role))
            answer["event"] = await sealed.shown(answer["event"], principal)
            read.rows = int(answer["event"] is not None)
        return answer

    return router
