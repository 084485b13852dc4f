"""`twintrack audit`: the log of who did what, and whether it is as it was written."""

import json
import time
from typing import Annotated

import msgspec
import typer

from twintrack.errors import RequestError
from twintrack.privacy import chain
from twintrack.privacy.audited import matches, newest
from twintrack.terminal import Config, Data, err, out, settings_of

audit_app = typer.Typer(no_args_is_help=True, help="Who did what, and whether the record of it is whole.")
_WRITE_SECONDS = 0.5
_COLUMNS = ("sequence", "at", "who", "role", "what", "outcome", "where", "rows")


@audit_app.command("verify")
def verify(
    head: Annotated[
        str,
        typer.Option(
            help="A head that was published: 12 or more hexadecimal digits, or SEQUENCE:NUMBER of the metrics."
        ),
    ] = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """Check the chain of audit records, on a live folder or a copy; name the first one altered, missing or moved; exit 4.

    Reads files alone and trusts no service. Without --head a tail that was cut off cannot be told.
    """
    folder = settings_of(data, config).data / "audit"
    if not folder.is_dir():
        raise RequestError(f"there is no {folder}", hint="name the data folder with --data", code="no_audit")
    try:
        verdict = chain.verify(folder, head)
        if verdict.fault is not None:
            time.sleep(_WRITE_SECONDS)  # a running service may have been writing that line
            verdict = chain.verify(folder, head)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from error
    if verdict.fault is not None:
        fault = verdict.fault
        place = f" ({fault.file}, line {fault.line})" if fault.file else ""
        out.print(f"record {fault.sequence}{place} {fault.what}", markup=False, soft_wrap=True)
        err.print(f"{verdict.records} records before it are whole", markup=False)
        raise typer.Exit(4)
    out.print(f"{verdict.records} records are whole", markup=False)
    out.print(f"head {verdict.head.sequence} {verdict.head.hash}", markup=False, soft_wrap=True)
    if not head:
        err.print("A cut tail shows only against a head published before: --head HEX", style="dim")


@audit_app.command("show")
def show(
    what: Annotated[str, typer.Option(help="Only this act, such as sql, or those that begin so, such as key. .")] = "",
    who: Annotated[str, typer.Option(help="Only of this key id, or operator.")] = "",
    subject: Annotated[str, typer.Option(help="Only about the subject with this HMAC.")] = "",
    project: Annotated[str, typer.Option(help="Only of this project.")] = "",
    since: Annotated[
        str, typer.Option(help="Only from this instant on, such as 2026-11-26 or 2026-11-26T09:00Z.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines with every field.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show the newest records of this node, also while a service runs."""
    folder = settings_of(data, config).data / "audit"
    found = newest(
        folder,
        lambda entry: entry.at >= since and matches(entry, what=what, who=who, subject=subject, project=project),
        limit=limit,
    )
    for entry in found:
        fields = msgspec.to_builtins(entry)
        if as_json:
            print(json.dumps(fields))
            continue
        detail = " ".join(f"{name}={value}" for name, value in entry.detail.items())
        words = ("" if fields[name] is None else str(fields[name]) for name in _COLUMNS)
        out.print("  ".join([*words, detail]), markup=False, soft_wrap=True)
