"""How a restored copy takes its place, and what every start does with what a restore that was cut short left behind.

Once `READY` is on disk the copy is the data folder, whatever happens: each move can be repeated.
"""

import os
import shutil
from pathlib import Path

PLACE = "restore.partial"
MADE = "made"
_READY, _OLD = "ready", "old"
# What stays where it is: the lock that we hold, and what a backup or a restore works in.
_STAYS = ("lock", "control.sock", PLACE, PLACE + ".gone", "backup.partial")


def put_in_place(data: Path) -> None:
    """The copy below `PLACE` becomes the data folder; what was there is deleted."""
    place = data / PLACE
    with (place / _READY).open("wb") as file:
        os.fsync(file.fileno())
    _sync(place)
    _move(data)


def settle(data: Path) -> None:
    """At the start: finishes what was being put in place, deletes what was not. The caller holds the folder's lock."""
    place = data / PLACE
    if (place / _READY).exists():
        _move(data)
    elif place.exists():
        shutil.rmtree(place)


def _move(data: Path) -> None:
    place = data / PLACE
    old, made = place / _OLD, place / MADE
    if not old.exists():
        # Not yet all moved out. A name that is there already was moved before a crash, and the new one is not in yet.
        out = place / "out"
        out.mkdir(exist_ok=True)
        for entry in sorted(data.iterdir()):
            if entry.name not in _STAYS:
                entry.rename(out / entry.name)
        out.rename(old)
        _sync(place)
    for entry in sorted(made.iterdir()):
        if entry.name not in _STAYS:
            entry.rename(data / entry.name)
    _sync(data)
    gone = data / (PLACE + ".gone")
    shutil.rmtree(gone, ignore_errors=True)
    place.rename(gone)
    shutil.rmtree(gone)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
