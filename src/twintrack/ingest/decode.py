"""Bytes to events: bounded inflation, one fast typed decode, and a tolerant second try event by event.

msgspec refuses a whole body for one bad value, so a body that fails the fast decode is cut into its array
elements by a flat scanner (no recursion, so depth cannot hurt) and each is decoded alone. Lone surrogates, which
JavaScript makes by cutting emoji in half, become U+FFFD; everything else that is wrong costs that event only.
Next: ingest/validate.py.
"""

import json
import re
import zlib
from typing import Annotated, Any, NamedTuple

import brotli
import msgspec
import zstandard
from msgspec import Meta

from twintrack.errors import RequestError
from twintrack.event import (
    LABEL_CHARACTERS,
    VIEWPORT_PIXELS,
    Context,
    Envelope,
    Limits,
    Page,
    Viewport,
    WireEvent,
    WireReceipt,
    limits,
)
from twintrack.outcomes import Reason, Refusal, rejected

_LIMITS = limits()
_Identifier = Annotated[str, Meta(max_length=_LIMITS.identifier_characters)] | None
_Url = Annotated[str, Meta(max_length=_LIMITS.url_characters)]
_Label = Annotated[str, Meta(max_length=LABEL_CHARACTERS)]
_Pixels = Annotated[int, Meta(ge=0, le=VIEWPORT_PIXELS)]


class _Page(Page, forbid_unknown_fields=True):
    url: _Url = ""
    path: _Url = ""
    title: _Url = ""


class _Viewport(Viewport, forbid_unknown_fields=True):
    width: _Pixels = 0
    height: _Pixels = 0


class _Context(Context, forbid_unknown_fields=True):
    page: _Page = msgspec.field(default_factory=_Page)
    viewport: _Viewport = msgspec.field(default_factory=_Viewport)
    referrer: _Url = ""
    locale: _Label = ""


class CheckedEvent(WireEvent, forbid_unknown_fields=True):
    """An event within the limits of its fields and without unknown ones: what nearly every sender sends.

    The decoder itself sees to that, so `validate` only looks at what it cannot: time and metadata.
    """

    event_name: Annotated[str, Meta(min_length=1, max_length=_LIMITS.event_name_characters)]
    event_value: Annotated[str, Meta(max_length=_LIMITS.event_value_characters)] | None = None
    user_id: _Identifier = None
    anonymous_id: _Identifier = None
    session_id: _Identifier = None
    sequence: Annotated[int, Meta(ge=0, le=_LIMITS.sequence_maximum)] | None = None
    message_content: Annotated[str, Meta(max_length=_LIMITS.message_content_characters)] | None = None
    thread_id: _Identifier = None
    context: _Context | None = None
    consent: _Label | None = None
    source: _Label | None = None


class _CheckedEnvelope(Envelope):
    events: list[CheckedEvent] = []  # type: ignore[assignment]


_STRICT_ENVELOPE = msgspec.json.Decoder(_CheckedEnvelope)
_STRICT_ARRAY = msgspec.json.Decoder(list[CheckedEvent])
_FAST_ENVELOPE = msgspec.json.Decoder(Envelope)
_FAST_ARRAY = msgspec.json.Decoder(list[WireEvent])
_ONE_EVENT = msgspec.json.Decoder(WireEvent)
_KNOWN_FIELDS = frozenset(WireEvent.__struct_fields__)
_BLANK = b" \t\r\n\xef\xbb\xbf"
_NO_EVENTS = "send a JSON array of events, or an object whose `events` is one"


class Batch(NamedTuple):
    """A decoded body: each element is an event, or why it is none."""

    elements: list[WireEvent | Refusal]
    ids: list[str | None]  # of elements that are refusals, where readable; same length as elements
    receipts: list[WireReceipt]
    envelope: Envelope
    unknown_fields: int


