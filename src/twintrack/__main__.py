"""`twintrack`, `python -m twintrack`. The filter stands in pipes, so it starts without the rest of the house."""

import resource
import signal
import sys


def main() -> None:
    # A dump of any of our processes could hold keys, tokens, opened texts, and events that nobody has masked.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.argv[1:2] == ["mask"]:
        import typer

        from twintrack.errors import TwintrackError
        from twintrack.masking import mask_command

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(mask_command)
        try:
            app(args=sys.argv[2:], prog_name="twintrack mask")
        except TwintrackError as error:
            print(f"error: {error.message}" + (f"\n       {error.hint}" if error.hint else ""), file=sys.stderr)
            raise SystemExit(1) from error
    else:
        from twintrack.cli import main as every_command

        every_command()


if __name__ == "__main__":
    main()
