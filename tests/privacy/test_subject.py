"""Who is meant by what was typed."""

import pytest

from twintrack.control.erasures import Subject
from twintrack.control.tombstones import Marks, Tombstone, subject_hash
from twintrack.errors import RequestError
from twintrack.pii import pseudonym
from twintrack.privacy.subject import Link, forms, later_places, named, owned, tombstones_of, typed

SECRET = b"k" * 32


def test_subject_typed_raw_is_itself_and_its_pseudonym() -> None:
    assert forms("ann@example.com", SECRET) == ["ann@example.com", pseudonym("ANN@example.com", SECRET)]
    assert named("user", "ann", SECRET, ["live"]).users == forms("ann", SECRET)
    assert named("anonymous", "a", SECRET, ["live", "test"]).anonymous == [
        (place, form) for place in ("live", "test") for form in forms("a", SECRET)
    ]


@pytest.mark.parametrize(
    "links,mine",
    [
        ([Link("e", "a", "ann", 1)], [("e", "a")]),
        ([Link("e", "a", "ann", 2), Link("e", "a", "bob", 1)], []),
        ([Link("e", "a", "ann", 1), Link("e", "a", "bob", 2)], [("e", "a")]),
        ([Link("e", "a", "ann", 1), Link("f", "a", "bob", 0)], [("e", "a")]),  # another environment, another browser
        ([Link("e", "a", "p_1", 1)], [("e", "a")]),  # by any of the forms
        ([Link("e", "a", "bob", 1), Link("e", "a", "ann", 1)], [("e", "a")]),  # at once: the lesser name, everywhere
        ([Link("e", "", "ann", 1), Link("e", "a", "", 1)], []),
    ],
)
def test_anonymous_id_belongs_to_whom_it_was_first_linked(links: list[Link], mine: list[tuple[str, str]]) -> None:
    assert owned(links, ["ann", "p_1"]) == mine


@pytest.mark.parametrize("given", [(None, None), ("a", "b"), ("", None), (" ", None), (None, "x" * 2000)])
def test_request_names_exactly_one_person(given: tuple[str | None, str | None]) -> None:
    with pytest.raises(RequestError) as refused:
        typed(*given)
    assert refused.value.code == "bad_subject" and "xx" not in refused.value.message


def test_tombstone_covers_older_events_of_the_user_and_lone_ones_of_the_anonymous_id() -> None:
    subject = named("user", "ann", SECRET, [])
    rows = tombstones_of("p", subject, SECRET, 1_000)
    rows.append(Tombstone("p", "live", "anonymous", subject_hash(SECRET, "a"), 1_000))
    marks = Marks(SECRET, rows)
    assert marks.covers("live", "ann", "b", 1_000) and marks.covers("test", "ann", "", 0)
    assert not marks.covers("live", "ann", "b", 1_001)
    assert marks.covers("live", "", "a", 500)
    assert not marks.covers("test", "", "a", 500)
    assert not marks.covers("live", "bob", "a", 500)
    assert not marks.covers("live", "", "ann", 500)  # a user's name is no browser's
    assert not Marks(SECRET).covers("live", "ann", "a", -5)


def test_tombstone_says_nothing_of_the_person_nor_of_their_pseudonym() -> None:
    import base64

    digest = subject_hash(SECRET, "ann")
    assert "ann" not in digest and digest != subject_hash(b"other" * 8, "ann")
    form = pseudonym("ann", SECRET).removeprefix("p_").upper()
    assert base64.b32encode(bytes.fromhex(digest)[:20]).decode() != form


def test_later_of_two_requests_counts() -> None:
    one = Tombstone("p", "", "user", subject_hash(SECRET, "ann"), 5)
    marks = Marks(SECRET, [one._replace(requested_at=9), one])
    assert marks.until("live", "ann", "") == marks.latest_milliseconds == 9


def test_anonymous_id_is_refused_in_later_environments_and_not_in_those_that_were_there() -> None:
    subject = Subject("user", "ann", ["ann"], [("live", "a")])
    first = tombstones_of("p", subject, SECRET, 10) + later_places("p", subject, SECRET, 10, ["live", "test"], None)
    marks = Marks(SECRET, first)
    assert [marks.covers(place, "", "a", 10) for place in ("live", "test", "new")] == [True, False, True]
    assert not marks.covers("new", "", "a", 11) and not marks.covers("new", "bob", "a", 10)
    # The next request finds `new` there; for the first one it stays a later one. What is noted is not noted again.
    other = Subject("user", "bob", ["bob"], [("live", "b")])
    second = later_places("p", other, SECRET, 20, ["live", "test", "new"], marks)
    assert [(row.environment, row.kind) for row in second] == [("new", "place"), ("", "anonymous")]
    marks = Marks(SECRET, [*first, *second])
    assert (
        marks.covers("new", "", "a", 10) and not marks.covers("new", "", "b", 20) and marks.covers("newer", "", "b", 20)
    )
    # One that was asked for before and comes to its end behind it notes that `new` was there already.
    late = later_places("p", subject, SECRET, 15, ["new"], marks)
    assert [(row.environment, row.requested_at) for row in late] == [("new", 15), ("", 15)]
    # Erased once more, when `new` was there and the id nobody's in it: the first request goes on holding there.
    again = later_places("p", subject, SECRET, 30, ["live", "test", "new"], marks)
    marks = Marks(SECRET, [*first, *second, *again])
    assert (
        marks.covers("new", "", "a", 10) and not marks.covers("new", "", "a", 11) and marks.covers("newer", "", "a", 30)
    )
