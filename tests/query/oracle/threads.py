"""Threads, one conversation after another.

A thread is the events of one `thread_id`, in order, of those the question's filter takes; it counts where its first event
lies in the range, and then with all its events until now. A message is an event of `message` (by default `message_sent`);
one whose `event_metadata.role` is set and is not `user` is an answer, every other one a question.

Outcome, the first that fits: `completed` holds an event of `completed`; `abandoned` holds an event of `abandoned`, or its
last event is more than `idle_seconds` old; `continued` holds two questions or more; else `created`.

A wait runs from a question to the next answer behind it; questions in between start none. What nothing answers is waiting.
"""

from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any

import pandas as pd

from tests.query.oracle import calendar
from tests.query.oracle.filters import text
from tests.query.oracle.order import known, milliseconds, selected

OUTCOMES = ("created", "continued", "completed", "abandoned")


def threads(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    start, end = calendar.span(asked["range"], asked.get("zone", "UTC"), now)
    whole: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in known(all_rows, asked):
        if row.get("thread_id"):
            whole[row["thread_id"]].append(row)
    found = []
    for name, rows in whole.items():
        if not start <= rows[0]["event_timestamp"] < end:
            continue
        messages = [row for row in rows if selected(asked.get("message", {"event": "message_sent"}), row)]
        answers = [row for row in messages if text(row, "event_metadata.role") not in (None, "user")]
        waits, since = [], None
        for row in messages:
            answer = text(row, "event_metadata.role") not in (None, "user")
            if answer and since is not None:
                waits.append((milliseconds(row["event_timestamp"]) - since) / 1000)
                since = None
            elif not answer and since is None:
                since = milliseconds(row["event_timestamp"])
        last = milliseconds(rows[-1]["event_timestamp"])
        if any(selected(asked.get("completed", {"event": "thread_completed"}), row) for row in rows):
            outcome = "completed"
        elif (
            any(selected(asked.get("abandoned", {"event": "thread_abandoned"}), row) for row in rows)
            or milliseconds(now) - last > asked.get("idle_seconds", 86_400) * 1000
        ):
            outcome = "abandoned"
        else:
            outcome = "continued" if len(messages) - len(answers) >= 2 else "created"
        found.append(
            {
                "thread_id": name,
                "person": rows[0]["person"],
                "began": rows[0]["event_timestamp"],
                "outcome": outcome,
                "messages": len(messages),
                "answers": len(answers),
                "waits": waits,
                "waiting": since is not None,
                "seconds": (last - milliseconds(rows[0]["event_timestamp"])) / 1000,
                "lengths": [row["message_length"] for row in messages if row.get("message_length") is not None],
                "events": rows,
            }
        )
    return found


def spread(values: list[float]) -> tuple[float, float, float] | None:
    """Average, median, 90th percentile."""
    of = pd.Series(values, dtype=float)
    return None if of.empty else (of.mean(), of.median(), of.quantile(0.9))


def answer(all_rows: list[dict[str, Any]], asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    found = threads(all_rows, asked, now)
    answered: dict[str, Any] = {
        "threads": len(found),
        "persons": len({thread["person"] for thread in found if thread["person"]}),
        "outcomes": {name: sum(t["outcome"] == name for t in found) for name in OUTCOMES},
        "messages": sum(t["messages"] for t in found),
        "answers": sum(t["answers"] for t in found),
        "waiting": sum(t["waiting"] for t in found),
        "seconds_to_answer": spread([wait for t in found for wait in t["waits"]]),
        "messages_per_thread": spread([t["messages"] for t in found]),
        "seconds_per_thread": spread([t["seconds"] for t in found]),
        "characters_per_message": spread([length for t in found for length in t["lengths"]]),
    }
    if asked.get("interval"):
        zone = asked.get("zone", "UTC")
        edges = calendar.starts(*calendar.span(asked["range"], zone, now), asked["interval"], zone)
        answered["trend"] = [
            {name: sum(a <= t["began"] < b and t["outcome"] == name for t in found) for name in OUTCOMES}
            for a, b in pairwise(edges)
        ]
    return answered
