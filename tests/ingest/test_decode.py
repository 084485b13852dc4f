"""Bytes to events: every body gives a verdict per event or one clear refusal, and what is good is never lost."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import brotli
import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.errors import RequestError
from twintrack.event import WireEvent, limits
from twintrack.ingest.decode import Batch, decode, decode_one, inflate
from twintrack.outcomes import Refusal
from twintrack.testing import uuid7, wire_event

LIMITS = limits()
NOW = 1_767_225_600_000
EVENT = json.dumps(wire_event(NOW))
RECEIPT = json.dumps({"event_id": uuid7(NOW), "vendor": "gtm", "status": "handed", "at": "2026-01-01T00:00:00Z"})
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "br": brotli.compress,
}


def stream_of_unknown_size(body: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(body) + compressor.flush()


def read(body: bytes | str) -> Batch:
    return decode(body.encode() if isinstance(body, str) else body, LIMITS)


def kinds(batch: Batch) -> list[str]:
    return [element.reason.value if isinstance(element, Refusal) else "event" for element in batch.elements]


def raw(metadata: str, **fields: Any) -> str:
    return json.dumps(wire_event(NOW, event_metadata="@@", **fields)).replace('"@@"', metadata)


# -- inflate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cut_body_is_answered_400(name: str, data: st.DataObject) -> None:
    plain = f"[{EVENT}, {RECEIPT}]".encode()
    whole = ENCODINGS[name](plain)
    assert inflate(whole, name, LIMITS) == plain
    with pytest.raises(RequestError) as refused:
        inflate(whole[: data.draw(st.integers(0, len(whole) - 1))], name, LIMITS)
    assert (refused.value.status, refused.value.code) == (400, "bad_encoding")


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("more", [b"x", b"[]", None], ids=["a sign", "json", "a second stream"])
def test_data_behind_the_stream_is_not_left_out_silently(name: str, more: bytes | None) -> None:
    whole = ENCODINGS[name](b"[1]")
    with pytest.raises(RequestError) as refused:
        inflate(whole + (whole if more is None else more), name, LIMITS)
    assert refused.value.code == "bad_encoding"


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=50, deadline=None)
@given(noise=st.binary(max_size=200))
def test_noise_is_answered_400(name: str, noise: bytes) -> None:
    try:
        inflate(noise, name, LIMITS)
    except RequestError as refused:
        assert refused.status in (400, 413)


@pytest.mark.parametrize(
    "compress", [*ENCODINGS.items(), ("zstd", stream_of_unknown_size)], ids=[*ENCODINGS, "zstd-stream"]
)
@pytest.mark.parametrize(("beyond", "fits"), [(0, True), (1, False)])
def test_limit_of_inflated_bytes_is_exact(compress: Any, beyond: int, fits: bool) -> None:
    name, squeeze = compress
    small = msgspec.structs.replace(LIMITS, inflated_bytes=1 << 20)
    body = squeeze(b" " * (small.inflated_bytes + beyond))
    if fits:
        assert len(inflate(body, name, small)) == small.inflated_bytes
        return
    with pytest.raises(RequestError) as refused:
        inflate(body, name, small)
    assert (refused.value.status, refused.value.code) == (413, "body_too_large")


def test_unknown_encoding_is_answered_415() -> None:
    with pytest.raises(RequestError) as refused:
        inflate(b"[]", "gzip, br", LIMITS)
    assert refused.value.status == 415


# -- decode ----------------------------------------------------------------------------------------------------------

texts = st.text(max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
metadata = st.recursive(
    scalars | texts, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=10
)
good_events = st.fixed_dictionaries(
    {
        "event_id": st.uuids().map(str),
        "event_name": texts,
        "event_metadata": st.dictionaries(texts, metadata, max_size=4),
        "client_timestamp": st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    },
    optional={
        "event_value": texts | st.none(),
        "message_content": texts | st.none(),
        "sequence": st.integers(0, 2**53),
        "colour": texts,  # a field that the contract does not know
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(good_events, max_size=4), st.booleans(), st.booleans())
def test_tolerant_try_reads_good_events_as_the_fast_one_does(
    events: list[dict[str, Any]], escaped: bool, enveloped: bool
) -> None:
    def body(batch: list[Any]) -> str:
        return json.dumps({"events": batch, "batch_id": "b"} if enveloped else batch, ensure_ascii=escaped)

    fast, tolerant = read(body(events)), read(body([*events, 5]))
    assert kinds(fast) == ["event"] * len(events)
    assert kinds(tolerant) == [*kinds(fast), "wrong_type"]
    assert [msgspec.structs.asdict(e) for e in tolerant.elements[:-1]] == [
        msgspec.structs.asdict(e) for e in fast.elements
    ]
    assert tolerant.unknown_fields == fast.unknown_fields == sum("colour" in event for event in events)
    assert tolerant.envelope.batch_id == fast.envelope.batch_id


noise = st.binary(max_size=60) | st.lists(st.sampled_from(list(b'[]{},:"\\ 1eE-.untf\x00\xff')), max_size=60).map(bytes)


@settings(max_examples=300, deadline=None)
@given(noise, st.integers(0, 500), st.integers(0, 500), st.booleans())
def test_any_bytes_give_a_batch_or_a_request_error(splice: bytes, start: int, end: int, whole: bool) -> None:
    base = f'{{"events": [{EVENT}, {EVENT}], "receipts": [{RECEIPT}], "key": "k"}}'.encode()
    try:
        batch = read(splice if whole else base[:start] + splice + base[max(start, end) :])
    except RequestError as refused:
        assert refused.status in (400, 413)
    else:
        assert len(batch.ids) == len(batch.elements)
        assert all(isinstance(element, WireEvent | Refusal) for element in batch.elements)


@settings(max_examples=100, deadline=None)
@given(st.lists(good_events, min_size=1, max_size=3), noise, st.integers(0, 3))
def test_bad_element_between_brackets_costs_no_neighbour(events: list[dict[str, Any]], bad: bytes, place: int) -> None:
    """Whatever stands in the bad event's strings: as long as the brackets hold, the others are kept."""
    parts = [json.dumps(event).encode() for event in events]
    place = min(place, len(parts))
    parts.insert(place, b'{"colour": ' + json.dumps(bad.decode("latin-1")).encode() + b", nonsense}")
    found = kinds(read(b"[" + b",".join(parts) + b"]"))
    assert found.pop(place) == "malformed"
    assert found == ["event"] * len(events)


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        (r'{"half \ud83d": 1}', {"half \ufffd": 1}),
        (r'{"half": "\ude00 \ud83d"}', {"half": "\ufffd \ufffd"}),
        (r'{"whole": "\ud83d\ude00", "half": "\ud83d"}', {"whole": "\U0001f600", "half": "\ufffd"}),
        (r'{"text": "\\ud83d"}', {"text": r"\ud83d"}),
    ],
)
def test_lone_surrogates_become_replacement_characters(metadata: str, kept: dict[str, Any]) -> None:
    (event,) = read(f"[{raw(metadata)}]").elements
    assert isinstance(event, WireEvent)
    assert event.event_metadata == kept


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    (event,) = read(b"[" + raw('{"x": "@"}').encode().replace(b"@", b"caf\xe9") + b"]").elements
    assert isinstance(event, WireEvent)
    assert event.event_metadata == {"x": "caf\ufffd"}


