"""The HTTP half of the audit log: what a route records of a read, and the log itself for those who may read it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from twintrack import auth
from twintrack.errors import TwintrackError, Unavailable
from twintrack.ingest.enrich import client_address, cut_address
from twintrack.privacy import chain
from twintrack.privacy.audit import Audit, Detail, Who
from twintrack.privacy.chain import Entry
from twintrack.settings import Settings


class Read:
    """What a route learns while it answers."""

    rows: int | None = None
    subject: bytes = b""


class Audited:
    """Records what was asked over HTTP, from which address."""

    def __init__(self, audit: Audit, settings: Settings) -> None:
        self.audit, self._settings = audit, settings

    def where(self, request: Request) -> str:
        """The client's address, cut as configured."""
        peer = request.client.host if request.client is not None else ""
        forwarded = request.headers.get("x-forwarded-for", "")
        found = client_address(peer, forwarded, self._settings.trusted_proxies)
        return cut_address(found, keep_full=self._settings.keep_full_address)

    @asynccontextmanager
    async def read(
        self, request: Request, principal: auth.Principal, what: str, detail: Detail | None = None
    ) -> AsyncIterator[Read]:
        """Around everything that shows data of people: the record is on disk before the answer leaves.

        Raises: Unavailable where it could not be kept; the answer is thrown away then.
        """
        told = Read()

        async def keep(outcome: str) -> None:
            await asyncio.to_thread(
                self.audit.record,
                Who.of(principal),
                what,
                where=self.where(request),
                rows=told.rows,
                subject=told.subject,
                outcome=outcome,
                detail=detail,
            )

        try:
            yield told
        except TwintrackError as error:
            await keep(error.code)
            raise
        await keep("done")

    async def looked(self, request: Request, principal: auth.Principal, what: str, rows: int) -> None:
        """For what a page asks every few seconds and that shows rows: the first of a minute is on disk before it is
        answered, the others are summed up.

        Raises: Unavailable where the first could not be kept.
        """
        await asyncio.to_thread(self.audit.repeated, Who.of(principal), what, where=self.where(request), rows=rows)

    async def glanced(self, request: Request, principal: auth.Principal, what: str) -> None:
        """For pages of sums, which show no row: summed up likewise, and answered even where it cannot be recorded; the
        failure is counted and shown in the metrics."""
        try:
            await self.looked(request, principal, what, 0)
        except Unavailable:
            return


def audit_routes(audited: Audited, may_read: Any) -> APIRouter:
    """`may_read` is the dependency that lets the roles in that may read it."""
    router = APIRouter(prefix="/api/analytics", tags=["audit"])

    @router.get("/audit", summary="The audit log of the key's project, newest first")
    async def log(
        request: Request,
        principal: Annotated[auth.Principal, Depends(may_read)],
        before: Annotated[int, Query(ge=0, description="Only records before this sequence; 0: from the newest.")] = 0,
        what: Annotated[str, Query(max_length=64)] = "",
        who: Annotated[str, Query(max_length=64)] = "",
        subject: Annotated[str, Query(max_length=64, description="HMAC of a subject.")] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> dict[str, Any]:
        def wanted(entry: Entry) -> bool:
            return entry.project == principal.tenancy.project and matches(entry, what=what, who=who, subject=subject)

        folder = audited.audit.folder
        found = await asyncio.to_thread(newest, folder, wanted, before=before, limit=limit)
        await audited.looked(request, principal, "audit.read", len(found))
        head = audited.audit.head()
        return {
            "records": [msgspec.to_builtins(entry) for entry in found],
            "next": found[-1].sequence if len(found) == limit else None,
            "head": head._asdict(),
        }

    return router


def matches(entry: Entry, *, what: str = "", who: str = "", subject: str = "", project: str = "") -> bool:
    """Whether a record is asked for; `what` is a name or the beginning of names, such as `key.`."""
    named = entry.what.startswith(what) if what.endswith(".") else what in ("", entry.what)
    return named and who in ("", entry.who) and subject in ("", entry.subject) and project in ("", entry.project)


def newest(folder: Any, wanted: Any, *, before: int = 0, limit: int = 100) -> list[Entry]:
    """The last records that are wanted, newest first; lines that are not whole are left to `audit verify`."""
    found: list[Entry] = []
    for file in reversed(chain.files(folder)):
        kept = [
            line.entry
            for line in chain.lines(file)
            if line.entry is not None and (not before or line.entry.sequence < before) and wanted(line.entry)
        ]
        found += reversed(kept)
        if len(found) >= limit:
            break
    return found[:limit]
