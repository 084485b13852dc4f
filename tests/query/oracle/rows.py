"""The rows that are asked about: the shop's file, and generated ones that hold what goes wrong."""

import gzip
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd

ECOM = Path(__file__).parents[2] / "data" / "ecom" / "ecom.csv.gz"
COLUMNS = ("platform", "acquisition_channel", "user_cohort", "user_lifecycle")
NAMES = ["view", "click", "buy", "sign up", "it's"]
PLANS: list[Any] = ["free", "pro", "Pro", "", None, "a,b", "1", 1, 2.5, True, False, "true", "x\\y", "o'k", "é"]


def ecom() -> list[dict[str, Any]]:
    """The shop's events, in the file's order."""
    with gzip.open(ECOM, "rt") as file:
        frame = pd.read_csv(file)
    return [
        {
            "event_id": UUID(int=number + 1),
            "event_name": row.event,
            "event_timestamp": datetime.fromisoformat(row.timestamp).replace(tzinfo=UTC),
            "user_id": row.user_id,
            "anonymous_id": "",
            "session_id": row.session_id,
            "event_metadata": {name: getattr(row, name) for name in COLUMNS},
        }
        for number, row in enumerate(frame.itertuples())
    ]


# Moments around which much happens: both daylight-saving changes of Berlin and Tehran's new year, ends of months.
_MOMENTS = [
    datetime(2024, 2, 29, 23, 50, tzinfo=UTC),
    datetime(2024, 3, 20, 20, 25, tzinfo=UTC),
    datetime(2024, 3, 31, 0, 30, tzinfo=UTC),
    datetime(2024, 3, 31, 18, 10, tzinfo=UTC),
    datetime(2024, 10, 26, 22, 0, tzinfo=UTC),
    datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
    datetime(2024, 10, 31, 18, 14, 59, 999_000, tzinfo=UTC),
    datetime(2024, 11, 1, 12, 0, tzinfo=UTC),
]


def generated(seed: int = 1, count: int = 1_500) -> list[dict[str, Any]]:
    """Rows of few people with many events: shared and late links, ids that are missing, properties of mixed kinds."""
    source = random.Random(seed)
    rows = []
    for number in range(count):
        if source.random() < 0.7:
            moment = source.choice(_MOMENTS) + timedelta(seconds=source.gauss(0, 5_400))
        else:
            moment = datetime(2024, 2, 20, tzinfo=UTC) + timedelta(seconds=source.uniform(0, 258 * 86_400))
        moment = min(moment, datetime(2024, 11, 3, 10, 0, tzinfo=UTC))
        person = source.randrange(14)
        known = source.random()
        metadata: dict[str, Any] = {}
        if source.random() < 0.8:
            metadata["plan"] = source.choice(PLANS)
        if source.random() < 0.6:
            metadata["amount"] = source.choice([0, 1, 3, 2.5, -4, 100, "7", "x", "", 1e3, True, None])
        if source.random() < 0.3:
            metadata["deep"] = {"level": source.choice([1, 2, "two"])}
        if source.random() < 0.2:
            metadata["when"] = moment.isoformat()
        rows.append(
            {
                "event_id": UUID(int=(1 << 100) + number),
                "event_name": source.choice(NAMES),
                "event_timestamp": moment.replace(microsecond=moment.microsecond // 1000 * 1000),
                # Some sign in, some never do; a browser is shared by two; a few events carry no id at all.
                "user_id": f"u{person}" if known < 0.4 and person < 9 else "",
                "anonymous_id": f"a{person % 6}" if known < 0.95 else "",
                "session_id": f"s{person}-{source.randrange(6)}" if source.random() < 0.9 else "",
                "event_value": source.choice([None, "", "5", "12.5", "nan", "inf", "big", "1e2", "-3"]),
                "thread_id": source.choice([None, "", "t1", "t2"]),
                "page_path": source.choice(["", "/", "/buy", "/Buy/now"]),
                "viewport_width": source.choice([0, 320, 1280]),
                "is_bot": source.random() < 0.1,
                "event_metadata": metadata,
            }
        )
    # The first to sign in on a shared browser is not the first by name.
    rows[0].update(event_timestamp=datetime(2024, 2, 19, 9, tzinfo=UTC), user_id="u7", anonymous_id="a1")
    return rows
