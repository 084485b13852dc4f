"""Events as they reach the store, sent on as server-sent events, for as long as somebody listens.

An insert is visible a little after the time it notes, so each look goes back some seconds and leaves out what was sent.
A client that comes again with `Last-Event-ID` misses nothing of the last hour; it may see an event twice, by its id.
"""

import asyncio
import json
from collections.abc import AsyncIterator

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
# Then the client comes again by itself, and is asked again who it is.
_LONGEST_SECONDS = 600.0


async def tail(
    executor: Executor,
    clock: Clock,
    principal: Principal,
    of: EventSelection,
    last_id: str,
    sealed: Sealed = NOTHING,
) -> AsyncIterator[bytes]:
    """Messages: `row` with one event by column, `skipped` where more came at once than is sent. Their ids are cursors.

    Raises: RequestError for a filter that cannot be asked or a cursor that is none of ours, at the first step.
    """
    now = clock.milliseconds()
    since = now
    if last_id:
        (since,) = cursor.read(last_id, int)
        since = min(max(since, now - _FARTHEST_BACK_MILLISECONDS), now)
    sent: dict[str, int] = {}
    quiet, looks = 0, 0
    yield b"retry: 1000\n\n"
    while looks * _LOOK_SECONDS < _LONGEST_SECONDS:
        looks += 1
        looked = clock.milliseconds()
        p = Parameters(principal.tenancy)
        scope = Scope(principal.tenancy, principal.role, looked, sealed=sealed.fields)
        back = p.moment(since - _OVERLAP_MILLISECONDS)
        where = [
            f"server_timestamp > {back} - INTERVAL 1 HOUR",
            f"loaded_at > {back}",
            condition(of.filter, scope, p),
            *([f"event_name IN {p.texts(of.names)}"] if of.names else []),
        ]
        asked = page(COLUMNS, where, "", _MOST_ROWS, scope, p, by_person=asks_person(of.filter))
        rows = (await executor.run(asked.sql, asked.parameters, principal.key_id))["rows"]
        fresh = await sealed.shown([row for row in reversed(rows[:_MOST_ROWS]) if row[0] not in sent], principal)
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
        await asyncio.sleep(_LOOK_SECONDS)


def _message(kind: str, here: str, data: object) -> bytes:
    return f"event: {kind}\nid: {here}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
