"""The OpenAPI description of the ingest routes, which are bare for speed and so describe themselves here."""

from typing import Any

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
    document["paths"]["/api/analytics/config"] = {
        "get": {
            "tags": ["ingest"],
            "summary": "What a client polls: version, kill switch, share",
            "operationId": "client_config",
            "security": [{"key": []}, {"writeKey": []}],
            "responses": {
                "200": {
                    "description": "The configuration.",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "version": {"type": "integer"},
                                    "kill": {"type": "boolean"},
                                    "share": {"type": "number"},
                                },
                            }
                        }
                    },
                },
                "304": {"description": "Unchanged."},
                **{status: errors[status] for status in ("401", "403")},
            },
        }
    }
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "writeKey": {"type": "apiKey", "in": "header", "name": "X-Write-Key"},
        "session": {"type": "apiKey", "in": "cookie", "name": "twintrack_session"},
    }
    return document
