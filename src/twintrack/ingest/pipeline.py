"""An event's way in, as a list: kill, consent, validate, agree, expire, verify, sample, then enrich, mask and seal.

One bad event never sinks its batch.

Each step sees one event and lets it go on or says why not, with a reason of the closed list. The rows of a batch are
encoded together, and the masking rules are asked about all of them at once; only where they might match is each
row looked at alone. The result is what the spool makes durable: slabs of encoded rows, and a verdict for every event.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from twintrack.clock import month_of
from twintrack.control.retention import KEPT, Lifetimes
from twintrack.control.rollout import Rollout
from twintrack.control.tombstones import Marks
from twintrack.event import Limits, RequestContext, Row, WireEvent, uuid7_milliseconds
from twintrack.ingest.agreed import Denials, agreed
from twintrack.ingest.enrich import enrich, happened_at, identify
from twintrack.ingest.mask import mask, quarantine
from twintrack.ingest.sample import sample
from twintrack.ingest.seal import Sealing, seal
from twintrack.ingest.validate import validate
from twintrack.outcomes import Reason, Refusal, dropped, rejected
from twintrack.pii import Masker
from twintrack.spool.protocol import Slab

_ENCODER = msgspec.json.Encoder()


class Rules(NamedTuple):
    """What the steps need to know beside the request: limits, and the project's own switches."""

    limits: Limits
    secret: bytes
    rollout: Rollout
    require_verified_ids: bool
    masker: Masker | None
    id_window_days: int
    lifetimes: Lifetimes | None = None
    denials: Denials | None = None  # None where nobody denies
    tombstones: Marks | None = None
    sealing: Sealing | None = None  # None where nothing is sealed


class Prepared(NamedTuple):
    """A batch behind the pipeline: what goes on, where it stood in the batch, and why the rest does not."""

    slabs: list[Slab]
    places: list[int]  # of the slabs' events, in their order
    refusals: dict[int, Refusal]
    unmasked: int = 0  # of the events that go on: could not be masked, so nothing is left of their texts


Step = Callable[[WireEvent, RequestContext, Rules], Refusal | None]


