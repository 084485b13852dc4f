"""`/api/analytics/cohorts`: definitions that an environment keeps, to be used as filters by name."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock
from twintrack.control.cohorts import Cohorts
from twintrack.event import Tenancy
from twintrack.permissions import Permission, hidden_from
from twintrack.privacy.audit import Detail, Who
from twintrack.privacy.audited import Audited
from twintrack.query import cohort
from twintrack.query.compile.statement import Parameters
from twintrack.query.scope import Scope
from twintrack.query.sealed import NOTHING, Sealed

PATH = "/api/analytics/cohorts"


class Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=100)
    definition: dict[str, Any] = Field(description="One of persons, did, has, funnel, all, any, not.")


class Named(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=100)


def cohort_routes(
    cohorts: Cohorts,
    admission: Admission,
    audited: Audited,
    clock: Clock,
    stored: Callable[[Tenancy, str], str],
    sealed: Sealed = NOTHING,
) -> APIRouter:
    """`stored` gives the form in which an identifier is kept: no list holds one in another."""
    router = APIRouter(tags=["query"])
    looker = Annotated[auth.Principal, Depends(admission.may(Permission.QUERY))]
    keeper = Annotated[auth.Principal, Depends(admission.may(Permission.KEEP))]

    def changing(request: Request, principal: auth.Principal, what: str) -> AbstractContextManager[Detail]:
        # Without the name: the log is never changed, and a name may be a person's.
        return audited.audit.change(Who.of(principal), what, where=audited.where(request))

    @router.get(PATH, summary="The cohorts that are kept, with what they mean")
    def listed(request: Request, principal: looker) -> dict[str, Any]:
        kept = cohorts.all(principal.tenancy)
        audited.audit.repeated(Who.of(principal), "cohort.list", where=audited.where(request), rows=len(kept))
        shown = [_shown(name, definition) for name, definition in kept.items()]
        if Permission.CLAIMS in hidden_from(principal.role):
            for one in shown:
                one["definition"] = None  # it may name people
        return {"cohorts": shown}

    @router.put(PATH, summary="Keep a cohort under a name, in the place of what had it")
    def put(body: Kept, request: Request, principal: keeper) -> dict[str, Any]:
        definition = _stored(body.definition, lambda person: stored(principal.tenancy, person))
        kept = {**cohorts.all(principal.tenancy), body.name: definition}
        now = clock.milliseconds()
        scope = Scope(principal.tenancy, principal.role, now, cohorts=cohort.named(kept), sealed=sealed.fields)
        # What cannot be asked is refused now, and not when somebody filters by it.
        scope.cohorts[body.name](scope, Parameters(scope.tenancy))
        with changing(request, principal, "cohort.put"):
            cohorts.put(principal.tenancy, body.name, definition)
        return _shown(body.name, definition)

    @router.delete(PATH, status_code=204, summary="Forget a cohort")
    def remove(body: Named, request: Request, principal: keeper) -> Response:
        with changing(request, principal, "cohort.delete"):
            cohorts.remove(principal.tenancy, body.name)
        return Response(status_code=204)

    return router


def _shown(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "definition": definition, "meaning": cohort.words(cohort.parse(definition))}


def _stored(part: Any, stored: Callable[[str], str]) -> Any:
    """The definition with each listed person, and each value of a filter, in stored form."""
    if isinstance(part, dict):
        return {
            key: _values(v, stored) if key in ("persons", "value") else _stored(v, stored) for key, v in part.items()
        }
    return [_stored(one, stored) for one in part] if isinstance(part, list) else part


def _values(part: Any, stored: Callable[[str], str]) -> Any:
    if isinstance(part, list):
        return [_values(one, stored) for one in part]
    return stored(part) if isinstance(part, str) else part
