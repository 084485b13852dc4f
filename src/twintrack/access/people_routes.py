"""People and keys of the asker's own project, for those who may give access. Nobody gives more than `GIVES` says."""

from contextlib import AbstractContextManager
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from twintrack.access.admission import Admission
from twintrack.auth import Principal
from twintrack.bounds import bounds_of
from twintrack.clock import Clock, iso
from twintrack.control.control import Control
from twintrack.errors import RequestError
from twintrack.permissions import Permission, Role, gives
from twintrack.privacy.audit import Who
from twintrack.privacy.audited import Audited
from twintrack.settings import Settings

INVITATION_HOURS, LINK_MINUTES, OVERLAP_HOURS = 72, 60, 24


class Invitation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: str = Field(max_length=254)
    role: Role
    hours: int = Field(INVITATION_HOURS, ge=1, le=24 * 30, description="How long the link is good.")


class ChangedRole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Role


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Role
    environment: str = Field("", max_length=100, description="Empty: the asker's own.")
    origins: list[str] = Field([], max_length=100, description="Browsers' origins it is good for; none: all.")
    networks: list[str] = Field([], max_length=100, description="Networks it is good from (CIDR); none: all.")
    days: int = Field(0, ge=0, le=3650, description="Days until it ends; 0: never.")


class Overlap(BaseModel):
    model_config = ConfigDict(extra="forbid")
    hours: int = Field(OVERLAP_HOURS, ge=0, le=24 * 90, description="How long the old key stays good.")


def link_of(base: str, secret: str) -> str:
    """Behind # it reaches no server, no log and no referrer."""
    return f"{base.rstrip('/')}/join#{secret}"


def people_routes(
    control: Control, settings: Settings, admission: Admission, clock: Clock, audited: Audited
) -> APIRouter:
    router = APIRouter(tags=["access"])
    who = Depends(admission.may(Permission.ACCESS))

    def changing(
        request: Request, principal: Principal, what: str, **detail: str
    ) -> AbstractContextManager[dict[str, str | int]]:
        where = audited.where(request)
        return audited.audit.change(Who.of(principal), what, where=where, detail={**detail})

    def base(request: Request) -> str:
        return settings.public_url or f"{request.url.scheme}://{urlsplit(str(request.url)).netloc}"

    def check(principal: Principal, role: Role, what: str) -> None:
        if role not in gives(principal.role):
            admission.refused("wrong_role")
            raise RequestError(
                f"the role {principal.role} may not {what} {role}",
                hint="docs/reference/permissions.md says who gives what",
                code="wrong_role",
                status=403,
            )

    def own_key(principal: Principal, key_id: str) -> dict[str, Any]:
        found = next((key for key in control.list_keys(principal.tenancy.project) if key["id"] == key_id), None)
        if found is None:
            raise RequestError("no key here has this id", hint="see GET /api/keys", code="unknown_key", status=404)
        check(principal, Role(found["role"]), "change a key of the role")
        return found

    @router.get("/api/people", summary="Members of the project, and who is invited")
    def people(request: Request, principal: Annotated[Principal, who]) -> dict[str, Any]:
        found = control.people.list(principal.tenancy.project)
        audited.audit.repeated(Who.of(principal), "person.list", where=audited.where(request), rows=len(found))
        return {
            "people": found,
            "gives": [role for role in Role if role in gives(principal.role)],
        }

    @router.post("/api/people", status_code=201, summary="Invite somebody; the link is told once")
    def invite(body: Invitation, request: Request, principal: Annotated[Principal, who]) -> dict[str, str]:
        check(principal, body.role, "give the role")
        member = control.people.member_role(body.email, principal.tenancy.project)
        if member is not None:
            check(principal, member, "change somebody of the role")
        with changing(request, principal, "person.invite", role=body.role.value):
            secret, ends = control.people.invite(body.email, principal.tenancy.project, body.role, body.hours)
        return {"link": link_of(base(request), secret), "expires_at": iso(ends)}

    @router.put("/api/people/{person_id}", status_code=204, summary="Give somebody another role")
    def change(person_id: str, body: ChangedRole, request: Request, principal: Annotated[Principal, who]) -> None:
        project = principal.tenancy.project
        check(principal, control.people.role_of(person_id, project), "change somebody of the role")
        check(principal, body.role, "give the role")
        with changing(request, principal, "person.role", person=person_id, role=body.role.value):
            control.people.change_role(person_id, project, body.role)

    @router.post("/api/people/{person_id}/link", status_code=201, summary="A link that signs them in once")
    def link(person_id: str, request: Request, principal: Annotated[Principal, who]) -> dict[str, str]:
        project = principal.tenancy.project
        check(principal, control.people.role_of(person_id, project), "sign in somebody of the role")
        if len(control.people.projects(person_id)) > 1:
            raise RequestError(
                "they are a member of other projects too",
                hint="the operator makes such a link: twintrack people link ADDRESS",
                code="several_projects",
                status=403,
            )
        with changing(request, principal, "person.link", person=person_id):
            secret, ends = control.people.sign_in_link(person_id, project, LINK_MINUTES)
        return {"link": link_of(base(request), secret), "expires_at": iso(ends)}

    @router.delete("/api/people/{person_id}", status_code=204, summary="Remove a member, or take an invitation back")
    def remove(person_id: str, request: Request, principal: Annotated[Principal, who]) -> None:
        project = principal.tenancy.project
        role = control.people.invited_role(person_id, project) or control.people.role_of(person_id, project)
        check(principal, role, "remove somebody of the role")
        with changing(request, principal, "person.remove", person=person_id):
            control.people.remove(person_id, project)

    @router.get("/api/keys", summary="The project's keys; only write keys are shown in full, they are public")
    def keys(request: Request, principal: Annotated[Principal, who]) -> dict[str, Any]:
        found = control.list_keys(principal.tenancy.project)
        audited.audit.repeated(Who.of(principal), "key.list", where=audited.where(request), rows=len(found))
        return {"keys": found}

    @router.post("/api/keys", status_code=201, summary="Make a key; it is told once")
    def create_key(body: NewKey, request: Request, principal: Annotated[Principal, who]) -> dict[str, str]:
        check(principal, body.role, "make a key of the role")
        ends = clock.milliseconds() + body.days * 86_400_000 if body.days else None
        bounds = bounds_of(body.origins, body.networks, ends)
        environment = body.environment or principal.tenancy.environment
        with changing(request, principal, "key.create", role=body.role.value) as told:
            key = control.create_key(body.role, principal.tenancy.project, environment, bounds)
            made = control.principal(key)
            told["key"] = made.key_id if made is not None else ""
        return {"key": key}

    @router.post("/api/keys/{key_id}/rotate", status_code=201, summary="A successor; the old key ends after a while")
    def rotate(key_id: str, body: Overlap, request: Request, principal: Annotated[Principal, who]) -> dict[str, str]:
        own_key(principal, key_id)
        with changing(request, principal, "key.rotate", key=key_id):
            return {"key": control.rotate_key(key_id, body.hours * 3600)}

    @router.delete("/api/keys/{key_id}", status_code=204, summary="Revoke a key and end the sessions it opened")
    def revoke(key_id: str, request: Request, principal: Annotated[Principal, who]) -> None:
        own_key(principal, key_id)
        with changing(request, principal, "key.revoke", key=key_id):
            control.revoke_key(key_id)

    return router
