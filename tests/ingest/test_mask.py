"""Nothing personal leaves the mask: every text of a row, every key and value of its metadata, every identifier."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.work import calls_of
from twintrack import pii
from twintrack.control.rollout import Rollout
from twintrack.event import Context, Page, RequestContext, Row, Tenancy, WireEvent, limits
from twintrack.ingest.enrich import enrich
from twintrack.ingest.mask import mask
from twintrack.ingest.pipeline import Rules, prepare
from twintrack.ingest.validate import collides
from twintrack.outcomes import Refusal
from twintrack.pii.engine import Masker
from twintrack.pii.rules import load

VECTORS = json.loads((Path(__file__).parents[2] / "contract" / "vectors" / "mask.json").read_text())
KEY = bytes.fromhex(VECTORS["identifier_key_hex"])
CONTEXT = RequestContext(Tenancy("shop", "live"), False, None, 1_767_614_400_000, 0, "::", "", False)
RULES = Rules(limits(), KEY, Rollout(), require_verified_ids=False, masker=pii.default(), id_window_days=10)
SECRET = "ada@example.com"


def row(**fields: Any) -> Row:
    return msgspec.structs.replace(enrich(WireEvent(UUID(int=7), "click"), CONTEXT, "1"), **fields)


def one(event: WireEvent, asked: RequestContext, rules: Rules) -> bytes | Refusal:
    """The encoded row of a batch of one, or its refusal."""
    prepared = prepare([event], asked, rules)
    return prepared.refusals[0] if prepared.refusals else prepared.slabs[0].lines


def masked(**fields: Any) -> Row:
    found = row(**fields)
    mask(found, pii.default(), KEY)
    return found


@pytest.mark.parametrize("vector", VECTORS["texts"], ids=lambda v: v["text"][:30])
def test_text_is_masked_as_the_vectors_say(vector: dict[str, Any]) -> None:
    assert pii.default().mask(vector["text"])[:2] == (vector["masked"], vector["rules"])
    assert masked(message_content=vector["text"]).message_content == vector["masked"]


@pytest.mark.parametrize("vector", VECTORS["metadata"], ids=lambda v: json.dumps(v["metadata"])[:40])
def test_metadata_is_masked_as_the_vectors_say(vector: dict[str, Any]) -> None:
    found = masked(event_metadata=vector["metadata"])
    assert found.event_metadata == vector["masked"]
    assert found.masked == [f"event_metadata:{rule}" for rule in vector["rules"]]


@pytest.mark.parametrize("vector", VECTORS["identifiers"], ids=lambda v: v["identifier"])
@pytest.mark.parametrize("field", ["user_id", "anonymous_id", "session_id", "thread_id"])
def test_identifier_is_stored_as_the_vectors_say(field: str, vector: dict[str, Any]) -> None:
    assert getattr(masked(**{field: vector["identifier"]}), field) == vector["stored"]


# Fields that hold what the server made, never what a person typed.
OURS = {"project", "environment", "identity", "ip_address", "masking_version"}
TEXTS = [
    field.name for field in msgspec.structs.fields(Row) if field.type in (str, str | None) and field.name not in OURS
]


def test_fields_under_test_are_those_of_the_row() -> None:
    assert {"event_name", "page_url", "user_agent", "locale", "user_id", "source", "message_content"} <= set(TEXTS)


@pytest.mark.parametrize("field", TEXTS)
def test_every_text_of_a_row_is_masked(field: str) -> None:
    """A column added to the row is tested here by itself: it fails until it is masked."""
    found = masked(**{field: SECRET})
    assert SECRET.encode() not in msgspec.json.encode(found)
    assert found.masked == [f"{field}:email"]


SECRETS = ["ada@example.com", "078-05-1120", "4111 1111 1111 1111", "sk-abcdefghijklmnop1234"]
places = st.recursive(
    st.sampled_from(SECRETS) | st.none() | st.booleans() | st.text(max_size=5) | st.just(4111111111111111),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["a", "b.c", *SECRETS]), v, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["k", "to: ada@example.com", *SECRETS]), places, max_size=4))
def test_no_secret_survives_anywhere_in_the_metadata(metadata: dict[str, Any]) -> None:
    verdict = one(WireEvent(UUID(int=7), "click", event_metadata=metadata), CONTEXT, RULES)
    if isinstance(verdict, Refusal):
        assert verdict.reason == "colliding_keys"
    else:
        assert not any(secret.encode() in verdict for secret in [*SECRETS, "4111111111111111"])


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*SECRETS, "[EMAIL]", "[SSN]", "[EMAIL]_2", "bob@example.org"]), st.integers(0, 9))
)
def test_keys_that_become_one_by_masking_lose_no_value(metadata: dict[str, Any]) -> None:
    found = masked(event_metadata=metadata)
    assert sorted(found.event_metadata.values()) == sorted(metadata.values())


@pytest.mark.parametrize(
    "metadata",
    [{"[EMAIL].q": 1, "a@b.co": {"q": 2}}, {"[EMAIL].q": 1, "a@b.co": 2}, {"x": [{"[SSN].q": 1, "078-05-1120": 2}]}],
)
def test_masked_keys_that_would_collide_take_their_event_s_texts_along(metadata: dict[str, Any]) -> None:
    """The sender can foresee our tokens; the store would refuse such a row, or could never read it."""
    assert not collides(metadata)
    verdict = one(WireEvent(UUID(int=7), "click", event_metadata=metadata), CONTEXT, RULES)
    assert isinstance(verdict, bytes)
    stored = msgspec.json.decode(verdict, type=Row)
    assert (stored.event_name, stored.event_metadata, stored.masked) == ("masking_failed", {}, ["*:failed"])


def test_event_that_cannot_be_masked_is_kept_without_a_text() -> None:
    """A key of the wrong type stands for whatever may go wrong inside."""
    broken = RULES._replace(secret=None)  # type: ignore[arg-type]
    harmless = WireEvent(UUID(int=7), "click", user_id="user-17")
    kept = one(harmless, CONTEXT, broken)
    assert isinstance(kept, bytes) and b"user-17" in kept
    named = ("user_id", "anonymous_id", "session_id", "thread_id", "message_content", "event_value")
    texts = {name: f"the-{name}" for name in named}
    where = Context(
        page=Page("https://the-page/x", "/the-path", "the-title"), referrer="the-referrer", locale="the-locale"
    )
    personal = WireEvent(UUID(int=8), "the-name", event_metadata={"the-key": SECRET}, context=where, **texts)
    personal = msgspec.structs.replace(personal, user_id=SECRET, sequence=41)
    found = prepare([personal, harmless], msgspec.structs.replace(CONTEXT, user_agent="the-agent"), broken)
    assert found.unmasked == 1 and not found.refusals
    first, second = found.slabs[0].lines.split(b"\n")
    assert b"user-17" in second
    assert SECRET.encode() not in first and b"the-" not in first
    stored = msgspec.json.decode(first, type=Row)
    assert (stored.event_id, stored.event_name, stored.masked) == (UUID(int=8), "masking_failed", ["*:failed"])
    assert stored.sequence == 41


@pytest.mark.parametrize("name", ["otp", "pin", "password", "verification_code", "cvc"])
@pytest.mark.parametrize("secret", [4711, 482913, 48291377])
def test_number_that_is_a_secret_by_its_name_is_masked_like_its_text(name: str, secret: int) -> None:
    assert masked(event_metadata={"a": {name: secret}}).event_metadata == {"a": {name: "[SECRET]"}}


def test_numbers_that_a_program_counts_and_errors_it_numbers_stay() -> None:
    plain = {"code": 5023, "error_code": 1234, "input_tokens": 48213, "zip": 90210, "price": 1999, "year": 2026}
    assert masked(event_metadata=plain).event_metadata == plain


def test_long_list_of_small_numbers_is_kept_beside_what_is_masked() -> None:
    samples = [1000 + n % 9000 for n in range(5000)]
    found = masked(event_metadata={"samples": samples, "pins": {"pin": 4711}, "note": SECRET}).event_metadata
    assert found == {"samples": samples, "pins": {"pin": "[SECRET]"}, "note": "[EMAIL]"}


@pytest.mark.parametrize(
    "file,metadata,expected",
    [
        (
            "[[rules]]\nname = 'badge'\npattern = '\\b4\\d{5}\\b'",
            {"nr": [100001, 412345], "b": {"nr": 412346}},
            {"nr": [100001, "[BADGE]"], "b": {"nr": "[BADGE]"}},
        ),
        ("[allow]\ntexts = ['1234']", {"pin": [1234, 4711]}, {"pin": [1234, "[SECRET]"]}),
    ],
)
def test_small_number_is_judged_by_itself_where_an_operator_has_rules(
    tmp_path: Path, file: str, metadata: dict[str, Any], expected: dict[str, Any]
) -> None:
    (tmp_path / "rules.toml").write_text(f"version = '1'\n{file}\n")
    rules = RULES._replace(masker=Masker(load(tmp_path / "rules.toml")[""]))
    verdict = one(WireEvent(UUID(int=7), "click", event_metadata=metadata), CONTEXT, rules)
    assert isinstance(verdict, bytes)
    assert msgspec.json.decode(verdict, type=Row).event_metadata == expected


def test_findings_are_listed_once_each_in_order() -> None:
    found = masked(
        message_content=f"{SECRET} and {SECRET} and 078-05-1120",
        user_id=SECRET,
        event_metadata={"a": SECRET, "b": [SECRET]},
    )
    assert found.masked == ["message_content:email", "message_content:ssn", "user_id:email", "event_metadata:email"]


def test_one_person_has_one_pseudonym_under_every_identifier() -> None:
    found = masked(user_id=SECRET, anonymous_id=SECRET.upper(), thread_id=f" {SECRET}")
    assert found.user_id == found.anonymous_id == found.thread_id
    assert str(found.user_id).startswith("p_")


def test_context_and_agent_are_masked_on_the_whole_way_in() -> None:
    where = Context(page=Page(f"https://x/?m={SECRET}", f"/{SECRET}", SECRET), referrer=SECRET, locale=SECRET)
    asked = msgspec.structs.replace(CONTEXT, user_agent=f"bot ({SECRET})")
    verdict = one(WireEvent(UUID(int=7), SECRET, context=where), asked, RULES)
    assert isinstance(verdict, bytes)
    assert SECRET.encode() not in verdict
    assert verdict.count(b"[EMAIL]") == 7


def test_row_says_by_which_rules_it_was_masked_and_whether_at_all() -> None:
    event = WireEvent(UUID(int=7), "click", message_content=SECRET)
    for switched_on, version in ((True, pii.default().version), (False, "")):
        verdict = one(event, CONTEXT, RULES._replace(masker=pii.default() if switched_on else None))
        assert isinstance(verdict, bytes)
        stored = msgspec.json.decode(verdict, type=Row)
        assert stored.masking_version == version
        assert (SECRET.encode() in verdict) is not switched_on


def masker(tmp_path: Path, actions: str) -> pii.Masker:
    path = tmp_path / "masking.toml"
    path.write_text(f"[actions]\n{actions}\n")
    made = pii.Maskers(path).of("live")
    assert made is not None
    return made


def test_dropped_field_is_gone_and_the_rest_stays(tmp_path: Path) -> None:
    found = row(
        message_content=f"to {SECRET}",
        page_title=f"Mail to {SECRET}",
        event_name=f"sent {SECRET}",
        event_metadata={"to": SECRET, "list": ["a", SECRET], "n": 1, SECRET: 2},
    )
    mask(found, masker(tmp_path, 'email = "drop_field"'), KEY)
    assert (found.message_content, found.page_title, found.event_name) == (None, "", "sent [EMAIL]")
    assert found.event_metadata == {"list": ["a"], "n": 1}
    assert "message_content:email" in found.masked and "event_metadata:email" in found.masked


def test_quarantined_event_keeps_none_of_its_texts(tmp_path: Path) -> None:
    found = row(
        message_content="my card is 4111 1111 1111 1111",
        page_url="https://shop.example/pay",
        event_metadata={"step": "pay"},
        user_id="user-17",
    )
    mask(found, masker(tmp_path, 'card = "quarantine"'), KEY)
    assert (found.message_content, found.page_url, found.event_metadata) == (None, "", {})
    assert (found.user_id, found.event_name) == ("user-17", "click")
    assert found.masked == ["message_content:card", "*:quarantine"]


def test_pseudonym_in_a_text_is_that_of_the_identifier(tmp_path: Path) -> None:
    found = row(message_content=f"I am {SECRET}", user_id=SECRET)
    mask(found, masker(tmp_path, 'email = "pseudonym"'), KEY)
    assert found.message_content == f"I am [EMAIL_{found.user_id[2:14].upper()}]"


def test_names_of_metadata_tell_what_their_values_are() -> None:
    found = masked(
        event_metadata={"password": "hunter22", "phone": 4155550132, "deep": [{"api_key": "k" * 9 + "9A" * 9}]}
    )
    assert found.event_metadata == {"password": "[SECRET]", "phone": "[PHONE]", "deep": [{"api_key": "[SECRET]"}]}
    assert found.masked == ["event_metadata:secret", "event_metadata:phone"]


def test_secret_told_by_a_name_in_metadata_is_masked_on_the_whole_way_in() -> None:
    verdict = one(WireEvent(UUID(int=7), "click", event_metadata={"password": "hunter22"}), CONTEXT, RULES)
    assert isinstance(verdict, bytes) and b"hunter22" not in verdict


@pytest.mark.parametrize("agent", ["Mozilla/5.0 Chrome/126.0.0.0 Safari/537.36", f"bot ({SECRET})", ""])
def test_agent_with_numbers_makes_no_row_suspicious_and_one_with_an_address_is_masked(agent: str) -> None:
    asked = msgspec.structs.replace(CONTEXT, user_agent=agent, ip_address="::ffff:192.0.2.0")
    verdict = one(WireEvent(UUID(int=7), "click"), asked, RULES)
    assert isinstance(verdict, bytes)
    stored = msgspec.json.decode(verdict, type=Row)
    assert stored.ip_address == "::ffff:192.0.2.0"
    assert stored.user_agent == agent.replace(SECRET, "[EMAIL]")


ENTRIES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data/masking/labelled.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("field", ["message_content", "event_value", "page_url", "event_metadata"])
def test_labelled_secrets_do_not_survive_the_whole_way_in(field: str) -> None:
    """What the engine finds in a text is also found in a row: the cheap question over rows hides nothing."""
    for entry in (e for e in ENTRIES if e["spans"]):
        if not pii.default().find(entry["text"]):
            continue
        event = WireEvent(UUID(int=7), "click")
        if field == "page_url":
            event.context = Context(page=Page(entry["text"], "", ""))
        else:
            setattr(event, field, {"a": {"b": [entry["text"]]}} if field == "event_metadata" else entry["text"])
        verdict = one(event, CONTEXT, RULES)
        assert isinstance(verdict, bytes)
        assert msgspec.json.decode(verdict, type=Row).masked, entry["id"]


def largest_body(**garbage: Any) -> list[WireEvent]:
    """Events of the largest size, as many as the largest body holds."""
    count = limits().body_bytes // limits().event_bytes
    return [msgspec.structs.replace(WireEvent(UUID(int=i), "click"), **garbage) for i in range(count)]


@pytest.mark.parametrize(("piece", "field"), [("key=", "message_content"), ("4111 1111 1111 1112 ", "event_metadata")])
def test_largest_body_of_garbage_takes_a_bounded_number_of_calls_a_byte(piece: str, field: str) -> None:
    if field == "message_content":
        body = largest_body(message_content=(piece * 65_536)[:65_536])
    else:
        body = largest_body(event_metadata={"a": [piece] * (100_000 // (len(piece) + 4))})
    assert calls_of(lambda: prepare(body, CONTEXT, RULES)) <= 8 * limits().body_bytes


def test_values_of_metadata_beyond_those_that_are_read_are_not_kept() -> None:
    found = masked(event_metadata={"list": [SECRET] * 3_000, "last": SECRET})
    assert found.event_metadata["list"][:2048] == ["[EMAIL]"] * 2048
    assert set(found.event_metadata["list"][2048:]) == {"[REDACTED]"} and found.event_metadata["last"] == "[REDACTED]"
    assert found.masked == ["event_metadata:email", "event_metadata:crowded"]
