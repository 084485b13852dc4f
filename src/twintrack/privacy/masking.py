"""Trying the masking rules over HTTP: what a text would become, and which rules are in force. Nothing is kept or logged."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.errors import RequestError
from twintrack.permissions import Permission
from twintrack.pii import LiveMaskers, Masker, built_in_names

_MOST_CHARACTERS = 20_000


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    text: str = Field(description="What to mask.", max_length=_MOST_CHARACTERS)


def masking_routes(maskers: LiveMaskers, admission: Admission) -> APIRouter:
    router = APIRouter(prefix="/api/analytics/privacy", tags=["privacy"])
    looker = Depends(admission.may(Permission.LOOK))

    def in_force(principal: auth.Principal) -> Masker:
        masker = maskers.of(principal.tenancy.environment)
        if masker is None:
            raise RequestError(
                "masking is switched off here", hint="TWINTRACK_MASKING=true", code="masking_off", status=409
            )
        return masker

    @router.post("/mask", summary="What the rules in force would leave of a text; nothing is kept")
    def mask(body: Text, principal: Annotated[auth.Principal, looker]) -> dict[str, Any]:
        """`start` and `end` count characters (code points). Pseudonyms are not those that are stored: whoever may try a
        text must not learn whose pseudonym is whose."""
        masker = in_force(principal)
        found = masker.find(body.text)
        masked = masker.masked(body.text, found)
        gone = masked.drop or masked.quarantine
        return {
            "masked": "" if gone else masked.text,
            "found": [{**finding._asdict(), "action": masker.action(finding.rule)} for finding in found],
            "dropped": masked.drop,
            "quarantined": masked.quarantine,
            "version": masker.version,
        }

    @router.get("/masking", summary="Which masking rules are in force, and what is wrong with their file")
    def rules(principal: Annotated[auth.Principal, looker]) -> dict[str, Any]:
        masker = in_force(principal)
        known = built_in_names()
        return {
            "version": masker.version,
            "environment": principal.tenancy.environment,
            "from_file": maskers.from_file,
            "fault": maskers.fault or None,
            "rules": [
                {
                    "name": rule.name,
                    "token": rule.token,
                    "action": masker.action(rule.name),
                    "own": rule.name not in known,
                }
                for rule in masker.rules
            ],
        }

    return router
