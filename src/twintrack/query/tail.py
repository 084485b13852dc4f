"""Events as they reach the store, sent on as server-sent events, for as long as somebody listens and may.

An insert is visible a little after the time it notes, so each look goes back some seconds and leaves out what was sent.
A client that comes again with `Last-Event-ID` is told of the last hour's inserts, whenever their events were sent; of more
than 200 that came at once the newest, with `skipped` for the others. It may see an event twice, by its id.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from twintrack.auth import Principal
from twintrack.clock import Clock
from twintrack.query import cursor
from twintrack.query.compile.events import SHOWN, page
from twintrack.query.compile.statement import Parameters
from twintrack.query.execute import Executor
from twintrack.query.filters import asks_person, condition
from twintrack.query.question import EventSelection
from twintrack.query.scope import Scope
from twintrack.query.sealed import NOTHING, Sealed

COLUMNS = [*SHOWN, "server_timestamp", "loaded_at"]
_LOOK_SECONDS = 1.0
_OVERLAP_MILLISECONDS = 5_000
_FARTHEST_BACK_MILLISECONDS = 3_600_000
_MOST_ROWS = 200
_QUIET_LOOKS = 15
# Then the client comes again by itself, and cohorts are read anew.
_LONGEST_SECONDS = 600.0


class Listener(NamedTuple):
    """Who listens. `still` is whether they may go on; `shown` notes rows, before they are sent."""

    principal: Principal
    scope: Scope
    still: Callable[[], Awaitable[bool]]
    shown: Callable[[int], Awaitable[None]]


async def tail(
    executor: Executor, clock: Clock, listener: Listener, of: EventSelection, last_id: str, sealed: Sealed = NOTHING
) -> AsyncIterator[bytes]:
    """Messages: `row` with one event by column, `skipped` where more came at once than is sent. Their ids are cursors.

    Ends where the listener is no longer who they were: key revoked, member removed, role changed, session over.
    Raises: RequestError for a filter that cannot be asked or a cursor that is none of ours, at the first step.
    """
    principal, scope, loop = listener.principal, listener.scope, asyncio.get_running_loop()
    condition(of.filter, scope, Parameters(principal.tenancy))
    since = now = clock.milliseconds()
    if last_id:
        (since,) = cursor.read(last_id, int)
        since = min(max(since, now - _FARTHEST_BACK_MILLISECONDS), now)
    sent: dict[str, int] = {}
    quiet, until = 0, loop.time() + _LONGEST_SECONDS
    yield b"retry: 1000\n\n"
    while (started := loop.time()) < until:
        looked = clock.milliseconds()
        p = Parameters(principal.tenancy)
        scope = scope._replace(now_milliseconds=looked)
        where = [
            f"loaded_at > {p.moment(since - _OVERLAP_MILLISECONDS)}",
            condition(of.filter, scope, p),
            *([f"event_name IN {p.texts(of.names)}"] if of.names else []),
        ]
        asked = page(COLUMNS, where, "", _MOST_ROWS, scope, p, by_person=asks_person(of.filter))
        rows = (await executor.run(asked.sql, asked.parameters, principal.key_id))["rows"]
        fresh = await sealed.shown([row for row in reversed(rows[:_MOST_ROWS]) if row[0] not in sent], principal)
        # Behind the question, which may have waited for its turn: nothing leaves that they may not see any more.
        if not await listener.still():
            return
        if fresh:
            await listener.shown(len(fresh))
        here = cursor.made(looked)
        for row in fresh:
            sent[row[0]] = looked
            yield _message("row", here, dict(zip(COLUMNS, row, strict=False)))
        if len(rows) > _MOST_ROWS:
            yield _message("skipped", here, {"shown": _MOST_ROWS})
        sent = {event_id: at for event_id, at in sent.items() if at > looked - 4 * _OVERLAP_MILLISECONDS}
        since = looked
        quiet = 0 if fresh else quiet + 1
        if quiet >= _QUIET_LOOKS:
            quiet = 0
            yield b": nothing new\n\n"
        # A question that takes long, such as one about a cohort, has the engine half of the time at most.
        await asyncio.sleep(max(_LOOK_SECONDS, loop.time() - started))


def _message(kind: str, here: str, data: object) -> bytes:
    return f"event: {kind}\nid: {here}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
