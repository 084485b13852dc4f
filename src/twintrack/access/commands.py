"""What `twintrack keys` and `twintrack people` ask of the control application. Who reaches its socket is the operator."""

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twintrack.access.people_routes import link_of
from twintrack.bounds import bounds_of
from twintrack.clock import Clock, iso
from twintrack.control.control import Control
from twintrack.event import Tenancy
from twintrack.permissions import Role
from twintrack.privacy.audit import OPERATOR, SOCKET, Audit, Who, operator
from twintrack.settings import Settings


def access_commands(control: Control, settings: Settings, clock: Clock, audit: Audit) -> list[Route]:
    changing = partial(audit.change, where=SOCKET)
    base = settings.public_url or f"http://{settings.host}:{settings.port}"

    def place_of(key_id: str) -> Tenancy | None:
        found = (Tenancy(k["project"], k["environment"]) for k in control.list_keys() if k["id"] == key_id)
        return next(found, None)

    def within(project: str) -> Who:
        return operator(Tenancy(project, ""))

    async def keys(_: Request) -> Response:
        return JSONResponse({"keys": control.list_keys()})

    async def create(request: Request) -> Response:
        body = await request.json()
        days = body.get("days", 0)
        ends = clock.milliseconds() + days * 86_400_000 if days else None
        bounds = bounds_of(body.get("origins", []), body.get("networks", []), ends)
        role, tenancy = Role(body["role"]), Tenancy(body["project"], body["environment"])
        with changing(operator(tenancy), "key.create", detail={"role": role.value}) as told:
            key = control.create_key(role, *tenancy, bounds)
            made = control.principal(key)
            told["key"] = made.key_id if made is not None else ""
        return JSONResponse({"key": key})

    async def revoke(request: Request) -> Response:
        key_id = str((await request.json())["id"])
        with changing(operator(place_of(key_id)), "key.revoke", detail={"key": key_id} if place_of(key_id) else {}):
            control.revoke_key(key_id)
        return JSONResponse({})

    async def rotate(request: Request) -> Response:
        body = await request.json()
        key_id = str(body["id"])
        with changing(operator(place_of(key_id)), "key.rotate", detail={"key": key_id} if place_of(key_id) else {}):
            key = control.rotate_key(key_id, body["hours"] * 3600)
        return JSONResponse({"key": key})

    async def people(_: Request) -> Response:
        found = control.people.list()
        audit.repeated(OPERATOR, "person.list", where=SOCKET, rows=len(found))
        return JSONResponse({"people": found})

    async def invite(request: Request) -> Response:
        body = await request.json()
        control.ensure_project(body["project"])
        role = Role(body["role"])
        with changing(within(body["project"]), "person.invite", detail={"role": role.value}):
            secret, ends = control.people.invite(body["email"], body["project"], role, body["hours"])
        return JSONResponse({"link": link_of(base, secret), "expires_at": iso(ends)})

    async def link(request: Request) -> Response:
        body = await request.json()
        person_id = control.people.find(body["email"], body["project"])
        with changing(within(body["project"]), "person.link", detail={"person": person_id}):
            secret, ends = control.people.sign_in_link(person_id, body["project"], body["minutes"])
        return JSONResponse({"link": link_of(base, secret), "expires_at": iso(ends)})

    async def role(request: Request) -> Response:
        body = await request.json()
        person_id = control.people.find(body["email"], body["project"])
        role = Role(body["role"])
        with changing(within(body["project"]), "person.role", detail={"person": person_id, "role": role.value}):
            control.people.change_role(person_id, body["project"], role)
        return JSONResponse({})

    async def remove(request: Request) -> Response:
        body = await request.json()
        waiting = [p["id"] for p in control.people.list(body["project"]) if p["email"] == body["email"].strip().lower()]
        for person_id in waiting or [control.people.find(body["email"], body["project"])]:
            with changing(within(body["project"]), "person.remove", detail={"person": person_id}):
                control.people.remove(person_id, body["project"])
        return JSONResponse({})

    return [
        Route("/keys", keys),
        Route("/keys", create, methods=["POST"]),
        Route("/keys/revoke", revoke, methods=["POST"]),
        Route("/keys/rotate", rotate, methods=["POST"]),
        Route("/people", people),
        Route("/people", invite, methods=["POST"]),
        Route("/people/link", link, methods=["POST"]),
        Route("/people/role", role, methods=["POST"]),
        Route("/people/remove", remove, methods=["POST"]),
    ]
