"""`twintrack ask`: a typed question on a terminal, answered as a table or as a file on standard output."""

import json
import sys
from typing import Annotated, Any

import typer

from twintrack.query.flat import shape_of
from twintrack.query.written import ABOUT
from twintrack.terminal import Config, Data, ask, ask_into, err, reach, settings_of, show_table

_FORMATS = ("table", "answer", "csv", "json", "parquet")


def ask_command(
    kind: Annotated[str, typer.Argument(help="trends, funnel, retention and so on; docs/questions.md lists them.")],
    question: Annotated[
        str, typer.Argument(help="The question as JSON, as it is sent over HTTP; `-` reads it from standard input.")
    ] = "{}",
    output: Annotated[
        str,
        typer.Option("--format", help="table, answer (the whole answer as JSON), csv, json (lines) or parquet."),
    ] = "table",
    project: Annotated[str, typer.Option(help="Whose events.")] = "default",
    environment: Annotated[str, typer.Option(help="Which environment's.")] = "production",
    data: Data = None,
    config: Config = None,
) -> None:
    """Ask a typed question. A list without a `limit` comes whole as a file; what a limit leaves out is told."""
    if output not in _FORMATS:
        raise typer.BadParameter(", ".join(_FORMATS), param_hint="--format")
    try:
        asked = json.loads(sys.stdin.read() if question == "-" else question)
    except ValueError:
        raise typer.BadParameter('write JSON such as {"range": {"last": 7}}', param_hint="QUESTION") from None
    body = {"kind": kind, "question": asked, "project": project, "environment": environment}
    with reach(settings_of(data, config)) as send:
        if output != "table":
            headers = ask_into(send, "/ask", {**body, "format": output}, sys.stdout.buffer.write)
        else:
            answer = ask(send, "POST", "/ask", {**body, "format": "answer"}).json()
    if output == "table":
        shape = shape_of(kind, answer)
        names = [column.name for column in shape.columns_of(answer)]
        rows = [{name: row.get(name) for name in names} for row in shape.rows(answer)]
        told = [name for name in names if any(row[name] is not None for row in rows)]
        show_table(told, rows)
        err.print(answer["definition"], style="dim", markup=False, highlight=False, soft_wrap=True)
        _tell(answer["limits"])
        return
    if output != "answer":
        _tell(json.loads(headers[ABOUT])["limits"])


def _tell(limits: list[dict[str, Any]]) -> None:
    for limit in limits:
        if limit["reached"]:
            text = f"{limit['limit']} {limit['most']}: the rest is {limit['rest']}"
            err.print(text, markup=False, highlight=False, soft_wrap=True)
