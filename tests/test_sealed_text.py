"""A token opens as it was made, with its key and in its project, or not at all."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twintrack.errors import SealBroken
from twintrack.sealed_text import MARK, PersonKey, key_of, opened, sealed

KEY = PersonKey(b"123456789", bytes(range(32)), 0)


@given(st.text())
def test_token_opens_to_its_text_and_names_its_key(text: str) -> None:
    token = sealed(KEY, text, os.urandom(12), b"shop")
    assert key_of(token) == KEY.id and opened(KEY, token, b"shop") == text


@pytest.mark.parametrize("other", [KEY._replace(secret=bytes(32)), None])
def test_token_of_another_key_or_project_is_refused(other: PersonKey | None) -> None:
    token = sealed(KEY, "hello", os.urandom(12), b"shop")
    with pytest.raises(SealBroken):
        opened(other or KEY, token, b"shop" if other else b"elsewhere")


def test_token_with_any_character_changed_is_refused() -> None:
    token = sealed(KEY, "hello", os.urandom(12), b"shop")
    for place in range(len(MARK), len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        if key_of(changed) == KEY.id:
            with pytest.raises(SealBroken):
                opened(KEY, changed, b"shop")


@pytest.mark.parametrize("text", ["", "hello", MARK, MARK + "AAAA", MARK + "!!!!!!!!!!!!", "x" + MARK])
def test_what_is_no_token_names_no_key(text: str) -> None:
    assert key_of(text) is None
