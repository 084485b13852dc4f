"""Retention as people set it: the rules of a project, what they have done so far, over HTTP and by command."""

from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock, iso
from twintrack.control.control import Control
from twintrack.permissions import Permission
from twintrack.privacy.audit import Detail, Who
from twintrack.privacy.audited import Audited
from twintrack.spool.protocol import WholeSpool

Days = int | Literal["forever", "off"]


class Parts(Protocol):
    """What of the running services is needed here."""

    @property
    def control(self) -> Control: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def spool(self) -> WholeSpool: ...


class RetentionChange(BaseModel):
    """One rule. Which project it is of comes from the key."""

    model_config = ConfigDict(extra="forbid")
    event: str = Field("", description="Event name; empty for every event without a rule of its own.", max_length=300)
    field: str = Field(
        "", description="`message`, or `metadata.NAME` for one outermost key; empty for the whole row.", max_length=300
    )
    days: Days = Field(
        description="Days from the event's own time, `forever` against a wider rule, `off` to take it away."
    )


def change_retention(parts: Parts, project: str, event: str, field: str, days: Days) -> None:
    """In force at the door within a second; stored rows follow month by month.

    Raises: RequestError.
    """
    if days == "off":
        parts.control.retention.off(project, event, field)
        return
    parts.control.retention.set(project, event, field, None if days == "forever" else days)
    parts.spool.wake()


def retention_state(parts: Parts, project: str | None) -> dict[str, Any]:
    """The rules of one project or of all, and how far stored rows have followed."""
    policies, removals = parts.control.retention.policies(), parts.spool.removals
    complete = parts.spool.complete_since()
    expired: dict[str, int] = {}
    for (owner, _, outcome, _reason), events in parts.spool.tallies().items():
        if outcome == "expired":
            expired[owner] = expired.get(owner, 0) + events
    names = sorted({*policies.projects, *complete, *expired}) if project is None else [project]
    return {
        "projects": [
            {
                "project": name,
                "rules": [
                    {"event": rule.event, "field": rule.field, "days": "forever" if rule.days is None else rule.days}
                    for rule in policies.rules_of(name)
                ],
                "complete_from": iso(complete[name]) if name in complete else None,
                "expired_events": expired.get(name, 0),
            }
            for name in names
        ],
        "as_of_seconds": parts.clock.milliseconds() // 1000,
        "months_to_rewrite": removals.rewrites(),
    }


def retention_routes(parts: Parts, admission: Admission, audited: Audited) -> APIRouter:
    router = APIRouter(tags=["privacy"])
    guard = Depends(admission.may(Permission.GUARD))

    @router.get("/api/analytics/privacy/retention", summary="How long this project keeps what")
    def show(principal: Annotated[auth.Principal, guard]) -> dict[str, Any]:
        return retention_state(parts, principal.tenancy.project)

    @router.put("/api/analytics/privacy/retention", summary="Set one rule of this project, or take it away")
    def change(body: RetentionChange, request: Request, principal: Annotated[auth.Principal, guard]) -> dict[str, Any]:
        rule: Detail = {"event": body.event, "field": body.field, "days": str(body.days)}
        with audited.audit.change(Who.of(principal), "retention.change", where=audited.where(request), detail=rule):
            change_retention(parts, principal.tenancy.project, body.event, body.field, body.days)
        return retention_state(parts, principal.tenancy.project)

    return router
