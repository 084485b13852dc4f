"""One text sealed under the key of a person: the token that stands in its place, and the text again.

    tt-sealed: and base64 of key id (9 bytes, so 12 characters), nonce (12 bytes), AES-256-GCM of the text

The project is bound in: a token does not open in another one. Which field and which event it belongs to is not: a row is
no more to be trusted than whoever can write to the store.
Next: control/person_keys.py.
"""

import binascii
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twintrack.errors import SealBroken

MARK = "tt-sealed:"
NO_KEY = "[NO KEY]"  # what is shown of a text whose key is gone
ID_BYTES = 9
ID_CHARACTERS = 12
NONCE_BYTES = 12
# Columns of an event that may be sealed; beside them paths of `event_metadata`. No rollup, link or look-up reads them.
COLUMNS = ("message_content", "event_value", "page_url", "page_path", "page_title", "referrer")
METADATA = "event_metadata."


class PersonKey(NamedTuple):
    id: bytes
    secret: bytes
    made_at: int  # milliseconds


class Fields(NamedTuple):
    """What is sealed."""

    columns: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]  # of `event_metadata`, part by part

    @property
    def names(self) -> frozenset[str]:
        return frozenset((*self.columns, *(METADATA + ".".join(path) for path in self.paths)))


def parse_fields(text: str) -> Fields | None:
    """Fields in a comma-separated list; None where there is none. Raises: ValueError that says which may be sealed."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    paths = [name.removeprefix(METADATA) for name in names if name.startswith(METADATA)]
    columns = [name for name in names if not name.startswith(METADATA)]
    if set(columns) - set(COLUMNS) or any("" in path.split(".") for path in paths):
        raise ValueError(f"fields that may be sealed: {', '.join(COLUMNS)}, event_metadata.PATH")
    # Each once, and none below another one: what was sealed twice could not be read by opening it once.
    split = {tuple(path.split(".")) for path in paths}
    apart = sorted(path for path in split if not any(path[:n] in split for n in range(1, len(path))))
    return Fields(tuple(dict.fromkeys(columns)), tuple(apart)) if names else None


def sealed(key: PersonKey, value: Any, nonce: bytes, project: bytes) -> str:
    """The token of a text; of what is none its JSON is sealed, and comes back as a text."""
    text = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
    data = key.id + nonce + AESGCM(key.secret).encrypt(nonce, text, project)
    return MARK + binascii.b2a_base64(data, newline=False).decode()


def key_of(token: str) -> bytes | None:
    """The id of the key; None of what is no token."""
    if not token.startswith(MARK):
        return None
    try:
        key_id = binascii.a2b_base64(token[len(MARK) : len(MARK) + ID_CHARACTERS], strict_mode=True)
    except binascii.Error:
        return None
    return key_id if len(key_id) == ID_BYTES else None


def opened(key: PersonKey, token: str, project: bytes) -> str:
    """Raises: SealBroken."""
    try:
        data = binascii.a2b_base64(token[len(MARK) :], strict_mode=True)
        nonce = data[ID_BYTES : ID_BYTES + NONCE_BYTES]
        return AESGCM(key.secret).decrypt(nonce, data[ID_BYTES + NONCE_BYTES :], project).decode()
    except (binascii.Error, InvalidTag, ValueError) as error:
        raise SealBroken("a sealed text was altered or belongs to another project") from error
