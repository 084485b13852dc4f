"""The HTTP half of reading: SQL, the live view, one event's fate, sign-in. Nothing here can write an event."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.control.control import Control
from twintrack.errors import RequestError
from twintrack.privacy.audit import NOBODY, Who
from twintrack.privacy.audited import Audited
from twintrack.privacy.shape import shape
from twintrack.query.execute import Executor
from twintrack.settings import Settings

COOKIE = "twintrack_session"


class SqlRequest(BaseModel):
    """One SELECT over the readable tables; `{name:Type}` in it takes a parameter."""

    model_config = ConfigDict(extra="forbid")
    sql: str = Field(description="One SELECT.", max_length=50_000)
    parameters: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="Values of `{name:Type}` in the statement."
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


def query_routes(executor: Executor, admission: Admission, audited: Audited) -> APIRouter:
    router = APIRouter(tags=["query"])

    @router.post("/api/analytics/sql", summary="Run one SELECT, scoped to the key's project and environment")
    async def sql(
        body: SqlRequest,
        request: Request,
        principal: Annotated[auth.Principal, Depends(admission.role(auth.MAY_QUERY))],
    ) -> dict[str, Any]:
        async with audited.read(request, principal, "sql", {"sql": shape(body.sql)}) as read:
            answer = await executor.sql(
                body.sql, body.parameters, principal.tenancy, hide=principal.role is auth.Role.READ
            )
            read.rows = len(answer["rows"])
        return answer

    return router


def session_routes(
    control: Control, settings: Settings, admission: Admission, audited: Audited, *, demo: bool
) -> APIRouter:
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
        where = audited.where(request)
        principal = control.principal(body.key.strip())
        if principal is None:
            audited.audit.repeated(NOBODY, "session.open", where=where, outcome="unknown_key")
            raise RequestError(
                "this key is unknown or revoked",
                hint="`twintrack keys create --role owner` prints a new one",
                code="unknown_key",
                status=401,
            )
        who = Who.of(principal)
        if principal.role not in auth.MAY_SIGN_IN:
            audited.audit.repeated(who, "session.open", where=where, outcome="wrong_role")
            raise RequestError(
                f"a {principal.role} key opens no session",
                hint="use a viewer, analyst, privacy, admin or owner key",
                code="wrong_role",
                status=403,
            )
        audited.audit.record(who, "session.open", where=where)
        set_cookie(response, request, control.open_session(principal.key_id, settings.session_days), settings)
        return describe(principal)

    @router.delete("/api/session", status_code=204, summary="End this session")
    def sign_out(request: Request) -> Response:
        secret = request.cookies.get(COOKIE, "")
        principal = control.session(secret) if secret else None
        control.close_session(secret)  # first: whatever happens to the record, nobody is left signed in
        if principal is not None:
            audited.audit.record(Who.of(principal), "session.close", where=audited.where(request))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE)
        return response

    @router.get("/api/keys", summary="The project's keys; only write keys are shown in full, they are public")
    def keys(
        request: Request, principal: Annotated[auth.Principal, Depends(admission.role(auth.MAY_SEE_KEYS))]
    ) -> dict[str, Any]:
        found = control.list_keys(principal.tenancy.project)
        audited.audit.repeated(Who.of(principal), "key.list", where=audited.where(request), rows=len(found))
        return {"keys": found}

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
