"""Events of `contract/bench_mix`, the same ones for the same seed and start."""

import json
import random
from pathlib import Path
from typing import Any
from uuid import UUID

from twintrack.clock import iso
from twintrack.testing import uuid7

MIX = json.loads((Path(__file__).parents[1] / "contract" / "bench_mix" / "mix.json").read_text())


def events(count: int, *, seed: int, start_milliseconds: int) -> list[dict[str, Any]]:
    """Wire events, born a twentieth of a millisecond apart."""
    source = random.Random(seed)
    return [one(index, source, start_milliseconds + index // 20) for index in range(count)]


def one(index: int, source: random.Random, born: int) -> dict[str, Any]:
    person = source.randrange(MIX["people"])
    metadata: dict[str, Any] = {}
    for key, rule in MIX["metadata"].items():
        if isinstance(rule, list):
            metadata[key] = source.choice(rule)
        elif "share" in rule:
            metadata[key] = source.random() < rule["share"]
        elif "decimals" in rule:
            metadata[key] = round(source.random(), rule["decimals"])
        else:
            metadata[key] = source.randrange(rule["least"], rule["most"])
    event = {
        "event_id": uuid7(born, source),
        "event_name": source.choice(MIX["names"]),
        "user_id": f"user_{person:05d}",
        "anonymous_id": str(UUID(int=random.Random(person).getrandbits(128), version=4)),
        "session_id": f"session-{person:05d}",
        "sequence": index % 500,
        "client_timestamp": iso(born),
        "event_metadata": metadata,
        "context": {
            "page": {"url": f"https://app.example.com/t/{person}?tab=a", "path": f"/t/{person}", "title": "Inbox"},
            "viewport": {"width": 1440, "height": 900},
            "referrer": "",
            "locale": "en-GB",
        },
        "source": "sdk",
    }
    if source.random() < MIX["message_share"]:
        text = ""
        while len(text) < MIX["message_characters"]:
            text += source.choice(MIX["words"]) + " "
        event["message_content"] = text[: MIX["message_characters"]]
        event["thread_id"] = f"thread-{person % 300}"
    return event
