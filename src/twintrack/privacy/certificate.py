"""What an erasure is proved by: a document of counts and times under a keyed signature. Pure.

The key is the project's, so that whoever has the service can tell a true certificate from a forged one, also years later.
"""

import hashlib
import hmac
from typing import Any

import msgspec

from twintrack.clock import iso
from twintrack.control.erasures import Request

_REMAINS = (
    "random event ids stand in the index of duplicates until their window ends; they lead to no row any more",
    "tombstones: keyed hashes of the person's identifiers, so that older events are not taken again",
)


def certificate(request: Request, secret: bytes, finished: int, window_days: int, notes: list[str]) -> dict[str, Any]:
    """The signed document of a request that is done."""
    progress = request.progress
    document: dict[str, Any] = {
        "kind": "twintrack-erasure",
        "version": 1,
        "request": request.id,
        "project": request.project,
        "subject_hmac": progress.hash,
        "requested_at": iso(request.requested_at),
        "finished_at": iso(finished),
        "removed_rows": dict(sorted(progress.removed.items())),
        "nothing_found": progress.nothing_found,
        "rollups_made_again": progress.months,
        "vendors": progress.vendors,
        "remains": [*_REMAINS, f"that window is {window_days} days", *_of_topic(progress.topic), *notes],
    }
    if progress.topic:
        document["topic"] = {name: value for name, value in progress.topic.items() if name != "words"}
    return {**document, "signature": signature(document, secret)}


def _of_topic(topic: dict[str, Any]) -> list[str]:
    if not topic:
        return []
    return [
        f"messages of the topic {topic['name']}, before the offsets named, hold what the person sent, out of reach of"
        f" everything but who may read the topic: it cannot be rewritten; {topic['words']}"
    ]


def signature(document: dict[str, Any], secret: bytes) -> str:
    """HMAC-SHA256 over the document without its signature, in one fixed form of JSON."""
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    key = hmac.new(secret, b"certificate", hashlib.sha256).digest()
    return "hmac-sha256:" + hmac.new(key, msgspec.json.encode(unsigned, order="deterministic"), "sha256").hexdigest()


def is_true(document: dict[str, Any], secret: bytes) -> bool:
    """Whether this service signed it, word for word."""
    given = document.get("signature")
    return isinstance(given, str) and hmac.compare_digest(given.encode(), signature(document, secret).encode())
