"""Decoders that hold an event's fields to the limits while they read it, which costs a tenth of looking again.

What they decode needs no look at its fields: `validate` asks only for the type, then judges time and metadata. What
they refuse is decoded without limits, so that the refusal can name field and limit.
"""

from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from twintrack.event import Context, Envelope, Limits, Page, Viewport, WireConsent, WireEvent

# Whole numbers up to this are kept exactly by every reader, a float of theirs included.
_SMALL = 10**15


class CheckedEvent(WireEvent):
    """An event whose fields are within the limits and known to the contract."""


class FlatEvent(CheckedEvent):
    """One whose metadata is within the limits too: no nesting, few keys of fair length, no large numbers."""


class Decoders(NamedTuple):
    array: "msgspec.json.Decoder[Any]"
    envelope: "msgspec.json.Decoder[Any]"


@cache
def checked_decoders(limits: Limits, *, flat: bool) -> Decoders:
    """The decoders of a bare array and of an envelope under these limits, metadata included where it is to be flat."""

    def text(most: int, least: int = 0) -> Any:
        return Annotated[str, Meta(min_length=least, max_length=most)]

    url, label = text(limits.url_characters), text(limits.label_characters)
    identifier = text(limits.identifier_characters) | None
    pixels = Annotated[int, Meta(ge=0, le=limits.viewport_pixels)]
    page = msgspec.defstruct("CheckedPage", [(name, url, "") for name in ("url", "path", "title")], bases=(Page,))
    viewport = msgspec.defstruct(
        "CheckedViewport", [(name, pixels, 0) for name in ("width", "height")], bases=(Viewport,)
    )
    context = msgspec.defstruct(
        "CheckedContext",
        [
            ("page", page, msgspec.field(default_factory=page)),
            ("viewport", viewport, msgspec.field(default_factory=viewport)),
            ("referrer", url, ""),
            ("locale", label, ""),
        ],
        bases=(Context,),
    )
    consent = msgspec.defstruct("CheckedConsent", [("state", label)], bases=(WireConsent,))
    key = text(limits.metadata_key_characters, 1)
    value = str | Annotated[int, Meta(ge=-_SMALL, le=_SMALL)] | float | bool | None
    metadata: Any = Annotated[dict[key, value], Meta(max_length=limits.metadata_keys)] if flat else dict[str, Any]  # type: ignore[valid-type]
    event = msgspec.defstruct(
        "LimitedEvent",
        [
            ("event_name", text(limits.event_name_characters, 1)),
            ("event_value", text(limits.event_value_characters) | None, None),
            ("event_metadata", metadata | None, None),
            *[(name, identifier, None) for name in ("user_id", "anonymous_id", "session_id", "thread_id")],
            ("sequence", Annotated[int, Meta(ge=0, le=limits.sequence_maximum)] | None, None),
            ("message_content", text(limits.message_content_characters) | None, None),
            ("context", context | None, None),
            ("consent", label | consent | None, None),
            ("source", label | None, None),
        ],
        bases=(FlatEvent if flat else CheckedEvent,),
        forbid_unknown_fields=True,
    )
    members: Any = list[event] | msgspec.UnsetType  # type: ignore[valid-type]
    envelope = msgspec.defstruct("LimitedEnvelope", [("events", members, msgspec.UNSET)], bases=(Envelope,))
    return Decoders(msgspec.json.Decoder(list[event]), msgspec.json.Decoder(envelope))  # type: ignore[valid-type]
