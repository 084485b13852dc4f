"""The HTTP half of people's rights. Subjects travel in bodies, never in paths; answers name requests and hashes."""

from contextlib import AbstractContextManager
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.control.control import Control
from twintrack.event import limits
from twintrack.permissions import Permission
from twintrack.privacy.audit import Change, Detail, Who
from twintrack.privacy.audited import Audited
from twintrack.privacy.erase import Eraser
from twintrack.privacy.export import Exporter
from twintrack.privacy.subject import mark_of

_LENGTH = limits().identifier_characters


class SubjectRequest(BaseModel):
    """One person: a user, or the anonymous id of somebody who never signed in."""

    model_config = ConfigDict(extra="forbid")
    user_id: str | None = Field(default=None, max_length=_LENGTH, description="As your application writes it.")
    anonymous_id: str | None = Field(default=None, max_length=_LENGTH, description="As the SDK sends it.")


def zipped(file: IO[bytes]) -> StreamingResponse:
    """The file as an answer that is closed when it is sent, and that nothing on the way may keep."""
    headers = {"Content-Disposition": 'attachment; filename="export.zip"', "Cache-Control": "no-store"}
    pieces = iter(lambda: file.read(1 << 16), b"")
    return StreamingResponse(pieces, 200, headers, "application/zip", BackgroundTask(file.close))


class CertificateRequest(BaseModel):
    certificate: dict[str, Any] = Field(description="The document as it was issued.")


def privacy_routes(
    eraser: Eraser, exporter: Exporter, control: Control, admission: Admission, audited: Audited
) -> APIRouter:
    router = APIRouter(prefix="/api/analytics/privacy", tags=["privacy"])
    officer = Depends(admission.may(Permission.PRIVACY))
    guard = Depends(admission.may(Permission.GUARD))

    def about(
        body: SubjectRequest, asked: Request, principal: auth.Principal, what: str
    ) -> AbstractContextManager[Change]:
        subject = mark_of(control.project(principal.tenancy.project).secret, body.user_id, body.anonymous_id)
        return audited.audit.change(Who.of(principal), what, where=audited.where(asked), subjects=[subject])

    @router.post("/erasures", status_code=202, summary="Erase a person: every row, file and rollup, and keep it so")
    def request(body: SubjectRequest, asked: Request, principal: Annotated[auth.Principal, guard]) -> dict[str, Any]:
        with about(body, asked, principal, "erasure.request") as told:
            made = eraser.request(principal.tenancy.project, body.user_id, body.anonymous_id)
            told["request"] = made.id
        return made.told()

    @router.get("/erasures/{request_id}", summary="How far an erasure is; its certificate once it is done")
    def state(request_id: str, principal: Annotated[auth.Principal, guard]) -> dict[str, Any]:
        return eraser.get(request_id, principal.tenancy.project).told()

    @router.post("/erasures/{request_id}/resume", summary="Go on with an erasure that failed")
    def resume(request_id: str, asked: Request, principal: Annotated[auth.Principal, guard]) -> dict[str, Any]:
        detail: Detail = {"request": request_id[:64]}
        with audited.audit.change(Who.of(principal), "erasure.resume", where=audited.where(asked), detail=detail):
            return eraser.resume(request_id, principal.tenancy.project).told()

    @router.post(
        "/exports",
        summary="Everything held about a person: a ZIP of JSON and CSV with a manifest",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {}}}},
    )
    def export(
        body: SubjectRequest, asked: Request, principal: Annotated[auth.Principal, officer]
    ) -> StreamingResponse:
        with about(body, asked, principal, "person.export") as told:
            made = exporter.export(principal.tenancy.project, body.user_id, body.anonymous_id)
            told.rows = made.rows
        return zipped(made.file)

    @router.post("/certificates/verify", summary="Whether a certificate was signed here and is unaltered")
    def verify(body: CertificateRequest, principal: Annotated[auth.Principal, guard]) -> dict[str, bool]:
        return {"genuine": eraser.verify(body.certificate)}

    return router
