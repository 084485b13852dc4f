"""Detectors: what is found, what only looks like it, and that the cheap question is never wrong."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
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
        ("id = \u0041KIAODKECCMDEGUTGIMI", "id = [API_KEY]"),
        ("[Passwort] Wint3rsonne!", "[Passwort] [SECRET]"),
        ('the passphrase is "copper enter lantern moss"', 'the passphrase is "[SECRET]"'),
        ('variable "pw" {\n  type = string\n  default = "9Lantern!Quiet"\n}', None),
        ('{"password": {"type": "string", "value": "9Lantern!Quiet"}}', None),
        ("db_password:\n  default: 9Lantern!Quiet", "db_password:\n  default: [SECRET]"),
        ("- name: db_password\n  default: 9Lantern!Quiet", "- name: db_password\n  default: [SECRET]"),
        ('<string name="password">9Lantern!Quiet</string>', None),
        ('password: string = "9Lantern!Quiet"', None),
        ("new password\n9Lantern!Quiet\nthen log in", "new password\n[SECRET]\nthen log in"),
        ("zmień token API na 551fyq6tchOVKDIcvjjnlZ", "zmień token API na [SECRET]"),
        ("z kluczem: 551fyq6tchOVKDIcvjjnlZ", "z kluczem: [SECRET]"),
        ("Authorization: Basic\r\n cHJveHl1c2VyOjhzVyFrZXR0bGU=", "Authorization: Basic\r\n [CREDENTIAL]"),
        ("call (360) 576-1080", "call [PHONE]"),
        ("my pin code is 560034", "my pin code is [SECRET]"),
    ],
)
def test_personal_data_is_replaced_by_its_typed_token(text: str, masked: str | None) -> None:
    assert PII.mask(text).text == (masked or text.replace("9Lantern!Quiet", "[SECRET]"))


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
        "Boss HP 843000/1250000",
        "pièce 04.72.118.06-B",
        "320 768 1024 mobile",
        "text size 14 16 18 20",
        "sk-learn-pipeline-template-for-absolute-beginners-v2",
        "NACE 47.91.1.0",
        "upgrade 3.2.1.0 -> 4.0.0.0",
        "da quando ho la 6.1.0.2 si blocca",
        "डिलीवरी पिन 560034 पर नहीं",
        "area pincode is 560034",
        '{"password": {"label": "Password", "value": "", "hint": "none"}}',
        'variable "db_password" {\n  description = "DB"\n  type = string\n}',
        "[password] field is empty",
        '{"password": "Click to reset it"}',
        "commit of the token\nabcdef0123456789abcdef0123456789abcdef01",
        "api token\nValid until 2026-01-01\n",
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


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
