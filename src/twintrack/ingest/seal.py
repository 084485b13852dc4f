"""Seals the chosen fields of masked rows under the keys of their people. The last step before the spool.

Pure but for the keys that are known: where one is missing nothing is sealed, and whoever asked has it made and asks again.
Next: spool/local.py.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from twintrack.control.person_keys import Known, Person, person_of
from twintrack.event import Row
from twintrack.sealed_text import NONCE_BYTES, Fields, PersonKey, key_of, sealed

_ENCODER = msgspec.json.Encoder()
_DRAWN = 64
# Where the columns stand in an event as sent.
_SENT: dict[str, tuple[str, ...]] = {
    "message_content": ("message_content",),
    "event_value": ("event_value",),
    "page_url": ("context", "page", "url"),
    "page_path": ("context", "page", "path"),
    "page_title": ("context", "page", "title"),
    "referrer": ("context", "referrer"),
}


class Sealing(NamedTuple):
    """What is sealed in a project, and by which keys."""

    fields: Fields
    project: str
    keys: Mapping[Person, Known]


class KeysMissing(Exception):
    """People who have no key yet that may seal."""

    def __init__(self, people: set[Person]) -> None:
        super().__init__("keys are missing")
        self.people = people


def seal(rows: list[Row], lines: bytes, by: Sealing, now_milliseconds: int) -> bytes:
    """The lines of the rows, a JSON array each, with the fields sealed. Raises: KeysMissing; then no row is changed."""
    wanted = [number for number, row in enumerate(rows) if _holds_any(row, by.fields)]
    if not wanted:
        return lines
    people = [person_of(rows[n].environment, rows[n].user_id, rows[n].anonymous_id) for n in wanted]
    known = [by.keys.get(person) for person in people]
    missing = {p for p, k in zip(people, known, strict=True) if k is None or k.until < now_milliseconds}
    if missing:
        raise KeysMissing(missing)
    bodies, nonces, project = lines.split(b"\n"), _nonces(len(wanted)), by.project.encode()
    for number, found in zip(wanted, known, strict=True):
        assert found is not None
        _seal_row(rows[number], found.key, by.fields, nonces, project)
        bodies[number] = _ENCODER.encode(rows[number])
    return b"\n".join(bodies)


def _holds_any(row: Row, fields: Fields) -> bool:
    for name in fields.columns:
        if getattr(row, name):
            return True
    return bool(fields.paths) and any(_reaches(row.event_metadata, path) for path in fields.paths)


def _nonces(at_once: int) -> Iterator[bytes]:
    """Random ones without end; a call of the system for many."""
    while True:
        drawn = os.urandom(NONCE_BYTES * min(at_once, _DRAWN))
        yield from (drawn[n : n + NONCE_BYTES] for n in range(0, len(drawn), NONCE_BYTES))


def _seal_row(row: Row, key: PersonKey, fields: Fields, nonces: Iterator[bytes], project: bytes) -> None:
    def change(value: Any) -> str:
        return sealed(key, value, next(nonces), project)

    for name in fields.columns:
        value = getattr(row, name)
        if value:
            setattr(row, name, change(value))
    for path in fields.paths:
        if _reaches(row.event_metadata, path):
            row.event_metadata = _changed(row.event_metadata, path, change)


def open_where_sealed(
    events: Sequence[dict[str, Any]], fields: Fields, opened: Callable[[list[str]], list[Any]]
) -> list[dict[str, Any]]:
    """Events as sent, with the tokens opened that stand where `seal` seals again. Any other stays what it is: opened, its
    text would lie on the disk."""
    paths = [*(_SENT[name] for name in fields.columns), *(("event_metadata", *path) for path in fields.paths)]
    texts: dict[Any, Any] = {}

    def note(value: Any) -> Any:
        if isinstance(value, str) and key_of(value) is not None:
            texts[value] = value
        return value

    for event in events:
        for path in paths:
            _changed(event, path, note)
    texts = dict(zip(texts, opened(list(texts)), strict=True))
    made = []
    for event in events:
        for path in paths:
            event = _changed(event, path, lambda value: texts.get(value, value) if isinstance(value, str) else value)
        made.append(event)
    return made


def _reaches(members: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Whether something stands at the path. A name with dots in it is the same path to the store."""
    for n in range(1, len(path) + 1):
        value = members.get(".".join(path[:n]))
        if value is None:
            continue
        if not path[n:] or isinstance(value, list) or (isinstance(value, dict) and _reaches(value, path[n:])):
            return True
    return any(True for _ in _below(members, path))


def _below(members: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Names with dots in them that lie below the path, as `customer.name` does below `customer`."""
    start = ".".join(path) + "."
    return (name for name, value in members.items() if value is not None and name.startswith(start))


def _changed(members: dict[str, Any], path: tuple[str, ...], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of what is sent, with what stands at the path changed. A list on the way is changed whole."""
    copy = dict(members)
    for n in range(1, len(path) + 1):
        name = ".".join(path[:n])
        value = copy.get(name)
        if value is None:
            continue
        if not path[n:] or isinstance(value, list):
            copy[name] = change(value)
        elif isinstance(value, dict):
            copy[name] = _changed(value, path[n:], change)
    for name in _below(members, path):
        copy[name] = change(members[name])
    return copy
