"""The text of `contract/event.schema.json`, as the code has it. docs/generate.py writes and checks it."""

import json
from pathlib import Path

from twintrack.event import limits
from twintrack.ingest.wire_schema import event_schema

PATH = Path(__file__).parents[1] / "contract" / "event.schema.json"


def text() -> str:
    return json.dumps(event_schema(limits()), indent=2) + "\n"
