"""The chosen fields of a row become tokens under its person's key; everything else of it stays byte for byte."""

import copy
from typing import Any

import msgspec
import pytest

from twintrack.control.person_keys import Known, person_of
from twintrack.event import RequestContext, Row, Tenancy, WireEvent
from twintrack.ingest.enrich import enrich
from twintrack.ingest.seal import KeysMissing, Sealing, open_where_sealed, seal
from twintrack.sealed_text import MARK, PersonKey, key_of, opened, parse_fields
from twintrack.testing import wire_event

NOW = 1_700_000_000_000
ANN = PersonKey(b"a" * 9, b"k" * 32, NOW)
ALWAYS = 1 << 62


def rows_of(*events: dict[str, Any]) -> tuple[list[Row], bytes]:
    context = RequestContext(Tenancy("shop", "live"), True, None, NOW, 0, "::", "", False)
    rows = [enrich(msgspec.convert(wire_event(NOW, **one), WireEvent), context, "1") for one in events]
    return rows, msgspec.json.Encoder().encode_lines(rows)[:-1]


def sealing(fields: str, until: int = ALWAYS) -> Sealing:
    parsed = parse_fields(fields)
    assert parsed is not None
    return Sealing(parsed, "shop", {person_of("live", "ann", ""): Known(ANN, until)})


def plain(value: Any) -> Any:
    """A value with its tokens opened, marked as such."""
    if isinstance(value, str) and value.startswith(MARK):
        assert key_of(value) == ANN.id
        return ("sealed", opened(ANN, value, b"shop"))
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


@pytest.mark.parametrize(
    "fields",
    ["message_content,message_content", "event_metadata.a.b,event_metadata.a", "event_metadata.a,event_metadata.a.b"],
)
def test_field_that_is_named_twice_or_inside_another_is_sealed_once(fields: str) -> None:
    rows, lines = rows_of({"user_id": "ann", "message_content": "hello", "event_metadata": {"a.b": "x", "c": "y"}})
    line = msgspec.json.decode(seal(rows, lines, sealing(fields), NOW), type=Row)
    said = [text for text in (line.message_content, line.event_metadata["a.b"]) if str(text).startswith(MARK)]
    assert [plain(text) for text in said] in ([("sealed", "hello")], [("sealed", "x")])


@pytest.mark.parametrize(
    "path,metadata,wanted",
    [
        ("a", {"a": "x", "b": "x"}, {"a": ("sealed", "x"), "b": "x"}),
        ("a.b", {"a": {"b": "x", "c": 1}}, {"a": {"b": ("sealed", "x"), "c": 1}}),
        ("a.b", {"a.b": "x"}, {"a.b": ("sealed", "x")}),
        ("a.b.c", {"a.b": {"c": 7}}, {"a.b": {"c": ("sealed", "7")}}),
        ("a.b", {"a": [{"b": "x"}]}, {"a": ("sealed", '[{"b":"x"}]')}),
        ("a", {"a": {"b": "x"}}, {"a": ("sealed", '{"b":"x"}')}),
        ("a.b", {"a": "x", "b": None}, {"a": "x", "b": None}),
        ("a", {"a": None}, {"a": None}),
        ("a", {"a": False}, {"a": ("sealed", "false")}),
        ("a", {"a.b": "x", "a.c": None, "ab": "x"}, {"a.b": ("sealed", "x"), "a.c": None, "ab": "x"}),
        ("a.b", {"a.b.c": {"d": "x"}}, {"a.b.c": ("sealed", '{"d":"x"}')}),
        ("a.b", {"a": {"b.c": "x"}}, {"a": {"b.c": ("sealed", "x")}}),
    ],
)
def test_path_of_metadata_is_sealed_however_it_is_written(path: str, metadata: Any, wanted: Any) -> None:
    sent = copy.deepcopy(metadata)
    rows, lines = rows_of({"user_id": "ann", "event_metadata": sent})
    line = seal(rows, lines, sealing(f"event_metadata.{path}"), NOW)
    assert plain(rows[0].event_metadata) == wanted
    assert msgspec.json.decode(line) == msgspec.to_builtins(rows[0])
    assert sent == metadata  # the event may be asked about again


def test_rows_without_such_a_field_stay_byte_for_byte_and_need_no_key() -> None:
    rows, lines = rows_of({"user_id": "bob"}, {"user_id": "ann", "message_content": "x"}, {"message_content": ""})
    found = seal(rows, lines, sealing("message_content,event_metadata.nowhere"), NOW).split(b"\n")
    assert (found[0], found[2]) == tuple(lines.split(b"\n")[::2]) and found[1] != lines.split(b"\n")[1]
    assert plain(msgspec.json.decode(found[1], type=Row).message_content) == ("sealed", "x")


@pytest.mark.parametrize("until", [ALWAYS, NOW - 1])
def test_batch_with_a_person_whose_key_may_not_seal_is_not_changed_at_all(until: int) -> None:
    events = [{"user_id": "ann", "message_content": "x"}, {"user_id": "bob", "message_content": "x"}]
    rows, lines = rows_of(*events)
    with pytest.raises(KeysMissing) as missing:
        seal(rows, lines, sealing("message_content", until), NOW)
    ann, bob = person_of("live", "ann", ""), person_of("live", "bob", "")
    assert missing.value.people == ({bob} if until == ALWAYS else {ann, bob})
    assert [row.message_content for row in rows] == ["x", "x"]


def test_token_is_opened_only_where_it_is_sealed_again() -> None:
    token = f"{MARK}{'a' * 60}"
    event = {
        "event_name": token,
        "message_content": token,
        "event_metadata": {"note": token, "a": token, "a.b": token, "c": {"d": token, "e": token}},
        "context": {"page": {"url": token, "title": token}, "referrer": token},
    }
    fields = parse_fields("message_content,page_title,event_metadata.a.b,event_metadata.c.d")
    assert fields is not None
    (made,) = open_where_sealed([event], fields, lambda tokens: ["text" for _ in tokens])
    assert made == {
        "event_name": token,
        "message_content": "text",
        "event_metadata": {"note": token, "a": token, "a.b": "text", "c": {"d": "text", "e": token}},
        "context": {"page": {"url": token, "title": "text"}, "referrer": token},
    }
