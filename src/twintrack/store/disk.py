"""The encrypted disk of the embedded store: ClickHouse's own `encrypted` disk (AES-256-CTR), its key wrapped by ours.

Chosen when the store is made: tables cannot move there later. The key reaches the engine's process by its standard
input, so that it stands in no file, no argument and no environment that others can read. CTR keeps secrets and does
not tell changes.
"""

import os
import secrets
from pathlib import Path

from twintrack.errors import EncryptionKeyRefused, SettingsError
from twintrack.seal import KEY_BYTES, KeyRing, wrapper_of

# Options of the engine. The embedded one spills into its folder `tmp` whatever policy is set for that (seen in chDB 4.4), so
# nothing may: what needs more memory than it has is refused.
UNSPILT = "&".join(f"max_bytes_ratio_before_external_{of}=0" for of in ("group_by", "sort", "distinct", "join"))
KEY_VARIABLE = "STORE_DISK_KEY"  # of the engine's process alone
_KEY, _CONFIGURATION = "disk.key", "disk.xml"
_BOUND = b"key of the store's disk"


def disk_key(folder: Path, ring: KeyRing | None, *, wanted: bool) -> bytes | None:
    """The disk's key; made where the store is new and it is wanted. None where the store's tables are not encrypted.

    Raises: EncryptionKeyRefused; SettingsError where a store that is not encrypted stands there already.
    """
    file = folder / _KEY
    if file.exists():
        wrapped = file.read_bytes()
        if ring is None:
            raise EncryptionKeyRefused(
                f"the embedded store is encrypted by the key {wrapper_of(wrapped)}, and none is given",
                hint="set TWINTRACK_ENCRYPTION_KEY to it; nothing was changed",
            )
        key = ring.unwrap(wrapped, _BOUND)
        if wrapper_of(wrapped) != ring.id:
            _keep(file, ring.wrap(key, _BOUND))
        return key
    if not wanted:
        return None
    if ring is None:
        raise SettingsError(
            "TWINTRACK_STORE_ENCRYPTED needs TWINTRACK_ENCRYPTION_KEY", hint="`openssl rand -base64 32` prints one"
        )
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            "the embedded store was made without encryption, and its tables cannot be moved",
            hint="leave TWINTRACK_STORE_ENCRYPTED out, or bring the events into a new --data",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(KEY_BYTES)
    _keep(file, ring.wrap(key, _BOUND))
    return key


def _keep(file: Path, content: bytes) -> None:
    beside = file.with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def configuration(folder: Path) -> Path:
    """The engine's configuration file: every table lies on the encrypted disk."""
    file = folder / _CONFIGURATION
    file.write_text(f"""<clickhouse>
  <storage_configuration>
    <disks>
      <files><type>local</type><path>{folder.resolve()}/encrypted/</path></files>
      <encrypted>
        <type>encrypted</type><disk>files</disk><path></path>
        <algorithm>AES_256_CTR</algorithm><key_hex from_env="{KEY_VARIABLE}"/>
      </encrypted>
    </disks>
    <policies><encrypted><volumes><main><disk>encrypted</disk></main></volumes></encrypted></policies>
  </storage_configuration>
  <merge_tree><storage_policy>encrypted</storage_policy></merge_tree>
</clickhouse>
""")
    return file
