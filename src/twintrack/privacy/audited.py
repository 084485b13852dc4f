"""The HTTP half of the audit log: what a route records of a read, and the log itself for those who may read it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from twintrack import auth
from twintrack.errors import TwintrackError, Unavailable
from twintrack.ingest.enrich import cut_address
from twintrack.peer import asker_address
from twintrack.privacy import chain
from twintrack.privacy.audit import Audit, Detail, Who
from twintrack.privacy.chain import Entry
from twintrack.privacy.counted import Counted
from twintrack.settings import Settings


class Read:
    """One read, around what makes the answer: its record is on disk before the answer leaves.

    Shape: `keep` is `Audit.record`, of who, what and where already. A file is `begun` when it leaves, and recorded once
    more with its rows when it has left: by `passed_on`.
    Raises: Unavailable where it could not be kept; the answer is thrown away then.
    """

    rows: int | None = None
    subject: bytes = b""

    def __init__(self, keep: Callable[..., None], outcome: str = "done") -> None:
        self._keep, self._outcome = keep, outcome

    async def __aenter__(self) -> "Read":
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, TwintrackError):
            await self._kept(self._outcome if error is None else error.code)

    async def passed_on(self, pieces: AsyncIterator[bytes], output: str) -> AsyncIterator[bytes]:
        """The pieces of a file in that format; how it ended and its rows are recorded behind the last one."""
        counted, outcome = Counted(output), "left"
        try:
            async for piece in pieces:
                counted.take(piece)
                yield piece
            outcome = "done"
        except Exception as error:
            outcome = error.code if isinstance(error, TwintrackError) else "internal"
            raise
        finally:
            self.rows = counted.rows
            await self._kept(outcome)

    async def _kept(self, outcome: str) -> None:
        # A client that leaves takes its task along, and not the record.
        await asyncio.shield(asyncio.to_thread(self._keep, rows=self.rows, subject=self.subject, outcome=outcome))


class Audited:
    """Records what was asked over HTTP, from which address."""

    def __init__(self, audit: Audit, settings: Settings) -> None:
        self.audit, self._settings = audit, settings

    def where(self, request: Request) -> str:
        """The client's address, cut as configured."""
        found = asker_address(request, self._settings.trusted_proxies)
        return cut_address(found, keep_full=self._settings.keep_full_address)

    def read(
        self,
        request: Request,
        principal: auth.Principal,
        what: str,
        detail: Detail | None = None,
        *,
        outcome: str = "done",
    ) -> Read:
        """Around everything that shows data of people."""
        keep = partial(self.audit.record, Who.of(principal), what, where=self.where(request), detail=detail)
        return Read(keep, outcome)

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


def shown_rows(answer: Mapping[str, Any]) -> int | None:
    """Rows of an answer that lists any; None for one of sums."""
    return len(answer["rows"]) if isinstance(answer.get("rows"), list) else None


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
