"""What the commands do, as one small ASGI application that both ends share.

`serve` serves it on `DATA/control.sock` (mode 0600: the file's owner is the operator); a command sends its request
there, and where the data folder's lock is free it builds the services itself and sends the same request in process.
"""

import asyncio
import hashlib
import hmac
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from twintrack.access.commands import access_commands
from twintrack.app import Services
from twintrack.auth import Principal, Role
from twintrack.backup.carry import rights_of
from twintrack.backup.person_keys import write_keys
from twintrack.backup.rights import write_file
from twintrack.backup.snapshot import take
from twintrack.clock import iso
from twintrack.control.retention import KEPT
from twintrack.control.rollout import Rollout
from twintrack.control.saved import SavedQueries
from twintrack.doctor import examine
from twintrack.errors import RequestError, TwintrackError
from twintrack.event import RequestContext, Tenancy, WireEvent, limits
from twintrack.export import Piece, Wanted, columns_of, count_hours, parquet_of, pieces_of, rows_in
from twintrack.ingest.decode import decode_one
from twintrack.ingest.enrich import cut_address
from twintrack.ingest.pipeline import Rules
from twintrack.ingest.seal import open_where_sealed
from twintrack.invalid import told
from twintrack.load.rollup import first_whole_month, months
from twintrack.outcomes import Reason, Refusal
from twintrack.privacy.audit import OPERATOR, SOCKET, Detail, Who, operator
from twintrack.privacy.audited import Read, shown_rows
from twintrack.privacy.retention import change_retention, retention_state
from twintrack.privacy.routes import zipped
from twintrack.privacy.shape import shape
from twintrack.privacy.subject import mark_of, typed
from twintrack.query.kinds import KINDS
from twintrack.query.listening import passed_on, while_listening
from twintrack.query.written import ABOUT, about, answered, written
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