def _kill(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    if rules.rollout.kill and not context.imported:
        return dropped(Reason.KILLED, "tracking is switched off for this environment; stop sending")
    return None


def _consent(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    consent = event.consent
    if consent is None or (consent if isinstance(consent, str) else consent.state) == "granted":
        return None
    return dropped(Reason.CONSENT, "the event does not say that consent was granted; do not send it")


def _agreed(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    return agreed(event, context, rules.denials) if rules.denials is not None else None


def _validate(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    return validate(event, context, rules.limits)


def _expired(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    lives = rules.lifetimes
    if lives is None or (context.imported and event.source == KEPT):
        return None
    if not lives.expired(event.event_name, happened_at(event, context) // 1000, context.received_milliseconds // 1000):
        return None
    days = lives.days(event.event_name)
    return dropped(Reason.EXPIRED, f"this project keeps such events for {days} days (retention), and it is older")


def _verified(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    if rules.require_verified_ids and identify(event, context)[1] == "claimed":
        return rejected(
            Reason.UNVERIFIED_USER, "user_id is not verified, and this project demands it; send a fresh user token"
        )
    return None


def _sample(event: WireEvent, context: RequestContext, rules: Rules) -> Refusal | None:
    # Share and sampling are for what browsers send of themselves. A server chose to send this event, often without the
    # browser's id: to leave a part of its orders out would surprise. An import is asked for row by row.
    return None if context.server_key or context.imported else sample(event, rules.rollout)


STEPS: tuple[Step, ...] = (_kill, _consent, _validate, _agreed, _expired, _verified, _sample)


class MaskedBatch(NamedTuple):
    """A batch behind masking: what may be sealed and go on."""

    rows: list[Row]
    lines: bytes
    places: list[int]
    refusals: dict[int, Refusal]
    unmasked: int


def prepare(elements: Sequence[WireEvent | Refusal], context: RequestContext, rules: Rules) -> Prepared:
    """The encoded, masked rows of a batch, and for every other event why it goes no further. Raises: KeysMissing."""
    return finish(mask_batch(elements, context, rules), context, rules, rules.sealing)


def finish(batch: MaskedBatch, context: RequestContext, rules: Rules, sealing: Sealing | None) -> Prepared:
    """The batch, sealed and by month.

    Raises: KeysMissing where a person of the batch has no key that may seal; ask again when they have.
    """
    rows, lines, places, refusals, unmasked = batch
    if sealing is not None and rows:
        lines = seal(rows, lines, sealing, context.received_milliseconds)
    slabs, order = _slabs(rows, lines, context, rules)
    return Prepared(slabs, places if order is None else [places[i] for i in order], refusals, unmasked)


def mask_batch(elements: Sequence[WireEvent | Refusal], context: RequestContext, rules: Rules) -> MaskedBatch:
    """All steps up to masking, and who was erased left out."""
    refusals: dict[int, Refusal] = {}
    rows: list[Row] = []
    places: list[int] = []
    masker = rules.masker
    version = masker.version if masker else ""
    for index, event in enumerate(elements):
        if isinstance(event, Refusal):
            refusals[index] = event
            continue
        for step in STEPS:
            refusal = step(event, context, rules)
            if refusal is not None:
                refusals[index] = refusal
                break
        else:
            rows.append(enrich(event, context, version))
            places.append(index)
    unmasked = 0
    if not rows:
        return MaskedBatch([], b"", [], refusals, unmasked)
    lines = _ENCODER.encode_lines(rows)[:-1]
    suspects = masker.suspects(_of_the_sender(lines, context, masker)) if masker else []
    if suspects or len(lines) > rules.limits.event_bytes:
        bodies = lines.split(b"\n")
        unmasked = _mask(rows, bodies, suspects, masker, rules.secret) if masker else 0
        refused = {i: _too_large(rules.limits) for i, body in enumerate(bodies) if len(body) > rules.limits.event_bytes}
        refusals.update((places[i], refusal) for i, refusal in refused.items())
        kept = [i for i in range(len(rows)) if i not in refused]
        rows, places = [rows[i] for i in kept], [places[i] for i in kept]
        lines = b"\n".join([bodies[i] for i in kept])
    if rules.tombstones is not None:
        erased = _erased(rows, [elements[place] for place in places], context, rules.tombstones)
        if erased:
            refusals.update((places[i], _ERASED) for i in erased)
            kept = [i for i in range(len(rows)) if i not in erased]
            bodies = lines.split(b"\n")
            rows, places = [rows[i] for i in kept], [places[i] for i in kept]
            lines = b"\n".join([bodies[i] for i in kept])
    return MaskedBatch(rows, lines, places, refusals, unmasked)


_ERASED = dropped(
    Reason.ERASED, "what this person did before their erasure is not taken any more; do not send it again"
)


def _erased(rows: list[Row], events: Sequence[WireEvent | Refusal], context: RequestContext, marks: Marks) -> set[int]:
    """Numbers of the rows whose person was erased since. After masking: a tombstone knows stored forms alone.

    An event counts from when it happened; one without a time from when its id was born. One that says when consent was
    given counts from then: what was agreed to before the erasure ended with it.
    """
    found = set()
    for number, (row, event) in enumerate(zip(rows, events, strict=True)):
        moment = row.event_timestamp
        if row.consent_at is not None:
            moment = min(moment, row.consent_at)
        if isinstance(event, WireEvent) and event.client_timestamp is None:
            born = uuid7_milliseconds(row.event_id)
            if born is not None:
                moment = min(moment, (born + context.skew_milliseconds) / 1000)
        if marks.covers(row.environment, row.user_id, row.anonymous_id, moment * 1000):
            found.add(number)
    return found


def _of_the_sender(lines: bytes, context: RequestContext, masker: Masker) -> bytes:
    """The rows without the address that we cut ourselves and, where nothing is to be masked in it, without the agent:
    both are the same in every row, and both are full of numbers with dots."""
    if not masker.is_clean(context.user_agent):
        return lines
    return lines.replace(_ENCODER.encode([context.ip_address, context.user_agent])[1:-1], b"")


def _mask(rows: list[Row], bodies: list[bytes], suspects: list[int], masker: Masker, secret: bytes) -> int:
    """Masks and encodes again the rows with these numbers; how many could not be masked, of which nothing is left."""
    failed = 0
    for number in suspects:
        try:
            mask(rows[number], masker, secret)
            bodies[number] = _ENCODER.encode(rows[number])
        except Exception:
            # Fails closed, whatever went wrong: the event is counted, and no text of it is kept.
            failed += 1
            quarantine(rows[number])
            bodies[number] = _ENCODER.encode(rows[number])
    return failed


def _too_large(limits: Limits) -> Refusal:
    return rejected(Reason.TOO_LONG, f"the event is larger than {limits.event_bytes} bytes (event_bytes); send less")


def _slabs(rows: list[Row], lines: bytes, context: RequestContext, rules: Rules) -> tuple[list[Slab], list[int] | None]:
    """The rows by month and by whether the door remembers their ids; the order they come in, None for as they were."""
    if not rows:
        return [], None
    ids = [row.event_id.int.to_bytes(16, "big") for row in rows]  # as `bytes`, which is a property and dearer
    times = [row.event_timestamp for row in rows]
    first, last = recent_ids(context.received_milliseconds, rules.id_window_days)
    if context.imported:
        first = last  # no id of an import is taken as recent
    recent = [first <= i < last and i[6] >> 4 == 7 for i in ids]
    month = month_of(min(times))
    if month == month_of(max(times)) and all(recent):
        return [Slab(month, True, ids, lines)], None
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, (moment, is_recent) in enumerate(zip(times, recent, strict=True)):
        groups.setdefault((month_of(moment), is_recent), []).append(index)
    bodies = lines.split(b"\n")
    slabs = [
        Slab(month, is_recent, [ids[i] for i in found], b"\n".join([bodies[i] for i in found]))
        for (month, is_recent), found in groups.items()
    ]
    return slabs, [i for found in groups.values() for i in found]


def recent_ids(now_milliseconds: int, window_days: int) -> tuple[bytes, bytes]:
    """The bounds between which a UUIDv7 is remembered at the door: born in [now - window, now + 1 h]."""
    first = max(0, now_milliseconds - window_days * 86_400_000)
    return first.to_bytes(6, "big") + bytes(10), (now_milliseconds + 3_600_001).to_bytes(6, "big") + bytes(10)