@pytest.mark.parametrize("depth", [100, 500, 700, 950, 1_000, 3_000, 100_000])
@pytest.mark.parametrize("sign", ["x", r"\ud83d"], ids=["plain", "lone surrogate"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}")], ids=["arrays", "objects"])
def test_depth_costs_that_event_at_most(depth: int, sign: str, opening: str, closing: str) -> None:
    bad = raw('{"deep": ' + opening * depth + f'"{sign}"' + closing * depth + "}")
    batch = read(f"[{json.dumps(wire_event(NOW))}, {bad}, {json.dumps(wire_event(NOW))}]")
    assert kinds(batch)[1] in ("event", "too_deep")  # an event that is kept here is too deep for validate.py
    assert [kinds(batch)[0], kinds(batch)[2]] == ["event", "event"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5_000, "-" + "9" * 5_000])
@pytest.mark.parametrize("text", ["plain", "caf\u00e9", r"\ud83d"])
def test_number_that_no_float_holds_is_refused_whatever_stands_beside_it(number: str, text: str) -> None:
    """An infinite number would be stored as null: the sender would never know."""
    batch = read(f'[{raw(f"""{{"x": {number}, "y": "{text}"}}""")}]')
    assert kinds(batch)[0] in ("number_out_of_range", "malformed")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x10", "1_000"])
