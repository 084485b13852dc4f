"""The embedded engine's process: started here, started again when it dies, ended when its standard input is closed.

The socket is ours and outlives the process, so a client that comes while the engine starts again just waits.
"""

import contextlib
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from twintrack.errors import StoreUnavailable
from twintrack.settings import Settings
from twintrack.store.clickhouse import ClickHouse, Connection
from twintrack.store.disk import UNSPILT, configuration, disk_key

log = structlog.get_logger()
_END_SECONDS = 20.0
_FIRST_PAUSE_SECONDS = 0.1
_MOST_PAUSE_SECONDS = 10.0


class EngineProcess:
    """Shape: `folder` is chDB's; one process owns it, and the engine's own lock sees to that."""

    def __init__(
        self,
        folder: Path,
        memory_bytes: int = 2 << 30,
        died: Callable[[], object] = int,
        disk_key: bytes | None = None,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._died = folder, died
        self._disk_key = disk_key.hex() if disk_key is not None else ""
        self._options = _options(memory_bytes)
        if disk_key is not None:
            self._options = f"config-file={configuration(folder)}&{self._options}&{UNSPILT}"
        self._password = secrets.token_hex(32)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._closing = threading.Event()
        self._ready = False
        self._process = self._start()
        threading.Thread(target=self._watch, name="engine-watch", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://twintrack:{self._password}@127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def process_id(self) -> int:
        return self._process.pid

    def away(self) -> str:
        """Why the engine cannot be asked just now; empty where it can."""
        if self._ready and self._process.poll() is None:
            return ""
        return "the embedded engine has ended and is being started again"

    def _start(self) -> "subprocess.Popen[bytes]":
        """Raises: StoreUnavailable when the engine does not open the folder."""
        self._ready = False
        descriptor = self._listener.fileno()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "twintrack.store.engine",
                str(self._folder),
                str(descriptor),
                self._options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(descriptor,),
            # Ctrl-C in a terminal is for the service, which then drains. No session of its own: where the kernel groups
            # processes by session, the engine's nice value would count nothing beside the service (sched(7), autogroup).
            process_group=0,
        )
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{self._password}\n{self._disk_key}\n".encode())
            process.stdin.flush()
        if process.stdout.readline() != b"ready\n":
            process.wait()
            raise StoreUnavailable(
                f"the embedded engine did not start on {self._folder}", hint="its own words stand above, on stderr"
            )
        self._ready = True
        return process

    def _watch(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            code = self._process.wait()
            if self._closing.is_set():
                return
            log.error("engine_died", code=code)
            self._died()
            if self._closing.wait(pause):
                return
            try:
                self._process = self._start()
                pause = _FIRST_PAUSE_SECONDS
            except (StoreUnavailable, OSError) as error:  # the system may have no descriptor or process left for now
                log.error("engine_not_started", kind=type(error).__name__)
                pause = min(_MOST_PAUSE_SECONDS, pause * 2)

    def close(self) -> None:
        """Ends the process; what runs in it is killed first."""
        self._closing.set()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._listener.close()


def _options(memory_bytes: int) -> str:
    """Limits of the whole engine, as its connection string takes them (seen to hold in chDB 4.4: code 241).

    Caches of marks default to 5 GiB each; background pools are small already (2, 1, 1, 1, 2 threads).
    """
    return (
        f"max_server_memory_usage={memory_bytes}&mark_cache_size={memory_bytes // 16}"
        f"&index_mark_cache_size={memory_bytes // 32}"
    )


def open_store(settings: Settings, died: Callable[[], object] = int) -> ClickHouse:
    """The store that `TWINTRACK_STORE` names: a server, or the engine over the folder of `chdb:///path`.

    `died` is told each time that the engine's process ended by itself.
    """
    url = settings.store_url
    if url.startswith("chdb://"):
        folder = Path(url.removeprefix("chdb://"))
        key = disk_key(folder, settings.key_ring, wanted=settings.store_encrypted)
        process = EngineProcess(folder, settings.store_memory_bytes, died, key)
        to = Connection(
            process.url,
            connect_seconds=settings.store_connect_seconds,
            answer_seconds=settings.store_answer_seconds,
        )
        return ClickHouse(to, "chdb", process.away, process.close, spills=key is None)
    to = Connection(
        url,
        ca_file=settings.store_ca_file,
        verify=settings.store_verify,
        compression=settings.store_compression,
        connections=settings.store_connections,
        connect_seconds=settings.store_connect_seconds,
        answer_seconds=settings.store_answer_seconds,
    )
    return ClickHouse(to, "clickhouse")
