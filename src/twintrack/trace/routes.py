"""The HTTP half of looking: live events, minutes, the pipeline, one event's fate."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock
from twintrack.load.loader import Loader
from twintrack.metrics import Metrics
from twintrack.permissions import Permission, hidden_from
from twintrack.query.execute import Executor
from twintrack.spool.protocol import WholeSpool
from twintrack.trace.fate import fate
from twintrack.trace.live import activity, live
from twintrack.trace.pipeline_state import pipeline_state


def trace_routes(
    spool: WholeSpool,
    loader: Loader,
    executor: Executor,
    clock: Clock,
    metrics: Metrics,
    engine: str,
    admission: Admission,
    started_milliseconds: int,
) -> APIRouter:
    router = APIRouter(prefix="/api/analytics", tags=["trace"])
    looker = Depends(admission.may(Permission.LOOK))

    @router.get("/live", summary="The last events in the store, newest first")
    async def live_events(
        principal: Annotated[auth.Principal, looker],
        after: Annotated[str, Query(max_length=100)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> dict[str, Any]:
        return await live(principal.tenancy, executor, clock, after, limit, hidden_from(principal.role))

    @router.get("/activity", summary="Events per minute by name")
    async def per_minute(
        principal: Annotated[auth.Principal, looker],
        minutes: Annotated[int, Query(ge=1, le=1440)] = 60,
        top: Annotated[int, Query(ge=1, le=50)] = 8,
    ) -> dict[str, Any]:
        return await activity(principal.tenancy, executor, clock, minutes, top)

    @router.get("/pipeline", summary="What came, what became of it, what is on its way")
    async def state(principal: Annotated[auth.Principal, looker]) -> dict[str, Any]:
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
    async def one(event_id: str, principal: Annotated[auth.Principal, looker]) -> dict[str, Any]:
        return await fate(event_id, principal.tenancy, spool, executor, hidden_from(principal.role))

    return router
