"""Each limit holds exactly, each refusal names its field, and nothing passes that the store cannot hold or read."""

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.event import RequestContext, Tenancy, WireEvent, limits
from twintrack.ingest.decode import decode
from twintrack.ingest.validate import collides, validate
from twintrack.outcomes import Refusal
from twintrack.testing import wire_event

LIMITS = limits()
NOW = 1_767_614_400_000
DAY, HOUR = 86_400_000, 3_600_000


def context(skew: int = 0, imported: bool = False) -> RequestContext:
    return RequestContext(Tenancy("p", "e"), False, None, NOW, skew, "::", "", False, imported)


def judge(skew: int = 0, imported: bool = False, **fields: Any) -> Refusal | None:
    event = msgspec.convert(wire_event(NOW, **fields), WireEvent)
    return validate(event, context(skew, imported), LIMITS)


def at(milliseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)).isoformat()


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("event_name", LIMITS.event_name_characters),
        ("event_value", LIMITS.event_value_characters),
        ("user_id", LIMITS.identifier_characters),
        ("anonymous_id", LIMITS.identifier_characters),
        ("session_id", LIMITS.identifier_characters),
        ("thread_id", LIMITS.identifier_characters),
        ("message_content", LIMITS.message_content_characters),
        ("source", LIMITS.label_characters),
        ("context.page.url", LIMITS.url_characters),
        ("context.page.path", LIMITS.url_characters),
        ("context.page.title", LIMITS.url_characters),
        ("context.referrer", LIMITS.url_characters),
        ("context.locale", LIMITS.label_characters),
    ],
)
def test_text_at_its_limit_passes_and_one_character_more_is_refused_by_name(field: str, most: int) -> None:
    def fields(length: int) -> dict[str, Any]:
        value: Any = "\U0001f600" * length  # a character of any size is one
        for part in reversed(field.split(".")[1:]):
            value = {part: value}
        return {field.split(".")[0]: value}

    assert judge(**fields(most)) is None
    refusal = judge(**fields(most + 1))
    assert refusal is not None
    assert (refusal.reason, refusal.message.split()[0]) == ("too_long", field)
    assert str(most) in refusal.message


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_event_without_a_name_is_refused(name: str) -> None:
    refusal = judge(event_name=name)
    assert refusal is not None and refusal.reason == "missing_field"


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"sequence": 0}, True),
        ({"sequence": LIMITS.sequence_maximum}, True),
        ({"sequence": -1}, False),
        ({"sequence": LIMITS.sequence_maximum + 1}, False),
        ({"sequence": 10**30}, False),
        ({"context": {"viewport": {"width": LIMITS.viewport_pixels, "height": 0}}}, True),
        ({"context": {"viewport": {"width": LIMITS.viewport_pixels + 1}}}, False),
        ({"context": {"viewport": {"height": -1}}}, False),
        ({"event_metadata": {"n": 2**64 - 1}}, True),
        ({"event_metadata": {"n": 2**64}}, False),
        ({"event_metadata": {"n": -(2**63)}}, True),
        ({"event_metadata": {"n": -(2**63) - 1}}, False),
        ({"event_metadata": {"list": [1, [2**64]]}}, False),
        ({"event_metadata": {"list": [{"deep": [10**400]}]}}, False),
        ({"event_metadata": {"n": True, "f": 1.7e308}}, True),
    ],
)
def test_numbers_lie_within_their_range(fields: dict[str, Any], passes: bool) -> None:
    refusal = judge(**fields)
    assert (refusal is None) is passes
    assert refusal is None or refusal.reason == "number_out_of_range"


