"""Whether files are those that `twintrack export` wrote: looked at before the first row of any is read."""

import hashlib
import json
from pathlib import Path

from twintrack.errors import RequestError

MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"


def whole_files(at: Path) -> list[Path]:
    """The files to read, by name: those of an exported folder, or the one that is named. Reads each to its end.

    A single file is checked where the checksums of an export lie beside it and name it.
    Raises: RequestError where something is missing, cut or altered.
    """
    if not at.is_dir():
        known = _checksums(at.parent / CHECKSUMS).get(at.name)
        if known is not None:
            _check(at, known)
        return [at]
    try:
        manifest = json.loads((at / MANIFEST).read_bytes())
        files = {str(file["name"]): str(file["sha256"]) for file in manifest["files"]}
    except FileNotFoundError:
        raise RequestError(
            f"the folder has no {MANIFEST}: no export, or one that was broken off",
            hint="export again into a new folder, or import its files one by one",
            code="damaged_file",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise RequestError(f"{MANIFEST} cannot be read", hint="copy the folder again", code="damaged_file") from None
    for name, sha256 in files.items():
        if Path(name).name != name or not (at / name).is_file():
            raise RequestError(
                f"{MANIFEST} names {name[:100]}, which is not in the folder",
                hint="copy the folder again",
                code="damaged_file",
            )
        _check(at / name, sha256)
    return [at / name for name in sorted(files)]


def _checksums(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError):
        return {}
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines) if len(sha256) == 64}


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise RequestError(
            f"{file.name} is not what was exported: its checksum is another one; nothing was brought in",
            hint="copy it again; what is altered on purpose has no place beside the checksums of its export",
            code="damaged_file",
        )
