"""The last events as they arrive in the store, and how many there were in each minute."""

import base64
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from twintrack.clock import Clock, iso
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.permissions import Permission
from twintrack.query.execute import Executor
from twintrack.store.schema import DATABASE
from twintrack.trace.fate import hide, masked_fields

_COLUMNS = (
    "event_id, event_name, event_timestamp, server_timestamp, user_id, anonymous_id, session_id, thread_id,"
    " event_value, identity, masked, is_bot, source"
)
_SCOPE = "project = {project:String} AND environment = {environment:String}"
# An import writes old days now; "live" is what was received lately and has been loaded since the cursor.
_OVERLAP_MILLISECONDS = 2_000


async def live(
    tenancy: Tenancy,
    executor: Executor,
    clock: Clock,
    after: str,
    limit: int,
    hidden: Collection[Permission] = (),
) -> dict[str, Any]:
    """Newest first. With a cursor, what was loaded since it was given, and a little before: rows repeat, none is missed."""
    now = clock.milliseconds()
    since = _read(after) - _OVERLAP_MILLISECONDS if after else 0
    answer = await executor.run(
        f"SELECT {_COLUMNS}, loaded_at FROM {DATABASE}.events WHERE {_SCOPE}"
        " AND server_timestamp > fromUnixTimestamp64Milli({since:Int64}, 'UTC') - INTERVAL 1 HOUR"
        " AND loaded_at > fromUnixTimestamp64Milli({since:Int64}, 'UTC')"
        " ORDER BY server_timestamp DESC, sequence DESC LIMIT {limit:UInt32}",
        {**tenancy._asdict(), "since": since, "limit": limit},
    )
    names = [c["name"] for c in answer["columns"]]
    events = [hide(dict(zip(names, row, strict=True)), hidden) for row in answer["rows"]]
    for row in events:
        row["masked"] = masked_fields(row["masked"])
    return {"cursor": _cursor(now), "as_of": iso(now), "events": events}


def _cursor(milliseconds: int) -> str:
    return base64.urlsafe_b64encode(str(milliseconds).encode()).decode()


def _read(cursor: str) -> int:
    try:
        return max(2 * _OVERLAP_MILLISECONDS, int(base64.urlsafe_b64decode(cursor.encode())))
    except ValueError as error:
        raise RequestError("the cursor is not one of ours", hint="leave `after` out", code="bad_cursor") from error


async def activity(tenancy: Tenancy, executor: Executor, clock: Clock, minutes: int, top: int) -> dict[str, Any]:
    """Events received in each of the last minutes, by name: the top ones, then the others in one series."""
    now = clock.milliseconds()
    first = now // 60_000 - minutes + 1
    answer = await executor.run(
        "SELECT toUnixTimestamp(toStartOfMinute(server_timestamp)) AS minute, event_name, count() AS events"
        f" FROM {DATABASE}.events WHERE {_SCOPE} AND server_timestamp >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC')"
        " GROUP BY minute, event_name",
        {**tenancy._asdict(), "since": first * 60_000},
    )
    by_name: dict[str, list[int]] = {}
    for minute, name, events in answer["rows"]:
        place = minute // 60 - first
        if 0 <= place < minutes:
            by_name.setdefault(name, [0] * minutes)[place] += events
    ranked = sorted(by_name.items(), key=lambda item: (-sum(item[1]), item[0]))
    series = [{"event_name": name, "counts": counts} for name, counts in ranked[:top]]
    if len(ranked) > top:
        rest = [sum(column) for column in zip(*(counts for _, counts in ranked[top:]), strict=True)]
        series.append({"event_name": "other", "counts": rest})
    starts = [datetime.fromtimestamp((first + i) * 60, UTC).isoformat().replace("+00:00", "Z") for i in range(minutes)]
    return {"as_of": iso(now), "minutes": starts, "series": series, "unfinished": True}
