"""The audit log is only ever added to, also by a restore: what was recorded behind the backup stays recorded.

Of one chain the longer copy is kept. Two chains cannot be made one: then that of the backup goes on, and that of the folder
which is replaced lies beside it.
"""

import shutil
from pathlib import Path

from twintrack.privacy import chain
from twintrack.privacy.chain import Entry

FOLDER = "audit"


def keep_trail(live: Path, made: Path) -> None:
    """Brings the audit log of the folder that is replaced into the copy. Raises: OSError."""
    for aside in live.glob(f"{FOLDER}-*"):
        shutil.copytree(aside, made / aside.name, dirs_exist_ok=True)
    ours, theirs = last_of(live / FOLDER), last_of(made / FOLDER)
    if ours is None:
        return
    if theirs is None or ours.node == theirs.node:
        if theirs is None or ours.sequence >= theirs.sequence:
            shutil.rmtree(made / FOLDER, ignore_errors=True)
            shutil.copytree(live / FOLDER, made / FOLDER)
        return
    shutil.copytree(live / FOLDER, made / f"{FOLDER}-{ours.node}-{ours.sequence}", dirs_exist_ok=True)


def last_of(folder: Path, *, tried: bool = True) -> Entry | None:
    """The last whole record, also of a restore that was only `tried`; None where there is none."""
    for file in reversed(chain.files(folder)):
        entries = [line.entry for line in chain.lines(file) if line.entry is not None]
        entries = [one for one in entries if tried or (one.what, one.outcome) != ("restore", "begun")]
        if entries:
            return entries[-1]
    return None
