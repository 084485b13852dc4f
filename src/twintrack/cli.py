"""The command line. Each command is one request to the control application: over `DATA/control.sock` where a service
runs, in this process where the data folder is free.

Exit codes: 0 done, 1 the command failed, 2 the words were wrong, 3 the data folder is busy or unreachable,
4 `doctor` or `audit verify` found something, 5 `restore` met a running service,
6 the encryption key is missing or another one.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from twintrack import __version__
from twintrack.app import lock_folder
from twintrack.ask_command import ask_command
from twintrack.audit_command import audit_app
from twintrack.backup_command import backup_command, restore_command
from twintrack.checksums import whole_files
from twintrack.demo import DEMO
from twintrack.encryption_command import encryption_app
from twintrack.erase_command import erase_command, export_user_command
from twintrack.errors import (
    DataFolderInUse,
    EncryptionKeyRefused,
    RequestError,
    SpoolFormat,
    StoreError,
    TwintrackError,
)
from twintrack.export_command import export_command
from twintrack.imports import BadRow, Row, read_rows, zone_of
from twintrack.keys_command import keys_app
from twintrack.logs import configure
from twintrack.masking import mask_command
from twintrack.people_command import people_app
from twintrack.retention_command import expired_rows, retention_app
from twintrack.rollout_command import rollout_app
from twintrack.sample import ECOM
from twintrack.serve import LOCK_WAIT_SECONDS, load, serve
from twintrack.settings import Settings
from twintrack.store.cluster import NOTE, render
from twintrack.store.embedded import open_store
from twintrack.store.grants import grants
from twintrack.store.migrate import migrate, missing
from twintrack.terminal import Config, Data, Send, ask, ask_into, err, out, reach, settings_of, show_table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(keys_app, name="keys")
app.add_typer(people_app, name="people")
rollup_app = typer.Typer(no_args_is_help=True, help="Rollups from raw.")
app.add_typer(rollup_app, name="rollup")
app.add_typer(rollout_app, name="rollout")
app.add_typer(audit_app, name="audit")
app.add_typer(retention_app, name="retention")
app.add_typer(encryption_app, name="encryption")
_IMPORT_ROWS = 2_000


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to bind [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind, 0 for a free one [default: 8080].")] = None,
    data: Data = None,
    config: Config = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Demo page, vendor sandbox and a sign-in link; loopback only.")
    ] = False,
) -> None:
    """Accept events, load them into the store, serve the dashboard."""
    serve(settings_of(data, config, host=host, port=port), demo=demo)


@app.command("load")
def load_command(data: Data = None, config: Config = None) -> None:
    """Load from the topic into the server, beside the nodes that serve; needs kafka:// and a ClickHouse server."""
    load(settings_of(data, config))


@app.command()
def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT over events, receipts, identities, daily_user_events, events_hourly, events_daily;"
            " `-` reads it from standard input. Without it: --saved."
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", help="name=value of `{name:Type}` in the statement; may be repeated.")
    ] = None,
    output: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    saved: Annotated[str, typer.Option(help="Run the project's saved query of this name, on its own events.")] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="How the engine would run it: parts and keys it would read; runs nothing.")
    ] = False,
    project: Annotated[str, typer.Option(help="Whose saved query.")] = "default",
    environment: Annotated[str, typer.Option(help="On which environment's events a saved query runs.")] = "production",
    data: Data = None,
    config: Config = None,
) -> None:
    """Ask the store. Reads only, across all projects; whether or not a service runs."""
    if (sql is None) == (not saved):
        raise typer.BadParameter("write a statement, or --saved NAME", param_hint="SQL")
    if output not in ("table", "csv", "json", "parquet"):
        raise typer.BadParameter("table, csv, json or parquet", param_hint="--format")
    if any("=" not in one for one in param or []):
        raise typer.BadParameter("write it as name=value", param_hint="--param")
    body = {
        "sql": sys.stdin.read() if sql == "-" else sql,
        "parameters": dict(one.split("=", 1) for one in param or []),
        "format": "explain" if explain else output,
        "saved": saved,
        "project": project,
        "environment": environment,
    }
    with reach(settings_of(data, config)) as send:
        if explain:
            plan = ask(send, "POST", "/query", body).json()
            for line in plan["plan"]:
                print(line)
            for note in plan["notes"]:
                err.print(note, markup=False, highlight=False, soft_wrap=True)
            return
        if output != "table":
            ask_into(send, "/query", body, sys.stdout.buffer.write)
            return
        answer = ask(send, "POST", "/query", body).json()
    names = [column["name"] for column in answer["columns"]]
    show_table(names, [dict(zip(names, row, strict=True)) for row in answer["rows"]])
    err.print(f"{len(answer['rows'])} rows, {answer['milliseconds']} ms", style="dim")


