"""What is logged and how: one line an occurrence, JSON for machines, readable on a terminal, never any contents.

Our own lines name an event, a code, counts and ids. A library's line is cut to what its author wrote in the source
(the template, never its arguments), and an exception to its type and places: both may quote what a person sent.
Nothing here reads locals.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import structlog

from twintrack.clock import Clock, SystemClock, iso
from twintrack.errors import TwintrackError

Line = MutableMapping[str, Any]

_ENCODER = msgspec.json.Encoder(enc_hook=str)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FRAMES = 20
# Loggers whose finished messages hold no contents; of all others only the template is written.
_TRUSTED = ("uvicorn",)


def configure(level: str, form: str, stream: BinaryIO | None = None, clock: Clock | None = None) -> None:
    """Sets up every logger of the process. `form` is `json`, `text`, or `auto` for text on a terminal.

    Call it before the first line: loggers keep what they found at their first use.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    least = _LEVELS[level]
    lines = _Lines(stream or sys.stderr.buffer)
    structlog.configure(
        processors=[_Stamp(clock or SystemClock()), _exceptions, _Text() if text else _json],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        context_class=dict,
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Library()]
    root.setLevel(max(least, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logging.getLogger(name).handlers[:] = []
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)
    logging.raiseExceptions = False


def watch_process() -> None:
    """Exceptions that nobody caught are lines too: Python's own report of them quotes their messages."""
    log = structlog.get_logger()

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.error("uncaught", code="internal", exc_info=error)

    def uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread else ""
        log.error("uncaught", code="internal", thread=name, exc_info=arguments.exc_value)

    def unraisable(arguments: "sys.UnraisableHookArgs") -> None:
        log.error("uncaught", code="internal", exc_info=arguments.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, uncaught_in_thread, unraisable


def loop_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: the loop's own words hold the repr of tasks, and with it their results."""
    structlog.get_logger().error("uncaught", code="internal", exc_info=context.get("exception"))


class BatchLine(msgspec.Struct, omit_defaults=True):
    """The line of one request of ingest. Fields are set before they are encoded, which is cheaper than a dict of them."""

    at: str
    level: str
    event: str
    request: str
    status: int
    key: str
    bytes: int
    inflated: int
    body_ms: float = -1.0  # a stage that was not reached is left out
    inflate_ms: float = -1.0
    decode_ms: float = -1.0
    prepare_ms: float = -1.0
    append_ms: float = -1.0
    answer_ms: float = -1.0
    project: str = ""
    environment: str = ""
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    retry: int = 0
    code: str = ""


class _Lines:
    """Writes finished lines. A log that cannot be written costs no request: the line is lost instead."""

    def __init__(self, stream: BinaryIO) -> None:
        # Past Python's buffer where there is one, in one write a line: lines of several threads do not mix.
        self._write = getattr(stream, "raw", stream).write

    def msg(self, line: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._write(line + b"\n")

    debug = info = warning = error = critical = msg


class _Stamp:
    """Puts level and time first. A second is formatted once: this runs for every request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second, self._text = -1, ""

    def __call__(self, _: Any, method: str, line: Line) -> Line:
        now = self._clock.milliseconds()
        second, rest = divmod(now, 1000)
        text = self._text
        if second != self._second:
            text = iso(second * 1000)[:-4]
            self._second, self._text = second, text
        at = f"{text}{rest:03d}Z"
        batch: BatchLine | None = line.get("line")
        if batch is not None:
            batch.at, batch.level = at, method
            return line
        return {"at": at, "level": method, "event": line.pop("event", ""), **line}


def _json(_: Any, __: str, line: Line) -> bytes:
    return _ENCODER.encode(line.get("line") or line)


class _Text:
    def __init__(self) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), timestamp_key="at", exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: Any, method: str, line: Line) -> bytes:
        batch = line.get("line")
        shown = (
            dict(line)
            if batch is None
            else {k: v for k, v in msgspec.to_builtins(batch).items() if v not in ("", -1.0)}
        )
        return str(self._render(logger, method, shown)).encode("utf-8", "replace")


def _exceptions(_: Any, __: str, line: Line) -> Line:
    """Turns `exc_info` into type, code and places. A message is written only where it is ours, which hold no contents."""
    error = line.pop("exc_info", None)
    if error is None or error is False:
        return line
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        line["error"] = describe(error)
    return line


def describe(error: BaseException) -> list[dict[str, Any]]:
    """The exception and what it came from, newest first."""
    told: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(told) < 5:
        one: dict[str, Any] = {"type": type(current).__name__}
        if isinstance(current, TwintrackError):
            one |= {"code": current.code, "message": current.message}
        if isinstance(current, OSError) and current.errno is not None:
            one["errno"] = current.errno
        frames = traceback.extract_tb(current.__traceback__)[-_FRAMES:]
        one["at"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        told.append(one)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return told


class _Library(logging.Handler):
    """Lines of libraries, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        trusted = record.name.startswith(_TRUSTED) and not record.args
        # A message without arguments may have been finished by its author: only trusted ones are repeated.
        template = str(record.msg).strip() if trusted or record.args else ""
        method = {10: "debug", 20: "info", 30: "warning"}.get(record.levelno, "error")
        getattr(structlog.get_logger(), method)(
            "library",
            logger=record.name,
            **({"says": template[:200]} if template else {}),
            place=f"{record.filename}:{record.lineno}",
            **({"exc_info": record.exc_info} if record.exc_info else {}),
        )
