"""Where is my event? One id through every stage: door, spool, store, vendors."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from twintrack.clock import iso
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.permissions import Permission
from twintrack.query.execute import Executor
from twintrack.spool.protocol import WholeSpool
from twintrack.store.schema import DATABASE

_HIDDEN = ("project", "environment")


async def fate(
    event_id: str,
    tenancy: Tenancy,
    spool: WholeSpool,
    executor: Executor,
    hidden: Collection[Permission] = (),
) -> dict[str, Any]:
    """Stages, stored row, what was masked, and the receipts of one event.

    Raises: RequestError 400 for what is no id, 404 where the id is outside the record.
    """
    try:
        wanted = UUID(event_id)
    except ValueError as error:
        raise RequestError("an event id is a UUID", hint="copy it whole, with its dashes", code="bad_id") from error
    place = {"id": str(wanted), "project": tenancy.project, "environment": tenancy.environment}
    scope = "event_id = {id:UUID} AND project = {project:String} AND environment = {environment:String}"
    row_of = f"SELECT * FROM {DATABASE}.events WHERE {scope} LIMIT 1"
    stored = await executor.run(row_of, place)
    settled = not stored["rows"] and _settled(spool, wanted, tenancy.project)
    if settled:
        stored = await executor.run(row_of, place)  # it may have been loaded while we asked
    receipts = await executor.run(
        f"SELECT vendor, status, min(at) AS at FROM {DATABASE}.receipts WHERE {scope}"
        " GROUP BY vendor, status ORDER BY at",
        place,
    )
    answer: dict[str, Any] = {
        "event_id": str(wanted),
        "fate": "",
        "reason": None,
        "stages": [],
        "event": None,
        "masked": [],
        "receipts": [{"vendor": v, "status": s, "at": at} for v, s, at in receipts["rows"]],
    }
    if stored["rows"]:
        row = hide({c["name"]: cell for c, cell in zip(stored["columns"], stored["rows"][0], strict=True)}, hidden)
        answer.update(fate="stored", event=row, masked=masked_fields(row["masked"]), stages=_stages(row))
        return answer
    if spool.holds(wanted, tenancy.project):
        if settled:
            detail = "accepted, and taken out since: its person was erased, or it expired"
            answer.update(fate="gone", stages=[{"name": "spooled", "at": None, "detail": detail}])
            return answer
        fate_now = "quarantined" if spool.quarantined(wanted, tenancy.project) else "in_spool"
        detail = "safe on disk, refused by the store" if fate_now == "quarantined" else "safe on disk, on its way"
        answer.update(fate=fate_now, stages=[{"name": "spooled", "at": None, "detail": detail}])
        return answer
    refusal = spool.ledger.refusal(str(wanted), tenancy.project)
    if refusal is not None:
        status, reason, received = refusal
        answer.update(
            fate="dropped" if status == "dropped" else "refused",
            reason=reason,
            stages=[{"name": "received", "at": iso(received), "detail": f"{status}: {reason}"}],
        )
        return answer
    raise RequestError(
        "this id is outside the record",
        hint="it never arrived, was refused more than 7 days ago, or belongs to another project or environment",
        code="outside_the_record",
        status=404,
    )


def _settled(spool: WholeSpool, event_id: UUID, project: str) -> bool:
    """Whether an id is remembered of which nothing is on its way: it was in the store. Ids stay until their window ends."""
    if not spool.holds(event_id, project) or spool.depth().oldest_milliseconds is not None:
        return False
    return not spool.quarantined(event_id, project)


def hide(row: dict[str, Any], hidden: Collection[Permission]) -> dict[str, Any]:
    """A row as somebody sees it who lacks these permissions. The same marks as in SQL, but for a claimed id: a list
    that is read again each second must not change its names each time."""
    if Permission.TEXT in hidden:
        if row.get("message_content") is not None:
            row["message_content"] = "[MESSAGE]"
        if "ip_address" in row:
            row["ip_address"] = "::"
    if Permission.CLAIMS in hidden and row["identity"] == "claimed":
        row["user_id"] = "[CLAIMED]"
    return row


def masked_fields(masked: list[str]) -> list[dict[str, str]]:
    """`field:rule` as the row keeps it, taken apart."""
    return [dict(zip(("field", "rule"), item.rsplit(":", 1), strict=True)) for item in masked]


def _stages(row: dict[str, Any]) -> list[dict[str, Any]]:
    found = len(row["masked"])
    rules = row["masking_version"]
    masking = f"{found} finding{'s' if found != 1 else ''}, rules {rules}" if rules else "masking is switched off"
    return [
        {"name": "sent", "at": row["client_timestamp"], "detail": "by the client's clock"},
        {"name": "received", "at": row["server_timestamp"], "detail": f"identity {row['identity']}"},
        {"name": "masked", "at": row["server_timestamp"], "detail": masking},
        {"name": "spooled", "at": row["server_timestamp"], "detail": "on disk before the answer"},
        {"name": "loaded", "at": row["loaded_at"], "detail": f"chunk {row['chunk_id']}"},
    ]