@app.command("migrate")
def migrate_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be applied, with its SQL; change nothing.")
    ] = False,
    cluster: Annotated[
        str, typer.Option(help="Print the tables for a cluster of this name, not run on one; change nothing.")
    ] = "",
    show_grants: Annotated[
        bool, typer.Option("--grants", help="Print the least that the server's users need; change nothing.")
    ] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Bring the store's tables to this version. `serve` does it by itself on the embedded store, never on a server."""
    if cluster or show_grants:
        try:
            tables = render(cluster) if cluster else []
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--cluster") from error
        for line in (*(NOTE if cluster else ()), *(f"{s};" for s in (grants(cluster) if show_grants else tables))):
            print(line)
        return
    settings = settings_of(data, config)
    embedded = settings.store_url.startswith("chdb://")
    # A server is migrated beside running services; the embedded store belongs to one process.
    lock = lock_folder(settings.data, LOCK_WAIT_SECONDS) if embedded else None
    store = open_store(settings)
    try:
        lacking = missing(store)
        if dry_run:
            for migration in lacking:
                print(f"-- would apply {migration.name}")
                for statement in migration.statements:
                    print(f"{statement};")
        else:
            for name in migrate(store):
                print(f"applied {name}")
        if not lacking:
            print("nothing to apply")
    finally:
        store.close()
        if lock is not None:
            os.close(lock)


