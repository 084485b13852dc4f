"""`POST /api/analytics/query/{kind}`: one path for each kind of question, with the model of each in the documentation."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from twintrack import auth
from twintrack.errors import RequestError
from twintrack.query.answer import Answers
from twintrack.query.kinds import KINDS
from twintrack.query.listening import while_listening
from twintrack.query.question import Question
from twintrack.query.routes import Admission

PATH = "/api/analytics/query"


def kind_routes(answers: Answers, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["query"])
    asker = Annotated[auth.Principal, Depends(admission.role(auth.MAY_LOOK))]

    def route(model: type[Question]) -> Callable[..., Awaitable[dict[str, Any]]]:
        async def ask(body: model, request: Request, principal: asker) -> dict[str, Any]:  # type: ignore[valid-type]
            return await while_listening(request, answers.ask(body, principal))

        return ask

    for name, model in KINDS.items():
        summary = (model.__doc__ or name).strip().splitlines()[0]
        router.add_api_route(f"{PATH}/{name}", route(model), methods=["POST"], summary=summary, name=f"query_{name}")

    @router.post(f"{PATH}/{{kind}}", include_in_schema=False)
    async def unknown(kind: str, principal: asker) -> None:
        raise RequestError(
            "there is no such kind of question",
            hint="the kinds are " + ", ".join(sorted(KINDS)),
            code="unknown_kind",
            status=404,
        )

    return router
