"""Signing in and out: by key, by e-mail address and password, by a link that is good once. No secret is in any path."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twintrack.access.admission import Admission
from twintrack.access.guesses import Guesses
from twintrack.auth import Principal
from twintrack.control.accounts import MOST_PASSWORD
from twintrack.control.control import Control
from twintrack.control.sessions import Session
from twintrack.errors import RequestError, TooMany, TwintrackError
from twintrack.event import Tenancy
from twintrack.peer import network_of
from twintrack.permissions import PERMISSIONS, Permission
from twintrack.privacy.audit import NOBODY, Who
from twintrack.privacy.audited import Audited
from twintrack.settings import Settings

_PASSWORD = Field("", max_length=MOST_PASSWORD, description="12 characters or more.")


class SignIn(BaseModel):
    """One of: a key; an e-mail address and a password; a link's token, with a new password where it invites."""

    model_config = ConfigDict(extra="forbid")
    key: str = Field("", max_length=500, description="A key whose role may open a session, such as owner.")
    email: str = Field("", max_length=254)
    password: str = _PASSWORD
    project: str = Field("", max_length=100, description="With a password: which project of yours; empty: the first.")
    token: str = Field("", max_length=200, description="What stands behind # in a link.")


class Token(BaseModel):
    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=200)


class Environment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    environment: str = Field(max_length=100)


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current: str = _PASSWORD
    password: str = Field(max_length=MOST_PASSWORD)


