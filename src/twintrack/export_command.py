"""`twintrack export`: raw events by range into a folder of Parquet files, with a manifest and their checksums."""

import hashlib
import json
import os
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from twintrack.checksums import CHECKSUMS, MANIFEST
from twintrack.clock import iso
from twintrack.errors import TwintrackError
from twintrack.export import FORMAT, Piece, month_of, rows_in
from twintrack.imports import zone_of
from twintrack.terminal import Config, Data, ask, err, out, reach, settings_of

_FILE_ROWS = 200_000


def export_command(
    to: Annotated[Path, typer.Argument(help="Folder for the files; made where it is missing, else it must be empty.")],
    since: Annotated[
        str | None, typer.Option("--from", help="First time, ISO 8601 [default: the first event].")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Time behind the last one [default: the last event].")] = None,
    time_zone: Annotated[str, typer.Option(help="Zone of times without an offset.")] = "UTC",
    project: Annotated[str | None, typer.Option(help="Only this project [default: all].")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment [default: all].")] = None,
    file_rows: Annotated[
        int, typer.Option(min=1, max=5_000_000, help="Most rows of a file; the service holds one file in memory.")
    ] = _FILE_ROWS,
    data: Data = None,
    config: Config = None,
) -> None:
    """Write raw events to Parquet files, with a manifest and checksums. `import` reads them; the same ids again add nothing.

    Check them with `sha256sum -c SHA256SUMS`.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise TwintrackError(f"{to} is there and not an empty folder", hint="name a new folder")
    wanted = {
        "since": _moment(since, time_zone),
        "until": _moment(until, time_zone),
        "project": project,
        "environment": environment,
    }
    with reach(settings_of(data, config)) as send:
        asked = {**wanted, "most_rows": file_rows}
        plan = ask(send, "POST", "/export/plan", asked).json()
        to.mkdir(parents=True, exist_ok=True)
        files: list[dict[str, Any]] = []
        left = deque(Piece(**piece) for piece in plan["pieces"])
        while left:
            piece = left.popleft()
            body = {**asked, "as_of_milliseconds": plan["as_of_milliseconds"], "piece": piece._asdict()}
            content = ask(send, "POST", "/export/file", body).content
            rows = rows_in(content)
            # More fell to it than was to be expected, or came in since the plan was made.
            if rows > file_rows and not piece.whole:
                left.extendleft(reversed(piece.halved()))
                continue
            if rows == 0:
                continue
            name = f"events-{month_of(piece.first)}-{len(files) + 1:05}.parquet"
            _write(to / name, content)
            files.append(
                {"name": name, "rows": rows, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            )
            err.print(f"{name}  {rows} rows, file {len(files)} of {len(files) + len(left)}", markup=False)
            if rows > file_rows:
                err.print(f"{name}  holds more than {file_rows} rows: one event is there so often", markup=False)
    written = sum(file["rows"] for file in files)
    manifest = {
        "format": FORMAT,
        "as_of": iso(plan["as_of_milliseconds"]),
        **wanted,
        "columns": plan["columns"],
        "rows": written,
        "files": files,
    }
    _write(to / CHECKSUMS, "".join(f"{file['sha256']}  {file['name']}\n" for file in files).encode())
    _write(to / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")  # last: a folder without it is not whole
    out.print(f"{written} events in {len(files)} files", markup=False)
    if written != plan["rows"]:
        err.print(
            f"{plan['rows']} were there at the start: others were loaded, erased or expired meanwhile", markup=False
        )


def _moment(text: str | None, zone: str) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("an ISO 8601 time such as 2026-01-01 or 2026-01-01T12:00+02:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone_of(zone))).isoformat()


def _write(path: Path, content: Any) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