@app.command("import")
def import_command(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, JSON lines or Parquet, .gz and .zst allowed; or a folder of `export`.", exists=True),
    ],
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="FIELD=COLUMN, such as event_name=event; repeat.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Zone of times without an offset.")] = "UTC",
    project: Annotated[str, typer.Option(help="Project of the events.")] = "default",
    environment: Annotated[str, typer.Option(help="Environment of the events.")] = "production",
    batch_rows: Annotated[
        int, typer.Option(min=1, max=10_000, help="Rows per batch; changes nothing but speed.")
    ] = _IMPORT_ROWS,
    expired: Annotated[
        bool | None,
        typer.Option(
            "--keep/--drop-expired",
            help="Rows that retention would have removed already: keep them, their time counting from today, or drop them.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Bring in events from a file. The same file again adds nothing. Checksums of an export are verified first."""
    pairs = [item.partition("=") for item in mapping or []]
    if any(not sep or not field or not column for field, sep, column in pairs):
        raise typer.BadParameter("FIELD=COLUMN", param_hint="--map")
    given = {field: column for field, _, column in pairs}
    files = whole_files(file)
    _import(settings_of(data, config), files, given, time_zone, project, environment, batch_rows, expired)


@app.command("demo")
def demo_command(data: Data = None, config: Config = None) -> None:
    """Bring 31,106 events of a shop into the demo project, so that there is something to ask about."""
    _import(settings_of(data, config), [ECOM], {}, "UTC", DEMO.project, DEMO.environment, _IMPORT_ROWS, keep=None)
    err.print('Try: twintrack query "SELECT event_name, count() FROM events GROUP BY event_name ORDER BY 2 DESC"')


def _import(
    settings: Settings,
    files: list[Path],
    given: dict[str, str],
    time_zone: str,
    project: str,
    environment: str,
    batch_rows: int,
    keep: bool | None,
) -> None:
    def rows(file: Path) -> Iterator[Row | BadRow]:
        return read_rows(file, given, zone_of(time_zone))

    refused = 0
    with reach(settings) as send:
        if keep is None:
            rules = ask(send, "GET", f"/retention?project={project}").json()
            past = sum(expired_rows(rows(file), rules) for file in files)
            if past:
                raise RequestError(
                    f"{past} rows are past the retention of project {project}; nothing was brought in",
                    hint="--keep keeps them, their time counting from today; --drop-expired leaves them out",
                    code="expired_rows",
                )
        for file in files:
            if len(files) > 1:
                print(file.name)
            refused += _bring_in(send, rows(file), project, environment, batch_rows, keep=bool(keep))
    if refused:
        raise typer.Exit(1)


def _bring_in(
    send: Send, rows: Iterator[Row | BadRow], project: str, environment: str, batch_rows: int, *, keep: bool
) -> int:
    """One file, to the row in the store; how many rows were refused."""
    import_id = uuid4().hex
    accepted = duplicate = refused = expired = read = 0
    faults: list[str] = []
    batch: list[dict[str, Any]] = []
    with _progress() as advance:

        def flush() -> None:
            nonlocal accepted, duplicate, refused, expired
            if not batch:
                return
            body: dict[str, Any] = {"import_id": import_id, "project": project, "environment": environment}
            body |= {"rows": batch, "keep_expired": keep}
            answer = ask(send, "POST", "/import", body).json()
            accepted += answer["accepted"]
            duplicate += answer["duplicate"]
            refused += answer["refused"]
            expired += answer["expired"]
            faults.extend(answer["reasons"])
            batch.clear()

        for row in rows:
            read += 1
            if isinstance(row, BadRow):
                refused += 1
                faults.append(f"line {row.number}: {row.message}")
            else:
                batch.append(
                    {
                        "milliseconds": row.milliseconds,
                        "occurrence": row.occurrence,
                        "event": row.event,
                        "event_id": row.event_id,
                        "sender": row.sender,
                    }
                )
            if len(batch) >= batch_rows:
                flush()
                advance(read, "sent")
        flush()
        advance(read, "loading")
        while True:
            done = ask(send, "POST", "/import/finish", {"import_id": import_id}).json()
            if done["done"]:
                break
            advance(read, f"waiting: {done['waiting']}")
    told = f", {expired} expired" if expired else ""
    for fault in faults[:5]:
        err.print(f"refused: {fault}", markup=False)
    print(
        f"{read} rows read: {done['new']} new, {duplicate + done['found_in_store']} already there, {refused} refused{told}"
    )
    return refused


@contextmanager
def _progress() -> Iterator[Callable[[int, str], None]]:
    """A moving line on a terminal, plain lines elsewhere."""
    if not err.is_terminal:
        last = [0]

        def plainly(rows: int, stage: str) -> None:
            if rows - last[0] >= 10_000 or stage != "sent":
                last[0] = rows
                err.print(f"{rows} rows {stage}", markup=False)

        yield plainly
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("sent", total=None)
        yield lambda rows, stage: progress.update(task, completed=rows, description=stage)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Check lock, disk, store, balance, chunks, erasures, schema, rollups, expiry, clock; tell faults and what to do."""
    with reach(settings_of(data, config)) as send:
        report = ask(send, "GET", "/doctor").json()
    if as_json:
        print(json.dumps(report))
    else:
        for check in report["checks"]:
            out.print(
                f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']:<8} {check['says']}",
                markup=False,
                soft_wrap=True,
            )
            if check["do"]:
                out.print(f"      {check['do']}", markup=False, soft_wrap=True)
    if not report["ok"]:
        raise typer.Exit(4)


@app.command()
def replay(
    event_id: Annotated[UUID | None, typer.Argument(help="One event; without it all that are quarantined.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Load quarantined events again, once the reason why the store refused them is mended."""
    with reach(settings_of(data, config)) as send:
        back = ask(send, "POST", "/replay", {"event_id": str(event_id) if event_id else None}).json()["rows"]
        state = _until_settled(lambda: ask(send, "GET", "/replay").json(), "waiting")
    out.print(f"{back} put back, {state['quarantined']} in quarantine", markup=False)
    if state["quarantined"] or (event_id and not back):
        raise typer.Exit(1)


@rollup_app.command("rebuild")
def rollup_rebuild(
    months: Annotated[
        list[int] | None, typer.Argument(help="Months as YYYYMM, 0 for rollups without months; without any: all.")
    ] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Make rollups again from raw. Months that raw has lost a part of are refused."""
    with reach(settings_of(data, config)) as send:
        made = ask(send, "POST", "/rollup", {"months": months or []}).json()["months"]
        _until_settled(lambda: ask(send, "GET", "/rollup").json(), "left")
    out.print(f"rebuilt: {', '.join(str(month) for month in made) or 'nothing, raw is empty'}", markup=False)


def _until_settled(ask: Callable[[], dict[str, Any]], waiting: str) -> dict[str, Any]:
    """Asks until nothing waits any more. Raises: TwintrackError when the loader says why it cannot go on."""
    while True:
        state = ask()
        if not state[waiting]:
            return state
        if state["error"]:
            raise TwintrackError(
                state["error"], hint="it goes on by itself when that is mended; see `twintrack doctor`"
            )
        time.sleep(0.1)


app.command("mask")(mask_command)
app.command("ask")(ask_command)
app.command("export")(export_command)
app.command("erase")(erase_command)
app.command("backup")(backup_command)
app.command("restore")(restore_command)
app.command("export-user")(export_user_command)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """The entry point: our errors become one clear line and an exit code."""
    # For `twintrack query ... | head`. Not for a service: a client that leaves while it is answered would end it.
    serves = sys.argv[1:2] in (["serve"], ["load"])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN if serves else signal.SIG_DFL)
    configure("error", "auto")  # `serve` sets up its own, from its settings
    try:
        app()
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except (DataFolderInUse, SpoolFormat) as error:
        _fail(error, 3)
    except EncryptionKeyRefused as error:
        _fail(error, 6)
    except StoreError as error:
        _fail(error, 1)
    except TwintrackError as error:
        _fail(error, 1)


def _fail(error: TwintrackError, code: int) -> None:
    err.print(f"error: {error.message}", markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"       {error.hint}", markup=False, soft_wrap=True)
    raise SystemExit(code)
