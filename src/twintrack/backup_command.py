"""`twintrack backup` and `twintrack restore`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from twintrack.app import lock_folder
from twintrack.backup.carry import rights_in
from twintrack.backup.person_keys import read_keys
from twintrack.backup.place import settle
from twintrack.backup.restore import restore
from twintrack.backup.rights import read_file
from twintrack.backup.trail import FOLDER, last_of
from twintrack.clock import SystemClock
from twintrack.errors import DataFolderInUse, RequestError
from twintrack.privacy.audit import OPERATOR, Audit, Detail
from twintrack.settings import Settings
from twintrack.terminal import Config, Data, ask, err, out, reach, settings_of, unbroken

LIVE = 5  # the exit code of a restore that met a running service


def backup_command(
    to: Annotated[Path, typer.Option("--to", help="New folder, or new file whose name ends in .tar.")],
    rights: Annotated[
        bool, typer.Option("--rights", help="Only who was erased, consent, retention and keys: for `restore --rights`.")
    ] = False,
    keys: Annotated[
        bool,
        typer.Option("--keys", help="Only the keys of people, for `restore --keys`; delete it within the deadline."),
    ] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Write a consistent copy of control data, spool and embedded store; a running service goes on meanwhile."""
    settings = settings_of(data, config)
    with reach(settings) as send:
        told = ask(send, "POST", "/backup", {"to": str(to.absolute()), "rights": rights, "keys": keys}).json()
    if keys:
        out.print(f"{told['keys']:,} keys written to {to}", markup=False, soft_wrap=True)
        if told["damaged"]:
            err.print(f"{told['damaged']:,} damaged keys are not in it: see `twintrack doctor`.", soft_wrap=True)
        err.print(f"Delete it by {told['delete_by']}: until then it can open texts of who is erased.", soft_wrap=True)
        return
    if rights:
        out.print(f"rights written to {to}", markup=False, soft_wrap=True)
        return
    out.print(f"{told['files']:,} files, {told['bytes']:,} bytes, written to {to}", markup=False, soft_wrap=True)
    for part, what in told["contents"].items():
        if "not here" in what:
            err.print(f"{part}: {what}; back it up by its own means", markup=False)


def restore_command(
    source: Annotated[Path, typer.Option("--from", help="A backup: folder or .tar file.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of a data folder that holds something.")
    ] = False,
    rights: Annotated[
        Path | None, typer.Option(help="File of `backup --rights`, newer than the backup, where the folder is new.")
    ] = None,
    without_rights: Annotated[
        bool,
        typer.Option(
            "--without-rights",
            help="Nothing says who was erased or withdrew consent since the backup: bring all of them back.",
        ),
    ] = False,
    keys: Annotated[
        Path | None, typer.Option(help="File of `backup --keys`, where texts are sealed and the folder is new.")
    ] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Make a data folder from a backup. Who was erased after it was made stays erased. Refused while a service runs."""
    settings = settings_of(data, config)
    try:
        lock = lock_folder(settings.data, 0)
    except DataFolderInUse as error:
        err.print(f"error: {error.message}", markup=False, soft_wrap=True)
        err.print("       stop the service first; nothing was changed", markup=False, soft_wrap=True)
        raise typer.Exit(LIVE) from error
    unbroken()
    try:
        settle(settings.data)
        there = rights_in(settings.data)
        if there and not replace:
            raise RequestError(
                f"{settings.data} holds data",
                hint="--replace puts the backup in its place; what is there now is deleted",
                code="folder_not_empty",
            )
        newer = [there] if there else []
        if rights is not None:
            newer.append(read_file(rights, settings.key_ring))
        if last_of(settings.data / FOLDER) is not None:
            _record(settings, "begun", {})
        clock = SystemClock()
        if keys and not settings.sealed:
            raise RequestError(
                "keys of people need TWINTRACK_SEALED_FIELDS", hint="set it as it was; nothing was restored"
            )
        kept = read_keys(keys, settings.key_ring, clock.milliseconds(), settings.erasure_days) if keys else []

        def tell(line: str) -> None:
            err.print(line, markup=False, soft_wrap=True)

        done = restore(source, settings, newer, clock, tell, kept, without_rights=without_rights)
        detail: Detail = {"made_at": done.manifest.made_at, "carried": done.carried}
        if without_rights:
            detail["without_rights"] = "yes"
        _record(settings, "done", detail)
    finally:
        os.close(lock)
    out.print(f"restored what was backed up at {done.manifest.made_at}", markup=False, soft_wrap=True)


def _record(settings: Settings, outcome: str, detail: Detail) -> None:
    """Raises: Unavailable where it cannot be kept."""
    audit = Audit(settings.data / FOLDER, SystemClock())
    try:
        audit.record(OPERATOR, "restore", outcome=outcome, detail=detail)
    finally:
        audit.close()