@pytest.mark.parametrize(
    ("milliseconds", "skew", "reason"),
    [
        (NOW - LIMITS.event_age_days * DAY, 0, None),
        (NOW - LIMITS.event_age_days * DAY - 1, 0, "too_old"),
        (NOW + LIMITS.event_future_hours * HOUR, 0, None),
        (NOW + LIMITS.event_future_hours * HOUR + 1, 0, "in_the_future"),
        (NOW - 400 * DAY, 400 * DAY, None),
        (NOW, -31 * DAY, "too_old"),
        (NOW, 25 * HOUR, "in_the_future"),
        (0, NOW, None),
        (-1, NOW, "too_old"),
        (-62_135_596_800_000, NOW + 62_135_596_800_000, "too_old"),
        (253_402_300_799_999, NOW - 253_402_300_799_999, "in_the_future"),
        (4_291_747_199_999, NOW - 4_291_747_199_999, None),
        (4_291_747_200_000, NOW - 4_291_747_200_000, "in_the_future"),
    ],
)
def test_time_is_judged_as_corrected_and_as_sent(milliseconds: int, skew: int, reason: str | None) -> None:
    """A clock may be wrong, but what it said must fit in the store's columns too."""
    refusal = judge(skew, client_timestamp=at(milliseconds))
    assert (refusal and refusal.reason) == reason
    assert refusal is None or refusal.message.startswith("client_timestamp")


def test_instant_beyond_the_year_9999_is_refused() -> None:
    """Its local time is in 9999, its UTC in 10000: the store takes it, and no driver can read it."""
    moment = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=23, minutes=59)))
    assert judge(client_timestamp=moment.isoformat()) is not None
    event = msgspec.convert(wire_event(NOW), WireEvent)
    event.client_timestamp = moment
    refusal = validate(event, context(skew=NOW - 253_402_387_139_000), LIMITS)
    assert refusal is not None and refusal.reason == "in_the_future"


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        ("1970-01-01T00:00:00Z", None),
        ("2010-06-01T00:00:00Z", None),
        ("2105-12-31T23:59:59Z", None),
        ("1969-12-31T23:59:59Z", "too_old"),
        ("0001-01-01T00:00:00Z", "too_old"),
        ("2106-01-01T00:00:00Z", "in_the_future"),
    ],
)
def test_imported_event_may_be_old_but_must_fit_in_the_store(moment: str, reason: str | None) -> None:
    refusal = judge(imported=True, client_timestamp=moment)
    assert (refusal and refusal.reason) == reason


def nested(levels: int, last: Any) -> dict[str, Any]:
    value = last
    for _ in range(levels):
        value = {"k": value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("metadata", "passes"),
    [
        (nested(LIMITS.metadata_depth, 1), True),
        (nested(LIMITS.metadata_depth + 1, 1), False),
        (nested(LIMITS.metadata_depth - 1, []), True),
        (nested(LIMITS.metadata_depth, []), False),
        (nested(900, 1), False),
        ({".".join("k" * LIMITS.metadata_depth): 1}, True),
        ({".".join("k" * (LIMITS.metadata_depth + 1)): 1}, False),
        (nested(LIMITS.metadata_depth - 2, {"a.b.c": 1}), False),
        ({"a": [{"." * LIMITS.metadata_depth: 1}]}, False),
    ],
)
def test_depth_of_metadata_counts_levels_and_dots(metadata: dict[str, Any], passes: bool) -> None:
    """Each dot in a key is a level of the answer when the row is read: a key of dots alone must not break readers."""
    refusal = judge(event_metadata=metadata)
    assert (refusal is None) is passes
    assert refusal is None or refusal.reason == "too_deep"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({f"k{i}": i for i in range(LIMITS.metadata_keys)}, None),
        ({f"k{i}": i for i in range(LIMITS.metadata_keys + 1)}, "too_many_keys"),
        ({"list": [{f"k{i}": i for i in range(LIMITS.metadata_keys)}]}, "too_many_keys"),
        ({"k" * LIMITS.metadata_key_characters: 1}, None),
        ({"k" * (LIMITS.metadata_key_characters + 1): 1}, "too_long"),
        ({"": 1}, "missing_field"),
        ({"list": [{"": 1}]}, "missing_field"),
        ({"\x00": "\x00", " ": 1, "`": 1, "\\": 1, "%2E": 1}, None),
        ({}, None),
    ],
)
def test_keys_of_metadata_are_few_short_and_named(metadata: dict[str, Any], reason: str | None) -> None:
    refusal = judge(event_metadata=metadata)
    assert (refusal and refusal.reason) == reason


