"""Sealing: nothing opens that was altered, moved or sealed by another key; a key is changed by wrapping anew."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twintrack.errors import EncryptionKeyRefused, SealBroken
from twintrack.seal import VALUE_BYTES, Cipher, DataKeys, KeyRing, is_sealed, key_id, parse_key, parse_keys

ONE, OTHER = bytes(range(32)), bytes(range(1, 33))
KEYS = DataKeys(lambda: {7: ONE})


@given(st.binary(max_size=500), st.text(max_size=20))
def test_value_opens_where_it_belongs_and_shows_nothing(data: bytes, bound: str) -> None:
    sealed = KEYS.seal(data, bound)
    assert KEYS.open(sealed, bound) == data
    assert is_sealed(sealed) and len(sealed) == len(data) + VALUE_BYTES
    assert len(data) < 8 or data not in sealed
    with pytest.raises(SealBroken):
        KEYS.open(sealed, bound + "x")


@settings(max_examples=200)
@given(st.data())
def test_value_with_any_byte_changed_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(KEYS.seal(b"a secret of a project", "shop"))
    place = data.draw(st.integers(8, len(sealed) - 1))  # without its magic it is none
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBroken):
        KEYS.open(bytes(sealed), "shop")


@given(cut=st.integers(8, VALUE_BYTES + 3))
def test_value_that_was_cut_short_does_not_open(cut: int) -> None:
    with pytest.raises(SealBroken):
        KEYS.open(KEYS.seal(b"text", "shop")[:cut], "shop")


def test_value_from_before_sealing_comes_back_as_it_is() -> None:
    assert KEYS.open(b'["a plain row"]', "x") == b'["a plain row"]'


def test_same_value_is_sealed_differently_each_time() -> None:
    assert len({KEYS.seal(b"same", "x") for _ in range(50)}) == 50


def test_piece_of_a_file_opens_at_its_place_with_its_head_alone() -> None:
    cipher = KEYS.cipher(7, b"salt")
    sealed = cipher.seal(100, b"body", b"head")
    assert cipher.open(100, sealed, b"head") == b"body"
    for other, place, head in ((cipher, 101, b"head"), (cipher, 100, b"hexd"), (KEYS.cipher(7, b"tals"), 100, b"head")):
        with pytest.raises(SealBroken):
            other.open(place, sealed, head)


def test_key_of_another_node_is_read_when_it_is_met() -> None:
    known = {7: ONE}
    keys = DataKeys(lambda: dict(known))
    sealed = DataKeys(lambda: {7: ONE, 8: OTHER}).seal(b"from elsewhere", "x")
    with pytest.raises(SealBroken):
        keys.open(sealed, "x")
    known[8] = OTHER
    assert keys.open(sealed, "x") == b"from elsewhere"


def test_ring_unwraps_what_its_older_keys_wrapped_and_wraps_by_the_new_one() -> None:
    old, new, both = KeyRing(ONE), KeyRing(OTHER), KeyRing(OTHER, [ONE])
    wrapped = old.wrap(b"data key", b"7")
    assert both.unwrap(wrapped, b"7") == b"data key"
    assert new.unwrap(both.wrap(b"data key", b"7"), b"7") == b"data key"
    with pytest.raises(EncryptionKeyRefused, match=key_id(ONE)):
        new.unwrap(wrapped, b"7")
    with pytest.raises(EncryptionKeyRefused):
        both.unwrap(wrapped, b"8")


@pytest.mark.parametrize("form", [lambda k: k.hex(), lambda k: base64.b64encode(k).decode(), lambda k: k.hex() + "\n"])
def test_key_is_read_in_each_of_its_forms(form: object) -> None:
    assert parse_key(form(ONE)) == ONE  # type: ignore[operator]


@pytest.mark.parametrize(
    "text", ["", "short", "00" * 31, base64.b64encode(bytes(range(31))).decode(), "zz" * 32, "é" * 32]
)
def test_key_that_is_none_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_key(text)
    assert not text or text not in str(raised.value)


def test_list_of_keys_is_read() -> None:
    assert parse_keys(f"{ONE.hex()}, {OTHER.hex()}") == [ONE, OTHER]
    assert parse_keys("") == []


def test_cipher_of_one_key_does_not_open_anothers() -> None:
    with pytest.raises(SealBroken):
        Cipher(OTHER).open(1, Cipher(ONE).seal(1, b"x", b""), b"")
