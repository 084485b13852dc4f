"""Whose question runs next: few at once, and each asker in turn, so that one who asks much waits for himself.

Within one event loop; a question that is given up while it waits leaves its place.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twintrack.errors import TooMany


class Turns:
    """Shape: `at_once` questions run, `waiting` of one asker wait; a further one is refused."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._free, self._most = at_once, at_once, waiting
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def running(self) -> int:
        return self._at_once - self._free

    @asynccontextmanager
    async def turn(self, asker: str) -> AsyncIterator[None]:
        """Waits for a turn and holds it. Raises: TooMany."""
        if self._free and not self._queues:
            self._free -= 1
        else:
            await self._wait(asker)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, asker: str) -> None:
        queue = self._queues.setdefault(asker, deque())
        if len(queue) >= self._most:
            raise TooMany(
                f"{self._most} of your questions wait already",
                hint="ask again when one is answered",
                code="too_many_questions",
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._leave(asker, place)
            else:
                self._pass_on()  # the turn had just been given
            raise

    def _leave(self, asker: str, place: "asyncio.Future[None]") -> None:
        queue = self._queues.get(asker)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._queues[asker]

    def _pass_on(self) -> None:
        """Gives the turn to the asker who has waited longest for one; those who ask much go to the end each time."""
        while self._queues:
            asker, queue = self._queues.popitem(last=False)
            place = queue.popleft()
            if queue:
                self._queues[asker] = queue
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
