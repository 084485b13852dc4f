"""Detectors: what is found, what only looks like it, and that the cheap question is never wrong."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack import pii

PII = pii.default()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail ada.b+c@example.co.uk now", "mail [EMAIL] now"),
        ("ssn 078-05-1120.", "ssn [SSN]."),
        ("card 4111 1111 1111 1111, 2 pieces", "card [CARD], 2 pieces"),
        ("2 4111-1111-1111-1111", "2 [CARD]"),
        ("amex 378282246310005", "amex [CARD]"),
        ("key sk-abcdefghijklmnop1234 end", "key [API_KEY] end"),
        ("AKIAIOSFODNN7EXAMPLE", "[API_KEY]"),
        ("password: @bcd-1234", "password: [SECRET]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ", "[API_KEY]"),
    ],
)
def test_personal_data_is_replaced_by_its_typed_token(text: str, masked: str) -> None:
    assert PII.mask(text).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112",
        "1764000000123",
        "2026-11-24T00:20:03.123Z",
        "v1.2.3-45-6789",
        "000-12-3456",
        "978-3-16-148410-0",
        "6fa459ea-ee8a-4ca4-894e-db77e160355e",
        "price 12.50",
        "0000 0000 0000 0000",
        "@home",
    ],
)
def test_lookalikes_are_left_alone(text: str) -> None:
    assert PII.mask(text) == (text, [], False, False)


secrets = st.sampled_from(
    ["a@b.co", "078-05-1120", "4111111111111111", "4111 1111 1111 1111", "sk-abcdefghijklmnop1234"]
)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=40), secrets, st.text(max_size=40))
def test_row_with_a_finding_is_always_suspicious(before: str, secret: str, after: str) -> None:
    text = before + secret + after
    if PII.mask(text).rules:
        assert PII.suspicious(msgspec.json.encode({"x": text}))


@settings(deadline=None)
@given(st.lists(st.one_of(st.uuids().map(str), st.text(max_size=30), secrets), max_size=8))
def test_suspects_are_the_rows_in_which_something_is_found(texts: list[str]) -> None:
    rows = [msgspec.json.encode({"x": text}) for text in texts]
    suspects = PII.suspects(b"\n".join(rows))
    assert suspects == sorted(set(suspects))
    assert {i for i, text in enumerate(texts) if PII.mask(text).rules} <= set(suspects) <= set(range(len(rows)))


def test_uuid_with_the_digits_of_a_card_is_left_alone() -> None:
    text = "0194a5e0-4111-4111-8111-111111111111"
    assert PII.mask(text) == (text, [], False, False) and PII.suspects(f'["{text}"]'.encode()) == []
    assert PII.suspects(f'["{text}","4111111111111111"]'.encode()) == [0]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_masking_is_stable(text: str) -> None:
    once = PII.mask(text).text
    assert PII.mask(once) == (once, [], False, False)


def test_stored_identifier_is_keyed_and_blind_to_case() -> None:
    first, rules = PII.stored_identifier("Ada@Example.com", b"k")
    assert rules == ["email"]
    assert first == PII.stored_identifier(" ada@example.com", b"k")[0]
    assert first != PII.stored_identifier("ada@example.com", b"other")[0]
    assert PII.stored_identifier("user-17", b"k") == ("user-17", [])
