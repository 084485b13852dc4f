"""A consistent picture of a data folder, of a running service or one that is built for it alone.

The loader stands still while it is taken, so store and spool agree: an event is in one of them, or in both under a
chunk that says so. Everything but the small databases and the log is a hard link, so this takes a moment whatever the
size; the door goes on taking events. The engine's own BACKUP is not to be had in the embedded engine (it is switched
off there by a setting that cannot be set); FREEZE is, and parts never change.
"""

import os
import shutil
import threading
from pathlib import Path

from twintrack import __version__
from twintrack.backup.archive import FORMAT, Manifest, check_place, write
from twintrack.clock import Clock, iso
from twintrack.control.control import Control
from twintrack.crash import crash_at
from twintrack.errors import RequestError
from twintrack.load.loader import Loader
from twintrack.settings import Settings
from twintrack.spool.local import LocalSpool
from twintrack.spool.protocol import WholeSpool
from twintrack.store.migrate import known, missing
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

PLACE = "backup.partial"
_FROZEN = "twintrack_backup"
_FOLDERS = ("audit",)  # other folders of the data folder that are only added to
_one = threading.Lock()


def take(
    settings: Settings, control: Control, spool: WholeSpool, loader: Loader, store: Store, clock: Clock, target: Path
) -> Manifest:
    """Writes a backup to a new folder, or to a new file where the name ends in `.tar`.

    Raises: RequestError where the place is taken or a backup runs; OSError; StoreError.
    """
    check_place(target, settings.key_ring)
    if target.exists():
        raise RequestError(f"{target} is there already", hint="name a new file or folder", code="backup_exists")
    if not target.parent.is_dir():
        raise RequestError(f"there is no folder {target.parent}", hint="make it first", code="backup_place")
    if not _one.acquire(blocking=False):
        raise RequestError("a backup is being made already", hint="wait for it", code="busy", status=503)
    try:
        clear(settings)
        place = settings.data / PLACE
        place.mkdir(mode=0o700)
        try:
            with loader.still():
                manifest = _picture(settings, control, spool, store, clock, place)
            crash_at(settings.crash_point)("in_backup")
            return write(target, place, manifest, settings.key_ring)
        finally:
            clear(settings)
    finally:
        _one.release()


def clear(settings: Settings) -> None:
    """Deletes what a picture that was cut short has left behind."""
    shutil.rmtree(settings.data / PLACE, ignore_errors=True)
    folder = _engine_folder(settings)
    if folder is not None:
        shutil.rmtree(folder / "shadow" / _FROZEN, ignore_errors=True)


def _engine_folder(settings: Settings) -> Path | None:
    url = settings.store_url
    return Path(url.removeprefix("chdb://")) if url.startswith("chdb://") else None


def _picture(
    settings: Settings, control: Control, spool: WholeSpool, store: Store, clock: Clock, place: Path
) -> Manifest:
    contents = {
        "control": "a database of its own, not here",
        "spool": "a topic, not here",
        "store": "a server, not here",
    }
    if control.copy_to(place / "control.db"):
        contents["control"] = "sqlite"
    if isinstance(spool, LocalSpool):
        spool.copy_to(place / "spool")
        contents["spool"] = "local"
    folder, lacking = _engine_folder(settings), {one.name for one in missing(store)}
    if folder is not None:
        _freeze(store, folder, place / "store")
        contents["store"] = "chdb"
    for name in _FOLDERS:
        if (settings.data / name).is_dir():
            shutil.copytree(settings.data / name, place / name)
    migrations = [one.name for one in known() if one.name not in lacking]
    return Manifest(FORMAT, __version__, iso(clock.milliseconds()), contents, migrations, [])


def _freeze(store: Store, folder: Path, place: Path) -> None:
    """Hard links to the parts of every table, below a folder of its name."""
    tables = store.select(
        f"SELECT name, toString(uuid) FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree'"
        " AND name != 'migrations'"
    ).rows
    for table, _ in tables:
        store.command(f"ALTER TABLE {DATABASE}.{table} FREEZE WITH NAME '{_FROZEN}'")
    for table, uuid in tables:
        parts = folder / "shadow" / _FROZEN / "store" / uuid[:3] / uuid
        (place / table).mkdir(parents=True)
        for part in sorted(parts.iterdir()) if parts.is_dir() else []:
            shutil.copytree(part, place / table / part.name, copy_function=_link)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copyfile(source, target)
    return target