def inflate(body: bytes, encoding: str, limits: Limits) -> bytes:
    """The body without its content encoding.

    Promises: never holds more than `inflated_bytes` of output, whatever was sent.
    Raises: RequestError 413 beyond the limit, 415 for an unknown encoding, 400 for broken data.
    """
    most = limits.inflated_bytes
    try:
        if encoding in ("", "identity"):
            plain = body
        elif encoding in ("gzip", "x-gzip", "deflate"):
            inflater = zlib.decompressobj(wbits=47)
            plain = inflater.decompress(body, most + 1)
            if len(plain) <= most and not inflater.eof:
                raise zlib.error("incomplete")
        elif encoding == "zstd":
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body) as reader:
                plain = reader.read(most + 1)
        elif encoding == "br":
            plain = _unbrotli(body, most)
        else:
            raise RequestError(
                "unknown Content-Encoding", hint="gzip, zstd, br or none", code="unsupported_encoding", status=415
            )
    except (zlib.error, zstandard.ZstdError, brotli.error) as error:
        raise RequestError(
            "the body is not what its Content-Encoding says", hint="check the compression", code="bad_encoding"
        ) from error
    if len(plain) > most:
        raise RequestError(
            f"the body inflates to more than {most} bytes (inflated_bytes)",
            hint="send smaller batches",
            code="body_too_large",
            status=413,
        )
    return plain


def _unbrotli(body: bytes, most: int) -> bytes:
    decompressor, parts, size = brotli.Decompressor(), [], 0
    piece = decompressor.process(body, output_buffer_limit=65_536)
    while True:
        parts.append(piece)
        size += len(piece)
        if size > most or decompressor.is_finished():
            return b"".join(parts)
        if not piece and decompressor.can_accept_more_data():
            raise brotli.error("incomplete")
        piece = decompressor.process(b"", output_buffer_limit=65_536)


def decode(body: bytes, limits: Limits) -> Batch:
    """The events of an inflated body, each or its refusal, in order.

    Raises: RequestError 400 when no array of events can be found, 413 for too many of them.
    """
    start = body.lstrip(_BLANK)[:1]
    if start not in (b"[", b"{"):
        raise RequestError("the body is not JSON with an array of events", hint=_NO_EVENTS, code="no_events")
    unknown = 0
    try:
        try:
            envelope = _typed(body, start, _STRICT_ARRAY, _STRICT_ENVELOPE)
        except msgspec.ValidationError:
            envelope = _typed(body, start, _FAST_ARRAY, _FAST_ENVELOPE)
            unknown = count_unknown(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_each(body, start, limits)
    if start == b"{" and not envelope.events and b'"events"' not in body and not envelope.receipts:
        raise RequestError("the object has no `events`", hint=_NO_EVENTS, code="no_events")
    _count(len(envelope.events), limits)
    events: list[WireEvent | Refusal] = list(envelope.events)
    return Batch(events, [None] * len(events), envelope.receipts[: limits.batch_receipts], envelope, unknown)


def _typed(
    body: bytes, start: bytes, array: "msgspec.json.Decoder[Any]", envelope: "msgspec.json.Decoder[Any]"
) -> Envelope:
    decoded: Envelope = Envelope(events=array.decode(body)) if start == b"[" else envelope.decode(body)
    return decoded


def _count(events: int, limits: Limits) -> None:
    if events > limits.batch_events:
        raise RequestError(
            f"the batch holds {events} events; the limit is {limits.batch_events} (batch_events)",
            hint="send smaller batches; nothing of this one was kept",
            code="batch_too_large",
            status=413,
        )


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)


def split(body: bytes) -> list[bytes] | dict[bytes, bytes] | None:
    """The elements of a JSON array, or the raw values of an object by raw key; None where brackets do not match.

    Looks at strings and brackets only, in one flat pass: depth and bad values inside do not matter.
    """
    depth, start, key_end, closed = 0, 0, -1, False
    closing: list[bytes] = []
    pieces: list[tuple[bytes, bytes]] = []

    def piece(end: int) -> None:
        value = body[start:end].strip()
        if key_end >= 0:
            pieces.append((body[start:key_end].strip(), body[key_end + 1 : end].strip()))
        elif value:
            pieces.append((b"", value))

    for token in _TOKEN.finditer(body):
        mark = token.group()
        if closed:
            return None
        if mark in (b"[", b"{"):
            depth += 1
            closing.append(b"]" if mark == b"[" else b"}")
            if depth == 1:
                start = token.end()
        elif mark in (b"]", b"}"):
            if not closing or closing.pop() != mark:
                return None
            if depth == 1:
                piece(token.start())
                closed = True
            depth -= 1
        elif depth == 1 and mark == b",":
            piece(token.start())
            start, key_end = token.end(), -1
        elif depth == 1 and mark == b":" and key_end < 0 and body[:1] != b"[":
            key_end = token.start()
    if not closed:
        return None
    return dict(pieces) if body[:1] == b"{" else [value for _, value in pieces]


