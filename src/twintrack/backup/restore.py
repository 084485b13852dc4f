"""A data folder from a backup: checked whole, made up beside what is there, put in place in one go.

Before anything of it is served, the steps below are done on the copy: what the backup does not know of erasures and
withdrawn consent is carried over, chunks are compared with the store, what has expired since goes. A restore that is
cut short leaves the folder as it was; one that is cut short while it puts things in place is finished by the next
start of anything.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import create_engine

from twintrack.app import Services, build
from twintrack.backup.archive import BackupDamaged, BackupFormat, Manifest, read
from twintrack.backup.carry import carry, has_projects
from twintrack.backup.place import MADE, PLACE, put_in_place
from twintrack.backup.rights import Rights
from twintrack.backup.trail import keep_trail
from twintrack.clock import Clock, iso, milliseconds_of
from twintrack.control.erasures import Erasures, State
from twintrack.control.person_keys import Kept, copy_keys
from twintrack.control.tables import metadata
from twintrack.control.upgrade import make_tables
from twintrack.errors import RequestError, TwintrackError, Unavailable
from twintrack.settings import KEYS_FILE, Settings
from twintrack.spool.ledger import SUSPECT, Ledger
from twintrack.store.embedded import open_store
from twintrack.store.migrate import known, migrate
from twintrack.store.schema import DATABASE

_SETTLED_SECONDS = 3_600.0
_MOST_FAILURES = 20  # of the store, in a row


class Restored(NamedTuple):
    manifest: Manifest
    carried: int  # rows of erasures, consent and keys that the backup did not have
    steps: list[str]


Step = Callable[[Services], Iterator[None]]


def _compared(services: Services) -> Iterator[None]:
    """Chunks agree with the store, and what waited in the backup is loaded."""
    spool = services.spool
    while spool.reconciling or spool.depth().events or spool.pending():
        yield


def _shredded(services: Services) -> Iterator[None]:
    """No key of a person who was erased is here, whatever a file of keys had."""
    if services.person_keys is not None:
        for project in services.control.list_projects():
            services.person_keys.destroy_erased(project)
    yield from ()


def _erased(services: Services) -> Iterator[None]:
    """Whoever was erased since the backup was made is gone again, and so is who was being erased."""
    made = [request.id for request in services.eraser.reapply()]
    while (states := {services.eraser.get(one).state for one in made}) - {State.DONE}:
        if State.FAILED in states:
            raise TwintrackError("a person who was erased could not be erased again", hint="see the log")
        yield
    erasures = Erasures(services.control.engine)
    # Links that the log of the backup had of them are followed, and then forgotten.
    while any(one.state is not State.VENDORS for one in erasures.open()) or services.spool.taken_links():
        yield


def _expired(services: Services) -> Iterator[None]:
    """What is past its deadline by now is gone from rows, texts, fields and manifests."""
    while not services.loader.expired:
        yield


# What is done on the copy before anything of it is served; each comes back while the loader of the copy is at work.
STEPS: tuple[tuple[str, Step], ...] = (
    ("keys of erased persons destroyed", _shredded),
    ("chunks compared with the store", _compared),
    ("erased persons erased again", _erased),
    ("expired rows removed", _expired),
)


def restore(
    source: Path,
    settings: Settings,
    rights: Sequence[Rights],
    clock: Clock,
    tell: Callable[[str], None],
    keys: Sequence[Kept] = (),
    *,
    without_rights: bool = False,
) -> Restored:
    """Replaces what is in the data folder. The caller holds its lock. `keys` of people are those of a file.

    Shape: `without_rights` says that nothing newer than the backup need say who was erased since.
    Raises: BackupDamaged, BackupFormat, RequestError, SpoolFormat, StoreError; then nothing has changed.
    """
    place = settings.data / PLACE
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    try:
        restored = _make(source, settings, rights, clock, place, tell, keys, without_rights=without_rights)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    put_in_place(settings.data)
    return restored


def _make(
    source: Path,
    settings: Settings,
    rights: Sequence[Rights],
    clock: Clock,
    place: Path,
    tell: Callable[[str], None],
    keys: Sequence[Kept],
    *,
    without_rights: bool,
) -> Restored:
    if not source.exists():
        raise RequestError(f"there is no backup at {source}", hint="name the folder or the .tar file", code="no_backup")
    raw, made = place / "read", place / MADE
    manifest = read(source, raw, settings.key_ring)
    tell(f"{len(manifest.files)} files of {manifest.made_at} are whole")
    unknown = [name for name in manifest.migrations if name not in {one.name for one in known()}]
    if unknown:
        raise BackupFormat(
            f"the backup's store has migration {unknown[-1]}, which this version does not know",
            hint="restore it with a newer twintrack",
        )
    nobody = manifest.contents.get("control") == "sqlite" and not has_projects(raw)  # could come back
    if not without_rights and not settings.control and not nobody:
        _check_rights(rights, manifest)
    made.mkdir(mode=0o700)
    for entry in sorted(raw.iterdir()):
        if entry.name not in ("store", "manifest.json"):
            entry.rename(made / entry.name)
    keep_trail(settings.data, made)
    inside = settings.model_copy(update={"data": made})
    if (made / "spool").exists():
        _suspect(made / "spool" / "ledger.db")
    if (raw / "store").exists():
        if settings.store:
            raise RequestError(
                "the backup holds an embedded store, and TWINTRACK_STORE names another place",
                hint="restore without TWINTRACK_STORE, then move the folder `store` where you want it",
                code="store_elsewhere",
            )
        _attach(raw / "store", inside)
    shutil.rmtree(raw)
    carried = _carry(inside, rights, manifest, clock)
    tell(f"{carried} rows of erasures, consent, retention and keys are newer than the backup and were carried over")
    copy_keys(settings.data / KEYS_FILE, made / KEYS_FILE)
    services = build(inside, clock)
    try:
        if services.person_keys is not None:
            added = services.person_keys.add(keys)
            tell(f"{added} keys of people were brought back; {services.person_keys.count()} are here")
        for what, step in STEPS:
            _wait(services, step(services))
            tell(what)
    finally:
        services.close()
    return Restored(manifest, carried, [what for what, _ in STEPS])


def _check_rights(rights: Sequence[Rights], manifest: Manifest) -> None:
    """Raises: RequestError where nothing says who was erased since the backup was made. That is not found out later."""
    newest = max((one.made_at for one in rights), default=None)
    if newest is not None and newest >= milliseconds_of(datetime.fromisoformat(manifest.made_at)):
        return
    there = "nothing here" if newest is None else f"what is here is of {iso(newest)}, and nothing"
    raise RequestError(
        f"the backup was made at {manifest.made_at}; {there} says who was erased, withdrew consent or was removed from"
        " the team since: they would be back",
        hint="name a newer file of `backup --rights`; or say --without-rights, and they are back. Nothing was restored",
        code="rights_needed",
    )


def _carry(inside: Settings, rights: Sequence[Rights], manifest: Manifest, clock: Clock) -> int:
    if inside.control:
        return 0  # a database of its own: it was never gone
    engine = create_engine(inside.control_url)
    try:
        make_tables(engine, metadata)
        return carry(
            engine,
            rights,
            milliseconds_of(datetime.fromisoformat(manifest.made_at)),
            inside.key_ring,
            clock.milliseconds(),
        )
    finally:
        engine.dispose()


def _suspect(path: Path) -> None:
    """Tokens that the engine remembers are not in a backup: every chunk is compared before anything is inserted."""
    ledger = Ledger(path)
    ledger.put("boot", SUSPECT)
    ledger.put("clean", 0)
    ledger.close()


def _attach(parts: Path, inside: Settings) -> None:
    """A new store of this version's tables, and the parts in them."""
    store = open_store(inside)
    try:
        migrate(store)
        asked = (
            f"SELECT name, data_paths[1] FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree'"
        )
        paths: dict[str, str] = {name: path for name, path in store.select(asked).rows}
        for table in sorted(parts.iterdir()):
            if table.name not in paths:
                raise BackupDamaged(f"the backup has a table {table.name} that this version does not have")
            detached = Path(paths[table.name]) / "detached"
            for part in sorted(table.iterdir()):
                os.rename(part, detached / part.name)
                store.command(f"ALTER TABLE {DATABASE}.{table.name} ATTACH PART '{part.name}'")
    finally:
        store.close()


def _wait(services: Services, step: Iterator[None]) -> None:
    """Raises: Unavailable where the loader says why it cannot go on."""
    end = time.monotonic() + _SETTLED_SECONDS
    for _ in step:
        if services.loader.breaker.failures > _MOST_FAILURES:
            raise Unavailable(services.loader.last_error, hint="nothing was restored; mend that and restore again")
        if time.monotonic() > end:
            raise Unavailable("the restored copy did not settle within an hour", hint="nothing was restored")
        services.spool.wake()
        time.sleep(0.05)
