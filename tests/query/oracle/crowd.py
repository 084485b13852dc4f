"""A crowd of people with what makes order hard: equal moments, equal sequences, shared browsers, late links, threads.

The rows come in no order of time; ids are random, so that of two events at one moment either may come first.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

STEPS = ["home", "view", "cart", "buy", "it's"]
NOW = datetime(2024, 11, 3, 10, 17, 30, tzinfo=UTC)
_FIRST = datetime(2024, 2, 20, tzinfo=UTC)
# Around both daylight-saving changes of Berlin, Tehran's new year, midnight in Kathmandu and in Tehran, ends of months.
_MOMENTS = [
    datetime(2024, 2, 29, 18, 14, 30, tzinfo=UTC),
    datetime(2024, 3, 20, 20, 29, 40, tzinfo=UTC),
    datetime(2024, 3, 30, 22, 59, tzinfo=UTC),
    datetime(2024, 3, 31, 0, 59, 50, tzinfo=UTC),
    datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
    datetime(2024, 10, 31, 18, 14, 59, tzinfo=UTC),
    datetime(2024, 11, 3, 9, 50, tzinfo=UTC),
]


def crowd(seed: int = 7, people: int = 70) -> list[dict[str, Any]]:
    """Rows of people, each with some visits; about 3,000."""
    source = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for person in range(people):
        browser = f"a{source.randrange(people * 2 // 3)}"
        signs_in = source.random() < 0.6
        home = source.choice(_MOMENTS)
        for visit in range(source.randrange(1, 9)):
            moment = home + timedelta(days=source.choice([0, 0, 1, 1, 2, 7, 14, 31, -1, -8, -40]))
            moment += timedelta(seconds=source.choice([0, 0, source.randrange(-80_000, 80_000)]))
            known = signs_in and source.random() < 0.5
            session = f"s{person}-{visit}" if source.random() < 0.9 else ""
            if source.random() < 0.1:
                browser = f"a{source.randrange(people * 2 // 3)}"
            thread = f"t{person}-{visit}" if source.random() < 0.4 else None
            for number in range(source.randrange(1, 14)):
                # Steps of 0, 1 or 30 seconds, of 10 minutes, an hour: windows are asked that end on them exactly.
                moment += timedelta(seconds=source.choice([0, 0, 0, 1, 1, 30, 30, 600, 3_600]))
                rows.append(
                    {
                        "event_name": source.choices(STEPS, [5, 6, 4, 2, 1])[0],
                        "event_timestamp": min(max(moment, _FIRST), NOW - timedelta(minutes=5)),
                        "user_id": f"u{person}" if known else "",
                        "anonymous_id": browser if not known or source.random() < 0.7 else "",
                        "session_id": session,
                        "sequence": source.choice([0, number, number // 2]),
                        "event_metadata": _metadata(source),
                        **(_message(source, thread) if thread and source.random() < 0.6 else {}),
                    }
                )
                if known and source.random() < 0.5:
                    known = False
    # Some events belong to nobody.
    for row in source.sample(rows, 25):
        row["user_id"] = row["anonymous_id"] = ""
    for row in rows:
        row["event_id"] = UUID(int=source.getrandbits(128))
    source.shuffle(rows)
    return rows


def _metadata(source: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if source.random() < 0.8:
        found["plan"] = source.choice(["free", "pro", "Pro", "", None, "a,b", 1, 2.5, True])
    if source.random() < 0.6:
        found["amount"] = source.choice([0, 1, 3, 2.5, -4, 100, "7", "x"])
    return found


def _message(source: random.Random, thread: str) -> dict[str, Any]:
    text = source.choice(["", "hello", "where is my order", "é" * 40, None])
    role = source.choice(["user", "user", "assistant", "assistant", None])
    extra = {"role": role} if role else {}
    if source.random() < 0.06:
        extra["outcome"] = source.choice(["completed", "abandoned"])
    return {
        "event_name": "message_sent",
        "thread_id": thread,
        "message_content": text,
        "message_length": None if text is None else len(text),
        "event_metadata": {**_metadata(source), **extra},
    }