def test_what_is_no_json_number_is_malformed(number: str) -> None:
    assert kinds(read(f'[{raw(f"""{{"x": {number}, "y": "é"}}""")}]')) == ["malformed"]


@pytest.mark.parametrize(
    ("fields", "reason", "named"),
    [
        ({"event_id": 5}, "wrong_type", "event_id"),
        ({"event_id": ""}, "wrong_type", "event_id"),
        ({"event_name": None}, "wrong_type", "event_name"),
        ({"event_name": ["x"]}, "wrong_type", "event_name"),
        ({"event_metadata": []}, "wrong_type", "event_metadata"),
        ({"sequence": 1.5}, "wrong_type", "sequence"),
        ({"sequence": True}, "wrong_type", "sequence"),
        ({"sequence": "1"}, "wrong_type", "sequence"),
        ({"context": {"viewport": {"width": "wide"}}}, "wrong_type", "context.viewport.width"),
        ({"client_timestamp": "2016-12-31T23:59:60Z"}, "wrong_type", "client_timestamp"),
        ({"client_timestamp": "2026-01-01T00:00:00"}, "wrong_type", "client_timestamp"),
        ({"client_timestamp": "2026-01-01T00:00:00+24:00"}, "wrong_type", "client_timestamp"),
        ({"client_timestamp": "2026-02-30T00:00:00Z"}, "wrong_type", "client_timestamp"),
        ({"client_timestamp": 1767225600}, "wrong_type", "client_timestamp"),
    ],
)
def test_wrong_type_is_refused_by_field_and_never_quoted(fields: dict[str, Any], reason: str, named: str) -> None:
    (refusal,) = read(json.dumps([wire_event(NOW, **fields)])).elements
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert refusal.message.startswith(named + ":")
    assert "2016" not in refusal.message and "wide" not in refusal.message


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00-23:59", "2026-01-01t00:00:00z", "2026-01-01 00:00:00.123456Z"])
def test_time_of_rfc_3339_is_read(moment: str) -> None:
    assert kinds(read(json.dumps([wire_event(NOW, client_timestamp=moment)]))) == ["event"]


def test_missing_fields_are_named() -> None:
    batch = read('[{}, {"event_id": "6fa459ea-ee8a-4ca4-894e-db77e160355e"}]')
    assert kinds(batch) == ["missing_field", "missing_field"]
    assert all("event_name" in e.message for e in batch.elements if isinstance(e, Refusal))


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ('"6FA459EA-EE8A-4CA4-894E-DB77E160355E"', "6fa459ea-ee8a-4ca4-894e-db77e160355e"),
        ('"6fa459eaee8a4ca4894edb77e160355e"', "6fa459ea-ee8a-4ca4-894e-db77e160355e"),
        ('"4111-1111-1111-1111-4111-1111-1111"', None),
        ("5", None),
    ],
)
def test_id_of_a_refused_event_is_kept_in_its_one_form(written: str, known: str | None) -> None:
    batch = read(f'[{{"event_id": {written}, "event_name": 5}}]')
    assert batch.ids == [known]


def test_id_inside_the_metadata_is_not_the_events_own() -> None:
    assert read(f'[{{"event_metadata": {{"event_id": "{uuid7(NOW)}"}}, "event_name": 5}}]').ids == [None]


