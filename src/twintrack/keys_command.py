"""`twintrack keys`: who may send and ask without being a person; from where, and until when."""

from typing import Annotated, Any

import typer

from twintrack.permissions import Role
from twintrack.terminal import Config, Data, ask, err, reach, settings_of, show_table

keys_app = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke keys.")

KeyId = Annotated[str, typer.Argument(help="Id, as `keys list` shows it.")]


@keys_app.command("create")
def create(
    role: Annotated[Role, typer.Option(help="What the key may do.")],
    project: Annotated[str, typer.Option(help="Project of the key.")] = "default",
    environment: Annotated[str, typer.Option(help="Environment of the key.")] = "production",
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose pages may use it, such as https://*.shop.example; repeat. [default: any]"),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Network it may be used from, such as 203.0.113.0/24; repeat. [default: any]"),
    ] = None,
    days: Annotated[int, typer.Option(min=0, max=3650, help="Days until it ends; 0 for never.")] = 0,
    data: Data = None,
    config: Config = None,
) -> None:
    """Print a new key. It cannot be read again; only its hash is kept."""
    with reach(settings_of(data, config)) as send:
        body: dict[str, Any] = {"role": role.value, "project": project, "environment": environment, "days": days}
        body |= {"origins": origin or [], "networks": network or []}
        print(ask(send, "POST", "/keys", body).json()["key"])


@keys_app.command("list")
def show(data: Data = None, config: Config = None) -> None:
    """Show every key: id, role, project, environment, bounds, when it was last used, and whether it lives."""
    with reach(settings_of(data, config)) as send:
        keys = ask(send, "GET", "/keys").json()["keys"]
    if not keys:
        err.print("There are no keys yet. Create one: twintrack keys create --role owner")
        return
    for key in keys:
        key["bounds"] = " ".join([*key["origins"], *key["networks"]])
    show_table(
        [
            "id",
            "role",
            "project",
            "environment",
            "prefix",
            "created_at",
            "used_at",
            "expires_at",
            "revoked_at",
            "bounds",
        ],
        keys,
    )


@keys_app.command("rotate")
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=24 * 90, help="Hours for which the old key stays good beside the new one.")
    ] = 24,
    data: Data = None,
    config: Config = None,
) -> None:
    """Print a successor with the same role and bounds, good for as many days; the old key ends after the overlap."""
    with reach(settings_of(data, config)) as send:
        print(ask(send, "POST", "/keys/rotate", {"id": key_id, "hours": overlap_hours}).json()["key"])


@keys_app.command("revoke")
def revoke(key_id: KeyId, data: Data = None, config: Config = None) -> None:
    """End a key and the sessions it opened. Running services refuse it within a second."""
    with reach(settings_of(data, config)) as send:
        ask(send, "POST", "/keys/revoke", {"id": key_id})
    err.print("Revoked.")