def session_routes(
    control: Control, settings: Settings, admission: Admission, guesses: Guesses, audited: Audited, *, demo: bool
) -> APIRouter:
    router = APIRouter(tags=["session"])
    hashing = asyncio.Semaphore(2)  # each takes 64 MiB and a core

    def network(request: Request) -> str:
        return network_of(admission.address(request))

    def describe(principal: Principal) -> dict[str, Any]:
        return {
            "role": principal.role.value,
            "project": principal.tenancy.project,
            "environment": principal.tenancy.environment,
            "name": principal.person or f"{principal.role.value} key",
            "person": bool(principal.person),
            "permissions": sorted(PERMISSIONS[principal.role]),
            "demo": demo,
        }

    def open_session(session: Session, request: Request, response: Response) -> None:
        before = admission.cookie(request)
        admission.set_cookie(
            response, request, control.sessions.open(session, settings.session_days, instead_of=before)
        )

    def person_in(person_id: str, project: str) -> Principal:
        environments = control.environments(project)
        found = control.people.principal(person_id, Tenancy(project, environments[0]))
        if found is None:
            raise RequestError("you are no member here any more", hint="ask an owner", code="no_member", status=403)
        return found

    def by_key(key: str) -> Principal:
        principal = control.principal(key.strip())
        if principal is None:
            admission.refused("unknown_key")
            raise RequestError(
                "this key is unknown, revoked or expired",
                hint="`twintrack keys create --role owner` prints a new one",
                code="unknown_key",
                status=401,
            )
        if not principal.may(Permission.SIGN_IN):
            admission.refused("wrong_role")
            raise RequestError(
                f"a {principal.role} key opens no session",
                hint="use a viewer, analyst, privacy, admin or owner key",
                code="wrong_role",
                status=403,
            )
        return principal

    async def by_password(email: str, password: str, project: str) -> Principal:
        async with hashing:
            person_id = await asyncio.to_thread(control.people.check_password, email, password)
        projects = control.people.projects(person_id) if person_id else []
        if person_id is None or not projects or (project and project not in projects):
            admission.refused("wrong_password")
            raise RequestError(
                "the address or the password is wrong",
                hint="an admin can make a link that signs you in: twintrack people link ADDRESS",
                code="wrong_password",
                status=401,
            )
        return person_in(person_id, project or projects[0])

    async def by_link(token: str, password: str) -> Principal:
        async with hashing:
            try:
                return person_in(*await asyncio.to_thread(control.people.accept, token, password))
            except RequestError as error:
                if error.code == "bad_link":
                    admission.refused("bad_link")
                raise

    async def proven(body: SignIn, request: Request, names: dict[str, str]) -> Principal:
        try:
            guesses.count(**names)
        except TooMany:
            admission.refused("slowed")
            raise
        if body.key:
            principal = by_key(body.key)
            admission.check_bounds(principal, request)
            return principal
        if body.token:
            return await by_link(body.token, body.password)
        if body.email and body.password:
            return await by_password(body.email, body.password, body.project)
        raise RequestError(
            "say who you are", hint="send a key, an address with a password, or a link's token", code="no_proof"
        )

    @router.get("/api/session", summary="Who is signed in")
    def who(principal: Annotated[Principal, Depends(admission.may(Permission.LOOK))]) -> dict[str, Any]:
        return {**describe(principal), "environments": control.environments(principal.tenancy.project)}

    @router.post("/api/session", summary="Sign in by key, by password or by a link; opens a session")
    async def sign_in(body: SignIn, request: Request, response: Response) -> dict[str, Any]:
        admission.check_origin(request, unsaid=True)
        names = {"address": network(request)}
        if body.email:
            names["account"] = body.email.strip().lower()
        try:
            principal = await proven(body, request, names)
        except TwintrackError as error:
            await asyncio.to_thread(
                audited.audit.repeated, NOBODY, "session.open", where=audited.where(request), outcome=error.code
            )
            raise
        guesses.right(**names)
        await asyncio.to_thread(audited.audit.record, Who.of(principal), "session.open", where=audited.where(request))
        of_person = bool(principal.person)
        session = Session(
            "" if of_person else principal.key_id, principal.key_id if of_person else "", principal.tenancy
        )
        open_session(session, request, response)
        return {**describe(principal), "environments": control.environments(principal.tenancy.project)}

    @router.put("/api/session", summary="Look at another environment of the project")
    def move(
        body: Environment,
        request: Request,
        principal: Annotated[Principal, Depends(admission.may(Permission.SIGN_IN))],
    ) -> dict[str, Any]:
        # Never to another project: a link that an admin made for somebody must not lead to where that admin is nobody.
        moved = principal._replace(tenancy=Tenancy(principal.tenancy.project, body.environment))
        environments = control.environments(principal.tenancy.project)
        if not principal.person or body.environment not in environments:
            raise RequestError(
                "this is not yours to look at",
                hint="a session of a key stays where its key is",
                code="elsewhere",
                status=403,
            )
        control.sessions.move(admission.cookie(request), moved.tenancy)
        return {**describe(moved), "environments": environments}

    @router.delete("/api/session", status_code=204, summary="End this session")
    def sign_out(request: Request) -> Response:
        cookie = admission.cookie(request)
        if cookie:
            admission.check_origin(request)
            principal = control.session(cookie)
            control.sessions.close(cookie)  # first: whatever happens to the record, nobody is left signed in
            if principal is not None:
                audited.audit.record(Who.of(principal), "session.close", where=audited.where(request))
        response = Response(status_code=204)
        admission.clear_cookie(response, request)
        return response

    @router.put("/api/session/password", summary="Set your password; ends your other sessions")
    async def set_password(
        body: NewPassword,
        request: Request,
        response: Response,
        principal: Annotated[Principal, Depends(admission.may(Permission.SIGN_IN))],
    ) -> dict[str, Any]:
        if not principal.person:
            raise RequestError("a key has no password", hint="sign in as a person", code="no_person", status=403)
        names = {"account": principal.person, "address": network(request)}
        if control.people.has_password(principal.key_id):
            guesses.count(**names)
            await by_password(principal.person, body.current, principal.tenancy.project)
            guesses.right(**names)
        elif len(control.people.projects(principal.key_id)) > 1:
            raise RequestError(
                "who is a member of several projects sets no first password here",
                hint="come by link: twintrack people link ADDRESS",
                code="several_projects",
                status=403,
            )
        await asyncio.to_thread(
            audited.audit.record, Who.of(principal), "person.password", where=audited.where(request)
        )
        async with hashing:
            await asyncio.to_thread(control.people.set_password, principal.key_id, body.password)
        open_session(Session("", principal.key_id, principal.tenancy), request, response)
        return describe(principal)

    @router.post("/api/link", summary="Whom a link is for; it is not used up by this")
    def look_at_link(body: Token, request: Request) -> dict[str, str]:
        admission.check_origin(request, unsaid=True)
        names = {"address": network(request)}
        guesses.count(**names)
        found = control.people.invitation(body.token)
        guesses.right(**names)
        return found

    return router
