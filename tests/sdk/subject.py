"""An SDK under test: ours, or a peer that the benches hold beside it. The harness knows nothing else of either."""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote_to_bytes

SDK = Path(__file__).parents[2] / "packages/browser/dist/twintrack.global.js"


@dataclass(frozen=True)
class Subject:
    name: str
    script: Path
    """One file that a page loads."""
    open: str
    """A function of `{ key, options }` in the page: starts the SDK and leaves `window.track(name, metadata, sure) -> id`,
    which calls `sure` when the event is on the browser's disk, where the SDK can tell."""
    ids: Callable[[bytes], list[str]]
    """The ids of the events in the plain body of a request; none where it carries no events."""
    say: str = "() => null"
    """A function in the page that tells how its delivery stands."""
    lock: str = ""
    """How the name of its sender's Web Lock begins; empty where a sender is known by its request alone."""

    def build(self) -> str:
        """Which build was under test: lines of two of them are never counted together."""
        return sha256(self.script.read_bytes()).hexdigest()[:12]


def plain(body: bytes, encoding: str) -> bytes:
    return gzip.decompress(body) if encoding == "gzip" or body[:2] == b"\x1f\x8b" else body


def _unform(body: bytes) -> bytes:
    """A form with one field in base64 is how some send their last words."""
    return b64decode(unquote_to_bytes(body[5:])) if body.startswith(b"data=") else body


def _ids(body: bytes) -> list[str]:
    return [event["event_id"] for event in json.loads(body)["events"]] if body else []


TWINTRACK = Subject(
    "twintrack",
    SDK,
    """({ key, options }) => {
      const where = { endpoint: "/api/analytics/events", writeKey: key };
      window.analytics = twintrack.createAnalytics({ ...where, ...options });
      window.track = (name, metadata, sure) => {
        const tracked = analytics.trackEvent({ name, metadata });
        if (sure) tracked.then((fate) => fate === "disk" && sure());
        return tracked.id;
      };
    }""",
    _ids,
    "() => analytics.stats()",
    "twintrack ",
)

_MARK = re.compile(rb"seed-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def peer(name: str, script: Path) -> Subject:
    """A peer gives no id back, or has none: it is given ours with the event, which is then found in whatever it sends."""
    return Subject(
        name,
        script,
        """() => {
          const send = peer.start();
          window.track = (name, metadata) => {
            const id = `seed-${crypto.randomUUID()}`;
            send(name, { ...metadata, id });
            return id;
          };
        }""",
        # An id may stand in two fields of one event.
        lambda body: list(dict.fromkeys(mark.decode() for mark in _MARK.findall(_unform(body)))),
    )
