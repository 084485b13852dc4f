"""Embedded chDB behind ClickHouse's own HTTP interface, as a process of its own.

Why a process: the engine and the door then share neither the interpreter's lock nor their fate (a query that kills
the engine kills no acceptor), and the one driver in `store/clickhouse.py` speaks to chDB as it does to a server.

Run by `store/embedded.py` as `python -m twintrack.store.engine FOLDER DESCRIPTOR`: the descriptor is a listening
loopback socket, the first line of standard input is the password, the end of standard input is the end of the
process. It prints `ready` once the engine is open. A client that goes away has its query killed.
Source: clickhouse.com/docs/interfaces/http; the driver's own requests.
"""

import base64
import fcntl
import hmac
import os
import re
import resource
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import policy
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import chdb
import zstandard

_LOCK_WAIT_SECONDS = 15.0
_WATCH_SECONDS = 0.25
_JOIN_SECONDS = 1.5  # a killed service's successor waits for the folder; nothing acknowledged hangs on a query
_LARGEST_BODY_BYTES = 1 << 30
# Queries must not take the acceptor's share of a busy machine.
_NICE = 10

# What the transport itself consumes; the engine knows no such settings.
_TRANSPORT = frozenset(
    {
        "query",
        "database",
        "session_id",
        "session_timeout",
        "session_check",
        "query_id",
        "quota_key",
        "compress",
        "decompress",
        "wait_end_of_query",
        "client_protocol_version",
        "role",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "buffer_size",
        "enable_http_compression",
        "default_format",
        "user",
        "password",
    }
)
# Formats whose blocks may be sent as they come.
_STREAMED = frozenset({"Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow"})
_INSERT = re.compile(rb"\s*INSERT\s+INTO\s[^;]*?\sFORMAT\s+(\w+)[ \t]*(?:\r?\n|$)", re.IGNORECASE)
_INPUT = re.compile(r"\sFROM\s+input\(('(?:[^'\\]|\\.)*')\)\s*$", re.IGNORECASE)
_FORMAT = re.compile(r"\sFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_READS = re.compile(r"\s*(?:SELECT|WITH|\()", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CODE = re.compile(r"Code: (\d+)\.")
_connect: Callable[[str], Any] = chdb.connect


class Question(NamedTuple):
    """One request, as the engine takes it: a statement, or an insert and the bytes to be inserted."""

    statement: str
    data: bytes | None  # of an INSERT ... FORMAT
    parameters: dict[str, str]
    settings: dict[str, str]
    database: str
    output_format: str


def question(query: dict[str, str], body: bytes) -> Question:
    """The request's statement, data, parameters and settings. Pure.

    Raises: ValueError for a setting that is no name.
    """
    settings = {k: v for k, v in query.items() if k not in _TRANSPORT and not k.startswith("param_")}
    for name in settings:
        if not _NAME.fullmatch(name):
            raise ValueError("a setting's name has letters, digits and underscores")
    parameters = {k[len("param_") :]: v for k, v in query.items() if k.startswith("param_")}
    head = query.get("query", "").encode()
    data = body if body and _INSERT.fullmatch(head) else None  # rows are many, and are not copied
    whole = head if data is not None else head + b"\n" + body if head and body else head or body
    insert = _INSERT.match(whole) if data is None else None
    if insert is not None:
        data, whole = whole[insert.end() :], whole[: insert.end()].rstrip()
    statement = whole.decode("utf-8", "replace")
    found = _FORMAT.search(statement)
    output = found.group(1) if found else query.get("default_format", "TabSeparated")
    return Question(statement, data, parameters, settings, query.get("database", ""), output)


def form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a `multipart/form-data` body: the driver sends long parameters so. Pure.

    Raises: ValueError for what is none.
    """
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    fields = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            raise ValueError("a part of the form cannot be read")
        fields[name] = content.decode()
    if "query" not in fields:
        raise ValueError("the form holds no query")
    return fields


def insert_from(asked: Question, path: str) -> str:
    """An insert whose data stands in a file: as the whole rows, or as what its SELECT reads from `input`. Pure."""
    statement, form = _FORMAT.sub("", asked.statement), asked.output_format
    read = _INPUT.search(statement)
    if read is None:
        return f"{statement} FROM INFILE {quoted(path)} FORMAT {form}"
    return f"{statement[: read.start()]} FROM file({quoted(path)}, {quoted(form)}, {read.group(1)})"


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def empty_block(columns: list[tuple[str, str]]) -> bytes:
    """A Native block of no rows, which a server sends for an empty answer and chDB leaves out."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return _varint(len(raw)) + raw

    return _varint(len(columns)) + _varint(0) + b"".join(text(name) + text(kind) for name, kind in columns)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Refused(Exception):
    """What the engine said no with: its code and its words."""

    def __init__(self, words: str) -> None:
        start = words.find("Code: ")
        super().__init__(words[start:].strip() if start > 0 else words.strip())
        found = _CODE.search(words)
        self.code = int(found.group(1)) if found else 1002


class Engine:
    """The open engine. Each question gets a connection of its own, so that no setting outlives it."""

    def __init__(self, folder: Path, options: str = "") -> None:
        self._folder = f"{folder}?{options}" if options else str(folder)
        self._first = _connect(self._folder)
        self._lock = threading.Lock()
        self._running: dict[str, socket.socket] = {}

    @contextmanager
    def _asked(self, asked: Question, client: socket.socket) -> Iterator[Any]:
        """A connection with the question's settings; while it is used, its query can be found and killed."""
        tag = asked.settings.get("log_comment") or uuid4().hex
        connection = _connect(self._folder)
        try:
            if asked.database and asked.database != "default":
                connection.query(f"USE `{asked.database.replace('`', '')}`")
            settings = {**asked.settings, "log_comment": tag}
            readonly = settings.pop("readonly", None)
            # Last: it forbids every later setting.
            for part in (settings, {"readonly": readonly} if readonly else {}):
                if part:
                    connection.query("SET " + ", ".join(f"{k} = {quoted(v)}" for k, v in part.items()))
            with self._lock:
                self._running[tag] = client
            yield connection
        except RuntimeError as error:
            raise Refused(str(error)) from error
        finally:
            with self._lock:
                self._running.pop(tag, None)
            connection.close()

    def run(self, asked: Question, client: socket.socket) -> tuple[bytes, dict[str, str]]:
        """The whole answer and its summary.

        Raises: Refused.
        """
        with self._asked(asked, client) as connection:
            if asked.data is not None:
                with _file(asked.data) as path:
                    result = connection.query(insert_from(asked, path))
                return b"", {"written_rows": str(result.rows_read()), "written_bytes": str(result.bytes_read())}
            result = connection.query(asked.statement, asked.output_format, params=asked.parameters)
            answer = result.bytes() or b""
            if not answer and asked.output_format == "Native" and _READS.match(asked.statement):
                answer = self._columns(connection, asked)
            return answer, {
                # `rows_read` of chDB counts the rows of the answer.
                "read_rows": str(result.storage_rows_read()),
                "read_bytes": str(result.storage_bytes_read()),
                "written_rows": "0",
                "written_bytes": "0",
            }

    @staticmethod
    def _columns(connection: Any, asked: Question) -> bytes:
        plain = _FORMAT.sub("", asked.statement).rstrip().rstrip(";")
        rows = connection.query(f"DESCRIBE TABLE ({plain})", "TabSeparatedRaw", params=asked.parameters).bytes()
        cells = [line.split("\t") for line in rows.decode().splitlines()]
        return empty_block([(name, kind) for name, kind, *_ in cells])

    def stream(self, asked: Question, client: socket.socket) -> Iterator[bytes]:
        """The answer block by block. Raises: Refused, also in the middle."""
        with self._asked(asked, client) as connection:
            blocks = connection.send_query(asked.statement, asked.output_format, params=asked.parameters)
            sent = False
            for block in blocks:
                if block.bytes():
                    sent = True
                    yield block.bytes()
            if not sent and asked.output_format == "Native" and _READS.match(asked.statement):
                yield self._columns(connection, asked)

    def kill(self, tags: list[str]) -> None:
        """Ends the queries with these tags; they fail with code 394."""
        connection = _connect(self._folder)
        with suppress(RuntimeError):
            names = ", ".join(map(quoted, tags))
            connection.query(f"KILL QUERY WHERE Settings['log_comment'] IN ({names}) ASYNC")
        connection.close()

    def watch(self) -> None:
        """Kills what nobody waits for any more. Never returns."""
        while True:
            time.sleep(_WATCH_SECONDS)
            with self._lock:
                running = dict(self._running)
            gone = [tag for tag, client in running.items() if _left(client)]
            if gone:
                self.kill(gone)

    def close(self) -> None:
        """Kills what runs and waits for it: a process that ends with a query running crashes."""
        until = time.monotonic() + _JOIN_SECONDS
        while time.monotonic() < until:
            with self._lock:
                running = list(self._running)
            if not running:
                break
            self.kill(running)
            time.sleep(0.05)
        self._first.close()


def _left(client: socket.socket) -> bool:
    try:
        readable, _, _ = select.select([client], [], [], 0)
        return bool(readable) and client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except (OSError, ValueError):
        return True


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    """A path that reads as these bytes; in memory where the system can, so that no copy is left by a kill."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("insert")
        with os.fdopen(handle, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]
            yield f"/proc/self/fd/{handle}"
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(data)
        named.flush()
        yield named.name


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    engine: Engine
    password: bytes

    def log_message(self, *_: Any) -> None:
        """Nothing: a request line holds settings and statements."""

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._send(200, b"Ok.\n", {})
        else:
            self._answer(b"")

    def do_POST(self) -> None:
        try:
            body = self._body()
        except (ValueError, zlib.error, zstandard.ZstdError):
            self._refuse(400, 36, "Code: 36. The body cannot be read")
            self.close_connection = True
            return
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if not self._admitted(query):
            self._refuse(403, 516, "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        try:
            kind = self.headers.get("Content-Type", "")
            if kind.startswith("multipart/form-data"):
                query, body = {**query, **form(kind, body)}, b""
            asked = question(query, body)
            streamed = query.get("wait_end_of_query") != "1" and asked.data is None and asked.output_format in _STREAMED
            if streamed and _READS.match(asked.statement):
                self._stream(asked)
                return
            answer, summary = self.engine.run(asked, self.connection)
        except Refused as error:
            self._refuse(404 if error.code == 60 else 500, error.code, str(error))
            return
        except ValueError as error:
            self._refuse(400, 36, f"Code: 36. {error}")
            return
        parts = ", ".join(f'"{name}": "{value}"' for name, value in summary.items())
        headers = {"X-ClickHouse-Summary": "{" + parts + "}"}
        if answer or _READS.match(asked.statement):
            headers["X-ClickHouse-Format"] = asked.output_format
        self._send(200, answer, headers)

    def _stream(self, asked: Question) -> None:
        blocks = self.engine.stream(asked, self.connection)
        first = next(blocks, b"")  # an error before the first block is still an answer of its own
        self.send_response(200)
        self.send_header("X-ClickHouse-Format", asked.output_format)
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for block in chain((first,), blocks):
                if block:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
        except Refused:
            self.close_connection = True  # no last chunk: the client sees a cut answer, as from a server
            return
        self.wfile.write(b"0\r\n\r\n")

    def _admitted(self, query: dict[str, str]) -> bool:
        given = self.headers.get("X-ClickHouse-Key") or query.get("password", "")
        if self.headers.get("Authorization", "").startswith("Basic "):
            with suppress(ValueError):
                given = base64.b64decode(self.headers["Authorization"][6:]).decode().partition(":")[2]
        return hmac.compare_digest(given.encode(), self.password)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline(100).split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline(3)
            self.rfile.readline(3)
            body = b"".join(parts)
        else:
            length = int(self.headers.get("Content-Length", "0"))
            if length > _LARGEST_BODY_BYTES:
                raise ValueError("too large")
            body = self.rfile.read(length)
            if len(body) < length:
                raise ValueError("cut short")
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "gzip":
            return zlib.decompress(body, wbits=31)
        if encoding == "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
        if encoding:
            raise ValueError("unknown encoding")
        return body

    def _refuse(self, status: int, code: int, words: str) -> None:
        self._send(status, words.encode(), {"X-ClickHouse-Exception-Code": str(code)})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        if status == 200 and len(body) > 4096 and "gzip" in self.headers.get("Accept-Encoding", ""):
            packer = zlib.compressobj(1, wbits=31)
            body = packer.compress(body) + packer.flush()
            self.send_header("Content-Encoding", "gzip")
        for name, value in {**headers, "X-ClickHouse-Timezone": "UTC", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no event of ours."""


def _lock(folder: Path) -> int:
    """Held until this process ends: a killed service's engine may live a moment longer than its successor waits."""
    handle = os.open(folder.with_name(folder.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    until = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() > until:
                sys.exit(f"another process uses {folder}")
            time.sleep(0.02)


def main(folder: Path, descriptor: int, options: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides, by closing our standard input
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold rows; a notebook's own process is not ours
    with suppress(OSError):
        os.nice(_NICE)
    _Handler.password = sys.stdin.buffer.readline().strip()
    if disk_key := sys.stdin.buffer.readline().strip():
        # The name is store/disk.py's. The engine reads it by its configuration; /proc does not show it.
        os.putenv("STORE_DISK_KEY", disk_key.decode())
    _lock(folder)
    engine = Engine(folder, options)
    _Handler.engine = engine
    listener = socket.socket(fileno=descriptor)
    server = _Server(listener.getsockname(), _Handler, bind_and_activate=False)
    server.socket = listener
    for work in (server.serve_forever, engine.watch):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.buffer.read()
    listener.close()
    engine.close()
    os._exit(0)  # the engine's own teardown adds nothing and has crashed


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