class Sender(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who sent an event that was exported, as the service saw it when it came."""

    ip_address: str = "::"
    user_agent: str = ""
    is_bot: bool = False
    claimed: bool = False


class ImportRow(msgspec.Struct, forbid_unknown_fields=True):
    """One mapped row of a file: the event without its id, and which copy of its content this is."""

    milliseconds: int
    occurrence: int
    event: dict[str, Any]
    event_id: UUID | None = None  # of an event that was exported
    sender: Sender | None = None


class ImportBatch(msgspec.Struct, forbid_unknown_fields=True):
    import_id: str
    project: str
    environment: str
    rows: list[ImportRow]
    keep_expired: bool = False


def command_app(services: Services) -> Starlette:
    record = partial(services.audit.record, where=SOCKET)
    changing = partial(services.audit.change, where=SOCKET)

    def reading(who: Who, what: str, detail: Detail, outcome: str = "done") -> Read:
        return Read(partial(record, who, what, detail=detail), outcome)

    imports: dict[str, Who] = {}  # begun, and recorded as such

    def subject_of(body: dict[str, Any]) -> bytes:
        """Raises: RequestError for a project or a person that is none."""
        user_id, anonymous_id = body["user_id"], body["anonymous_id"]
        typed(user_id, anonymous_id)  # before the project: they may have typed nobody
        return mark_of(services.control.known_project(body["project"]).secret, user_id, anonymous_id)

    async def rollouts(_: Request) -> Response:
        return JSONResponse({"rollouts": [_told(*each) for each in services.control.list_rollouts()]})

    async def rollout_change(request: Request) -> Response:
        body = await request.json()
        tenancy = Tenancy(body["project"], body["environment"])
        with changing(operator(tenancy), "rollout.change") as told:
            after = services.control.change_rollout(tenancy, body["changes"])
            told["rollout"] = msgspec.json.encode(after).decode()
        return JSONResponse(_told(tenancy, after))

    async def query(request: Request) -> Response:
        body = await request.json()
        parameters, sql, tenancy = body.get("parameters", {}), body.get("sql"), None
        if body.get("saved"):
            # As over HTTP: what a project keeps is asked of that project.
            tenancy = Tenancy(body["project"], body["environment"])
            sql = _saved(services, tenancy.project, body["saved"])
        output = body["format"]
        asked: Detail = {"sql": shape(sql), "format": output}
        if output == "explain":
            async with reading(OPERATOR, "sql.explain", asked):
                work = services.executor.explain(sql, parameters, tenancy, asker="command")
                plan = await while_listening(request, work)
            return JSONResponse(plan)
        if output == "table":
            async with reading(OPERATOR, "sql", asked) as read:
                work = services.executor.sql(sql, parameters, tenancy, asker="command")
                answer = await while_listening(request, work)
                read.rows = len(answer["rows"])
            return await answered(answer)
        async with reading(OPERATOR, "sql.file", asked, outcome="begun") as read:
            pieces = services.executor.stream(sql, parameters, output, tenancy, asker="command")
            # Before the first piece an error is still an answer of its own; after it the answer is cut.
            first = await while_listening(request, anext(pieces, b""))
        sent = read.passed_on(passed_on(first, pieces), output)
        return StreamingResponse(sent, media_type="application/octet-stream")

    async def ask(request: Request) -> Response:
        body = await request.json()
        model = KINDS.get(body["kind"])
        if model is None:
            raise RequestError("there is no such kind of question", hint=f"the kinds are {', '.join(sorted(KINDS))}")
        try:
            asked = model.model_validate(body["question"])
        except ValidationError as error:
            raise RequestError(told(error.errors()), hint="docs/questions.md has examples", code="invalid") from None
        tenancy = Tenancy(body["project"], body["environment"])
        operator_ = Principal("operator", Role.OWNER, tenancy)
        output, what = body.get("format", "answer"), f"query.{body['kind']}"
        if output == "answer":
            async with reading(operator(tenancy), what, {}) as read:
                answer = await while_listening(request, services.answers.ask(asked, operator_))
                read.rows = shown_rows(answer)
            return await answered(answer)
        async with reading(operator(tenancy), f"{what}.file", {"format": output}, outcome="begun") as read:
            pages = services.answers.pages(asked, operator_)
            first = await while_listening(request, anext(pages))
        sent = read.passed_on(written(body["kind"], first, pages, output), output)
        return StreamingResponse(sent, headers={ABOUT: about(first)})

    async def import_rows(request: Request) -> Response:
        batch = msgspec.json.decode(await request.body(), type=ImportBatch)
        if batch.import_id not in imports:
            who = operator(Tenancy(batch.project, batch.environment))
            record(who, "import", outcome="begun", detail={"import": batch.import_id[:64]})
            imports[batch.import_id] = who
        return JSONResponse(await _import(services, batch))

    async def import_finish(request: Request) -> Response:
        """Waits until everything of the import is settled, then says what was new."""
        import_id = (await request.json())["import_id"]
        while services.spool.waiting_for(import_id):
            if services.loader.last_error:
                return JSONResponse({"done": False, "waiting": services.loader.last_error})
            await asyncio.sleep(0.05)
        found, loaded = services.spool.ledger.import_counts(import_id)
        who = imports.pop(import_id, OPERATOR)
        record(who, "import", rows=loaded, detail={"import": str(import_id)[:64], "found_in_store": found})
        return JSONResponse({"done": True, "new": loaded, "found_in_store": found})

    async def doctor(_: Request) -> Response:
        return JSONResponse(await examine(services))

    async def sealing(_: Request) -> Response:
        return JSONResponse(services.control.sealing())

    async def new_data_key(_: Request) -> Response:
        with changing(OPERATOR, "encryption.rotate") as told:
            told["data_key"] = services.control.new_data_key()
        return JSONResponse(services.control.sealing())

    async def replay(request: Request) -> Response:
        wanted = (await request.json())["event_id"]
        with changing(OPERATOR, "replay", detail={"event_id": str(UUID(wanted))} if wanted else {}) as told:
            back = await asyncio.to_thread(services.spool.replay, UUID(wanted) if wanted else None)
            told.rows = rows = sum(chunk.rows for chunk in back)
        return JSONResponse({"chunks": [chunk.chunk_id for chunk in back], "rows": rows})

    async def replay_state(_: Request) -> Response:
        waiting = services.spool.depth().events
        quarantined = sum(chunk.rows for chunk in services.spool.ledger.chunks("quarantined"))
        return JSONResponse(
            {"waiting": waiting, "quarantined": quarantined, "error": services.loader.last_error if waiting else ""}
        )

    async def rebuild(request: Request) -> Response:
        wanted = (await request.json())["months"]
        with changing(OPERATOR, "rollup.rebuild", detail={"months": ",".join(map(str, wanted)) or "all"}):
            made = await _rebuild(services, wanted)
        return JSONResponse({"months": made})

    async def rebuild_state(_: Request) -> Response:
        first = first_whole_month(services.spool.complete_since())
        left = [month for month in services.spool.stale_months() if month >= first]
        services.spool.wake()
        return JSONResponse({"left": left, "error": services.loader.last_error if left else ""})

    async def export_plan(request: Request) -> Response:
        """Which files there will be: everything that is in the store by now."""
        body = await request.json()
        wanted, now = _wanted(body), services.clock.milliseconds()
        hours = await asyncio.to_thread(count_hours, services.store, wanted, now)
        columns = await asyncio.to_thread(columns_of, services.store)
        pieces = [piece._asdict() for piece in pieces_of(hours, body["most_rows"])]
        rows = sum(rows for _, rows in hours)
        return JSONResponse({"as_of_milliseconds": now, "columns": columns, "rows": rows, "pieces": pieces})

    async def export_file(request: Request) -> Response:
        body = await request.json()
        piece, as_of = Piece(**body["piece"]), body["as_of_milliseconds"]
        content = await asyncio.to_thread(parquet_of, services.store, _wanted(body), as_of, piece, body["most_rows"])
        rows = await asyncio.to_thread(rows_in, content)
        record(OPERATOR, "export.file", rows=rows, detail={"bytes": len(content)})
        return Response(content, media_type="application/vnd.apache.parquet")

    async def erase(request: Request) -> Response:
        body = await request.json()
        place, subjects = Tenancy(body["project"], ""), [subject_of(body)]
        with changing(operator(place), "erasure.request", subjects=subjects) as told:
            made = await asyncio.to_thread(
                services.eraser.request, body["project"], body["user_id"], body["anonymous_id"]
            )
            told["request"] = made.id
        return JSONResponse(made.told())

    async def erase_state(request: Request) -> Response:
        told = services.eraser.get(request.path_params["id"]).told()
        return JSONResponse({**told, "waits_for": services.loader.last_error})

    async def erase_resume(request: Request) -> Response:
        with changing(OPERATOR, "erasure.resume", detail={"request": request.path_params["id"][:64]}):
            return JSONResponse(services.eraser.resume(request.path_params["id"]).told())

    async def export_user(request: Request) -> Response:
        body = await request.json()
        place, subjects = Tenancy(body["project"], ""), [subject_of(body)]
        with changing(operator(place), "person.export", subjects=subjects) as told:
            person = (body["project"], body["user_id"], body["anonymous_id"])
            made = await asyncio.to_thread(services.exporter.export, *person)
            told.rows = made.rows
        return zipped(made.file)

    async def erase_verify(request: Request) -> Response:
        return JSONResponse({"genuine": services.eraser.verify((await request.json())["certificate"])})

    async def retention(request: Request) -> Response:
        project = request.query_params.get("project")
        return JSONResponse(retention_state(services, project))

    async def retention_change(request: Request) -> Response:
        body = await request.json()
        rule: Detail = {"event": body["event"], "field": body["field"], "days": str(body["days"])}
        with changing(operator(Tenancy(body["project"], "")), "retention.change", detail=rule):
            change_retention(services, body["project"], body["event"], body["field"], body["days"])
        return JSONResponse(retention_state(services, body["project"]))

    async def backup(request: Request) -> Response:
        body = await request.json()
        only = "keys" if body.get("keys") else "rights" if body["rights"] else ""
        with changing(OPERATOR, "backup", detail={"only": only}):
            made = await asyncio.to_thread(_backup, services, Path(body["to"]), only)
        return JSONResponse(made)

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, TwintrackError)
        return JSONResponse(error.body(), error.status)

    return Starlette(
        routes=[
            *access_commands(services.control, services.settings, services.clock, services.audit),
            Route("/rollouts", rollouts),
            Route("/rollouts", rollout_change, methods=["POST"]),
            Route("/query", query, methods=["POST"]),
            Route("/ask", ask, methods=["POST"]),
            Route("/import", import_rows, methods=["POST"]),
            Route("/import/finish", import_finish, methods=["POST"]),
            Route("/export/plan", export_plan, methods=["POST"]),
            Route("/export/file", export_file, methods=["POST"]),
            Route("/doctor", doctor),
            Route("/encryption", sealing),
            Route("/encryption/rotate", new_data_key, methods=["POST"]),
            Route("/replay", replay, methods=["POST"]),
            Route("/replay", replay_state),
            Route("/backup", backup, methods=["POST"]),
            Route("/retention", retention),
            Route("/retention", retention_change, methods=["POST"]),
            Route("/rollup", rebuild, methods=["POST"]),
            Route("/rollup", rebuild_state),
            Route("/erasures", erase, methods=["POST"]),
            Route("/erasures/verify", erase_verify, methods=["POST"]),
            Route("/erasures/{id}", erase_state),
            Route("/exports", export_user, methods=["POST"]),
            Route("/erasures/{id}/resume", erase_resume, methods=["POST"]),
        ],
        exception_handlers={TwintrackError: failed},
    )


def _wanted(body: dict[str, Any]) -> Wanted:
    since, until = (datetime.fromisoformat(body[name]) if body[name] else None for name in ("since", "until"))
    return Wanted(since, until, body["project"], body["environment"])


def _told(tenancy: Tenancy, rollout: Rollout) -> dict[str, Any]:
    return {**tenancy._asdict(), "rollout": msgspec.to_builtins(rollout)}


async def _import(services: Services, batch: ImportBatch) -> dict[str, Any]:
    """The same pipeline as the door's, without skew correction, age limits, kill switch, share and sampling.

    Every id is looked up.
    """
    project = services.control.ensure_project(batch.project)
    now, tenancy = services.clock.milliseconds(), Tenancy(batch.project, batch.environment)
    masker = services.receiver.maskers.of(batch.environment)
    lives = services.control.retention.policies().of(batch.project)
    rules = Rules(
        limits(),
        project.secret,
        Rollout(),
        False,
        masker,
        services.settings.id_window_days,
        lives,
        services.receiver.denials(tenancy, project.secret),
        services.control.tombstones(batch.project),
    )
    # The pipeline takes what is true of every event of a request: an exported file holds those of many.
    senders: dict[Sender, tuple[list[str], list[WireEvent | Refusal]]] = {}
    events = [row.event for row in batch.rows]
    fields = services.settings.sealed
    if services.person_keys is not None and fields is not None:  # `export` wrote tokens; they are sealed again below
        opened = partial(services.person_keys.opened, batch.project)
        events = await asyncio.to_thread(open_where_sealed, events, fields, opened)
    for row, event in zip(batch.rows, events, strict=True):
        content = msgspec.json.encode(row.event, order="sorted")
        event_id = str(row.event_id or import_id_of(project.secret, row.milliseconds, content, row.occurrence))
        name = row.event.get("event_name", "")
        kept = batch.keep_expired and lives and lives.expired(name, row.milliseconds // 1000, now // 1000)
        source = KEPT if kept else "import"
        ids, elements = senders.setdefault(row.sender or Sender(), ([], []))
        ids.append(event_id)
        elements.append(decode_one(msgspec.json.encode({**event, "event_id": event_id, "source": source})))
    slabs, refused, reasons = [], [], []
    for sender, (ids, elements) in senders.items():
        address = cut_address(sender.ip_address, keep_full=services.settings.keep_full_address)
        context = RequestContext(
            tenancy, not sender.claimed, None, now, 0, address, sender.user_agent, sender.is_bot, imported=True
        )
        prepared = await services.receiver.preparing.prepared(elements, context, rules)
        slabs += prepared.slabs
        refused += [Refused(ids[i], refusal.status, refusal.reason) for i, refusal in prepared.refusals.items()]
        reasons += [refusal for refusal in prepared.refusals.values()]
    fresh = await services.spool.append(Delivery(tenancy, now, slabs, refused, [], batch.import_id))
    expired = sum(refusal.reason is Reason.EXPIRED for refusal in reasons)
    return {
        "accepted": sum(fresh),
        "duplicate": len(fresh) - sum(fresh),
        "expired": expired,
        "refused": len(refused) - expired,
        "reasons": [r.message for r in reasons if r.reason is not Reason.EXPIRED][:5],
    }


def _backup(services: Services, to: Path, only: str) -> dict[str, Any]:
    if only == "keys":
        return _keys(services, to)
    if only == "rights":
        now = services.clock.milliseconds()
        write_file(to, rights_of(services.control.engine, now), services.settings.key_ring)
        return {}
    s = services
    made = take(s.settings, s.control, s.spool, s.loader, s.store, s.clock, to)
    return {"files": len(made.files), "bytes": sum(one.bytes for one in made.files), "contents": made.contents}


def _keys(services: Services, to: Path) -> dict[str, Any]:
    ring, now = services.settings.key_ring, services.clock.milliseconds()
    if services.person_keys is None or ring is None:
        raise RequestError("nothing is sealed under keys of people here", hint="set TWINTRACK_SEALED_FIELDS")
    delete_by = iso(now + services.settings.erasure_days * 86_400_000)
    written = write_keys(to, services.person_keys, ring, now)
    return {"keys": written, "damaged": services.person_keys.damaged().total(), "delete_by": delete_by}


def _saved(services: Services, project: str, name: str) -> str:
    """Raises: RequestError that names those that there are."""
    kept = {one.name: one.sql for one in SavedQueries(services.control.engine, services.clock).all(project)}
    if name not in kept:
        names = ", ".join(sorted(kept)[:20]) or "none"
        raise RequestError(f"{project} has no saved query of that name", hint=f"its saved queries: {names}", status=404)
    return kept[name]


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
