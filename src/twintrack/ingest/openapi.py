"""The OpenAPI description of the ingest routes, which are bare for speed and so describe themselves here."""

from typing import Any

import msgspec

from twintrack.control.rollout import BATCH_LIMITS, QUEUES, Rollout
from twintrack.event import Limits
from twintrack.ingest.wire_schema import components as wire_components

_ERRORS = {
    "400": "No array of events can be found, or the compression is broken.",
    "401": "No key, or an unknown one.",
    "403": "The key may not send events.",
    "405": "Events are sent by POST.",
    "408": "Head or body came too slowly.",
    "413": "Too large; see the limits.",
    "415": "Unknown Content-Type or Content-Encoding.",
    "429": "A key or an address sent too much; nothing was kept. Send again after Retry-After.",
    "431": "The head has too many lines or bytes.",
    "503": "Nothing was kept; send again after Retry-After.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}


def describe_ingest(document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The document with the two ingest paths and their schemas added, with the limits of this server."""
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(wire_components(limits, "#/components/schemas/{name}"))
    components["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "hint"],
                "properties": {name: {"type": "string"} for name in ("code", "message", "hint")},
            }
        },
    }
    count = {"type": "integer", "minimum": 0}
    components["Verdicts"] = {
        "type": "object",
        "required": ["batch_id", "accepted", "duplicate", "rejected", "dropped", "retry", "results", "config"],
        "properties": {
            "batch_id": {"type": "string"},
            **{name: count for name in ("accepted", "duplicate", "rejected", "dropped", "retry")},
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": count,
                        "event_id": {"type": ["string", "null"]},
                        "status": {"type": "string"},
                        "code": {"type": "string"},
                        "message": {"type": "string"},
                    },
                },
            },
            "config": {"type": "object", "properties": {"version": count, "kill": {"type": "boolean"}}},
        },
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors: dict[str, dict[str, Any]] = {
        status: {"description": text, "content": error} for status, text in _ERRORS.items()
    }
    for status in ("429", "503"):
        errors[status]["headers"] = _RETRY_AFTER
    document["paths"]["/api/analytics/events"] = {
        "post": {
            "tags": ["ingest"],
            "summary": "Accept a batch of events; 200 means they are on disk",
            "operationId": "ingest_events",
            "security": [{"key": []}, {"writeKey": []}],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "anyOf": [
                                {"type": "array", "items": {"$ref": "#/components/schemas/WireEvent"}},
                                {"$ref": "#/components/schemas/Envelope"},
                            ]
                        }
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "A verdict for every event.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Verdicts"}}},
                },
                **errors,
            },
        }
    }
    components["Config"] = _config()
    not_modified = {"description": "Unchanged.", "headers": {"ETag": {"schema": {"type": "string"}}}}
    document["paths"]["/api/analytics/config"] = {
        "get": {
            "tags": ["ingest"],
            "summary": "What a client is told: kill switch, share, sampling, batch sizes, endpoint",
            "operationId": "client_config",
            "security": [{"key": []}, {"writeKey": []}, {"writeKeyInAddress": []}],
            "parameters": [{"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}],
            "responses": {
                "200": {
                    "description": "The configuration of the key's environment; may be kept for 30 seconds.",
                    "headers": {
                        "ETag": {"schema": {"type": "string"}},
                        "Cache-Control": {"schema": {"type": "string"}},
                    },
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Config"}}},
                },
                "304": not_modified,
                **{status: errors[status] for status in ("401", "403")},
            },
        }
    }
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "writeKey": {"type": "apiKey", "in": "header", "name": "X-Write-Key"},
        "writeKeyInAddress": {"type": "apiKey", "in": "query", "name": "write_key"},
        "session": {"type": "apiKey", "in": "cookie", "name": "twintrack_session"},
    }
    return document


def _config() -> dict[str, Any]:
    """The schema of a rollout, every field always there, with the limits that `twintrack rollout` holds it to."""
    _, parts = msgspec.json.schema_components([Rollout], ref_template="{name}")
    properties: dict[str, Any] = parts["Rollout"]["properties"]
    rate = {"type": "number", "minimum": 0, "maximum": 1}
    properties["version"] = {"type": "integer", "minimum": 1, "description": "Grows with every change."}
    properties["kill"]["description"] = "The backend half is off; vendors go on."
    properties["queue"] |= {"enum": list(QUEUES), "description": "What a killed client does with what waits."}
    properties["share"] = rate | {"description": "Of identities: in where position(identity, `rollout`) is below it."}
    properties["gate"]["description"] = "A Statsig gate that drives the share on the client."
    properties["sampling"] = {
        "type": "object",
        "required": ["default", "events"],
        "properties": {"default": rate, "events": {"type": "object", "additionalProperties": rate}},
        "description": "Kept where position(identity, `sampling`) is below the rate of the event's name.",
    }
    sizes = {
        name: {"type": "integer", "minimum": least, "maximum": most} for name, (least, most) in BATCH_LIMITS.items()
    }
    properties["batch"] = {"type": "object", "required": list(sizes), "properties": sizes}
    properties["endpoint"]["description"] = "Where to send instead: https://... or /path."
    for field in properties.values():
        field.pop("default", None)
    return {"type": "object", "required": list(properties), "properties": properties}
