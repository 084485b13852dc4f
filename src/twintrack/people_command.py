"""`twintrack people`: who may sign in, as what, and the links that let them. Nothing is sent by mail: pass links on."""

from typing import Annotated

import typer

from twintrack.permissions import Permission, Role, may
from twintrack.terminal import Config, Data, ask, err, reach, settings_of, show_table

people_app = typer.Typer(no_args_is_help=True, help="Invite, list and remove people, and change what they may do.")

Email = Annotated[str, typer.Argument(help="E-mail address of the person.")]
Project = Annotated[str, typer.Option(help="Project they are a member of.")]
TheirRole = Annotated[Role, typer.Option(help="What they may do: viewer, analyst, privacy, admin or owner.")]


@people_app.command("invite")
def invite(
    email: Email,
    role: TheirRole,
    project: Project = "default",
    hours: Annotated[int, typer.Option(min=1, max=720, help="How long the link is good.")] = 72,
    data: Data = None,
    config: Config = None,
) -> None:
    """Print a link that makes them a member, good once. An earlier invitation of theirs ends."""
    _check(role)
    body = {"email": email, "project": project, "role": role.value, "hours": hours}
    with reach(settings_of(data, config)) as send:
        told = ask(send, "POST", "/people", body).json()
    print(told["link"])
    err.print(f"Good once, until {told['expires_at']}. Pass it on where only they read it.", style="dim")


@people_app.command("link")
def link(
    email: Email,
    project: Project = "default",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long the link is good.")] = 60,
    data: Data = None,
    config: Config = None,
) -> None:
    """Print a link that signs a member in once, for who has no password or forgot it."""
    with reach(settings_of(data, config)) as send:
        told = ask(send, "POST", "/people/link", {"email": email, "project": project, "minutes": minutes}).json()
    print(told["link"])
    err.print(f"Good once, until {told['expires_at']}. Pass it on where only they read it.", style="dim")


@people_app.command("list")
def show(data: Data = None, config: Config = None) -> None:
    """Show members and who is invited: address, project, role, since when, last seen."""
    with reach(settings_of(data, config)) as send:
        people = ask(send, "GET", "/people").json()["people"]
    if not people:
        err.print("There are no people yet. Invite one: twintrack people invite ann@example.com --role owner")
        return
    show_table(["email", "project", "role", "state", "since", "seen_at", "expires_at"], people)


@people_app.command("role")
def change_role(
    email: Email, role: TheirRole, project: Project = "default", data: Data = None, config: Config = None
) -> None:
    """Give a member another role, from their next request on. The last owner stays owner."""
    _check(role)
    with reach(settings_of(data, config)) as send:
        ask(send, "POST", "/people/role", {"email": email, "project": project, "role": role.value})
    err.print(f"Now {role.value}.")


@people_app.command("remove")
def remove(email: Email, project: Project = "default", data: Data = None, config: Config = None) -> None:
    """End a membership or an invitation, with its sessions and links. The last owner stays."""
    with reach(settings_of(data, config)) as send:
        ask(send, "POST", "/people/remove", {"email": email, "project": project})
    err.print("Removed.")


def _check(role: Role) -> None:
    if not may(role, Permission.SIGN_IN):
        raise typer.BadParameter(f"{role.value} is a role of keys", param_hint="--role")
