"""`twintrack erase` takes a person out of everything, and checks what proves it; `export-user` gives them what is held."""

import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer

from twintrack.errors import RequestError, TwintrackError
from twintrack.terminal import Config, Data, ask, err, out, reach, settings_of

_WAIT_SECONDS = 0.2
_SETTLED = ("done", "failed", "vendors")


def erase_command(
    user_id: Annotated[
        str | None, typer.Option(help="The person, as your application writes them; without any, read from stdin.")
    ] = None,
    anonymous_id: Annotated[str | None, typer.Option(help="Somebody who never signed in, by the SDK's id.")] = None,
    project: Annotated[str, typer.Option(help="Project the person belongs to.")] = "default",
    status: Annotated[str | None, typer.Option("--status", help="Only tell how far the request of this id is.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Go on with the failed request of this id.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Write the signed certificate to this file.")] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Only say whether this certificate is ours and unaltered.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Come back when it is done, or at once.")] = True,
    data: Data = None,
    config: Config = None,
) -> None:
    """Erase a person: rows, files, rollups, spool and quarantine; older events are refused from now on."""
    with reach(settings_of(data, config)) as send:
        if verify is not None:
            genuine = ask(send, "POST", "/erasures/verify", {"certificate": _read(verify)}).json()["genuine"]
            out.print("the certificate is genuine" if genuine else "the certificate is NOT genuine")
            if not genuine:
                raise typer.Exit(1)
            return
        if status or resume:
            way = ("GET", f"/erasures/{status}") if status else ("POST", f"/erasures/{resume}/resume")
            told = ask(send, *way).json()
            wait = wait and not status
        else:
            told = ask(send, "POST", "/erasures", _body(project, user_id, anonymous_id)).json()
        before = ""
        while True:
            if told["state"] != before:
                before = told["state"]
                err.print(f"{told['id']}  {before}", markup=False, soft_wrap=True)
            if not wait or told["state"] in _SETTLED:
                break
            if told.get("waits_for"):
                raise TwintrackError(told["waits_for"], hint=f"it goes on by itself: --status {told['id']}")
            time.sleep(_WAIT_SECONDS)
            told = ask(send, "GET", f"/erasures/{told['id']}").json()
    _tell(told, certificate)


def export_user_command(
    output: Annotated[Path, typer.Argument(help="ZIP file to write; one that is there is left alone.", dir_okay=False)],
    user_id: Annotated[
        str | None, typer.Option(help="The person, as your application writes them; without any, read from stdin.")
    ] = None,
    anonymous_id: Annotated[str | None, typer.Option(help="Somebody who never signed in, by the SDK's id.")] = None,
    project: Annotated[str, typer.Option(help="Project the person belongs to.")] = "default",
    data: Data = None,
    config: Config = None,
) -> None:
    """Write everything that is held about a person: JSON and CSV for each table, with a manifest."""
    if output.exists():
        raise RequestError(f"{output} is there already", hint="name another file, or move it away")
    with reach(settings_of(data, config)) as send:
        content = ask(send, "POST", "/exports", _body(project, user_id, anonymous_id)).content
    handle = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    out.print(f"{output}: {len(content):,} bytes", markup=False, soft_wrap=True)
    with zipfile.ZipFile(output) as archive:
        if json.loads(archive.read("manifest.json"))["nothing_found"]:
            _nothing(project)


def _nothing(project: str) -> None:
    err.print(
        f"Nothing of this person was found in project {project}: is it theirs (--project), and the id as your application"
        " writes it?",
        markup=False,
        soft_wrap=True,
    )


def _body(project: str, user_id: str | None, anonymous_id: str | None) -> dict[str, str | None]:
    if user_id is None and anonymous_id is None:
        user_id = sys.stdin.readline().strip()  # a command line can be read by every process of the machine
    return {"project": project, "user_id": user_id, "anonymous_id": anonymous_id}


def _tell(told: dict[str, Any], certificate: Path | None) -> None:
    for place, rows in told["removed"].items():
        out.print(f"  {rows:>9,}  {place}", markup=False)
    for vendor, answer in told["vendors"].items():
        out.print(f"  {vendor}: {answer['status']} {answer.get('why', '')}", markup=False, soft_wrap=True)
    if told["state"] in ("done", "vendors") and not any(told["removed"].values()):
        _nothing(told["project"])
    if told["certificate"] and certificate is not None:
        certificate.write_text(json.dumps(told["certificate"], indent=2) + "\n")
    if told["state"] == "failed":
        raise TwintrackError(told["error"], hint=f"twintrack erase --resume {told['id']}")


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(
            "the certificate cannot be read", hint="it is the JSON file that --certificate wrote"
        ) from error
