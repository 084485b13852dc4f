"""`twintrack mask`: a filter that tries the rules on text without a service. JSON lines in, JSON lines out.

It imports little, so that a pipe starts at once, and answers whatever has arrived without waiting for more.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from twintrack.errors import RequestError
from twintrack.ingest.scan import mend
from twintrack.pii import Finding, Masker, Maskers

_BLOCK_BYTES = 1 << 18
_LINE_BYTES = 16 << 20  # a longer line is no message


class _Asked(msgspec.Struct):
    text: str
    id: Any = None


class _Answer(msgspec.Struct):
    id: Any
    masked: str
    found: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder(_Asked)
_ENCODER = msgspec.json.Encoder()


def mask_command(
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of masking rules, as `TWINTRACK_MASKING_RULES` names it.")
    ] = None,
    environment: Annotated[str, typer.Option(help="Whose actions are taken.")] = "production",
) -> None:
    """Mask JSON lines {"id", "text"} of stdin; print {"id", "masked", "found"}, found as rule, start, end in characters."""
    masker = Maskers(rules).of(environment)
    assert masker is not None
    faults = _filter(masker)
    if faults:
        raise typer.Exit(1)


def _filter(masker: Masker) -> int:
    """Answers every line in order; how many were none of ours."""
    left, number, faults = b"", 0, 0
    while True:
        block = os.read(sys.stdin.fileno(), _BLOCK_BYTES)
        *lines, left = (left + block).split(b"\n")
        if len(left) > _LINE_BYTES:
            raise RequestError(
                f"line {number + len(lines) + 1} is longer than {_LINE_BYTES} bytes", hint="split the text"
            )
        if not block and left:
            lines.append(left)
        out = []
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                out.append(_ENCODER.encode(_answer(masker, line)))
            except Exception as error:  # fails closed: whatever went wrong, the text does not come out
                faults += 1
                # Never the line itself: it is what was to be masked.
                wrong = (
                    'is no JSON object with a "text"'
                    if isinstance(error, msgspec.DecodeError)
                    else "could not be masked"
                )
                print(f"line {number} {wrong}; it was left out", file=sys.stderr)
        if out:
            sys.stdout.buffer.write(b"\n".join(out) + b"\n")
            sys.stdout.buffer.flush()
        if not block:
            return faults


def _answer(masker: Masker, line: bytes) -> _Answer:
    try:
        asked = _DECODER.decode(line)
    except msgspec.DecodeError:
        asked = _DECODER.decode(mend(line))
    found: list[Finding] = masker.find(asked.text)
    if not found:
        return _Answer(asked.id, asked.text, [])
    masked = masker.masked(asked.text, found)
    text = "" if masked.drop or masked.quarantine else masked.text
    return _Answer(asked.id, text, [{"rule": f.rule, "start": f.start, "end": f.end} for f in found])
