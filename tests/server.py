"""ClickHouse's HTTP interface on loopback over chDB, in a process of its own: the server that tests speak to."""

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twintrack.settings import load_settings
from twintrack.store.clickhouse import ClickHouse
from twintrack.store.embedded import EngineProcess, open_store
from twintrack.store.migrate import migrate

TABLES = ("events", "receipts", "events_hourly", "events_daily", "identities")


class Server:
    def __init__(self, folder: Path) -> None:
        self.process = EngineProcess(folder)
        parts = urlsplit(self.process.url)
        self.password = parts.password or ""
        self.port = parts.port or 0
        self.store = self.open()

    def url(self, port: int | None = None, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://twintrack:{self.password}@{host}:{port or self.port}"

    def open(self, url: str = "", **settings: Any) -> ClickHouse:
        return open_store(load_settings(store=url or self.url(), **settings))

    def migrate(self) -> None:
        migrate(self.store)

    def empty(self) -> None:
        for table in TABLES:
            self.store.command(f"TRUNCATE TABLE IF EXISTS analytics.{table}")

    def close(self) -> None:
        self.store.close()
        self.process.close()


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """(certificate of an authority, certificate of localhost that it signed, the key of that)."""
    ca, ca_key, cert, key = (folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key"))
    request, extra = folder / "server.csr", folder / "extra"
    extra.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj"]
    for words in (
        [*new, "/CN=test authority", "-x509", "-days", "2", "-keyout", str(ca_key), "-out", str(ca)],
        [*new, "/CN=localhost", "-keyout", str(key), "-out", str(request)],
        f"openssl x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial".split()
        + f"-days 2 -extfile {extra} -out {cert}".split(),
    ):
        subprocess.run(words, check=True, capture_output=True)
    return ca, cert, key


class TlsFront:
    """Takes TLS off and passes bytes on: what stands before a server that speaks https."""

    def __init__(self, target: tuple[str, int], certificate: Path, key: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            client = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            self.refused += 1
            raw.close()
            return
        try:
            engine = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        threading.Thread(target=_pump, args=(engine, client), daemon=True).start()
        _pump(client, engine)

    def close(self) -> None:
        self._listener.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
