"""An application in this process is asked as over a wire: pieces as they come, and our own errors as they are."""

import asyncio
from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from twintrack.errors import StoreError, TwintrackError
from twintrack.streamed import Streamed


async def cut(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise StoreError("the question met its limit", code="query_limit")

    return StreamingResponse(pieces())


async def told(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 500)


def test_answer_that_breaks_off_behind_its_first_piece_raises_our_own_error() -> None:
    app = Starlette(routes=[Route("/", cut)], exception_handlers={TwintrackError: told})
    came: list[bytes] = []

    async def ask() -> None:
        client = httpx.AsyncClient(transport=Streamed(app), base_url="http://x")
        async with client, client.stream("GET", "/") as response:
            async for piece in response.aiter_raw():
                came.append(piece)

    with pytest.raises(StoreError, match="met its limit"):
        asyncio.run(ask())
    assert came == [b"first"]
