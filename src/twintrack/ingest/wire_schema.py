"""The wire as JSON Schema: the structs of event.py, with the limits of the contract written into them.

One source for `contract/event.schema.json` (docs/event_schema.py writes it, both languages test against it) and for
the OpenAPI document. A limit that JSON Schema cannot say (bytes, depth, age, paths named twice) is said in words.
"""

from typing import Any

import msgspec

from twintrack.event import CONSENT_STATES, RECEIPT_STATUSES, VENDORS, Envelope, Limits, WireEvent
from twintrack.outcomes import Reason, Status

_Rules = dict[str, dict[str, dict[str, Any]]]
_HEX = "[0-9a-fA-F]"


def _rules(limits: Limits) -> _Rules:
    """Struct to field to what its schema says beyond the type."""

    def text(most: int, **more: Any) -> dict[str, Any]:
        return {"maxLength": most, **more}

    identifier = text(limits.identifier_characters)
    url = text(limits.url_characters)
    label = text(limits.label_characters)
    side = {"minimum": 0, "maximum": limits.viewport_pixels}
    event_id = {
        "pattern": f"^(?:{_HEX}{{32}}|{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})$",
        "description": "A UUIDv7 from the client: what makes a retry harmless.",
    }
    return {
        "WireEvent": {
            "event_id": event_id,
            "event_name": text(limits.event_name_characters, pattern=r"\S"),
            "event_value": text(limits.event_value_characters),
            "user_id": identifier,
            "anonymous_id": identifier,
            "session_id": identifier,
            "thread_id": identifier,
            "sequence": {
                "minimum": 0,
                "maximum": limits.sequence_maximum,
                "description": "Counts the events of a session from 0.",
            },
            "client_timestamp": {
                "description": f"RFC 3339 with an offset; at most {limits.event_age_days} days old and "
                f"{limits.event_future_hours} hours ahead, after correction by `sent_at`; years 1970 to 2105.",
            },
            "message_content": text(limits.message_content_characters),
            "source": label | {"examples": ["sdk", "tap:statsig", "tap:gtm", "server", "import"]},
        },
        "WireReceipt": {
            "event_id": {"pattern": event_id["pattern"]},
            "vendor": {"examples": list(VENDORS)},
            "status": {"examples": list(RECEIPT_STATUSES)},
        },
        "WireConsent": {
            "state": {"enum": list(CONSENT_STATES), "description": "What holds for our own backend."},
            "at": {"description": "When it was granted; RFC 3339 with an offset, years 1970 to 2105."},
            "denied": {
                "description": "Vendors that may get nothing; unknown ones are left out.",
                "examples": [["statsig"], ["gtm"]],
            },
        },
        "Context": {"referrer": url, "locale": label},
        "Page": {"url": url, "path": url, "title": url},
        "Viewport": {"width": side, "height": side},
        "Envelope": {
            "events": {"maxItems": limits.batch_events},
            "receipts": {"maxItems": limits.batch_receipts},
            "sent_at": {"description": "The client's clock at the moment of sending; corrects its skew."},
            "sdk": {
                "description": "Who sends: name, version, and `health`, a page's own counts (see docs/reference/metrics.md)."
                " What is wrong in it harms no event.",
            },
            "key": {"description": "For sends that can carry no header. Never stored, never logged."},
            "token": {"description": "The user's token, for such sends. Never stored, never logged."},
        },
    }


def _metadata(limits: Limits, reference: str) -> dict[str, Any]:
    """Free-form, but every key at every depth has a name of bounded length."""
    below = {"$ref": reference}
    return {
        "Metadata": {
            "type": "object",
            "description": f"At most {limits.metadata_keys} keys in all and {limits.metadata_depth} levels, each dot in"
            " a key counted; no path named twice; whole numbers within 64 bits.",
            "maxProperties": limits.metadata_keys,
            "propertyNames": {"minLength": 1, "maxLength": limits.metadata_key_characters},
            "additionalProperties": below,
        },
        "MetadataValue": {
            "anyOf": [
                {"type": ["string", "number", "boolean", "null"]},
                {"type": "array", "items": below},
                {"$ref": reference.removesuffix("Value")},
            ]
        },
    }


def components(limits: Limits, template: str) -> dict[str, Any]:
    """Schemas by name; `template` is how they refer to each other, such as `#/$defs/{name}`."""
    (_, schemas) = msgspec.json.schema_components([WireEvent, Envelope], ref_template=template)
    for struct, fields in _rules(limits).items():
        for field, rules in fields.items():
            schemas[struct]["properties"][field] |= rules
    schemas.update(_metadata(limits, template.format(name="MetadataValue")))
    metadata = {"$ref": template.format(name="Metadata")}
    schemas["WireEvent"]["properties"]["event_metadata"] = {"anyOf": [metadata, {"type": "null"}], "default": None}
    consent = {"$ref": template.format(name="WireConsent")}
    schemas["WireEvent"]["properties"]["consent"] = {
        "anyOf": [{"enum": list(CONSENT_STATES)}, consent, {"type": "null"}],
        "default": None,
        "description": "Absent: granted. What is not granted is dropped.",
    }
    schemas["Envelope"]["anyOf"] = [{"required": ["events"]}, {"required": ["receipts"]}]
    schemas["WireEvent"]["description"] += f" As stored it has at most {limits.event_bytes} bytes."
    return schemas


def event_schema(limits: Limits) -> dict[str, Any]:
    """The whole document: what a body may be, and the closed lists of what an event is answered with."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Twintrack events",
        "description": "The body of POST /api/analytics/events. Unknown fields are ignored and counted.",
        "anyOf": [
            {"type": "array", "items": {"$ref": "#/$defs/WireEvent"}, "maxItems": limits.batch_events},
            {"$ref": "#/$defs/Envelope"},
        ],
        "$defs": {
            **components(limits, "#/$defs/{name}"),
            "Status": {"enum": [status.value for status in Status]},
            "Reason": {"enum": [reason.value for reason in Reason]},
        },
    }
