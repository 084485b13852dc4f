"""A question is worth its cost for as long as somebody waits for the answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from twintrack.errors import RequestError

_Answer = TypeVar("_Answer")


async def while_listening(request: Request, work: Awaitable[_Answer]) -> _Answer:
    """The work's answer; cancels it when the client closes its connection. The body must have been read.

    Raises: RequestError when nobody listens any more, and whatever the work raises.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RequestError("the client has left", code="client_left", status=499)
    finally:
        for task in (working, leaving):
            task.cancel()
        for task in (working, leaving):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def passed_on(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream whose first piece has been looked at already: until it has come, an error is an answer of its own."""
    yield first
    async for piece in rest:
        yield piece


async def while_allowed(still: Callable[[], Awaitable[bool]], pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A file, for as long as who asked for it may have it; then it is cut.

    Raises: RequestError in the place of a piece that they may not see any more.
    """
    async for piece in pieces:
        if not await still():
            raise RequestError("who asked may not see this any more", code="not_signed_in", status=401)
        yield piece


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
