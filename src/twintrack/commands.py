"""What the commands do, as one small ASGI application that both ends share.

`serve` serves it on `DATA/control.sock` (mode 0600: the file's owner is the operator); a command sends its request
there, and where the data folder's lock is free it builds the services itself and sends the same request in process.
"""

import asyncio
import hashlib
import hmac
import shutil
from typing import Any
from uuid import UUID

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twintrack.app import Services
from twintrack.auth import Role
from twintrack.errors import TwintrackError
from twintrack.event import RequestContext, Tenancy, WireEvent, limits
from twintrack.ingest.decode import decode_one
from twintrack.ingest.pipeline import Rules, prepare
from twintrack.outcomes import Refusal
from twintrack.spool.protocol import Delivery, Refused
from twintrack.trace.pipeline_state import pipeline_state

_FORMATS = {"csv": "CSVWithNames", "parquet": "Parquet", "json": "JSONEachRow", "table": "JSONCompact"}


def import_id_of(secret: bytes, milliseconds: int, content: bytes, occurrence: int) -> UUID:
    """The same id for the same row of a file at every import: time of the row, keyed hash of content and n-th copy.

    Shape: a UUIDv7, so that it sorts by the row's own time. Source: RFC 9562 section 5.7.
    """
    digest = hmac.new(secret, content + occurrence.to_bytes(8, "big"), hashlib.sha256).digest()
    number = (max(0, milliseconds) & (2**48 - 1)) << 80 | int.from_bytes(digest[:10], "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=number)


class ImportRow(msgspec.Struct, forbid_unknown_fields=True):
    """One mapped row of a file: the event without its id, and which copy of its content this is."""

    milliseconds: int
    occurrence: int
    event: dict[str, Any]


class ImportBatch(msgspec.Struct, forbid_unknown_fields=True):
    import_id: str
    project: str
    environment: str
    rows: list[ImportRow]


def command_app(services: Services) -> Starlette:
    async def keys_create(request: Request) -> Response:
        body = await request.json()
        key = services.control.create_key(Role(body["role"]), body["project"], body["environment"])
        return JSONResponse({"key": key})

    async def keys_list(_: Request) -> Response:
        return JSONResponse({"keys": services.control.list_keys()})

    async def keys_revoke(request: Request) -> Response:
        services.control.revoke_key((await request.json())["id"])
        return JSONResponse({})

    async def query(request: Request) -> Response:
        body = await request.json()
        if body["format"] == "table":
            return JSONResponse(await services.executor.sql(body["sql"], {}, None))
        content = await services.executor.export(body["sql"], _FORMATS[body["format"]], None)
        return Response(content, media_type="application/octet-stream")

    async def import_rows(request: Request) -> Response:
        batch = msgspec.json.decode(await request.body(), type=ImportBatch)
        return JSONResponse(await _import(services, batch))

    async def import_finish(request: Request) -> Response:
        """Waits until everything of the import is settled, then says what was new."""
        import_id = (await request.json())["import_id"]
        while services.spool.waiting_for(import_id):
            if services.loader.last_error:
                return JSONResponse({"done": False, "waiting": services.loader.last_error})
            await asyncio.sleep(0.05)
        found, loaded = services.spool.ledger.import_counts(import_id)
        return JSONResponse({"done": True, "new": loaded, "found_in_store": found})

    async def doctor(_: Request) -> Response:
        return JSONResponse(await _doctor(services))

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, TwintrackError)
        return JSONResponse(error.body(), error.status)

    return Starlette(
        routes=[
            Route("/keys", keys_list),
            Route("/keys", keys_create, methods=["POST"]),
            Route("/keys/revoke", keys_revoke, methods=["POST"]),
            Route("/query", query, methods=["POST"]),
            Route("/import", import_rows, methods=["POST"]),
            Route("/import/finish", import_finish, methods=["POST"]),
            Route("/doctor", doctor),
        ],
        exception_handlers={TwintrackError: failed},
    )


async def _import(services: Services, batch: ImportBatch) -> dict[str, Any]:
    """The same pipeline as the door's, without skew correction, age limits and kill switch; every id is looked up."""
    project = services.control.ensure_project(batch.project)
    now = services.clock.milliseconds()
    context = RequestContext(
        Tenancy(batch.project, batch.environment), True, None, now, 0, "::", "", False, imported=True
    )
    rules = Rules(limits(), project.secret, False, False, services.settings.masking, services.settings.id_window_days)
    elements: list[WireEvent | Refusal] = []
    ids: list[str] = []
    for row in batch.rows:
        content = msgspec.json.encode(row.event, order="sorted")
        ids.append(str(import_id_of(project.secret, row.milliseconds, content, row.occurrence)))
        elements.append(decode_one(msgspec.json.encode({**row.event, "event_id": ids[-1], "source": "import"})))
    prepared = prepare(elements, context, rules)
    refused = [Refused(ids[i], refusal.status, refusal.reason) for i, refusal in prepared.refusals.items()]
    fresh = await services.spool.append(Delivery(context.tenancy, now, prepared.slabs, refused, [], batch.import_id))
    return {
        "accepted": sum(fresh),
        "duplicate": len(fresh) - sum(fresh),
        "refused": len(refused),
        "reasons": [refusal.message for refusal in prepared.refusals.values()][:5],
    }


async def _doctor(services: Services) -> dict[str, Any]:
    state = await pipeline_state(
        services.spool,
        services.loader,
        services.executor,
        services.clock,
        services.metrics,
        services.store.engine,
        None,
        services.started_milliseconds,
    )
    disk = shutil.disk_usage(services.settings.data)
    free = disk.free >= max(services.settings.segment_bytes * 2, disk.total // 50)
    difference = state["balance"]["difference"]
    checks = [
        {"check": "lock", "ok": True, "says": f"this process owns {services.settings.data}", "do": ""},
        {
            "check": "disk",
            "ok": free,
            "says": f"{disk.free >> 20:,} MiB free of {disk.total >> 20:,}, spool {state['spool_bytes'] >> 20:,} MiB",
            "do": "" if free else "free space: below this the spool will answer 503",
        },
        {
            "check": "store",
            "ok": state["store"]["ok"],
            "says": f"{state['store']['engine']}, {state['stored']:,} events"
            if state["store"]["ok"]
            else str(state["store"]["error"]),
            "do": ""
            if state["store"]["ok"]
            else f"{state['store']['hint'] or 'mend the store'}; events stay safe in the spool",
        },
        {
            "check": "balance",
            "ok": state["balance"]["holds"],
            "says": f"received {state['received']:,} = stored {state['stored']:,} + in spool {state['in_spool']:,}"
            f" + duplicate {state['duplicate']:,} + rejected {state['rejected']:,} + dropped {state['dropped']:,}"
            f" + quarantined {state['quarantined']:,}",
            "do": ""
            if state["balance"]["holds"]
            else f"{difference:+,} events are not explained: keep the data folder and report this",
        },
    ]
    return {"ok": all(check["ok"] for check in checks), "checks": checks}
