"""`/api/analytics/cohorts`: definitions that an environment keeps, to be used as filters by name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock
from twintrack.control.cohorts import Cohorts
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.permissions import Permission, hidden_from
from twintrack.privacy.audit import Detail, Who
from twintrack.privacy.audited import Audited
from twintrack.query import cohort
from twintrack.query.catalog import IDENTIFIERS
from twintrack.query.compile.statement import Parameters
from twintrack.query.scope import Scope, refused
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
    """`stored` gives the form in which an identifier is kept; anything else is given back as it is."""
    router = APIRouter(tags=["query"])
    looker = Annotated[auth.Principal, Depends(admission.may(Permission.QUERY))]
    keeper = Annotated[auth.Principal, Depends(admission.may(Permission.KEEP))]

    def changing(request: Request, principal: auth.Principal, what: str) -> AbstractContextManager[Detail]:
        # Without the name: the log is never changed, and a name may be a person's.
        return audited.audit.change(Who.of(principal), what, where=audited.where(request))

    def scope(principal: auth.Principal, kept: Mapping[str, Any]) -> Scope:
        now = clock.milliseconds()
        return Scope(principal.tenancy, principal.role, now, cohorts=cohort.named(kept), sealed=sealed.fields)

    @router.get(PATH, summary="The cohorts that are kept, with what they mean")
    def listed(request: Request, principal: looker) -> dict[str, Any]:
        kept = cohorts.all(principal.tenancy)
        audited.audit.repeated(Who.of(principal), "cohort.list", where=audited.where(request), rows=len(kept))
        asking = scope(principal, kept)
        return {"cohorts": [_shown(name, definition, asking) for name, definition in kept.items()]}

    @router.put(PATH, summary="Keep a cohort under a name, in the place of what had it")
    def put(body: Kept, request: Request, principal: keeper) -> dict[str, Any]:
        asking = scope(principal, {**cohorts.all(principal.tenancy), body.name: body.definition})
        # What cannot be asked, or not by them, is refused now: before anything is told of what they wrote.
        asking.cohorts[body.name](asking, Parameters(principal.tenancy))
        sees_people = Permission.CLAIMS not in hidden_from(principal.role)
        keeping = _Keeping(lambda text: stored(principal.tenancy, text), sees_people=sees_people)
        keeping.plain(body.name)
        definition = keeping.part(body.definition)
        with changing(request, principal, "cohort.put"):
            cohorts.put(principal.tenancy, body.name, definition)
        return _shown(body.name, definition, asking)

    @router.delete(PATH, status_code=204, summary="Forget a cohort")
    def remove(body: Named, request: Request, principal: keeper) -> Response:
        with changing(request, principal, "cohort.delete"):
            cohorts.remove(principal.tenancy, body.name)
        return Response(status_code=204)

    return router


def _shown(name: str, definition: dict[str, Any], asking: Scope) -> dict[str, Any]:
    """The cohort as this role sees it; of one that it may not ask the name alone: values of conditions name people."""
    if not _may_ask(name, asking):
        return {"name": name, "definition": None, "meaning": f"asks about what a {asking.role} may not see"}
    return {"name": name, "definition": definition, "meaning": cohort.words(cohort.parse(definition))}


def _may_ask(name: str, asking: Scope) -> bool:
    if not hidden_from(asking.role):
        return True  # also of one that nobody can ask any more: who keeps it must see why
    try:
        asking.cohorts[name](asking, Parameters(asking.tenancy))
    except RequestError:
        return False
    return True


class _Keeping(NamedTuple):
    """What is kept of a definition: no text of it lies on our disk that masking would have taken out of an event.

    Only who sees people has identifiers put in their stored form: of others that would try a guess, and tell whose it is.
    """

    stored: Callable[[str], str]
    sees_people: bool

    def part(self, part: Any, identifier: bool = False) -> Any:
        if isinstance(part, dict):
            of_one = part.get("property") in IDENTIFIERS and part.get("operator") != "matches"
            return {
                key: self.part(value, key == "persons" or (of_one and key == "value")) for key, value in part.items()
            }
        if isinstance(part, list):
            return [self.part(one, identifier) for one in part]
        if not isinstance(part, str):
            return part
        return self.stored(part) if identifier and self.sees_people else self.plain(part)

    def plain(self, text: str) -> str:
        """Raises: RequestError for a text that masking would change."""
        if self.stored(text) != text:
            raise refused(
                "the cohort holds what masking takes out of events, such as an e-mail address",
                "no stored event has it as it was sent: compare `user_id` with a role that sees people, or what is stored,"
                " such as [EMAIL]",
                "masked_value",
            )
        return text
