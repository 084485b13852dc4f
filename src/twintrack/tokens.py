"""User tokens: who a browser's user is, by the signature of the team's own service. HS256 by secret, or keys of a JWKS.

The token's own head never chooses how it is judged: a secret judges HS256 alone, a public key the one algorithm of its
kind, so a public key can never pass as a secret. Keys are read by a thread of their own and kept; ingest never waits for
them, and a token that cannot be judged leaves its user claimed. Source: RFC 7515, 7517, 7519, 8725.
"""

import threading
from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2 as httpx
import jwt
import msgspec
import structlog

from twintrack.clock import Clock
from twintrack.errors import SettingsError
from twintrack.event import limits
from twintrack.metrics import Metrics
from twintrack.settings import Settings

log = structlog.get_logger()
# Clocks of the application that signs and of this service may differ by this much.
_LEEWAY_SECONDS = 30
_TOKEN_CHARACTERS = 8_192
_MOST_KEYS = 100
_MOST_BYTES = 1 << 20
_FETCH_SECONDS = 5.0
# A key that is not known makes us look again, but no more often than this; keys that cannot be read again end.
_LEAST_PAUSE_SECONDS = 10.0
_STALE_SECONDS = 3600.0
_KEPT_VERDICTS = 10_000
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}


class _Claims(msgspec.Struct):
    """What a user token must and may say. Source: RFC 7519 section 4.1; times are seconds since 1970."""

    sub: str
    exp: float
    nbf: float | None = None
    aud: str | list[str] | None = None
    iss: str | None = None


class _Key(NamedTuple):
    algorithm: str
    key: Any


_SIGNATURES = jwt.PyJWS(algorithms=["HS256", "RS256", "ES256", "EdDSA"])
_CLAIMS = msgspec.json.Decoder(_Claims)


