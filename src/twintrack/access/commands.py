"""What `twintrack keys` and `twintrack people` ask of the control application. Who reaches its socket is the operator."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twintrack.access.people_routes import link_of
from twintrack.bounds import bounds_of
from twintrack.clock import Clock, iso
from twintrack.control.control import Control
from twintrack.permissions import Role
from twintrack.settings import Settings


def access_commands(control: Control, settings: Settings, clock: Clock) -> list[Route]:
    base = settings.public_url or f"http://{settings.host}:{settings.port}"

    async def keys(_: Request) -> Response:
        return JSONResponse({"keys": control.list_keys()})

    async def create(request: Request) -> Response:
        body = await request.json()
        days = body.get("days", 0)
        ends = clock.milliseconds() + days * 86_400_000 if days else None
        bounds = bounds_of(body.get("origins", []), body.get("networks", []), ends)
        return JSONResponse(
            {"key": control.create_key(Role(body["role"]), body["project"], body["environment"], bounds)}
        )

    async def revoke(request: Request) -> Response:
        control.revoke_key((await request.json())["id"])
        return JSONResponse({})

    async def rotate(request: Request) -> Response:
        body = await request.json()
        return JSONResponse({"key": control.rotate_key(body["id"], body["hours"] * 3600)})

    async def people(_: Request) -> Response:
        return JSONResponse({"people": control.people.list()})

    async def invite(request: Request) -> Response:
        body = await request.json()
        control.ensure_project(body["project"])
        secret, ends = control.people.invite(body["email"], body["project"], Role(body["role"]), body["hours"])
        return JSONResponse({"link": link_of(base, secret), "expires_at": iso(ends)})

    async def link(request: Request) -> Response:
        body = await request.json()
        person_id = control.people.find(body["email"], body["project"])
        secret, ends = control.people.sign_in_link(person_id, body["project"], body["minutes"])
        return JSONResponse({"link": link_of(base, secret), "expires_at": iso(ends)})

    async def role(request: Request) -> Response:
        body = await request.json()
        person_id = control.people.find(body["email"], body["project"])
        control.people.change_role(person_id, body["project"], Role(body["role"]))
        return JSONResponse({})

    async def remove(request: Request) -> Response:
        body = await request.json()
        waiting = [p["id"] for p in control.people.list(body["project"]) if p["email"] == body["email"].strip().lower()]
        for person_id in waiting or [control.people.find(body["email"], body["project"])]:
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
