"""The HTTP half of reading: SQL, the live view, one event's fate, sign-in. Nothing here can write an event."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from twintrack import auth
from twintrack.control.control import Control
from twintrack.errors import RequestError
from twintrack.query.execute import Executor
from twintrack.query.listening import passed_on, while_listening
from twintrack.settings import Settings

COOKIE = "twintrack_session"


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


class SignIn(BaseModel):
    key: str = Field(description="A key whose role may open a session, such as owner.", max_length=500)


class Admission:
    """Who asks, by key or by session cookie, and whether their role may."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def principal(self, request: Request) -> auth.Principal:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            principal = self._control.principal(key.strip())
        else:
            cookie = request.cookies.get(COOKIE, "")
            principal = self._control.session(cookie) if cookie else None
            if principal is not None and request.method not in ("GET", "HEAD"):
                _same_origin(request)
        if principal is None:
            raise RequestError(
                "sign in first",
                hint="open a session, or send a key as `Authorization: Bearer`",
                code="not_signed_in",
                status=401,
            )
        return principal

    def role(self, allowed: frozenset[auth.Role]) -> Callable[[Request], auth.Principal]:
        def dependency(request: Request) -> auth.Principal:
            principal = self.principal(request)
            if principal.role not in allowed:
                raise RequestError(
                    f"a {principal.role} key may not do this",
                    hint="roles that may: " + ", ".join(sorted(role.value for role in allowed)),
                    code="wrong_role",
                    status=403,
                )
            return principal

        return dependency


def _same_origin(request: Request) -> None:
    """A cookie counts for a change only from our own pages."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise RequestError("the request comes from another site", hint="use a key", code="foreign_origin", status=403)


def query_routes(executor: Executor, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["query"])

    @router.post(
        "/api/analytics/sql", summary="Run one SELECT, scoped to the key's project and environment", response_model=None
    )
    async def sql(
        body: SqlRequest,
        request: Request,
        principal: Annotated[auth.Principal, Depends(admission.role(auth.MAY_QUERY))],
    ) -> Any:
        hide = principal.role is auth.Role.READ
        if body.format != "answer":
            pieces = executor.stream(
                body.sql, body.parameters, body.format, principal.tenancy, hide=hide, asker=principal.key_id
            )
            # Before the first piece an error is still an answer of its own.
            first = await while_listening(request, anext(pieces, b""))
            return StreamingResponse(passed_on(first, pieces), media_type=_MEDIA[body.format])
        work = executor.sql(body.sql, body.parameters, principal.tenancy, hide=hide, asker=principal.key_id)
        return await while_listening(request, work)

    return router


_MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


def session_routes(control: Control, settings: Settings, admission: Admission, *, demo: bool) -> APIRouter:
    router = APIRouter(tags=["session"])

    def describe(principal: auth.Principal) -> dict[str, str | bool]:
        return {
            "role": principal.role.value,
            "project": principal.tenancy.project,
            "environment": principal.tenancy.environment,
            "name": f"{principal.role.value} key",
            "demo": demo,
        }

    @router.get("/api/session", summary="Who is signed in")
    def who(principal: Annotated[auth.Principal, Depends(admission.role(auth.MAY_LOOK))]) -> dict[str, str | bool]:
        return describe(principal)

    @router.post("/api/session", summary="Open a dashboard session with a key")
    def sign_in(body: SignIn, request: Request, response: Response) -> dict[str, str | bool]:
        _same_origin(request)
        principal = control.principal(body.key.strip())
        if principal is None:
            raise RequestError(
                "this key is unknown or revoked",
                hint="`twintrack keys create --role owner` prints a new one",
                code="unknown_key",
                status=401,
            )
        if principal.role not in auth.MAY_SIGN_IN:
            raise RequestError(
                f"a {principal.role} key opens no session",
                hint="use a viewer, analyst, privacy, admin or owner key",
                code="wrong_role",
                status=403,
            )
        set_cookie(response, request, control.open_session(principal.key_id, settings.session_days), settings)
        return describe(principal)

    @router.delete("/api/session", status_code=204, summary="End this session")
    def sign_out(request: Request) -> Response:
        control.close_session(request.cookies.get(COOKIE, ""))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE)
        return response

    @router.get("/api/keys", summary="The project's keys; only write keys are shown in full, they are public")
    def keys(principal: Annotated[auth.Principal, Depends(admission.role(auth.MAY_SEE_KEYS))]) -> dict[str, Any]:
        return {"keys": control.list_keys(principal.tenancy.project)}

    return router


def set_cookie(response: Response, request: Request, secret: str, settings: Settings) -> None:
    response.set_cookie(
        COOKIE,
        secret,
        max_age=settings.session_days * 86_400,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )
