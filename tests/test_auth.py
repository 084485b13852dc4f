"""Keys that can be told apart and not guessed, and tokens that are judged by the service's own clock."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import running
from twintrack import auth
from twintrack.auth import Role, key_hash, new_key, subject_of
from twintrack.event import limits
from twintrack.permissions import Permission, roles_with
from twintrack.testing import ManualClock, wire_event

SECRET = "test-secret-that-is-long-enough-for-hs256"
NOW = 1_767_225_600_000
SECONDS = NOW // 1000


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Claims left out by None; written as they are, whatever the standard says."""
    said = {"sub": "ann", "exp": SECONDS + 60, **claims}
    payload = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    return jwt.api_jws.encode(payload, secret, algorithm)


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def test_token_of_the_right_secret_names_its_subject() -> None:
    assert subject_of(token(), SECRET, NOW) == "ann"


@pytest.mark.parametrize(
    ("claims", "after_seconds", "subject"),
    [
        ({"exp": SECONDS}, 0, "ann"),
        ({"exp": SECONDS}, 29, "ann"),
        ({"exp": SECONDS}, 30, None),
        ({"exp": SECONDS + 3600}, 3629, "ann"),
        ({"exp": SECONDS + 3600}, 3630, None),
        ({"exp": SECONDS + 0.5}, 30, "ann"),
        ({"nbf": SECONDS + 30}, 0, "ann"),
        ({"nbf": SECONDS + 31}, 0, None),
        ({"nbf": SECONDS + 31}, 1, "ann"),
        ({"iat": SECONDS + 86_400}, 0, "ann"),
    ],
)
def test_token_is_judged_by_the_clock_it_is_given(
    claims: dict[str, Any], after_seconds: int, subject: str | None
) -> None:
    assert subject_of(token(**claims), SECRET, NOW + after_seconds * 1000) == subject


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "x" * (limits().identifier_characters + 1)},
        {"sub": "half \ud83d"},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": "soon"},
        {"aud": "another service"},
    ],
    ids=str,
)
def test_token_with_unfit_claims_names_nobody(claims: dict[str, Any]) -> None:
    assert subject_of(token(**claims), SECRET, NOW) is None


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "nonsense",
        "a.b.c",
        "\u20ac.\u20ac.\u20ac",
        token("another-secret-that-is-long-enough-too"),
        token()[:-2],
        part(b'{"alg":"none"}') + "." + part(b'{"sub":"ann","exp":9999999999}') + ".",
        token(SECRET * 2, "HS512"),
        part(b"[" * 5_000) + "." + part(b"{}") + ".AAAA",
        jwt.api_jws.encode(b"[" * 5_000, SECRET, "HS256"),
        jwt.api_jws.encode(b"5", SECRET, "HS256"),
        token(more="x" * 10_000),
    ],
    ids=lambda value: f"{value[:12]}..{len(value)}",
)
def test_foreign_and_malformed_tokens_name_nobody(foreign: str) -> None:
    assert subject_of(foreign, SECRET, NOW) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_text_is_a_token_by_chance_and_none_raises(head: str, body: str, signature: str) -> None:
    assert subject_of(f"{head}.{body}.{signature}", SECRET, NOW) is None
    assert subject_of(f"{part(head.encode())}.{part(body.encode())}.{part(signature.encode())}", SECRET, NOW) is None


def test_without_a_secret_no_token_is_verified() -> None:
    assert subject_of(token(), "", NOW) is None


def test_service_judges_tokens_by_its_own_clock(tmp_path: Path) -> None:
    """A day whose end no real clock has seen yet: the same token counts before it and not after it."""
    clock = ManualClock(NOW)
    with running(tmp_path / "data", clock, jwt_secret=SECRET) as opened:
        sent = token(exp=SECONDS + 3600)
        for seconds in (0, 3600, 60):
            clock.advance(seconds)
            now = clock.milliseconds()
            opened.send({"events": [wire_event(now, user_id="ann", event_name=f"after_{seconds}")], "token": sent})
        assert opened.rows("SELECT event_name, identity FROM analytics.events ORDER BY event_timestamp") == [
            ["after_0", "verified"],
            ["after_3600", "verified"],
            ["after_60", "claimed"],
        ]


def test_keys_say_what_they_are_and_never_repeat() -> None:
    keys = [new_key(role) for role in Role for _ in range(20)]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(f"tt_{role.value}_") for role in Role for key in [new_key(role)])
    assert min(len(key) for key in keys) > 50


def test_hash_of_a_key_is_not_the_key_and_takes_any_text() -> None:
    assert key_hash("tt_write_x") == key_hash("tt_write_x") != key_hash("tt_write_y")
    assert len(key_hash("\ud800")) == 64


def test_roles_that_send_do_not_read_and_the_other_way_round() -> None:
    assert not auth.MAY_SEND & (roles_with(Permission.SQL) | roles_with(Permission.LOOK))
    assert roles_with(Permission.SIGN_IN) < roles_with(Permission.LOOK)
    assert roles_with(Permission.ACCESS) < roles_with(Permission.SIGN_IN)
