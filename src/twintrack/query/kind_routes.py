"""`POST /api/analytics/query/{kind}`: one path for each kind of question, with the model of each in the documentation."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.errors import RequestError
from twintrack.permissions import Permission
from twintrack.privacy.audited import Audited
from twintrack.query.answer import Answers
from twintrack.query.kinds import KINDS
from twintrack.query.question import Question

PATH = "/api/analytics/query"


def kind_routes(answers: Answers, admission: Admission, audited: Audited) -> APIRouter:
    router = APIRouter(tags=["query"])
    asker = Annotated[auth.Principal, Depends(admission.may(Permission.QUERY))]

    def route(name: str, model: type[Question]) -> Callable[..., Awaitable[dict[str, Any]]]:
        async def ask(body: model, request: Request, principal: asker) -> dict[str, Any]:  # type: ignore[valid-type]
            async with audited.read(request, principal, f"query.{name}") as read:
                answer = await answers.ask(body, principal)
                read.rows = len(answer["rows"]) if isinstance(answer.get("rows"), list) else None
            return answer

        return ask

    for name, model in KINDS.items():
        summary = (model.__doc__ or name).strip().splitlines()[0]
        router.add_api_route(
            f"{PATH}/{name}", route(name, model), methods=["POST"], summary=summary, name=f"query_{name}"
        )

    @router.post(f"{PATH}/{{kind}}", include_in_schema=False)
    async def unknown(kind: str, principal: asker) -> None:
        raise RequestError(
            "there is no such kind of question",
            hint="the kinds are " + ", ".join(sorted(KINDS)),
            code="unknown_kind",
            status=404,
        )

    return router
