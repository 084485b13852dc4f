"""`POST /api/analytics/query/{kind}`: one path for each kind of question, with the model of each in the documentation."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import Field, ValidationError, create_model
from starlette.responses import StreamingResponse

from twintrack import auth
from twintrack.access.admission import Admission
from twintrack.clock import Clock
from twintrack.errors import RequestError
from twintrack.permissions import Permission
from twintrack.privacy.audit import Detail
from twintrack.privacy.audited import Audited, shown_rows
from twintrack.query.answer import Answers
from twintrack.query.execute import Executor
from twintrack.query.kinds import KINDS
from twintrack.query.listening import passed_on, while_allowed, while_listening
from twintrack.query.question import EventSelection, Question
from twintrack.query.scope import refused
from twintrack.query.sealed import NOTHING, Sealed
from twintrack.query.tail import Listener, tail
from twintrack.query.written import ABOUT, MEDIA, about, answered, written

PATH = "/api/analytics/query"


def kind_routes(
    answers: Answers,
    executor: Executor,
    clock: Clock,
    admission: Admission,
    audited: Audited,
    sealed: Sealed = NOTHING,
) -> APIRouter:
    router = APIRouter(tags=["query"])
    asker = Annotated[auth.Principal, Depends(admission.may(Permission.QUERY))]

    def route(name: str, model: type[Question]) -> Callable[..., Awaitable[Any]]:
        async def ask(body: model, request: Request, principal: asker) -> Any:  # type: ignore[valid-type]
            output: str = body.format  # type: ignore[attr-defined]
            if output == "answer":
                async with audited.read(request, principal, f"query.{name}") as read:
                    answer = await while_listening(request, answers.ask(body, principal))
                    read.rows = shown_rows(answer)
                return await answered(answer)
            admission.check(principal, Permission.EXPORT)
            what, detail = f"query.{name}.file", Detail(format=output)
            async with audited.read(request, principal, what, detail, outcome="begun") as read:
                pages = answers.pages(body, principal)
                # Before the first page an error is still an answer of its own.
                first = await while_listening(request, anext(pages))
            pieces = while_allowed(partial(admission.still, request, principal), written(name, first, pages, output))
            sent = read.passed_on(pieces, output)
            return StreamingResponse(sent, media_type=MEDIA[output], headers={ABOUT: about(first)})

        return ask

    for name, model in KINDS.items():
        summary = (model.__doc__ or name).strip().splitlines()[0]
        router.add_api_route(
            f"{PATH}/{name}",
            route(name, _as_sent(model)),
            methods=["POST"],
            summary=summary,
            name=f"query_{name}",
            response_model=None,
        )

    @router.get(
        "/api/analytics/tail",
        summary="Events as they reach the store, as server-sent events",
        response_class=StreamingResponse,
    )
    async def live_tail(
        request: Request,
        principal: asker,
        event: Annotated[list[str] | None, Query(max_length=100, description="Only these names.")] = None,
        filter: Annotated[str, Query(max_length=8_000, description="A filter, as JSON.")] = "",
        after: Annotated[str, Query(max_length=100, description="As `Last-Event-ID`, which beats it.")] = "",
        last_event_id: Annotated[str, Header(max_length=100)] = "",
    ) -> StreamingResponse:
        of = _selection(event, filter)
        still = partial(admission.still, request, principal)
        shown = partial(audited.looked, request, principal, "tail.read")
        listener = Listener(principal, await answers.scope(principal), still, shown)
        await shown(0)
        messages = tail(executor, clock, listener, of, last_event_id or after, sealed)
        first = await anext(messages)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(passed_on(first, messages), media_type="text/event-stream", headers=headers)

    @router.api_route(f"{PATH}/{{kind}}", methods=["GET", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def only_post(kind: str) -> None:
        raise RequestError(
            "questions are sent by POST, as JSON", hint="docs/questions.md", code="method_not_allowed", status=405
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


def _as_sent(model: type[Question]) -> type[Question]:
    """The question with the format of its answer beside it, which is no part of what is asked."""
    said = (
        "`answer`: one JSON object; else the answer as one flat table (docs/reference/answers.md), of a list without `limit`"
        " all of its pages, as a stream that is cut off where it fails."
    )
    output: Any = (Literal["answer", "csv", "json", "parquet"], Field("answer", description=said))
    return create_model(f"{model.__name__}Request", __base__=model, __doc__=model.__doc__, format=output)


def _selection(names: list[str] | None, text: str) -> EventSelection:
    try:
        given = {"event": names, "filter": json.loads(text) if text else None}
        of = EventSelection.model_validate(given)
    except (ValueError, ValidationError):
        raise refused("the filter cannot be read", "send it as JSON, as in a question", "bad_filter") from None
    _ = of.names
    return of
