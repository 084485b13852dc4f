"""Statsig's end of the wire on loopback, which drops, delays, doubles and fails as told, and keeps what it took."""

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

# `drop`: the connection is reset. `delay`: taken, answered late. `double`: taken, but answered with an error, so that the
# client sends it again. `fail`: refused for good. `reset`s and errors are what Statsig's client tries again.
VendorMode = Literal["ok", "drop", "delay", "double", "fail"]

_ROOT = Path(__file__).parents[2]
STATSIG = _ROOT / "node_modules/@statsig/js-client/build/statsig-js-client.min.js"
GOOGLE = _ROOT / "packages/browser/tests/google.js"
_DELAY_SECONDS = 1.5
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


class Vendor:
    """`mode` may be set at any time; `taken` are the events of requests that were taken, `asked` the modes met."""

    def __init__(self) -> None:
        self.mode: VendorMode = "ok"
        self.taken: list[dict[str, Any]] = []
        self.asked: list[VendorMode] = []
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                files = {"/statsig.js": STATSIG, "/gtm.js": GOOGLE}
                file = files.get(self.path.partition("?")[0])
                self._reply(200 if file else 404, file.read_bytes() if file else b"", "text/javascript")

            def do_OPTIONS(self) -> None:
                self._reply(204, b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not self.path.startswith("/log"):
                    return self._reply(200, b"{}")
                mode = vendor.mode
                vendor.asked.append(mode)
                if mode == "drop":
                    # A reset, not a quiet end: the client sees a network error at once.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return None
                if mode != "fail":
                    vendor.taken += json.loads(body)["events"]
                if mode == "delay":
                    time.sleep(_DELAY_SECONDS)
                return self._reply({"double": 500, "fail": 400}.get(mode, 202), b'{"success": true}')

            def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                for name, value in {**_CORS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def ids(self) -> list[str]:
        """Our ids among what was taken, in order, repeats included."""
        found = [event.get("metadata", {}).get("event_id") for event in self.taken]
        return [one for one in found if one]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
