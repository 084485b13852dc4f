"""From what was typed to all that is meant: stored forms of an identifier, and the anonymous ids that belong to it. Pure.

A subject typed raw is that and its pseudonym, so that rows from before and from behind a masking rule are one person's.
A user owns an anonymous id where the first link of that id named them; links are followed no further, since two people
may share a browser.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from twintrack.control.control import Control
from twintrack.control.erasures import Subject
from twintrack.control.tombstones import ANONYMOUS, PLACE, USER, Marks, Tombstone, subject_hash
from twintrack.errors import RequestError
from twintrack.event import Tenancy, limits
from twintrack.pii import pseudonym


class Link(NamedTuple):
    """An event that carried both ids."""

    environment: str
    anonymous_id: str
    user_id: str
    at: float  # seconds since 1970; of two links of one time the lesser user counts, so that all readers agree


def forms(identifier: str, secret: bytes) -> list[str]:
    """Every stored form that an identifier may have: as it is, and as the pseudonym of a rule."""
    return [identifier, pseudonym(identifier, secret)]


def forms_in(control: Control, tenancy: Tenancy) -> Callable[[str], list[str]]:
    """What gives every form in which an identifier's rows may hold it."""
    try:
        return partial(forms, secret=control.project(tenancy.project).secret)
    except KeyError:  # an operator may name a project that there is not, which holds no rows either
        return lambda identifier: [identifier]


def mark_of(secret: bytes, user_id: str | None, anonymous_id: str | None) -> bytes:
    """The subject as the audit log names it. Raises: RequestError as `typed`."""
    return bytes.fromhex(subject_hash(secret, typed(user_id, anonymous_id)[1]))


def typed(user_id: str | None, anonymous_id: str | None) -> tuple[str, str]:
    """(kind, identifier) of a request.

    Raises: RequestError where not exactly one is named, or it is none.
    """
    given = [(kind, value) for kind, value in ((USER, user_id), (ANONYMOUS, anonymous_id)) if value is not None]
    if len(given) != 1:
        raise RequestError("name one person", hint="either `user_id` or `anonymous_id`", code="bad_subject")
    kind, value = given[0]
    if not value.strip() or len(value) > limits().identifier_characters:
        raise RequestError(
            f"an identifier has 1 to {limits().identifier_characters} characters (identifier_characters)",
            hint="write it as your application does",
            code="bad_subject",
        )
    return kind, value


def named(kind: str, identifier: str, secret: bytes, environments: Iterable[str]) -> Subject:
    """The subject before its links are known."""
    found = forms(identifier, secret)
    if kind == USER:
        return Subject(kind, identifier, found, [])
    return Subject(kind, identifier, [], [(environment, form) for environment in environments for form in found])


def owned(links: Iterable[Link], users: Iterable[str]) -> list[tuple[str, str]]:
    """(environment, anonymous id) of those that were first linked to one of these users."""
    first: dict[tuple[str, str], tuple[float, str]] = {}
    for environment, anonymous_id, user_id, at in links:
        if anonymous_id and user_id:
            key = (environment, anonymous_id)
            first[key] = min(first.get(key, (at, user_id)), (at, user_id))
    wanted = set(users)
    return sorted(key for key, (_, user_id) in first.items() if user_id in wanted)


def tombstones_of(project: str, subject: Subject, secret: bytes, at: int) -> list[Tombstone]:
    """What keeps older events of a subject out."""
    marks = [Tombstone(project, "", USER, subject_hash(secret, user), at) for user in subject.users]
    return marks + [
        Tombstone(project, environment, ANONYMOUS, subject_hash(secret, anonymous_id), at)
        for environment, anonymous_id in subject.anonymous
    ]


def later_places(
    project: str, subject: Subject, secret: bytes, at: int, environments: Iterable[str], known: Marks | None
) -> list[Tombstone]:
    """What keeps events of its anonymous ids out of environments that are made later, and which ones are there already.

    In those an id may have been linked to somebody else first; into a new one only older files can bring it.
    """
    there = [
        Tombstone(project, place, PLACE, "", at)
        for place in environments
        if known is None or not known.knows(place, at)
    ]
    hashes = sorted({subject_hash(secret, anonymous_id) for _, anonymous_id in subject.anonymous})
    return [*there, *(Tombstone(project, "", ANONYMOUS, hash, at) for hash in hashes)]
