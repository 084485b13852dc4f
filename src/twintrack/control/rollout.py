"""What a client and the door are told about one environment of a project: kill switch, share, sampling, sizes, place.

Pure. Every change is a new value; `control.py` stores it and raises `version`. The two halves read it differently:
clients get `document`, the door asks the fields.
"""

import math
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from twintrack.errors import RequestError
from twintrack.event import limits

QUEUES = ("drain", "discard")
MOST_SAMPLED_NAMES = 200
GATE_CHARACTERS = 200
# What a client may be told to collect before it sends. The least keeps a page from a request for each event.
BATCH_LIMITS = {"events": (1, 1_000), "bytes": (1_024, 1_048_576), "interval_milliseconds": (100, 600_000)}


class Sampling(msgspec.Struct, frozen=True):
    """The part of identities whose events are kept, by event name; 1 keeps all."""

    default: float = 1.0
    events: dict[str, float] = {}


class BatchSizes(msgspec.Struct, frozen=True):
    """When a client sends what it has collected."""

    events: int = 50
    bytes: int = 49_152
    interval_milliseconds: int = 2_000


class Rollout(msgspec.Struct, frozen=True):
    """Shape: field by field the body of `GET /api/analytics/config`."""

    version: int = 1
    kill: bool = False
    queue: str = "drain"  # what a killed client does with what waits
    share: float = 1.0  # of identities, 0 to 1
    gate: str | None = None  # a Statsig gate that drives the share in its place
    sampling: Sampling = Sampling()
    batch: BatchSizes = BatchSizes()
    endpoint: str | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether neither share nor sampling leaves anything out."""
        return self.shared >= 1 and self.sampling.default >= 1 and not self.sampling.events

    @property
    def shared(self) -> float:
        """The share that the server holds clients to: with a gate only the client can know who is in."""
        return 1.0 if self.gate else self.share


class Document(NamedTuple):
    """A rollout as clients read it."""

    body: bytes
    tag: str  # the ETag, quotes included


def document(rollout: Rollout) -> Document:
    body = msgspec.json.encode(rollout)
    return Document(body, f'"{blake2b(body, digest_size=12).hexdigest()}"')


def changed(before: Rollout, changes: dict[str, Any]) -> Rollout:
    """The rollout with these fields in place of its own, one version later.

    Shape: fields as in `Rollout`, without `version`; parts of `batch` and `sampling` replace their like, a sampled
    name with None is taken off.
    Raises: RequestError that names field, limit and what to do.
    """
    merged = msgspec.to_builtins(before)
    for field, value in changes.items():
        if field == "version" or field not in merged:
            raise _refused("a rollout has no such field", f"fields: {', '.join(f for f in merged if f != 'version')}")
        if field in ("batch", "sampling") and isinstance(value, dict):
            value = {**merged[field], **value}
            if field == "sampling" and isinstance(value.get("events"), dict):
                names = {**merged[field]["events"], **value["events"]}
                value["events"] = {name: rate for name, rate in names.items() if rate is not None}
        merged[field] = value
    try:
        after = msgspec.convert({**merged, "version": before.version + 1}, Rollout)
    except msgspec.ValidationError as error:
        raise _refused(str(error), "docs/operations/rollout.md shows every field") from error
    _check(after)
    return after


def _check(rollout: Rollout) -> None:
    if rollout.queue not in QUEUES:
        raise _refused(f"queue is one of {', '.join(QUEUES)}", "drain sends what waits, discard drops it")
    _part("share", rollout.share)
    _part("the default of sampling", rollout.sampling.default)
    if len(rollout.sampling.events) > MOST_SAMPLED_NAMES:
        raise _refused(
            f"more than {MOST_SAMPLED_NAMES} event names have a rate of their own", "sample the rest by the default"
        )
    for name, rate in rollout.sampling.events.items():
        if not name or len(name) > limits().event_name_characters:
            raise _refused(
                f"a sampled event name has 1 to {limits().event_name_characters} characters (event_name_characters)",
                "write it as the events carry it",
            )
        _part("the rate of a sampled event", rate)
    for field, (least, most) in BATCH_LIMITS.items():
        if not least <= getattr(rollout.batch, field) <= most:
            raise _refused(f"batch {field} must lie in {least}..{most}", "leave it out to keep what is set")
    if rollout.gate is not None and not 0 < len(rollout.gate) <= GATE_CHARACTERS:
        raise _refused(f"a gate's name has 1 to {GATE_CHARACTERS} characters", "write it as Statsig shows it")
    if rollout.endpoint is not None:
        _place(rollout.endpoint)


def _part(what: str, value: float) -> None:
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise _refused(f"{what} must lie in 0..1", "write 0.1 or 10%")


def _place(endpoint: str) -> None:
    """Only where a page may safely send to: encrypted, or its own origin (`//host` is another one)."""
    rest = endpoint.removeprefix("https://")
    own = rest == endpoint and endpoint.startswith("/") and not endpoint.startswith(("//", "/\\"))
    other = rest != endpoint and bool(rest) and not rest.startswith(("/", "?", "#", "@"))
    if not (own or other) or any(sign <= " " or sign == "\x7f" for sign in endpoint):
        raise _refused("an endpoint is https://... or /path", "such as https://events.example.com/e or /t/e")
    if len(endpoint) > limits().url_characters:
        raise _refused(f"an endpoint has at most {limits().url_characters} characters (url_characters)", "shorten it")


def _refused(message: str, hint: str) -> RequestError:
    return RequestError(message, hint=hint, code="bad_rollout")
