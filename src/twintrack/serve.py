"""Runs the service, or a loader alone: the public address and the control socket on one loop, and a stop that drains."""

import asyncio
import contextlib
import gc
import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop

from twintrack.app import Services, build, create_app, lock_folder
from twintrack.commands import command_app
from twintrack.connection import connection_class
from twintrack.demo import SignInLink
from twintrack.errors import SettingsError
from twintrack.logs import configure, loop_exception, watch_process
from twintrack.privacy.started import publish_forever, record_start, record_stop
from twintrack.settings import Settings
from twintrack.tls import Certificate

SOCKET = "control.sock"
LOCK_WAIT_SECONDS = 10.0
_QUERY_GRACE_SECONDS = 1.0  # what is nearly answered is answered; the rest would hold the stop up


class _Server(uvicorn.Server):
    """Leaves signals to us: two servers share one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as current directory: a socket's name may have 107 bytes, a data folder's path more."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def control_socket(data: Path) -> socket.socket:
    """A listening socket at `DATA/control.sock` that only its owner may use. The caller holds the lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with inside(data):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SOCKET)
            listener.bind(SOCKET)
    finally:
        os.umask(mask)
    listener.listen(64)
    return listener


def serve(settings: Settings, *, demo: bool) -> None:
    """Serves until SIGTERM or SIGINT, then stops accepting, loads what is accepted, and returns.

    Raises: DataFolderInUse, SettingsError.
    """
    if demo and settings.host not in ("127.0.0.1", "::1", "localhost"):
        raise SettingsError("--demo binds loopback only", hint="leave --host out, or serve without --demo")
    _work(settings, demo=demo, door=True)


def load(settings: Settings) -> None:
    """Loads from the topic until SIGTERM or SIGINT, beside the nodes that serve.

    Raises: DataFolderInUse, SettingsError.
    """
    if settings.spool == "local" or settings.store_url.startswith("chdb:"):
        raise SettingsError(
            "a loader of its own needs a topic and a server",
            hint="set TWINTRACK_SPOOL=kafka://... and TWINTRACK_STORE=http(s)://...; a local spool is loaded by `serve`",
        )
    _work(settings, demo=False, door=False)


def _work(settings: Settings, *, demo: bool, door: bool) -> None:
    configure(settings.log_level, settings.log_format)
    watch_process()
    _allow_files(settings.most_connections)
    lock = lock_folder(settings.data, LOCK_WAIT_SECONDS)
    services = build(settings, only_load=not door)
    masker = services.receiver.maskers.of("")
    record_start(services.audit, services.control, settings, masker.version if masker is not None else "off")
    # Batches are decoded into thousands of short-lived objects without cycles; collecting for them is wasted time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # Threads that come back from the disk wait this long for the interpreter, and so does every answer.
    sys.setswitchinterval(0.001)
    try:
        # uvloop sends small answers at once; asyncio leaves Nagle's delay on sockets it did not make.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(services, demo=demo) if door else _run_loader(services))
    finally:
        record_stop(services.audit, services.control)
        services.close()
        (settings.data / SOCKET).unlink(missing_ok=True)
        os.close(lock)


def _allow_files(connections: int) -> None:
    """Raises the soft limit of open files to what the connections need, as far as the hard limit goes.

    Raises: SettingsError where that is not enough: a service without descriptors cannot even write its spool.
    """
    wanted = connections + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise SettingsError(
                f"{connections} connections (TWINTRACK_MOST_CONNECTIONS) need {wanted} open files; the limit is {hard}",
                hint="raise `ulimit -n`, or set fewer connections",
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(services: Services, *, demo: bool) -> None:
    settings = services.settings
    link = SignInLink() if demo else None
    tls = Certificate(Path(settings.tls_certificate), Path(settings.tls_key)) if settings.tls_certificate else None
    listener = socket.create_server((settings.host, settings.port), backlog=min(settings.most_connections, 1024))
    address = f"{'https' if tls else 'http'}://{settings.host}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        create_app(services, demo_link=link),
        http=connection_class(settings, services.metrics),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=10,
        proxy_headers=False,
        server_header=False,
    )
    config.load()
    config.ssl = tls.context if tls else None
    public = _Server(config)
    control = _control_server(services)
    commands = control_socket(settings.data)
    _stop_on_signals(services, public, control)
    print(_welcome(address, link, settings), flush=True)
    beside = [asyncio.create_task(publish_forever(services.audit, services.control))]
    if tls is not None:
        beside.append(asyncio.create_task(tls.watch()))
    await asyncio.gather(public.serve(sockets=[listener]), control.serve(sockets=[commands]))
    for task in beside:
        task.cancel()


async def _run_loader(services: Services) -> None:
    control = _control_server(services)
    commands = control_socket(services.settings.data)
    _stop_on_signals(services, control)
    print(f"Twintrack loads {services.settings.spool.partition('?')[0]}\n  stop       Ctrl-C", flush=True)
    await control.serve(sockets=[commands])


def _control_server(services: Services) -> _Server:
    return _Server(
        uvicorn.Config(
            command_app(services), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=10
        )
    )


def _stop_on_signals(services: Services, *servers: _Server) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception)

    def stop() -> None:
        for server in servers:
            server.should_exit = True
        loop.call_later(_QUERY_GRACE_SECONDS, services.executor.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _nodes(settings: Settings) -> str:
    """Whether other nodes may stand beside this one."""
    if settings.spool == "local":
        if settings.store_url.startswith("chdb:"):
            return ""
        return (
            "\n  nodes      one: with TWINTRACK_SPOOL=local an id is remembered by this node alone; several need"
            " TWINTRACK_SPOOL=kafka://..."
        )
    if settings.store_url.startswith("chdb:"):
        return "\n  nodes      one: the embedded store belongs to this node; several need TWINTRACK_STORE=http(s)://..."
    if settings.control_url.startswith("sqlite:"):
        return "\n  nodes      of this machine: TWINTRACK_CONTROL is a file here; nodes elsewhere need a database they share"
    return "\n  nodes      any number with the same TWINTRACK_SPOOL, TWINTRACK_STORE and TWINTRACK_CONTROL"


def _welcome(address: str, link: SignInLink | None, settings: Settings) -> str:
    # As it can be typed: `make up` leaves the command in an environment that no shell knows of.
    name = sys.argv[0]
    command = "twintrack" if shutil.which("twintrack") or not os.access(name, os.X_OK) else name
    if link is None:
        return (
            f"Twintrack serves {address}\n"
            f"  sign in    {command} keys create --role owner --data {settings.data}\n"
            f"  stop       Ctrl-C; accepted events are loaded first{_nodes(settings)}"
        )
    return (
        f"Twintrack is up.\n\n"
        f"  1. Dashboard  {address}/sign-in?token={link.token}\n"
        f"                (this link works once; another key: {command} keys create --role owner --project demo"
        f" --environment local --data {settings.data})\n"
        f"  2. Demo       {address}/demo/\n"
        f"                Send a message with an e-mail address or a card number in it, then watch the panel:\n"
        f"                the same event id reaches Statsig's sandbox, dataLayer and ClickHouse.\n"
        f"  3. Data       {command} demo --data {settings.data}\n"
        f"                brings in 31,106 events of a shop to ask about.\n\n"
        f"  Data folder   {settings.data}\n"
        f"  Stop          Ctrl-C; accepted events are loaded first\n"
    )
