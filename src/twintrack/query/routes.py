"""The HTTP half of reading: SQL. Nothing here can write an event."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from twintrack.access.admission import Admission
from twintrack.auth import Principal
from twintrack.permissions import Permission, hidden_from
from twintrack.privacy.audited import Audited
from twintrack.privacy.shape import shape
from twintrack.query.execute import Executor


class SqlRequest(BaseModel):
    """One SELECT over the readable tables; `{name:Type}` in it takes a parameter."""

    model_config = ConfigDict(extra="forbid")
    sql: str = Field(description="One SELECT.", max_length=50_000)
    parameters: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="Values of `{name:Type}` in the statement."
    )


def query_routes(executor: Executor, admission: Admission, audited: Audited) -> APIRouter:
    router = APIRouter(tags=["query"])

    @router.post("/api/analytics/sql", summary="Run one SELECT, scoped to the key's project and environment")
    async def sql(
        body: SqlRequest,
        request: Request,
        principal: Annotated[Principal, Depends(admission.may(Permission.SQL))],
    ) -> dict[str, Any]:
        async with audited.read(request, principal, "sql", {"sql": shape(body.sql)}) as read:
            answer = await executor.sql(
                body.sql, body.parameters, principal.tenancy, hidden=hidden_from(principal.role)
            )
            read.rows = len(answer["rows"])
        return answer

    return router
