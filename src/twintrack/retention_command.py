"""`twintrack retention`: how long a project keeps its rows, its message texts and single fields of metadata."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from twintrack.control.retention import Lifetimes, Rule
from twintrack.errors import RequestError
from twintrack.imports import BadRow, Row
from twintrack.terminal import Config, Data, ask, err, out, reach, settings_of

retention_app = typer.Typer(no_args_is_help=True, help="How long a project keeps what; off by default.")

Project = Annotated[str, typer.Option(help="Project whose rule it is.")]
Event = Annotated[str, typer.Option(help="Only this event [default: every event without a rule of its own].")]
Field = Annotated[str, typer.Option(help="message, or metadata.NAME for one key of it [default: the whole row].")]


@retention_app.command("show")
def show(
    project: Annotated[str | None, typer.Option(help="Only this project [default: all].")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show the rules, what has expired so far, and since when raw is complete."""
    with reach(settings_of(data, config)) as send:
        state = ask(send, "GET", f"/retention?project={project}" if project else "/retention").json()
    _tell(state)


@retention_app.command("set")
def change(
    days: Annotated[str, typer.Option(help="Days from the event's own time, or `forever` against a wider rule.")],
    project: Project = "default",
    event: Event = "",
    field: Field = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """Set one rule. What is past it goes for good: rows, texts or fields leave the disk, counts in rollups stay."""
    if days != "forever" and not days.isdecimal():
        raise RequestError("--days is a whole number, or forever", hint="such as --days 90", code="bad_retention")
    _change(project, event, field, days if days == "forever" else int(days), data, config)


@retention_app.command("off")
def off(
    project: Project = "default", event: Event = "", field: Field = "", data: Data = None, config: Config = None
) -> None:
    """Take one rule away. What has expired stays gone."""
    _change(project, event, field, "off", data, config)


def _change(project: str, event: str, field: str, days: int | str, data: Any, config: Any) -> None:
    body = {"project": project, "event": event, "field": field, "days": days}
    with reach(settings_of(data, config)) as send:
        state = ask(send, "POST", "/retention", body).json()
    _tell(state)
    err.print("In force at the door within a second; stored rows follow month by month.", style="dim")


def expired_rows(rows: Iterable[Row | BadRow], state: dict[str, Any]) -> int:
    """How many rows of a file are past their deadline already."""
    rules = state["projects"][0]["rules"]
    lives = Lifetimes(Rule(r["event"], r["field"], None if r["days"] == "forever" else r["days"]) for r in rules)
    if not any(not rule.field and rule.days is not None for rule in lives.rules):
        return 0  # the file is not read twice for nothing
    now = state["as_of_seconds"]
    return sum(
        isinstance(row, Row) and lives.expired(row.event["event_name"], row.milliseconds // 1000, now) for row in rows
    )


def _tell(state: dict[str, Any]) -> None:
    if not any(project["rules"] or project["expired_events"] for project in state["projects"]):
        err.print("Nothing expires: there are no rules. Set one: twintrack retention set --days 90")
        return
    for project in state["projects"]:
        whole = f", raw complete from {project['complete_from']}" if project["complete_from"] else ""
        out.print(
            f"{project['project']}: {project['expired_events']:,} events expired{whole}", markup=False, soft_wrap=True
        )
        for rule in project["rules"]:
            what = f"{rule['event'] or 'every other event'}, {rule['field'] or 'the whole row'}"
            days = rule["days"] if rule["days"] == "forever" else f"{rule['days']} days"
            out.print(f"  {what}: {days}", markup=False, soft_wrap=True)
    months = state["months_to_rewrite"]
    if months:
        out.print(f"deadlines of {len(months)} months are still to be written", markup=False)
