"""Cutting and mending raw JSON: agrees with a whole parser where there is one right answer, and is linear always."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.errors import RequestError
from twintrack.ingest.scan import check_containers, mend, split

MOST = 10_000

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4))
layouts = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 0, 3]),
        "separators": st.sampled_from([None, (",", ":"), (" ,", " : ")]),
    }
)


@settings(max_examples=200, deadline=None)
@given(st.lists(values, max_size=6), layouts)
def test_elements_of_any_array_are_those_that_json_reads(array: list[Any], layout: dict[str, Any]) -> None:
    pieces = split(json.dumps(array, **layout).encode(), MOST)
    assert isinstance(pieces, list)
    assert [json.loads(piece) for piece in pieces] == array


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), values, max_size=6), layouts)
def test_members_of_any_object_are_those_that_json_reads(members: dict[str, Any], layout: dict[str, Any]) -> None:
    pieces = split(json.dumps(members, **layout).encode(), MOST)
    assert isinstance(pieces, dict)
    assert {json.loads(key): json.loads(value) for key, value in pieces.items()} == members


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(list(b'[]{},:"\\ 1u')), max_size=40).map(bytes))
def test_any_array_or_object_among_brackets_and_quotes_has_pieces(text: bytes) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    pieces = split(text.strip(), MOST)
    if isinstance(value, list | dict):
        assert pieces is not None and len(pieces) >= len(value)


@pytest.mark.parametrize("text", [b"", b"5", b'"x"', b"[", b"[1", b"[1}", b"[{]}", b'["', b'["\\"]', b"[[]", b"{]"])
def test_text_whose_brackets_do_not_match_has_no_pieces(text: bytes) -> None:
    assert split(text, MOST) is None


def test_scan_stops_behind_the_first_element_too_many() -> None:
    assert split(b"[" + b"1," * 1_000_000, 10) == [b"1"] * 11


@pytest.mark.parametrize(
    "text",
    [
        b'["' + b'\\"' * 500_000,
        b'["' + b"\\" * 1_000_001,
        b"[" + b'"' * 1_000_001,
        b'[{"' + b'\\"' * 500_000,
        b"[" + b'{"a' * 200_000,
    ],
    ids=["escaped quotes", "backslashes", "quotes", "inside an event", "keys that never close"],
)
def test_megabyte_of_unclosed_strings_takes_linear_time(text: bytes) -> None:
    """A scanner that starts again at each quote takes hours for these."""
    started = time.monotonic()
    assert split(text, MOST) is None
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("piece", [b"[[1]],", b"[],", b"{},", b'{"a":[]},'])
def test_more_containers_than_any_batch_needs_are_refused(piece: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        check_containers(b"[" + piece * 260_000 + b"1]")
    assert (refused.value.status, refused.value.code) == (413, "batch_too_large")


def test_brackets_in_a_text_are_no_containers() -> None:
    check_containers(b'["' + rb"[{\"{[" * 100_000 + b'",[1]]')


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (rb'"\ud83d"', '"\ufffd"'),
        (rb'"\ude00\ud83d!"', '"\ufffd\ufffd!"'),
        (rb'"\uD83D\uDE00"', '"\U0001f600"'),
        (rb'"\ud83d\ud83d\ude00"', '"\ufffd\U0001f600"'),
        (rb'"\\ud83d"', r'"\\ud83d"'),
        (rb'"\\\ud83d"', '"\\\\\ufffd"'),
        (rb'"\u00e9\n"', '"\u00e9\\n"'),
        (b'"\xff\xc3\xa9"', '"\ufffd\u00e9"'),
    ],
)
def test_lone_surrogates_and_bad_bytes_become_replacement_characters(text: bytes, mended: str) -> None:
    assert json.loads(mend(text)) == json.loads(mended)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.booleans())
def test_text_without_faults_is_not_mended(text: str, escaped: bool) -> None:
    encoded = json.dumps(text, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert mend(encoded) == encoded


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(categories=None, codec=None)))
def test_mended_text_is_always_unicode(text: str) -> None:
    json.loads(mend(json.dumps(text).encode())).encode("utf-8")
