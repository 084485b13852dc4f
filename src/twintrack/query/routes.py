"""The HTTP half of reading: SQL. Nothing here can write an event."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from twintrack.access.admission import Admission
from twintrack.auth import Principal
from twintrack.permissions import Permission, hidden_from
from twintrack.privacy.audit import Detail
from twintrack.privacy.audited import Audited
from twintrack.privacy.shape import shape
from twintrack.query.execute import Executor
from twintrack.query.listening import passed_on, while_allowed, while_listening
from twintrack.query.written import MEDIA, answered


class SqlRequest(BaseModel):
    """One SELECT over the readable tables; `{name:Type}` in it takes a parameter."""

    model_config = ConfigDict(extra="forbid")
    sql: str = Field(description="One SELECT.", max_length=50_000)
    parameters: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="Values of `{name:Type}` in the statement."
    )
    format: Literal["answer", "csv", "json", "parquet"] = Field(
        "answer",
        description="`answer`: one JSON object with columns and rows; else a stream of csv, JSON lines or parquet, which is"
        " cut off where it fails.",
    )


def query_routes(executor: Executor, admission: Admission, audited: Audited) -> APIRouter:
    router = APIRouter(tags=["query"])

    @router.post(
        "/api/analytics/sql", summary="Run one SELECT, scoped to the key's project and environment", response_model=None
    )
    async def sql(
        body: SqlRequest,
        request: Request,
        principal: Annotated[Principal, Depends(admission.may(Permission.SQL))],
    ) -> Any:
        hidden = hidden_from(principal.role)
        if body.format == "answer":
            async with audited.read(request, principal, "sql", {"sql": shape(body.sql)}) as read:
                work = executor.sql(body.sql, body.parameters, principal.tenancy, hidden=hidden, asker=principal.key_id)
                answer = await while_listening(request, work)
                read.rows = len(answer["rows"])
            return await answered(answer)
        admission.check(principal, Permission.EXPORT)
        detail: Detail = {"sql": shape(body.sql), "format": body.format}
        async with audited.read(request, principal, "sql.file", detail, outcome="begun") as read:
            pieces = executor.stream(
                body.sql, body.parameters, body.format, principal.tenancy, hidden=hidden, asker=principal.key_id
            )
            # Before the first piece an error is still an answer of its own.
            first = await while_listening(request, anext(pieces, b""))
        allowed = while_allowed(partial(admission.still, request, principal), passed_on(first, pieces))
        return StreamingResponse(read.passed_on(allowed, body.format), media_type=MEDIA[body.format])

    return router
