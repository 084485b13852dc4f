"""Markers that are found wherever a person's data lies, and a look at every byte of a data folder by place.

Where texts are sealed under keys of people no byte shows a marker: there a place is somewhere that keys lie, and a marker is
found in it where one of its keys opens a token that holds it.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.conftest import Service
from twintrack.control.person_keys import Kept
from twintrack.sealed_text import PersonKey, key_of, opened
from twintrack.testing import uuid7

PERSON = "zqxperson@example.com"
PLACES = (
    "active log", "frozen chunk", "grace chunk", "quarantine", "raw", "events_hourly", "events_daily", "identities",
    "receipts", "control", "logs", "backup", "elsewhere",
)  # fmt: skip
KEY_PLACES = ("person keys", "key backup", "older one back")
TABLES = {
    "events": "raw",
    "events_hourly": "events_hourly",
    "events_daily": "events_daily",
    "identities": "identities",
    "receipts": "receipts",
}
BACKUP = "backups"  # beside the data folder: what lies in it is a backup, or was restored from one
STATES = {"frozen": "frozen chunk", "loaded": "grace chunk", "quarantined": "quarantine"}
# So that a search over bytes finds what is there: nothing is compressed, and the cleaner comes by soon.
PLAIN = "default_compression_codec = 'NONE', compress_primary_key = 0, compress_marks = 0"
SOON = "cleanup_delay_period = 1, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0"


def plain(service: Service) -> dict[str, str]:
    """Tables that hold bytes as they are; where each one's files are."""
    store = service.services.store
    for table in TABLES:
        store.command(f"ALTER TABLE analytics.{table} MODIFY SETTING {PLAIN}, {SOON}")
    paths = store.select("SELECT name, data_paths[1] FROM system.tables WHERE database = 'analytics'").rows
    return {path: TABLES[name] for name, path in paths if name in TABLES}


def marked(way: str, **fields: Any) -> dict[str, Any]:
    """An event with a marker of its own in every field that a sender fills, and the person in `user_id`."""

    def mark(field: str) -> str:
        return f"zqx{field}by{way}"

    event = {
        "event_id": uuid7(),
        "event_name": mark("name"),
        "event_value": mark("value"),
        "event_metadata": {mark("key"): mark("meta"), "deep": [{"in": mark("nested")}]},
        "user_id": PERSON,
        "anonymous_id": mark("anonymous"),
        "session_id": mark("session"),
        "thread_id": mark("thread"),
        "message_content": mark("message"),
        "source": mark("source"),
        "context": {
            "page": {"url": f"https://example.com/{mark('url')}", "path": f"/{mark('path')}", "title": mark("title")},
            "referrer": f"https://example.com/{mark('referrer')}",
            "locale": mark("locale"),
        },
        **fields,
    }
    return {name: value for name, value in event.items() if value is not None}


FIELDS = (
    "name", "value", "key", "meta", "nested", "anonymous", "session", "thread", "message", "source", "url", "path",
    "title", "referrer", "locale", "agent", "person", "pseudonym", "id",
)  # fmt: skip


class Looked:
    """What was found: the ways whose marker of a field stands in a place."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], set[str]] = defaultdict(set)

    def __getitem__(self, cell: tuple[str, str]) -> set[str]:
        return self.found.get(cell, set())


def look(data: Path, tables: dict[str, str], ways: Iterable[str], pseudonym: str, ids: dict[str, str]) -> Looked:
    """Reads every byte below the folder of `data`. Shape: `ids` is the event id that was sent by each way."""
    needles: list[tuple[str, str, bytes]] = [
        ("person", "any", PERSON.encode()),
        ("pseudonym", "any", pseudonym.encode()),
    ]
    needles += [(field, way, f"zqx{field}by{way}".encode()) for field in FIELDS for way in ways]
    for way, event_id in ids.items():
        raw = UUID(event_id).bytes
        needles += [("id", way, event_id.encode()), ("id", way, raw[7::-1] + raw[:7:-1]), ("id", way, raw)]
    states = _chunk_states(data)
    looked = Looked()
    for file in sorted(path for path in data.parent.rglob("*") if path.is_file()):
        content = file.read_bytes()
        place = _place(file, data, tables, states)
        for field, way, needle in needles:
            if field == "id" and "/claims/" in str(file):
                continue  # random ids stay in the index of duplicates; the certificate says so
            if needle in content:
                looked.found[field, place].add(way)
    return looked


def _chunk_states(data: Path) -> dict[str, str]:
    with sqlite3.connect(f"file:{data / 'spool' / 'ledger.db'}?mode=ro", uri=True) as ledger:
        return dict(ledger.execute("SELECT chunk_id, state FROM chunks"))


def _place(file: Path, data: Path, tables: dict[str, str], states: dict[str, str]) -> str:
    if file.is_relative_to(data.parent / BACKUP):
        return "backup"
    inside = str(file)
    for path, name in tables.items():
        if inside.startswith(path):
            return name
    if file.suffix == ".rows":
        return STATES.get(states.get(file.stem, ""), "elsewhere")
    if file.parent == data / "spool" / "log":
        return "active log"
    if file.name.startswith("control.db"):
        return "control"
    return "logs" if file.suffix == ".log" else "elsewhere"


def unlock(looked: Looked, place: str, keys: Iterable[Kept], tokens: Iterable[str], ways: Iterable[str]) -> None:
    """Notes which markers the keys of a place open. Shape: `tokens` are those that an old file has."""
    by_id = {key.id: key for key in keys}
    for token in tokens:
        key = by_id.get(key_of(token) or b"")
        text = opened(PersonKey(key.id, key.secret, key.made_at), token, key.project.encode()) if key else ""
        for field in FIELDS:
            looked.found[field, place] |= {way for way in ways if f"zqx{field}by{way}" in text}


def table(before: Looked, after: Looked, places: Iterable[str] = PLACES) -> str:
    """Field by place: how many ways of planting it were found before, and after; a dot where it never was."""
    wide = max(map(len, FIELDS))
    head = " " * wide + "".join(f"  {place:>14}" for place in places)
    lines = [head]
    for field in FIELDS:
        cells = []
        for place in places:
            then, now = before[field, place], after[field, place]
            cells.append(f"  {f'{len(then)} -> {len(now)}' if then or now else '.':>14}")
        lines.append(f"{field:<{wide}}{''.join(cells)}")
    return "\n".join(lines)