def read_keys(document: bytes) -> dict[str, _Key]:
    """The keys of a JWKS that can judge a signature, by their `kid` ("" where it is the only one without).

    What is symmetric, for encryption, of another algorithm or too weak is left out. Raises: ValueError, no JWKS at all.
    """
    found: dict[str, _Key] = {}
    try:
        listed = msgspec.json.decode(document)["keys"][:_MOST_KEYS]
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("this is no JWKS") from error
    for data in listed:
        if not isinstance(data, dict) or data.get("use", "sig") != "sig":
            continue
        curve = None if data.get("kty") == "RSA" else data.get("crv")
        algorithm = _ALGORITHMS.get((str(data.get("kty")), curve if curve is None else str(curve)))
        if algorithm is None or data.get("alg", algorithm) != algorithm:
            continue
        public = {name: value for name, value in data.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
        try:
            key = jwt.PyJWK.from_dict(public, algorithm=algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if algorithm == "RS256" and key.key_size < 2048:
            continue
        found[str(data.get("kid", ""))] = _Key(algorithm, key)
    return found


class Tokens:
    """Judges tokens. With a JWKS a thread of its own reads the keys; `close` ends it."""

    def __init__(self, settings: Settings, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        self._secret = settings.jwt_secret.get_secret_value()
        self._audience, self._issuer = settings.jwt_audience, settings.jwt_issuer
        self._source = settings.jwt_keys
        self._pause = settings.jwt_keys_seconds
        self._keys: dict[str, _Key] = {}
        self._read_at: float | None = None
        self._verdicts: OrderedDict[bytes, _Claims] = OrderedDict()
        self._wanted, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        if self._source:
            _check_source(self._source)
            self._thread = threading.Thread(target=self._watch, name="jwks", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(_FETCH_SECONDS * 2)

    def subject(self, token: str) -> str | None:
        """The verified subject of a user token; None where it is expired, not yet valid, foreign, malformed, meant for
        another audience, of another issuer, or names a user that no event could name. Never waits.

        A bad token never costs an event: the user stays claimed. The signature is PyJWT's to judge, the time is ours,
        since only clock.py reads the wall clock.
        """
        if not (self._secret or self._source) or not 0 < len(token) <= _TOKEN_CHARACTERS:
            return None
        claims = self._signed(token)
        if claims is None:
            return None
        now = self._clock.milliseconds() / 1000
        if claims.exp <= now - _LEEWAY_SECONDS or (claims.nbf is not None and claims.nbf > now + _LEEWAY_SECONDS):
            return None
        return claims.sub

    def _signed(self, token: str) -> _Claims | None:
        """What a token says whose signature holds. A verdict is kept while the keys are: a page sends one token often."""
        name = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        keys = self._live_keys()
        kept = self._verdicts.get(name)
        if kept is not None:
            return kept
        try:
            head = jwt.get_unverified_header(token)
            chosen = self._judge(head, keys)
            if chosen is None:
                return None
            claims = _CLAIMS.decode(_SIGNATURES.decode(token, chosen.key, algorithms=[chosen.algorithm]))
        except (jwt.PyJWTError, msgspec.DecodeError, ValueError, TypeError, RecursionError):
            return None
        if not self._is_for_us(claims) or not 0 < len(claims.sub) <= limits().identifier_characters:
            return None
        self._verdicts[name] = claims
        if len(self._verdicts) > _KEPT_VERDICTS:
            self._verdicts.popitem(last=False)
        return claims

    def _judge(self, head: dict[str, Any], keys: dict[str, _Key]) -> _Key | None:
        if head.get("alg") == "HS256":
            return _Key("HS256", self._secret) if self._secret else None
        if not self._source:
            return None
        kid = head.get("kid")
        found = next(iter(keys.values())) if kid is None and len(keys) == 1 else keys.get(str(kid))
        if found is None:
            self._wanted.set()
        return found if found is not None and found.algorithm == head.get("alg") else None

    def _is_for_us(self, claims: _Claims) -> bool:
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
        meant = self._audience in audiences if self._audience else claims.aud is None
        return meant and (not self._issuer or claims.iss == self._issuer)

    def _live_keys(self) -> dict[str, _Key]:
        if self._read_at is not None and self._clock.monotonic_seconds() - self._read_at > _STALE_SECONDS:
            self._keys, self._read_at = {}, None
            self._verdicts.clear()
        return self._keys

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wanted.clear()
            self.refresh()
            if self._closing.wait(min(_LEAST_PAUSE_SECONDS, self._pause)):
                return
            self._wanted.wait(max(0.0, self._pause - _LEAST_PAUSE_SECONDS))

    def refresh(self) -> None:
        """Reads the keys once; what cannot be read leaves the ones before, for an hour."""
        try:
            keys = read_keys(_fetch(self._source))
        except (OSError, ValueError, httpx.HTTPError) as error:
            self._metrics.key_set_errors.inc()
            log.warning("jwks_unreadable", code="jwks_unreadable", kind=type(error).__name__)
            return
        if keys != self._keys:
            self._verdicts = OrderedDict()  # a key that is gone takes its verdicts with it
        self._keys, self._read_at = keys, self._clock.monotonic_seconds()


def _check_source(source: str) -> None:
    parts = urlsplit(source)
    near = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme == "https" or (parts.scheme == "http" and near) or "://" not in source:
        return
    raise SettingsError(
        "TWINTRACK_JWT_KEYS is a file, or an address of https",
        hint="whoever answers over plain http could sign as anyone",
    )


def _fetch(source: str) -> bytes:
    """Raises: OSError, ValueError, httpx.HTTPError. No redirect is followed."""
    if "://" not in source:
        with Path(source).open("rb") as file:
            return file.read(_MOST_BYTES)
    content = b""
    with (
        httpx.Client(timeout=_FETCH_SECONDS, follow_redirects=False, trust_env=False) as client,
        client.stream("GET", source, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status_code != 200:
            raise ValueError(f"answered {answer.status_code}")
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > _MOST_BYTES:
                raise ValueError("the key set is larger than 1 MiB")
    return content
