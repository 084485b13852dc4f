"""A backup as files: a folder or one tar, with a manifest that names every file, its size and its SHA-256.

Promises: what carries its final name is whole; a backup that was cut short has another one. Reading checks every byte
before anything is used.
"""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec

from twintrack.errors import EncryptionKeyRefused, RequestError, SealBroken, TwintrackError
from twintrack.seal import KeyRing
from twintrack.sealed_file import SealedReader, SealedWriter, is_sealed_file

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK_BYTES = 1 << 20
_PARTIAL = ".partial"


class BackupDamaged(TwintrackError):
    """The backup is not what was written. Nothing of it was used."""

    code = "backup_damaged"


class BackupFormat(TwintrackError):
    """The backup was made by a version that this one does not understand. Nothing was changed."""

    code = "backup_format"


class Stored(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct):
    """What a backup says of itself. `sha256` is of the rest, so that a changed manifest is found too."""

    format: int
    twintrack: str
    made_at: str
    contents: dict[str, str]  # control, spool, store: what of each is here
    migrations: list[str]  # of the store, in order
    files: list[Stored]
    sha256: str = ""

    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, sha256=""))).hexdigest()


def check_place(target: Path, ring: KeyRing | None) -> None:
    """Raises: RequestError for a folder where backups are sealed: they are one file then."""
    if ring is not None and target.suffix != ".tar":
        raise RequestError(
            "with an encryption key a backup is one sealed file", hint="end its name in .tar", code="backup_place"
        )


def write(target: Path, source: Path, manifest: Manifest, ring: KeyRing | None) -> Manifest:
    """Writes everything below `source` to a folder, or to one file where the name ends in `.tar`; the final manifest.

    With a key ring the file is sealed by it. Raises: OSError; then nothing carries the final name.
    """
    partial = target.with_name(target.name + _PARTIAL)
    _remove(partial)
    try:
        if target.suffix == ".tar":
            with private(partial) as file:
                sealed = SealedWriter(ring, file) if ring is not None else None
                with tarfile.open(fileobj=sealed or file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    for name, path in _files(source):
                        manifest.files.append(_into_tar(tar, name, path))
                    told = _sealed(manifest)
                    entry = tarfile.TarInfo(MANIFEST)
                    entry.size = len(told)
                    tar.addfile(entry, BytesIO(told))
                if sealed is not None:
                    sealed.finish()
                file.flush()
                os.fsync(file.fileno())
        else:
            partial.mkdir(mode=0o700)
            for name, path in _files(source):
                manifest.files.append(_into_folder(partial, name, path))
            _write_synced(partial / MANIFEST, _sealed(manifest))
        os.rename(partial, target)
        _sync_folder(target.parent)
    except BaseException:
        _remove(partial)
        raise
    return manifest


def private(path: Path) -> BinaryIO:
    """A new file that nobody else could ever open. Raises: FileExistsError, OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def read(source: Path, folder: Path, ring: KeyRing | None) -> Manifest:
    """Copies a backup below an empty folder and checks every byte of it; its manifest.

    Raises: BackupDamaged, BackupFormat; EncryptionKeyRefused where the ring does not open it.
    """
    folder.mkdir(mode=0o700, parents=True)
    found: dict[str, Stored] = {}
    told = b""
    try:
        for name, file in _members(source, ring):
            if name == MANIFEST:
                told = file.read()
            else:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as copy:
                    found[name] = _copy(name, file, copy)
    except (tarfile.TarError, EOFError, SealBroken) as error:
        raise BackupDamaged("the backup breaks off or is no backup", hint="copy it again") from error
    manifest = _manifest(told)
    for stored in manifest.files:
        if found.pop(stored.path, None) != stored:
            raise BackupDamaged(
                f"{stored.path} is gone from the backup or was changed in it",
                hint="use another copy; nothing was restored",
            )
    if found:
        raise BackupDamaged(f"{min(found)} is in the backup and not in its manifest", hint="use another copy")
    return manifest


def _manifest(told: bytes) -> Manifest:
    if not told:
        raise BackupDamaged(
            "the backup has no manifest: it was cut short, or is none", hint="use another copy; nothing was restored"
        )
    try:
        number = msgspec.json.decode(told, type=dict[str, Any]).get("format", 0)
        if isinstance(number, int) and number > FORMAT:
            raise BackupFormat(
                f"the backup has format {number}, this version reads {FORMAT}", hint="restore it with a newer twintrack"
            )
        manifest = msgspec.json.decode(told, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BackupDamaged("the manifest cannot be read", hint="use another copy; nothing was restored") from error
    if manifest.digest() != manifest.sha256:
        raise BackupDamaged("the manifest was changed", hint="use another copy; nothing was restored")
    return manifest


def _sealed(manifest: Manifest) -> bytes:
    manifest.sha256 = manifest.digest()
    return msgspec.json.format(msgspec.json.encode(manifest))


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            yield path.relative_to(source).as_posix(), path


def _into_tar(tar: tarfile.TarFile, name: str, path: Path) -> Stored:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = path.stat().st_size, 0o600
    with path.open("rb") as file:
        reading = _Hashed(file)
        tar.addfile(entry, reading)  # type: ignore[arg-type]
    return Stored(name, entry.size, reading.hash.hexdigest())


def _into_folder(folder: Path, name: str, path: Path) -> Stored:
    target = folder / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("rb") as file, target.open("xb") as copy:
        stored = _copy(name, file, copy)
        copy.flush()
        os.fsync(copy.fileno())
    return stored


def _copy(name: str, file: IO[bytes], copy: IO[bytes]) -> Stored:
    digest, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
        copy.write(block)
    return Stored(name, size, digest.hexdigest())


class _Hashed:
    """A file whose bytes are summed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self.hash.update(block)
        return block


def opened(file: BinaryIO, ring: KeyRing | None) -> BinaryIO:
    """What a file holds, unsealed where it is sealed. Raises: EncryptionKeyRefused."""
    sealed = is_sealed_file(file.read(16))
    file.seek(0)
    if not sealed:
        return file
    if ring is None:
        raise EncryptionKeyRefused(
            "the file is sealed, and no encryption key is given",
            hint="set TWINTRACK_ENCRYPTION_KEY (or TWINTRACK_ENCRYPTION_KEY_FILE) to that of its time; nothing was changed",
        )
    return BufferedReader(SealedReader(ring, file), _BLOCK_BYTES)


def _members(source: Path, ring: KeyRing | None) -> Iterator[tuple[str, IO[bytes]]]:
    if source.is_dir():
        for name, path in _files(source):
            with path.open("rb") as file:
                yield name, file
        return
    with source.open("rb") as file, tarfile.open(fileobj=opened(file, ring), mode="r|") as tar:
        for entry in tar:
            inside = not entry.name.startswith("/") and ".." not in Path(entry.name).parts
            held = tar.extractfile(entry) if entry.isfile() and inside else None
            if held is None:
                raise BackupDamaged("the backup holds something that is no file of it", hint="use another copy")
            yield entry.name, held


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
