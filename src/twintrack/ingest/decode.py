"""Bytes to events: bounded inflation, one fast typed decode, and a tolerant second try event by event.

msgspec refuses a whole body for one bad value, so a body that fails the fast decode is cut into its array
elements by a flat scanner (ingest/scan.py) and each is decoded alone. Lone surrogates, which JavaScript makes by
cutting emoji in half, become U+FFFD; everything else that is wrong costs that event only.
Next: ingest/validate.py.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

import brotli
import msgspec
import zstandard

from twintrack.errors import RequestError
from twintrack.event import Envelope, Limits, WireEvent, WireReceipt
from twintrack.ingest.checked import checked_decoders
from twintrack.ingest.scan import check_containers, mend, split
from twintrack.outcomes import Reason, Refusal, rejected


class _KnownEvent(WireEvent, forbid_unknown_fields=True):
    """An event without a field that the contract does not know: what nearly every sender sends."""


class _AnyEnvelope(Envelope):
    events: list[WireEvent] | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]


class _RawEnvelope(msgspec.Struct):
    events: list[dict[str, msgspec.Raw]] = []


_FAST_ENVELOPE = msgspec.json.Decoder(_AnyEnvelope)
_FAST_ARRAY = msgspec.json.Decoder(list[WireEvent])
_RAW_ENVELOPE = msgspec.json.Decoder(_RawEnvelope)
_RAW_ARRAY = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_ONE_KNOWN = msgspec.json.Decoder(_KnownEvent)
_ONE_EVENT = msgspec.json.Decoder(WireEvent)
_ONE_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ONE_RECEIPT = msgspec.json.Decoder(WireReceipt)
_ENVELOPE_FIELDS = {
    field.name: msgspec.json.Decoder(field.type)
    for field in msgspec.structs.fields(Envelope)
    if field.name in ("batch_id", "sent_at", "sdk", "key", "token")
}
_KNOWN_FIELDS = frozenset(WireEvent.__struct_fields__)
_BLANK = b" \t\r\n\xef\xbb\xbf"
_NO_EVENTS = "send a JSON array of events in UTF-8, or an object whose `events` is one"
# Compressed bytes taken at a time: no more than 8 MiB can come out of them (128 KiB for each 4 bytes).
_ZSTD_PIECE_BYTES = 256
_BROTLI_PIECE_BYTES = 65_536
_MOST_MEMBERS = 1_000


class Batch(NamedTuple):
    """A decoded body: each element is an event, or why it is none."""

    elements: list[WireEvent | Refusal]
    ids: list[str | None]  # of elements that are refusals, where readable; same length as elements
    receipts: list[WireReceipt]
    bad_receipts: Counter[str]  # those that are none, by what is wrong with them
    envelope: Envelope
    unknown_fields: int


def inflate(body: bytes, encoding: str, limits: Limits) -> bytes:
    """The body without its content encoding: one whole stream, nothing behind it.

    Promises: never holds more than `inflated_bytes` of output and one piece, whatever was sent.
    Raises: RequestError 413 beyond the limit, 415 for an unknown encoding, 400 for broken or cut data.
    """
    most = limits.inflated_bytes
    if encoding in ("", "identity"):
        pieces = iter((body,))
    elif encoding in ("gzip", "x-gzip", "deflate"):
        pieces = _unzip(body, most)
    elif encoding == "zstd":
        pieces = _unzstd(body, most)
    elif encoding == "br":
        pieces = _unbrotli(body)
    else:
        raise RequestError(
            "unknown Content-Encoding", hint="gzip, zstd, br or none", code="unsupported_encoding", status=415
        )
    parts, size = [], 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > most:
                raise RequestError(
                    f"the body inflates to more than {most} bytes (inflated_bytes)",
                    hint="send smaller batches",
                    code="body_too_large",
                    status=413,
                )
            parts.append(piece)
    except (zlib.error, zstandard.ZstdError, brotli.error) as error:
        raise RequestError(
            "the body is not what its Content-Encoding says", hint="check the compression", code="bad_encoding"
        ) from error
    return b"".join(parts)


def _unzip(body: bytes, most: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=47)
    yield inflater.decompress(body, most + 1)
    if not inflater.eof or inflater.unused_data:
        raise zlib.error("incomplete, or more than one stream")


def _unzstd(body: bytes, most: int) -> Iterator[bytes]:
    """No frame within the limit needs a larger window than the limit. Source: RFC 8878 section 3.1.1.1.2."""
    size = zstandard.frame_content_size(body)
    if size > most:
        yield bytes(most + 1)
    inflater = zstandard.ZstdDecompressor(max_window_size=1 << most.bit_length()).decompressobj()
    for start in range(0, len(body), _ZSTD_PIECE_BYTES):
        yield inflater.decompress(body[start : start + _ZSTD_PIECE_BYTES])
    if not inflater.eof or inflater.unused_data:
        raise zstandard.ZstdError("incomplete, or more than one frame")


def _unbrotli(body: bytes) -> Iterator[bytes]:
    inflater = brotli.Decompressor()
    piece = inflater.process(body, output_buffer_limit=_BROTLI_PIECE_BYTES)
    while True:
        yield piece
        if inflater.is_finished():
            return
        if not piece and inflater.can_accept_more_data():
            raise brotli.error("incomplete")
        piece = inflater.process(b"", output_buffer_limit=_BROTLI_PIECE_BYTES)


def decode(body: bytes, limits: Limits) -> Batch:
    """The events of an inflated body, each or its refusal, in order.

    Raises: RequestError 400 when no array of events can be found, 413 for too many of them or of anything in them.
    """
    text = body.lstrip(_BLANK)
    if text[:1] not in (b"[", b"{") or b"\0" in text[:4]:
        raise RequestError("the body is not JSON with an array of events", hint=_NO_EVENTS, code="no_events")
    check_containers(text)
    is_array = text[:1] == b"["
    unknown = 0
    try:
        envelope = None
        for flat in (True, False):
            strict = checked_decoders(limits, flat=flat)
            with suppress(msgspec.ValidationError):
                envelope = _typed(text, strict.array if is_array else strict.envelope)
                break
        if envelope is None:
            envelope = _typed(text, _FAST_ARRAY if is_array else _FAST_ENVELOPE)
            unknown = count_unknown(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_each(text, limits)
    found: object = envelope.events
    if found is msgspec.UNSET:
        if not envelope.receipts:
            raise _no_events_member()
        envelope.events = []
    _count(len(envelope.events), limits)
    events: list[WireEvent | Refusal] = list(envelope.events)
    kept = envelope.receipts[: limits.batch_receipts]
    over = Counter(too_many=len(envelope.receipts) - len(kept)) if len(kept) < len(envelope.receipts) else Counter()
    return Batch(events, [None] * len(events), kept, over, envelope, unknown)


def _typed(text: bytes, decoder: "msgspec.json.Decoder[Any]") -> Envelope:
    decoded = decoder.decode(text)
    return decoded if isinstance(decoded, Envelope) else Envelope(events=decoded)


def _no_events_member() -> RequestError:
    return RequestError("the object has no `events`", hint=_NO_EVENTS, code="no_events")


def _count(events: int, limits: Limits) -> None:
    if events > limits.batch_events:
        raise RequestError(
            f"the batch holds more than {limits.batch_events} events (batch_events)",
            hint="send smaller batches; nothing of this one was kept",
            code="batch_too_large",
            status=413,
        )


def _decode_each(text: bytes, limits: Limits) -> Batch:
    top = split(text, max(limits.batch_events, _MOST_MEMBERS))
    envelope = Envelope()
    receipts: list[WireReceipt] = []
    bad_receipts: Counter[str] = Counter()
    if isinstance(top, dict):
        members = {_key(raw): value for raw, value in top.items()}
        if "events" not in members and "receipts" not in members:
            raise _no_events_member()
        top = split(members.get("events", b"[]"), limits.batch_events)
        for name, decoder in _ENVELOPE_FIELDS.items():
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                if name in members:
                    setattr(envelope, name, decoder.decode(mend(members[name])))
        found = split(members.get("receipts", b"[]"), limits.batch_receipts)
        sent = found if isinstance(found, list) else [b""]
        for raw in sent[: limits.batch_receipts]:
            try:
                receipts.append(_ONE_RECEIPT.decode(mend(raw)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                bad_receipts["malformed"] += 1
        if len(sent) > limits.batch_receipts:
            bad_receipts["too_many"] += len(sent) - limits.batch_receipts
    if not isinstance(top, list):
        raise RequestError("no array of events can be found in the body", hint=_NO_EVENTS, code="no_events")
    _count(len(top), limits)
    elements: list[WireEvent | Refusal] = []
    ids: list[str | None] = []
    unknown = 0
    for raw in top:
        element, more = _one(raw)
        elements.append(element)
        ids.append(_readable_id(raw) if isinstance(element, Refusal) else None)
        unknown += more
    return Batch(elements, ids, receipts, bad_receipts, envelope, unknown)


def _key(raw: bytes) -> str:
    """The name of a member; "" where it is none."""
    try:
        return msgspec.json.decode(mend(raw), type=str)
    except msgspec.DecodeError:
        return ""


def decode_one(raw: bytes) -> WireEvent | Refusal:
    """One event alone, or what is wrong with it."""
    return _one(raw)[0]


def _one(raw: bytes) -> tuple[WireEvent | Refusal, int]:
    """One event alone, or what is wrong with it; and how many of its fields are unknown."""
    refusal: Refusal | None = None
    mended = mend(raw)
    for text in (raw,) if mended == raw else (raw, mended):
        try:
            try:
                return _ONE_KNOWN.decode(text), 0
            except msgspec.ValidationError:
                return _ONE_EVENT.decode(text), len(_ONE_RAW.decode(text).keys() - _KNOWN_FIELDS)
        except msgspec.ValidationError as error:
            return _wrong(error), 0
        except (msgspec.DecodeError, UnicodeDecodeError):
            refusal = rejected(Reason.MALFORMED, "the event is not valid JSON; send it as JSON.stringify makes it")
        except RecursionError:
            refusal = rejected(
                Reason.TOO_DEEP, "event_metadata is nested too deep (metadata_depth); flatten it before sending"
            )
    assert refusal is not None
    return refusal, 0


def _wrong(error: msgspec.ValidationError) -> Refusal:
    """msgspec names path and expected type, never the value."""
    text = str(error)
    if "missing required field" in text:
        return rejected(Reason.MISSING_FIELD, f"{text}; event_id (a UUID) and event_name are required")
    field = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else "event"
    what = text.partition(" - at")[0]
    reason = Reason.NUMBER_OUT_OF_RANGE if "out of range" in what else Reason.WRONG_TYPE
    return rejected(reason, f"{field}: {what}; see contract/event.schema.json")


def _readable_id(raw: bytes) -> str | None:
    """The id of an event that is refused, as every other place writes it; None where it has none."""
    members = split(raw, _MOST_MEMBERS)
    value = members.get(b'"event_id"') if isinstance(members, dict) else None
    try:
        return None if value is None else str(msgspec.json.decode(value, type=UUID))
    except msgspec.DecodeError:
        return None


def count_unknown(text: bytes) -> int:
    """How many event fields the contract does not know; called only for bodies that hold some."""
    events = _RAW_ARRAY.decode(text) if text[:1] == b"[" else _RAW_ENVELOPE.decode(text).events
    return sum(len(event.keys() - _KNOWN_FIELDS) for event in events)
