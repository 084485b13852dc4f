"""The HTTP half of people's rights. Subjects travel in bodies, never in paths; answers name requests and hashes."""

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
from twintrack.privacy.audit import Detail, Who
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

    @router.post("/erasures", status_code=202, summary="Erase a person: every row, file and rollup, and keep it so")
    def request(body: SubjectRequest, asked: Request, principal: Annotated[auth.Principal, guard]) -> dict[str, Any]:
        with audited.audit.change(Who.of(principal), "erasure.request", where=audited.where(asked)) as told:
            made = eraser.request(principal.tenancy.project, body.user_id, body.anonymous_id)
            told["request"], told["subject_hmac"] = made.id, made.progress.hash
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
        audited.audit.record(
            Who.of(principal),
            "person.export",
            where=audited.where(asked),
            subject=mark_of(control.ensure_project(principal.tenancy.project).secret, body.user_id, body.anonymous_id),
        )
        file = exporter.export(principal.tenancy.project, body.user_id, body.anonymous_id)
        return zipped(file)

    @router.post("/certificates/verify", summary="Whether a certificate was signed here and is unaltered")
    def verify(body: CertificateRequest, principal: Annotated[auth.Principal, guard]) -> dict[str, bool]:
        return {"genuine": eraser.verify(body.certificate)}

    return router
