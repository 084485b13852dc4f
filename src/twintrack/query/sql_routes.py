"""SQL beside its answer: explained before it runs, and kept under a name."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.control.saved import MOST_SAVED, Saved, SavedQueries
from twintrack.errors import RequestError
from twintrack.permissions import Permission, hidden_from
from twintrack.privacy.audit import Who
from twintrack.privacy.audited import Audited
from twintrack.privacy.shape import shape
from twintrack.query.execute import Executor
from twintrack.query.guard import scope
from twintrack.query.listening import while_listening
from twintrack.query.routes import SqlRequest
from twintrack.query.written import answered


class SaveRequest(BaseModel):
    """A statement under a name. It is judged when it is saved, and again each time it runs."""

    model_config = ConfigDict(extra="forbid")
    sql: str = Field(max_length=50_000)
    description: str = Field("", max_length=1_000)


class RunRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parameters: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


def sql_routes(executor: Executor, saved: SavedQueries, admission: Admission, audited: Audited) -> APIRouter:
    router = APIRouter(tags=["query"])
    asker = Annotated[auth.Principal, Depends(admission.may(Permission.SQL))]

    @router.post(
        "/api/analytics/sql/explain", summary="How the engine would run one SELECT: parts and keys it would read"
    )
    async def explain(body: SqlRequest, request: Request, principal: asker) -> dict[str, Any]:
        async with audited.read(request, principal, "sql.explain", {"sql": shape(body.sql)}):
            work = executor.explain(
                body.sql,
                body.parameters,
                principal.tenancy,
                hidden=hidden_from(principal.role),
                asker=principal.key_id,
            )
            return await while_listening(request, work)

    @router.get("/api/analytics/saved", summary="The project's saved queries")
    def listed(principal: asker) -> dict[str, Any]:
        return {"saved": [one._asdict() for one in saved.all(principal.tenancy.project)], "most": MOST_SAVED}

    @router.put("/api/analytics/saved/{name}", summary="Keep one SELECT under a name")
    def keep(name: str, body: SaveRequest, request: Request, principal: asker) -> dict[str, Any]:
        scope(body.sql, principal.tenancy, hidden=hidden_from(principal.role))
        # Not the name: the log is never changed, and a name may be a person's.
        audited.audit.record(
            Who.of(principal), "saved.put", where=audited.where(request), detail={"sql": shape(body.sql)}
        )
        return saved.put(Saved(name, body.sql, body.description), principal.tenancy.project)._asdict()

    @router.delete("/api/analytics/saved/{name}", status_code=204, summary="Forget a saved query")
    def forget(name: str, request: Request, principal: asker) -> Response:
        audited.audit.record(Who.of(principal), "saved.delete", where=audited.where(request))
        saved.remove(principal.tenancy.project, name)
        return Response(status_code=204)

    @router.post("/api/analytics/saved/{name}", summary="Run a saved query", response_model=None)
    async def run(name: str, body: RunRequest, request: Request, principal: asker) -> Response:
        one = saved.get(principal.tenancy.project, name)
        if one is None:
            raise RequestError("there is no saved query of that name", hint="GET /api/analytics/saved", status=404)
        async with audited.read(request, principal, "sql.saved", {"sql": shape(one.sql)}) as read:
            work = executor.sql(
                one.sql,
                body.parameters,
                principal.tenancy,
                hidden=hidden_from(principal.role),
                asker=principal.key_id,
            )
            answer = await while_listening(request, work)
            read.rows = len(answer["rows"])
        return await answered(answer)

    return router
