"""Content sealed at rest: AES-256-GCM, by data keys that are themselves kept wrapped by `TWINTRACK_ENCRYPTION_KEY`.

    key ring    the key of the settings and older ones: it only wraps data keys, so that changing it rewraps a few rows
    data keys   random, kept in the control data; a file or value names the one that it was sealed by
    file key    HMAC of the data key and a salt that the file's header holds; a record's place in the file is its nonce
    value       a salt of its own, so a key of its own: no number of values wears a data key out

What a piece belongs to (its file, its place, the id of its chunk) is bound into it: it does not open anywhere else.
Source: NIST SP 800-38D; SP 800-108 for the derivation.
"""

import base64
import binascii
import os
import threading
from collections.abc import Callable, Iterable
from hashlib import sha256
from hmac import digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twintrack.errors import EncryptionKeyRefused, SealBroken

KEY_BYTES = 32
_MAGIC = b"TTSEAL1\x00"
_SALT_BYTES = 16
_NUMBER_BYTES = 4
_TAG_BYTES = 16
_NONCE_BYTES = 12
_ID_BYTES = 8
_ZERO = bytes(_NONCE_BYTES)
VALUE_BYTES = len(_MAGIC) + _NUMBER_BYTES + _SALT_BYTES + _TAG_BYTES  # what a sealed value is longer by


def parse_key(text: str) -> bytes:
    """32 bytes out of 64 hexadecimal digits or base64. Raises: ValueError that does not quote it."""
    text = text.strip()
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("32 random bytes as base64 or hexadecimal digits, such as `openssl rand -base64 32` prints")
    return key


def parse_keys(text: str) -> list[bytes]:
    """Keys in a comma-separated list. Raises: ValueError."""
    return [parse_key(part) for part in text.split(",") if part.strip()]


def key_id(key: bytes) -> str:
    """A name for a key that says nothing about it."""
    return sha256(b"twintrack key id" + key).hexdigest()[: 2 * _ID_BYTES]


class KeyRing:
    """The key of the settings, which wraps, and older ones, which only unwrap."""

    def __init__(self, current: bytes, old: Iterable[bytes] = ()) -> None:
        self.id = key_id(current)
        self._current = current
        self._keys = {key_id(key): key for key in (*old, current)}

    def wrap(self, secret: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return bytes.fromhex(self.id) + nonce + AESGCM(self._current).encrypt(nonce, secret, bound)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Raises: EncryptionKeyRefused where no key of the ring wrapped it."""
        key = self._keys.get(wrapper_of(wrapped))
        if key is None:
            raise EncryptionKeyRefused(
                f"what is sealed here needs the encryption key {wrapper_of(wrapped)}; the one given is {self.id}",
                hint="set TWINTRACK_ENCRYPTION_KEY to that key, or add it to TWINTRACK_ENCRYPTION_KEY_OLD; nothing was"
                " changed",
            )
        nonce = wrapped[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        try:
            return AESGCM(key).decrypt(nonce, wrapped[_ID_BYTES + _NONCE_BYTES :], bound)
        except InvalidTag as error:
            raise EncryptionKeyRefused(
                "a wrapped data key was altered",
                hint="put the control database back from a backup; nothing was changed",
            ) from error


def wrapper_of(wrapped: bytes) -> str:
    """The id of the key that a data key is wrapped by."""
    return wrapped[:_ID_BYTES].hex()


class Cipher:
    """Seals the pieces of one file; each place at most once."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, place: int, data: bytes, bound: bytes) -> bytes:
        return self._aead.encrypt(place.to_bytes(_NONCE_BYTES, "big"), data, bound)

    def open(self, place: int, data: bytes, bound: bytes) -> bytes:
        """Raises: SealBroken."""
        try:
            return self._aead.decrypt(place.to_bytes(_NONCE_BYTES, "big"), data, bound)
        except InvalidTag as error:
            raise SealBroken("a sealed piece of a file was altered or moved") from error


class DataKeys:
    """The unwrapped data keys, by number; the newest seals. Called from any thread."""

    def __init__(self, load: Callable[[], dict[int, bytes]]) -> None:
        """`load` gives all of them, oldest first; it is asked again for a number that another node may have made."""
        self._load, self._lock = load, threading.Lock()
        self.reload()

    def reload(self) -> None:
        with self._lock:
            self._keys = self._load()
            self.newest = next(reversed(self._keys))

    def numbers(self) -> list[int]:
        return list(self._keys)

    def _key(self, number: int) -> bytes:
        if number not in self._keys:
            self.reload()
        try:
            return self._keys[number]
        except KeyError as error:
            raise SealBroken(f"data key {number} is unknown to the control data") from error

    def cipher(self, number: int, salt: bytes) -> Cipher:
        """The cipher of a file whose header holds a salt that no other file has. Raises: SealBroken."""
        return Cipher(digest(self._key(number), b"twintrack file" + salt, "sha256"))

    def seal(self, data: bytes, bound: str) -> bytes:
        """A value that opens only with the same `bound`; 44 bytes longer."""
        return b"".join(self.seal_large(data, bound))

    def seal_large(self, data: bytes, bound: str) -> tuple[bytes, bytes]:
        """The same in two parts, to be written one behind the other: joining megabytes costs as much as sealing them."""
        salt = os.urandom(_SALT_BYTES)
        key = digest(self._key(self.newest), b"twintrack value" + salt, "sha256")
        head = _MAGIC + self.newest.to_bytes(_NUMBER_BYTES, "big") + salt
        return head, AESGCM(key).encrypt(_ZERO, data, bound.encode())

    def open(self, sealed: bytes, bound: str) -> bytes:
        """The value; one that was written before sealing was switched on comes back as it is. Raises: SealBroken."""
        if not is_sealed(sealed):
            return sealed
        start = len(_MAGIC)
        number = int.from_bytes(sealed[start : start + _NUMBER_BYTES], "big")
        salt = sealed[start + _NUMBER_BYTES : start + _NUMBER_BYTES + _SALT_BYTES]
        key = digest(self._key(number), b"twintrack value" + salt, "sha256")
        try:
            rest = memoryview(sealed)[start + _NUMBER_BYTES + _SALT_BYTES :]
            return AESGCM(key).decrypt(_ZERO, rest, bound.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken("a sealed value was altered or belongs elsewhere") from error


def is_sealed(value: bytes) -> bool:
    return value[: len(_MAGIC)] == _MAGIC
