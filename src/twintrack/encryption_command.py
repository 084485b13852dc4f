"""`twintrack encryption`: by which keys content is sealed, and a new data key."""

import typer

from twintrack.terminal import Config, Data, ask, err, out, reach, settings_of

encryption_app = typer.Typer(no_args_is_help=True, help="What seals the spool, quarantine and control secrets.")


@encryption_app.command("show")
def show(data: Data = None, config: Config = None) -> None:
    """Show ids of the keys in use; none of them says anything about its key."""
    with reach(settings_of(data, config)) as send:
        _tell(ask(send, "GET", "/encryption").json())


@encryption_app.command("rotate")
def rotate(data: Data = None, config: Config = None) -> None:
    """Seal what is written from now on by a new data key. TWINTRACK_ENCRYPTION_KEY itself is changed by a start with the
    new key and the one before in TWINTRACK_ENCRYPTION_KEY_OLD, which wraps all data keys anew."""
    with reach(settings_of(data, config)) as send:
        _tell(ask(send, "POST", "/encryption/rotate").json())
        err.print("The spool's next file and every value written from now on are sealed by it.", style="dim")


def _tell(told: dict[str, object]) -> None:
    if not told["sealed"]:
        out.print("nothing is sealed: TWINTRACK_ENCRYPTION_KEY is not set", markup=False)
        return
    out.print(f"encryption key {told['key']}, which wraps:", markup=False)
    numbers = told["data_keys"]
    assert isinstance(numbers, list)
    for number in numbers:
        out.print(f"  data key {number}{' (seals)' if number == numbers[-1] else ''}", markup=False)