@pytest.mark.parametrize(
    "metadata",
    [
        {"a.b": 1, "a": {"b": 2}},
        {"a": {"b": 2}, "a.b": 1},
        {"a.b": 1, "a": 2},
        {"a": [], "a.b": 1},
        {"a.b.c": 1, "a.b": {"c": {"d": 1}}},
        {"a.b": {"c": 1}, "a": {"b.c": 1}},
        {"list": [{"a.b": 1, "a": {"b": 2}}]},
        {"list": [[{"a.b": 1, "a": 2}]]},
        {"deep": {"list": [1, {"more": [{"a.b": 1, "a": 2}]}]}},
        {"..": 1, ".": {"": 1}},
    ],
)
def test_path_named_twice_is_refused(metadata: dict[str, Any]) -> None:
    assert collides(metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a.b": 1, "a": {"c": 2}},
        {"a.b": 1, "a.c": 2, "a": {"d": {"e": 3}, "d.f": 4}},
        {"list": [{"a.b": 1}, {"a": 2}]},
        {"a.b": 1, "list": [{"a": 1}]},
        {"a": None, "a.b": 1},
        {"a": {}, "a.b": 1},
        {"a.b": 1, "A": {"b": 2}},
        {"a": 1, "a%2Eb": 2},
    ],
)
def test_paths_that_only_look_alike_pass(metadata: dict[str, Any]) -> None:
    assert not collides(metadata)


def paths(value: Any, prefix: str = "") -> list[str]:
    """Every path of one object that the store keeps a value for."""
    found = []
    for key, item in value.items():
        if isinstance(item, dict):
            found += paths(item, f"{prefix}{key}.")
        elif item is not None:
            found.append(prefix + key)
    return found


leaves = st.none() | st.integers(0, 3)
keys = st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a", "a.a", "b.b.b"])
objects = st.dictionaries(keys, st.recursive(leaves, lambda v: st.dictionaries(keys, v, max_size=3)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(objects)
def test_no_collision_means_that_no_kept_path_is_another_or_its_parent(metadata: dict[str, Any]) -> None:
    kept = paths(metadata)
    if not collides(metadata):
        assert len(set(kept)) == len(kept)
        assert not any(other.startswith(path + ".") for path in kept for other in kept)


def test_keys_full_of_dots_take_linear_time() -> None:
    """Comparing every prefix of every path took 0.6 s for one event of 50 KB."""
    dotted = {".".join([f"{i}", *"k" * 11]): i for i in range(LIMITS.metadata_keys)}
    started = time.monotonic()
    for _ in range(100):
        assert judge(event_metadata=dotted) is None
    assert time.monotonic() - started < 5


def test_refusal_never_quotes_the_event() -> None:
    secret = "078-05-1120"
    for fields in (
        {"event_name": secret * 100},
        {"user_id": secret * 100},
        {"event_metadata": {secret * 100: 1}},
        {"event_metadata": {secret + ".a": 1, secret: 2}},
        {"client_timestamp": "1970-01-01T00:00:00Z"},
    ):
        refusal = judge(**fields)
        assert refusal is not None
        assert secret not in refusal.message and "1970-01-01" not in refusal.message


def test_event_with_only_what_is_required_passes() -> None:
    assert validate(WireEvent(UUID(int=0), "x"), context(), LIMITS) is None


def test_metadata_is_judged_alike_whichever_decoder_took_the_body() -> None:
    """Flat metadata is held to the limits while it is read; beside an unknown field nothing is, and all is looked at."""
    long_key, wide = "k" * LIMITS.metadata_key_characters, LIMITS.metadata_keys
    values = [
        None,
        "x",
        "",
        1.5,
        True,
        10**15,
        10**15 + 1,
        -(10**15) - 1,
        2**63,
        2**64,
        -(2**63) - 1,
        10**30,
        [1],
        {"a": 1},
    ]
    found: list[dict[str, Any]] = [{"a": value} for value in values]
    found += [{}, {"": 1}, {long_key: 1}, {long_key + "k": 1}, {"a.b": 1}, {"a.b": 1, "a": {"b": 2}}, {".": 1}]
    found += [{f"k{i}": i for i in range(count)} for count in (wide, wide + 1)]
    for metadata in found:
        seen = []
        for more in ({}, {"colour": "red"}):
            body = msgspec.json.encode([{**wire_event(NOW, event_metadata=metadata), **more}])
            (event,) = decode(body, LIMITS).elements
            assert isinstance(event, WireEvent)
            seen.append((validate(event, context(), LIMITS), event.event_metadata))
        assert seen[0] == seen[1], metadata
