"""What the commands do, as one small ASGI application that both ends share.

`serve` serves it on `DATA/control.sock` (mode 0600: the file's owner is the operator); a command sends its request
there, and where the data folder's lock is free it builds the services itself and sends the same request in process.
"""

import asyncio
import hashlib
import hmac
from typing import Any
from uuid import UUID

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from twintrack.app import Services
from twintrack.auth import Role
from twintrack.control.rollout import Rollout
from twintrack.doctor import examine
from twintrack.errors import RequestError, TwintrackError
from twintrack.event import RequestContext, Tenancy, WireEvent, limits
from twintrack.ingest.decode import decode_one
from twintrack.ingest.pipeline import Rules, prepare
from twintrack.load.rollup import first_whole_month, months
from twintrack.outcomes import Refusal
from twintrack.query.listening import passed_on, while_listening
from twintrack.spool.protocol import Delivery, Refused


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

    async def rollouts(_: Request) -> Response:
        return JSONResponse({"rollouts": [_told(*each) for each in services.control.list_rollouts()]})

    async def rollout_change(request: Request) -> Response:
        body = await request.json()
        tenancy = Tenancy(body["project"], body["environment"])
        return JSONResponse(_told(tenancy, services.control.change_rollout(tenancy, body["changes"])))

    async def query(request: Request) -> Response:
        body = await request.json()
        parameters = body.get("parameters", {})
        if body["format"] == "table":
            work = services.executor.sql(body["sql"], parameters, None, asker="command")
            return JSONResponse(await while_listening(request, work))
        pieces = services.executor.stream(body["sql"], parameters, body["format"], None, asker="command")
        # Before the first piece an error is still an answer of its own; after it the answer is cut.
        first = await while_listening(request, anext(pieces, b""))
        return StreamingResponse(passed_on(first, pieces), media_type="application/octet-stream")

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
        return JSONResponse(await examine(services))

    async def replay(request: Request) -> Response:
        wanted = (await request.json())["event_id"]
        back = await asyncio.to_thread(services.spool.replay, UUID(wanted) if wanted else None)
        return JSONResponse({"chunks": [chunk.chunk_id for chunk in back], "rows": sum(chunk.rows for chunk in back)})

    async def replay_state(_: Request) -> Response:
        waiting = services.spool.depth().events
        quarantined = sum(chunk.rows for chunk in services.spool.ledger.chunks("quarantined"))
        return JSONResponse(
            {"waiting": waiting, "quarantined": quarantined, "error": services.loader.last_error if waiting else ""}
        )

    async def rebuild(request: Request) -> Response:
        return JSONResponse({"months": await _rebuild(services, (await request.json())["months"])})

    async def rebuild_state(_: Request) -> Response:
        first = first_whole_month(services.spool.complete_since())
        left = [month for month in services.spool.stale_months() if month >= first]
        services.spool.wake()
        return JSONResponse({"left": left, "error": services.loader.last_error if left else ""})

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, TwintrackError)
        return JSONResponse(error.body(), error.status)

    return Starlette(
        routes=[
            Route("/keys", keys_list),
            Route("/keys", keys_create, methods=["POST"]),
            Route("/keys/revoke", keys_revoke, methods=["POST"]),
            Route("/rollouts", rollouts),
            Route("/rollouts", rollout_change, methods=["POST"]),
            Route("/query", query, methods=["POST"]),
            Route("/import", import_rows, methods=["POST"]),
            Route("/import/finish", import_finish, methods=["POST"]),
            Route("/doctor", doctor),
            Route("/replay", replay, methods=["POST"]),
            Route("/replay", replay_state),
            Route("/rollup", rebuild, methods=["POST"]),
            Route("/rollup", rebuild_state),
        ],
        exception_handlers={TwintrackError: failed},
    )


def _told(tenancy: Tenancy, rollout: Rollout) -> dict[str, Any]:
    return {**tenancy._asdict(), "rollout": msgspec.to_builtins(rollout)}


async def _import(services: Services, batch: ImportBatch) -> dict[str, Any]:
    """The same pipeline as the door's, without skew correction, age limits, kill switch, share and sampling.

    Every id is looked up.
    """
    project = services.control.ensure_project(batch.project)
    now = services.clock.milliseconds()
    context = RequestContext(
        Tenancy(batch.project, batch.environment), True, None, now, 0, "::", "", False, imported=True
    )
    masker = services.receiver.maskers.of(batch.environment)
    rules = Rules(limits(), project.secret, Rollout(), False, masker, services.settings.id_window_days)
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


async def _rebuild(services: Services, wanted: list[int]) -> list[int]:
    """Marks months whose rollups the loader makes again from raw; 0 stands for rollups that have no months.

    Raises: RequestError for a month of which raw has lost a part, for what is no month; StoreError.
    """
    first = first_whole_month(services.spool.complete_since())
    for month in wanted:
        if month and not (197001 <= month <= 299912 and 1 <= month % 100 <= 12):
            raise RequestError(f"{month} is no month", code="bad_month", hint="write it as YYYYMM, for example 202601")
        if month < first:
            raise RequestError(
                f"raw is complete since {first}: {month or 'a rollup without months'} cannot be made again from it",
                code="below_watermark",
                hint="what expired from raw lives on in the rollups only; leave them as they are",
            )
    there = await asyncio.to_thread(months, services.store)
    chosen = wanted or [month for month in ([] if first else [0]) + there if month == 0 or month >= first]
    services.spool.reinsert((), chosen)
    services.spool.wake()
    return chosen