def _decode_each(body: bytes, start: bytes, limits: Limits) -> Batch:
    top = split(body.lstrip(_BLANK))
    envelope = Envelope()
    receipts: list[WireReceipt] = []
    if isinstance(top, dict):
        members = top
        top = split(members.get(b'"events"', b"[]"))
        for name in ("batch_id", "sent_at", "key", "token"):
            raw = members.get(b'"%s"' % name.encode())
            if raw is not None:
                kind = dict(zip(Envelope.__struct_fields__, msgspec.structs.fields(Envelope), strict=True))[name].type
                try:
                    setattr(envelope, name, msgspec.json.decode(raw, type=kind))
                except (msgspec.DecodeError, RecursionError):
                    continue
        found = split(members.get(b'"receipts"', b"[]"))
        for raw in (found if isinstance(found, list) else [])[: limits.batch_receipts]:
            try:
                receipts.append(msgspec.json.decode(raw, type=WireReceipt))
            except (msgspec.DecodeError, RecursionError):
                continue
    if not isinstance(top, list):
        raise RequestError("no array of events can be found in the body", hint=_NO_EVENTS, code="no_events")
    _count(len(top), limits)
    elements: list[WireEvent | Refusal] = []
    ids: list[str | None] = []
    unknown = 0
    for raw in top:
        element = decode_one(raw)
        elements.append(element)
        ids.append(_readable_id(raw) if isinstance(element, Refusal) else None)
        unknown += _unknown_in(raw)
    return Batch(elements, ids, receipts, envelope, unknown)


def decode_one(raw: bytes) -> WireEvent | Refusal:
    """One event alone, or what is wrong with it."""
    try:
        return _ONE_EVENT.decode(raw)
    except msgspec.ValidationError as error:
        refusal = _wrong(error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        refusal = rejected(Reason.MALFORMED, "the event is not valid JSON; send it as JSON.stringify makes it")
    except RecursionError:
        return rejected(
            Reason.TOO_DEEP, "event_metadata is nested too deep (metadata_depth); flatten it before sending"
        )
    mended = _mend(raw)
    if mended is None:
        return refusal
    try:
        return msgspec.convert(mended, WireEvent)
    except msgspec.ValidationError as error:
        return _wrong(error)
    except RecursionError:
        return rejected(Reason.TOO_DEEP, "event_metadata is nested too deep (metadata_depth); flatten it")


def _wrong(error: msgspec.ValidationError) -> Refusal:
    """msgspec names path and expected type, never the value."""
    text = str(error)
    if "missing required field" in text:
        return rejected(Reason.MISSING_FIELD, f"{text}; event_id (a UUID) and event_name are required")
    field = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else "event"
    what = text.partition(" - at")[0]
    return rejected(Reason.WRONG_TYPE, f"{field}: {what}; see contract/event.schema.json")


def _refuse_constant(name: str) -> Any:
    raise ValueError("no JSON number")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _mend(raw: bytes) -> Any:
    """The event with lone surrogates replaced, None where the trouble is another one."""
    if b"\\u" not in raw and raw.isascii():
        return None
    try:
        value = json.loads(raw.decode("utf-8", "replace"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return _without_surrogates(value)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


_ID = re.compile(rb'"event_id"\s*:\s*"([0-9a-fA-F-]{32,36})"')


def _readable_id(raw: bytes) -> str | None:
    match = _ID.search(raw)
    return match.group(1).decode() if match else None


def _unknown_in(raw: bytes) -> int:
    members = split(raw) if raw[:1] == b"{" else None
    return sum(k.strip(b'"').decode("utf-8", "replace") not in _KNOWN_FIELDS for k in members or ())


def count_unknown(body: bytes) -> int:
    """How many event fields the contract does not know; called only for bodies that hold some."""
    value = msgspec.json.decode(body)
    events = value.get("events", []) if isinstance(value, dict) else value
    return sum(len(e.keys() - _KNOWN_FIELDS) for e in events if isinstance(e, dict))
