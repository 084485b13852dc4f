"""Consent over HTTP: an application says what a person agreed to, a privacy officer asks for the history.

Persons travel in bodies only. A statement about a user holds for the anonymous ids that were first linked to it too, as
far as the store knows of any. The word that each event carried of itself stands in its row and is told with the rest.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock, iso, milliseconds_of
from twintrack.control.consents import ANALYTICS, DENIED, GRANTED, Consents, Statement
from twintrack.control.control import Control
from twintrack.control.tombstones import ANONYMOUS, USER, subject_hash
from twintrack.errors import RequestError, StoreError
from twintrack.event import Tenancy
from twintrack.permissions import Permission
from twintrack.privacy.audit import Detail, Who
from twintrack.privacy.audited import Audited
from twintrack.privacy.subject import forms, mark_of, typed
from twintrack.query.execute import Executor
from twintrack.store.schema import DATABASE

PATH = "/api/analytics/privacy/consents"
_MOST_STATEMENTS = 1_000
_AHEAD_MILLISECONDS = 60_000


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user_id: str | None = Field(None, description="The person as your application names it.")
    anonymous_id: str | None = Field(None, description="Or a browser without a user.")


class Word(Person):
    """What one person said about one purpose."""

    purpose: str = Field(ANALYTICS, pattern=r"^[a-z0-9_.-]{1,40}$", description="`analytics` is honoured at ingest.")
    state: str = Field(pattern=f"^({GRANTED}|{DENIED})$", description="granted or denied")
    at: AwareDatetime | None = Field(None, description="When the person said so; absent: now.")
    source: str = Field("api", pattern=r"^[A-Za-z0-9_.:-]{1,40}$", description="By which way, such as banner-3.")


class Words(BaseModel):
    model_config = ConfigDict(extra="forbid")
    statements: list[Word] = Field(min_length=1, max_length=_MOST_STATEMENTS)


class ConsentHistory:
    def __init__(self, control: Control, executor: Executor, clock: Clock) -> None:
        self._control, self._executor, self._clock = control, executor, clock

    @property
    def _consents(self) -> Consents:
        return self._control.consents

    async def state(self, words: list[Word], principal: auth.Principal) -> dict[str, Any]:
        """Durable when it returns, and in force at every door within a second.

        Raises: RequestError for a person or a time that is none; then nothing was recorded.
        """
        now, tenancy = self._clock.milliseconds(), principal.tenancy
        secret = self._control.project(tenancy.project).secret
        persons = [(word, *typed(word.user_id, word.anonymous_id)) for word in words]
        statements: list[Statement] = []
        for word, kind, identifier in persons:
            at = now if word.at is None else milliseconds_of(word.at)
            if at > now + _AHEAD_MILLISECONDS:
                raise RequestError("`at` lies ahead of now", hint="send when the person said so", code="bad_time")
            statements += [
                Statement(
                    *tenancy, kind, subject_hash(secret, form), word.purpose, word.state, at, word.source,
                    principal.key_id, now,
                )
                for form in forms(identifier, secret)
            ]  # fmt: skip
        await asyncio.to_thread(self._consents.record, statements)
        linked, known = 0, True
        for (word, kind, identifier), said in zip(persons, statements[::2], strict=True):
            if kind == USER and word.purpose == ANALYTICS:
                try:
                    owned = await self._owned(tenancy, forms(identifier, secret))
                except StoreError:
                    known = False
                    continue
                also = [said._replace(kind=ANONYMOUS, hash=subject_hash(secret, one)) for one in owned]
                linked += len(also)
                await asyncio.to_thread(self._consents.record, also)
        hint = "" if known else "the store is away: anonymous ids of these users are not covered; send the same again"
        return {"recorded": len(words), "linked_anonymous_ids": linked, "hint": hint}

    async def history(self, person: Person, tenancy: Tenancy) -> dict[str, Any]:
        """Every statement about a person, oldest first, and what their events said of themselves."""
        kind, identifier = typed(person.user_id, person.anonymous_id)
        secret = self._control.project(tenancy.project).secret
        stored = forms(identifier, secret)
        persons = [(tenancy.environment, kind, subject_hash(secret, form)) for form in stored]
        rows = await asyncio.to_thread(self._consents.history, tenancy.project, persons)
        told: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            names = ("purpose", "state", "source", "recorded_by")
            shown = {name: row[name] for name in names} | {"recorded_at": iso(row["recorded_at"]), "at": iso(row["at"])}
            told.setdefault((row["purpose"], row["state"], row["at"], row["source"]), shown)
        return {
            "subject_hmac": subject_hash(secret, identifier),
            "statements": list(told.values()),
            "latest": {word["purpose"]: word["state"] for word in told.values()},
            "events": await self._stamps(kind, stored, tenancy),
        }

    async def _stamps(self, kind: str, stored: list[str], tenancy: Tenancy) -> list[dict[str, Any]]:
        column = "user_id" if kind == USER else "user_id = '' AND anonymous_id"
        answer = await self._executor.run(
            "SELECT consent AS state, consent_at AS at, consent_denied AS denied, count() AS events,"
            f" min(server_timestamp) AS first, max(server_timestamp) AS last FROM {DATABASE}.events"
            " WHERE project = {project:String} AND environment = {environment:String}"
            f" AND {column} IN ({{first:String}}, {{second:String}}) AND consent != ''"
            " GROUP BY state, at, denied ORDER BY first LIMIT 1000",
            {**tenancy._asdict(), "first": stored[0], "second": stored[-1]},
        )
        names = [column["name"] for column in answer["columns"]]
        return [dict(zip(names, row, strict=True)) for row in answer["rows"]]

    async def _owned(self, tenancy: Tenancy, users: list[str]) -> list[str]:
        """Anonymous ids that were first linked to one of these users."""
        answer = await self._executor.run(
            f"SELECT anonymous_id FROM {DATABASE}.identities"
            " WHERE project = {project:String} AND environment = {environment:String} AND anonymous_id IN"
            f" (SELECT anonymous_id FROM {DATABASE}.identities WHERE project = {{project:String}}"
            "  AND environment = {environment:String} AND user_id IN ({first:String}, {second:String}))"
            " GROUP BY anonymous_id HAVING argMin(user_id, (first_linked_at, user_id)) IN ({first:String}, {second:String})",
            {**tenancy._asdict(), "first": users[0], "second": users[-1]},
        )
        return [row[0] for row in answer["rows"]]


def consent_routes(
    control: Control, executor: Executor, clock: Clock, admission: Admission, audited: Audited
) -> APIRouter:
    router = APIRouter(tags=["privacy"])
    told = ConsentHistory(control, executor, clock)
    may_state, may_ask = Depends(admission.may(Permission.STATE)), Depends(admission.may(Permission.PRIVACY))

    @router.post(PATH, summary="Record what people agreed to, or took back")
    async def state(body: Words, request: Request, principal: Annotated[auth.Principal, may_state]) -> dict[str, Any]:
        secret = control.project(principal.tenancy.project).secret
        subjects = sorted({mark_of(secret, word.user_id, word.anonymous_id) for word in body.statements})
        who, where = Who.of(principal), audited.where(request)
        detail: Detail = {"statements": len(body.statements)}
        with audited.audit.change(who, "consent.state", where=where, subjects=subjects, detail=detail):
            return await told.state(body.statements, principal)

    @router.post(f"{PATH}/history", summary="Everything one person ever said, and what their events said")
    async def history(body: Person, request: Request, principal: Annotated[auth.Principal, may_ask]) -> dict[str, Any]:
        async with audited.read(request, principal, "consent.read") as read:
            secret = control.project(principal.tenancy.project).secret
            read.subject = mark_of(secret, body.user_id, body.anonymous_id)
            said = await told.history(body, principal.tenancy)
            read.rows = len(said["statements"])
            return said

    return router