@pytest.mark.parametrize(
    "member",
    [
        '"batch_id": 5',
        '"batch_id": "\\ud83d"',
        '"sent_at": "noon"',
        '"sent_at": 5',
        '"key": []',
        '"token": {}',
        '"sdk": 5',
        '"receipts": 5',
        '"receipts": {}',
        '"receipts": null',
        '"more": NaN',
        '"\\ud83d": 1',
    ],
)
def test_wrong_member_of_the_envelope_costs_no_event(member: str) -> None:
    assert kinds(read(f'{{{member}, "events": [{EVENT}]}}')) == ["event"]
    assert kinds(read(f'{{"events": [{EVENT}], {member}}}')) == ["event"]


def test_good_members_of_an_envelope_survive_a_wrong_one() -> None:
    envelope = read(
        f'{{"key": "k", "token": "t", "sent_at": "2026-01-01T00:00:00Z", "sdk": 5, "events": [{EVENT}]}}'
    ).envelope
    assert (envelope.key, envelope.token) == ("k", "t")
    assert envelope.sent_at is not None


@pytest.mark.parametrize(
    "bad", ["5", "{}", "[]", "null", "NaN", RECEIPT.replace("2026", "26"), RECEIPT.replace('"gtm"', "7")]
)
def test_bad_receipt_costs_itself_alone(bad: str) -> None:
    batch = read(f'{{"events": [{EVENT}], "receipts": [{RECEIPT}, {bad}, {RECEIPT}]}}')
    assert kinds(batch) == ["event"]
    assert len(batch.receipts) == 2


def test_receipts_come_without_events_too() -> None:
    assert len(read(f'{{"receipts": [{RECEIPT}]}}').receipts) == 1


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"batch_id": 5}',
        '{"batch_id": "events"}',
        '{"receipts": []}',
        '{"events": null}',
        '{"events": {}}',
        '{"events": "[]"}',
        '{"nested": {"events": []}}',
        '"[]"',
        "null",
        "[1",
        '[{"event_id": "',
        f"[{EVENT}] [{EVENT}]",
    ],
)
def test_body_without_an_array_of_events_is_answered_400(body: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(body)
    assert (refused.value.status, refused.value.code) == (400, "no_events")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_body_in_another_encoding_is_answered_400(encoding: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(f"[{EVENT}]".encode(encoding))
    assert "UTF-8" in refused.value.hint


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n\t "])
@pytest.mark.parametrize("more", [b"", b", 5"])
def test_byte_order_mark_and_blanks_are_left_out(before: bytes, more: bytes) -> None:
    assert kinds(read(before + b"[" + EVENT.encode() + more + b"]"))[0] == "event"


@pytest.mark.parametrize("more", ["", ', "batch_id": 5'])
def test_escapes_in_the_name_of_a_member_are_read(more: str) -> None:
    assert kinds(read(f'{{"\\u0065vents": [{EVENT}]{more}}}')) == ["event"]


@pytest.mark.parametrize("last", ["1", "nonsense", "[" * 2_000])
def test_too_many_events_are_answered_413(last: str) -> None:
    with pytest.raises(RequestError) as refused:
        read("[" + '{"event_id": 1},' * LIMITS.batch_events + last + "]" * last.count("[") + "]")
    assert (refused.value.status, refused.value.code) == (413, "batch_too_large")


def test_event_alone_is_read_as_in_a_batch() -> None:
    alone, batched = decode_one(EVENT.encode()), read(f"[{EVENT}]").elements[0]
    assert isinstance(alone, WireEvent) and isinstance(batched, WireEvent)
    assert msgspec.structs.asdict(alone) == msgspec.structs.asdict(batched)


@pytest.mark.parametrize("body", [raw("@"), '{"events": [], "sdk": @}', '{"events": [], "sdk": @, "token": "\\ud83d"}'])
def test_body_of_empty_arrays_is_refused_before_they_are_made(body: str) -> None:
    """Sixteen MiB of them took 390 MB and two seconds, of everybody."""
    with pytest.raises(RequestError) as refused:
        read(body.replace("@", '{"x": [' + "[]," * 300_000 + "[]]}"))
    assert (refused.value.status, refused.value.code) == (413, "batch_too_large")
