"""`twintrack rollout`: who is tracked by our backend, how much of it, and the switch that ends it at once."""

import math
from typing import Annotated, Any

import typer

from twintrack.errors import RequestError
from twintrack.terminal import Config, Data, ask, err, out, reach, settings_of

rollout_app = typer.Typer(no_args_is_help=True, help="Who is tracked by our backend, and the switch that ends it.")

Project = Annotated[str, typer.Option(help="Project whose rollout it is.")]
Environment = Annotated[str, typer.Option(help="Environment whose rollout it is.")]
_IN_FORCE = "In force on every server within a second; pages ask every 60 seconds, and read it from each answer."


@rollout_app.command("show")
def show(
    project: Annotated[str | None, typer.Option(help="Only this project [default: all].")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment [default: all].")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show what holds in each environment: kill switch, share, sampling, batch sizes, endpoint."""
    with reach(settings_of(data, config)) as send:
        found = ask(send, "GET", "/rollouts").json()["rollouts"]
    chosen = [r for r in found if project in (None, r["project"]) and environment in (None, r["environment"])]
    if not chosen and found:
        there = ", ".join(f"{r['project']}/{r['environment']}" for r in found[:10])
        raise RequestError("no environment fits", hint=f"there are: {there}", code="unknown_environment")
    if not chosen:
        err.print("There are no environments yet. A key makes one: twintrack keys create --role write")
        return
    for each in chosen:
        _tell(each)


@rollout_app.command("set")
def change(
    project: Project = "default",
    environment: Environment = "production",
    share: Annotated[
        str | None, typer.Option(help="Part of identities that are in, as 0.1 or 10%; who is in at 1% is in at 10%.")
    ] = None,
    gate: Annotated[
        str | None, typer.Option(help='Statsig gate that decides on the page in place of --share; "" for none.')
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            help='EVENT=RATE: keep this part of an event, such as mouse_move=0.1; "EVENT=" undoes it. Repeat.'
        ),
    ] = None,
    sample_others: Annotated[
        str | None, typer.Option(help="Part that is kept of every event without a rate of its own.")
    ] = None,
    batch_events: Annotated[int | None, typer.Option(help="Events after which a page sends, 1 to 1000.")] = None,
    batch_bytes: Annotated[int | None, typer.Option(help="Bytes after which it sends, 1024 to 1048576.")] = None,
    batch_interval_milliseconds: Annotated[
        int | None, typer.Option(help="Milliseconds after which it sends, 100 to 600000.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help='Where pages send instead: https://... or /path; "" for their own setting.')
    ] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Change some of it; what is not named stays as it is."""
    batch = {"events": batch_events, "bytes": batch_bytes, "interval_milliseconds": batch_interval_milliseconds}
    sampling: dict[str, Any] = {}
    if sample_others is not None:
        sampling["default"] = part_of(sample_others, "--sample-others")
    if sample:
        sampling["events"] = dict(_rate(word) for word in sample)
    given = {
        "share": None if share is None else part_of(share, "--share"),
        "sampling": sampling or None,
        "batch": {name: value for name, value in batch.items() if value is not None} or None,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    changes |= {name: text or None for name, text in (("gate", gate), ("endpoint", endpoint)) if text is not None}
    if not changes:
        raise RequestError(
            "nothing to change was named",
            hint="such as --share 10%; see twintrack rollout set --help",
            code="bad_rollout",
        )
    _change(project, environment, changes, data, config)
    if endpoint:
        err.print(
            f"What answers at {endpoint} must pass POSTs on to /api/analytics/events here; until it does, pages stay at "
            "the endpoint of their own code. See docs/operations/rollout.md.",
            markup=False,
            soft_wrap=True,
        )


@rollout_app.command("kill")
def kill(
    project: Project = "default",
    environment: Environment = "production",
    queue: Annotated[
        str, typer.Option(help="What pages do with events that wait: drain offers each one, discard drops them.")
    ] = "drain",
    off: Annotated[bool, typer.Option("--off", help="Lift the kill: events are taken again.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Stop taking events in one environment at once; Statsig and GTM go on. `--off` lifts it."""
    _change(project, environment, {"kill": False} if off else {"kill": True, "queue": queue}, data, config)


def _change(project: str, environment: str, changes: dict[str, Any], data: Any, config: Any) -> None:
    body = {"project": project, "environment": environment, "changes": changes}
    with reach(settings_of(data, config)) as send:
        told = ask(send, "POST", "/rollouts", body).json()
    _tell(told)
    err.print(_IN_FORCE, style="dim")


def _tell(told: dict[str, Any]) -> None:
    rollout = told["rollout"]
    batch, sampling = rollout["batch"], rollout["sampling"]
    rates = [f"{name} {shown(rate)}" for name, rate in sorted(sampling["events"].items())]
    killed = f"KILLED: no event is taken; pages {rollout['queue']} what waits"
    lines = {
        "state": killed if rollout["kill"] else "on",
        "share": f"as gate {rollout['gate']} says" if rollout["gate"] else f"{shown(rollout['share'])} of identities",
        "sampling": ", ".join(
            [*rates, f"{'all other events' if rates else 'all events'} {shown(sampling['default'])}"]
        ),
        "batch": f"{batch['events']} events, {batch['bytes']} bytes or {batch['interval_milliseconds']} ms",
        "endpoint": rollout["endpoint"] or "as each page is set up",
    }
    out.print(f"{told['project']}/{told['environment']}, version {rollout['version']}", markup=False, soft_wrap=True)
    for name, text in lines.items():
        out.print(f"  {name:<9} {text}", markup=False, soft_wrap=True)


def shown(part: float) -> str:
    return f"{part * 100:.10g}%"


def part_of(text: str, option: str) -> float:
    """A part of the whole, written as 0.1 or 10%; its limits are checked where it is stored.

    Raises: RequestError for what is no number.
    """
    try:
        part = float(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    except ValueError:
        part = math.nan
    if not math.isfinite(part):  # JSON has no sign for these
        raise RequestError(f"{option} is a part of the whole", hint="write 0.1 or 10%", code="bad_rollout")
    return part


def _rate(word: str) -> tuple[str, float | None]:
    name, sign, rate = word.rpartition("=")
    if not sign or not name:
        raise RequestError("--sample is EVENT=RATE", hint="such as --sample mouse_move=0.1", code="bad_rollout")
    return name, part_of(rate, "--sample") if rate else None
