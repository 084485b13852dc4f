"""Seals the chosen fields of masked rows under the keys of their people. The last step before the spool.

Pure but for the keys that are known: where one is missing nothing is sealed, and whoever asked has it made and asks again.
Next: spool/local.py.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from twintrack.control.person_keys import Known, Person, person_of
from twintrack.event import Row
from twintrack.sealed_text import NONCE_BYTES, Fields, PersonKey, sealed

_ENCODER = msgspec.json.Encoder()
_DRAWN = 64


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
    for name in fields.columns:
        value = getattr(row, name)
        if value:
            setattr(row, name, sealed(key, value, next(nonces), project))
    for path in fields.paths:
        if _reaches(row.event_metadata, path):
            row.event_metadata = _with_sealed(row.event_metadata, path, key, nonces, project)


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


def _with_sealed(
    members: dict[str, Any], path: tuple[str, ...], key: PersonKey, nonces: Iterator[bytes], project: bytes
) -> dict[str, Any]:
    """A copy of the metadata: the event that it came with is not changed. A list on the way is sealed whole."""
    copy = dict(members)
    for n in range(1, len(path) + 1):
        name = ".".join(path[:n])
        value = copy.get(name)
        if value is None:
            continue
        if not path[n:] or isinstance(value, list):
            copy[name] = sealed(key, value, next(nonces), project)
        elif isinstance(value, dict):
            copy[name] = _with_sealed(value, path[n:], key, nonces, project)
    for name in _below(members, path):
        copy[name] = sealed(key, members[name], next(nonces), project)
    return copy
