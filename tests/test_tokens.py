"""User tokens: judged by the service's own clock and by keys that it knows, never by their own word."""

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import running
from twintrack.errors import SettingsError
from twintrack.event import limits
from twintrack.metrics import Metrics
from twintrack.settings import load_settings
from twintrack.testing import ManualClock, wire_event
from twintrack.tokens import Tokens, read_keys

UNSIGNED = b'{"alg":"none","kid":"RS256"}'
SECRET = "test-secret-that-is-long-enough-for-hs256"
NOW = 1_767_225_600_000
SECONDS = NOW // 1000


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Claims left out by None; written as they are, whatever the standard says."""
    said = {"sub": "ann", "exp": SECONDS + 60, **claims}
    payload = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    return jwt.api_jws.encode(payload, secret, algorithm)


def subject_of(token: str, secret: str, milliseconds: int, **settings: Any) -> str | None:
    return Tokens(load_settings(jwt_secret=secret, **settings), ManualClock(milliseconds), Metrics()).subject(token)


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


@pytest.mark.parametrize(
    ("settings", "claims", "subject"),
    [
        ({"jwt_audience": "app"}, {"aud": "app"}, "ann"),
        ({"jwt_audience": "app"}, {"aud": ["other", "app"]}, "ann"),
        ({"jwt_audience": "app"}, {"aud": "other"}, None),
        ({"jwt_audience": "app"}, {}, None),
        ({"jwt_issuer": "https://id.example"}, {"iss": "https://id.example"}, "ann"),
        ({"jwt_issuer": "https://id.example"}, {"iss": "https://id.example/"}, None),
        ({"jwt_issuer": "https://id.example"}, {}, None),
        ({}, {"iss": "anybody"}, "ann"),
    ],
    ids=str,
)
def test_audience_and_issuer_are_as_the_settings_have_them(
    settings: dict[str, str], claims: dict[str, Any], subject: str | None
) -> None:
    assert subject_of(token(**claims), SECRET, NOW, **settings) == subject


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, Any] = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
_JWK: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(algorithm: str, kid: str | None = None, key: Any = None, **more: Any) -> dict[str, Any]:
    public = _JWK[algorithm].to_jwk((key or SIGNERS[algorithm]).public_key(), as_dict=True)
    return {**public, "kid": kid or algorithm, "use": "sig", **more}


def signed(algorithm: str, kid: str | None = None, key: Any = None, **claims: Any) -> str:
    said = {"sub": "ann", "exp": SECONDS + 60, **claims}
    headers = {"kid": algorithm if kid is None else kid}
    return jwt.api_jws.encode(json.dumps(said).encode(), key or SIGNERS[algorithm], algorithm, headers)


class KeyServer:
    """A real HTTP server on loopback that says which keys there are."""

    def __init__(self) -> None:
        self.document: Any = {"keys": [jwk(a) for a in SIGNERS]}
        self.status, self.asked = 200, 0
        self.free = threading.Event()
        self.free.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.free.wait(30)
                body = outer.document if isinstance(outer.document, bytes) else json.dumps(outer.document).encode()
                self.send_response(outer.status)
                if outer.status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{outer.port}/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.free.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


@pytest.fixture
def judge(keys: KeyServer) -> Iterator[Callable[..., Tokens]]:
    opened: list[Tokens] = []

    def make(clock: ManualClock | None = None, metrics: Metrics | None = None, **settings: Any) -> Tokens:
        settings = {"jwt_keys": keys.url, **settings}
        opened.append(Tokens(load_settings(**settings), clock or ManualClock(NOW), metrics or Metrics()))
        return opened[-1]

    yield make
    keys.free.set()
    for tokens in opened:
        tokens.close()


def settled(tokens: Tokens) -> Tokens:
    """The keys are read, whatever the thread of their own does."""
    tokens.refresh()
    return tokens


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_token_of_a_listed_key_names_its_subject(judge: Callable[..., Tokens], algorithm: str) -> None:
    tokens = settled(judge())
    assert tokens.subject(signed(algorithm)) == "ann"
    assert tokens.subject(signed(algorithm)) == "ann"
    assert tokens.subject(signed(algorithm)[:-4] + "AAAA") is None
    assert tokens.subject(signed(algorithm, exp=SECONDS - 60)) is None


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_keys_may_stand_in_a_file(judge: Callable[..., Tokens], tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(algorithm)]}))
    assert settled(judge(jwt_keys=str(file))).subject(signed(algorithm)) == "ann"


def test_kept_verdict_is_still_judged_by_the_clock(judge: Callable[..., Tokens]) -> None:
    clock = ManualClock(NOW)
    tokens = settled(judge(clock))
    sent = signed("ES256")
    assert tokens.subject(sent) == "ann"
    clock.advance(90)
    assert tokens.subject(sent) is None


def public_pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def test_algorithm_is_never_the_tokens_to_choose(judge: Callable[..., Tokens]) -> None:
    """A public key taken for a secret, a key taken for another algorithm, none at all."""
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = json.dumps({"sub": "ann", "exp": SECONDS + 60}).encode()

    def by_hand(algorithm: str, secret: bytes, kid: str) -> str:
        head = json.dumps({"alg": algorithm, "kid": kid, "typ": "JWT"}).encode()
        text = f"{part(head)}.{part(claims)}"
        return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    forged = [
        *(by_hand("HS256", public_pem(key), kid) for kid, key in SIGNERS.items()),
        by_hand("HS256", json.dumps(jwk("RS256")).encode(), "RS256"),
        by_hand("HS256", b"", "RS256"),
        by_hand("RS256", public_pem(RSA_KEY), "RS256"),
        by_hand("none", b"", "RS256"),
        f"{part(UNSIGNED)}.{part(claims)}.",
        signed("RS256", key=stranger),
        signed("RS256", kid="ES256"),
        signed("ES256", kid="RS256"),
        signed("EdDSA", kid="ES256"),
        jwt.api_jws.encode(claims, RSA_KEY, "RS512", {"kid": "RS256"}),
        jwt.api_jws.encode(claims, RSA_KEY, "PS256", {"kid": "RS256"}),
        jwt.api_jws.encode(claims, stranger, "RS256", {"kid": "RS256", "jwk": jwk("RS256", key=stranger)}),
        jwt.api_jws.encode(claims, stranger, "RS256", {"kid": "RS256", "jku": "http://127.0.0.1:1/"}),
        jwt.api_jws.encode(claims, stranger, "RS256", {"kid": "../../../../dev/null"}),
    ]
    for secret in ("", SECRET):
        tokens = settled(judge(jwt_secret=secret))
        assert [tokens.subject(each) for each in forged] == [None] * len(forged)
        assert tokens.subject(token()) == ("ann" if secret else None)
        assert tokens.subject(signed("RS256")) == "ann"


def test_key_that_cannot_judge_is_left_out(judge: Callable[..., Tokens]) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    listed = [
        {"kty": "oct", "k": part(SECRET.encode()), "kid": "oct", "alg": "HS256"},
        jwk("RS256", "encrypts", use="enc"),
        jwk("RS256", "other", alg="RS512"),
        jwk("ES256", "lies", alg="HS256"),
        jwk("RS256", "weak", key=weak),
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off the curve"},
        {"kty": ["RSA"], "kid": "odd"},
        {"kty": "EC", "crv": ["P-256"]},
        "nonsense",
        jwk("ES256", "good"),
    ]
    assert set(read_keys(json.dumps({"keys": listed}).encode())) == {"good"}
    assert len(read_keys(json.dumps({"keys": [jwk("ES256", str(n)) for n in range(500)]}).encode())) == 100


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 5}', b"<html>", b"[" * 100_000, b'{"keys": {}}'])
def test_document_that_is_no_key_set_leaves_the_keys_before(
    judge: Callable[..., Tokens], keys: KeyServer, document: bytes
) -> None:
    metrics = Metrics()
    tokens = settled(judge(metrics=metrics))
    keys.document = document
    tokens.refresh()
    assert tokens.subject(signed("RS256")) == "ann"
    assert (metrics.registry.get_sample_value("twintrack_access_key_set_errors_total") or 0) >= 1


def test_removed_key_ends_with_the_next_reading_and_its_verdicts_with_it(
    judge: Callable[..., Tokens], keys: KeyServer
) -> None:
    tokens = settled(judge())
    sent = signed("RS256")
    assert tokens.subject(sent) == "ann"
    keys.document = {"keys": [jwk("ES256")]}
    tokens.refresh()
    assert tokens.subject(sent) is None and tokens.subject(signed("ES256")) == "ann"


def test_keys_that_cannot_be_read_again_end_after_an_hour(judge: Callable[..., Tokens], keys: KeyServer) -> None:
    clock = ManualClock(NOW)
    tokens = judge(clock)
    until = time.monotonic() + 20
    while not tokens.subject(signed("RS256")):  # the thread of its own has read them, and reads no more for 10 s
        assert time.monotonic() < until
    keys.status = 500
    clock.advance(3600)
    sent = signed("RS256", exp=SECONDS + 10_000)
    tokens.refresh()
    assert tokens.subject(sent) == "ann"
    clock.advance(1)
    assert tokens.subject(sent) is None


def test_redirect_is_not_followed_and_a_huge_answer_is_not_read(judge: Callable[..., Tokens], keys: KeyServer) -> None:
    keys.status = 302
    assert settled(judge()).subject(signed("RS256")) is None
    keys.status, keys.document = 200, b'{"keys":[' + b" " * (2 << 20) + b"]}"
    assert settled(judge()).subject(signed("RS256")) is None


def test_server_that_does_not_answer_holds_nobody_up(judge: Callable[..., Tokens], keys: KeyServer) -> None:
    """Its only thread is held until the verdict is there: were it waited for, the verdict would never come."""
    keys.free.clear()
    tokens = judge()
    until = time.monotonic() + 20
    while not keys.asked:
        assert time.monotonic() < until
    assert tokens.subject(signed("RS256")) is None
    keys.free.set()
    while tokens.subject(signed("RS256")) != "ann":
        assert time.monotonic() < until


@pytest.mark.parametrize("source", ["http://id.example/jwks.json", "ftp://127.0.0.1/x", "gopher://x"])
def test_keys_over_an_open_wire_are_refused_at_start(source: str) -> None:
    with pytest.raises(SettingsError, match="JWT_KEYS"):
        Tokens(load_settings(jwt_keys=source), ManualClock(NOW), Metrics())


def test_event_with_such_a_token_is_stored_as_verified(tmp_path: Path, keys: KeyServer) -> None:
    clock = ManualClock(NOW)
    with running(tmp_path / "data", clock, jwt_keys=keys.url) as opened:
        opened.services.receiver.tokens.refresh()
        for algorithm in SIGNERS:
            event = wire_event(NOW, user_id="ann", event_name=algorithm.lower())
            opened.send({"events": [event], "token": signed(algorithm)})
        opened.send(
            {"events": [wire_event(NOW, user_id="ann", event_name="forged")], "token": signed("RS256", "ES256")}
        )
        assert opened.rows("SELECT event_name, identity FROM analytics.events ORDER BY event_name") == [
            ["eddsa", "verified"],
            ["es256", "verified"],
            ["forged", "claimed"],
            ["rs256", "verified"],
        ]
