"""The connection under the door: uvicorn's HTTP/1.1 protocol with a bound on everything that takes time or memory.

A head must come within seconds and kilobytes, a body within its time, the next request within the idle time, an answer
must be read within its time; too many connections are told so and closed before they are read. Broken requests are
answered in our error shape. An answer that is ready is written at once, head and body in one piece.
Source: RFC 9112; uvicorn's `protocols/http/httptools_impl.py`, whose version is pinned.
"""

import asyncio
from asyncio.events import TimerHandle
from functools import partial
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from twintrack.errors import RequestError, TwintrackError, Unavailable
from twintrack.ingest.visit import ANSWER, error_answer
from twintrack.metrics import Metrics
from twintrack.settings import Settings

log = structlog.get_logger()
# As large as the largest heads that browsers and proxies send; llhttp itself has no bound. A head that comes in one
# read is bounded by that read.
_HEAD_BYTES = 64 << 10
_HEAD_LINES = 100
# A body that was refused is read on and thrown away, for as long as any body may take: a client that sends it all before
# it reads would lose the answer when the connection is cut under it. What is larger than any body may be is cut.
_UNREAD_BYTES = 64 << 20
_WRITE_SECONDS = 30.0


class Connection(HttpToolsProtocol):
    """Made for each connection by uvicorn; `connection_class` gives it what it must know."""

    settings: Settings
    metrics: Metrics

    _timer: TimerHandle | None = None
    _timer_at = 0.0
    _due = 0.0
    _awaited = ""  # what must come before `_due`: head, body, idle (a next request), or nothing
    _write_deadline: TimerHandle | None = None
    _in_head = False  # between the first byte of a request and the end of its head
    _in_message = False  # between the first byte of a request and the last of its body
    _head_bytes = 0
    _piece_bytes = 0
    _unread_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.metrics.connections.set(len(self.connections))
        if len(self.connections) > self.settings.most_connections:
            self.metrics.refused_connections.inc()
            self._refuse(
                Unavailable(
                    f"more than {self.settings.most_connections} connections (most_connections)",
                    hint="close one, or come again after Retry-After",
                    code="overloaded",
                )
            )
            return
        self._await("head", self.settings.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._write_deadline):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self.metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._piece_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        # Nearly every request comes in one piece and never needs a clock.
        if self._in_head:
            if self._head_bytes > _HEAD_BYTES:
                self._head_too_large()
            elif self._awaited != "head":
                self._await("head", self.settings.head_seconds)
        elif self._in_message:
            if self._awaited != "body":
                self._await("body", self.settings.body_seconds)
        elif self._awaited != "idle":
            self._awaited = ""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._head_bytes, self._unread_bytes = self._piece_bytes, 0
        self._awaited = ""

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        if len(self.headers) > _HEAD_LINES:
            self._head_too_large()
            return
        self._in_head = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            direct: Any = partial(self._answer, self.cycle)
            self.scope["extensions"] = {ANSWER: direct}

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > _UNREAD_BYTES:
                self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but its keep-alive timer is disarmed by one byte; ours runs until the next head is whole."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._in_message:
            self._await("idle", self.settings.idle_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(_WRITE_SECONDS, self._write_too_slow)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            RequestError("this is not HTTP/1.1 as RFC 9112 has it", hint="check Content-Length and Transfer-Encoding")
        )

    async def _answer(
        self, cycle: RequestResponseCycle, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """The whole answer in one write; what `RequestResponseCycle.send` does in two, with checks for foreign headers."""
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join(parts))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _await(self, kind: str, seconds: float) -> None:
        """Sets the one clock of this connection. A timer that is too early looks again, so most need no new one."""
        self._awaited, self._due = kind, self.loop.time() + seconds
        if self._timer is not None and self._timer_at > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer_at = self._due
            self._timer = self.loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if not self._awaited:
            return
        left = self._due - self.loop.time()
        if left > 0.001:
            self._timer_at = self._due
            self._timer = self.loop.call_later(left, self._ring)
        else:
            self._too_slow(self._awaited)

    def _too_slow(self, kind: str) -> None:
        self.metrics.timed_out[kind].inc()
        if kind == "idle" or (kind == "head" and not self._in_head):
            self.transport.close()
            return
        seconds = self.settings.head_seconds if kind == "head" else self.settings.body_seconds
        self._refuse(
            RequestError(
                f"the {kind} of the request did not arrive within {seconds:g} seconds ({kind}_seconds)",
                hint="send smaller batches",
                code=f"{kind}_too_slow",
                status=408,
            )
        )

    def _write_too_slow(self) -> None:
        self.metrics.timed_out["write"].inc()
        self.transport.abort()

    def _head_too_large(self) -> None:
        self._refuse(
            RequestError(
                f"the head of the request has more than {_HEAD_BYTES} bytes or {_HEAD_LINES} lines",
                hint="send fewer cookies and headers",
                code="head_too_large",
                status=431,
            )
        )

    def _refuse(self, error: TwintrackError) -> None:
        """Answers in place of the application and ends the connection.

        Where an earlier request of this connection waits for its answer, nothing is said: it would be taken for that.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._awaited = ""
        self.metrics.answered(error.status)
        self.metrics.refused_requests.labels(error.code).inc()
        log.info("refused", status=error.status, code=error.code)
        cycle = self.cycle
        pending = cycle is not None and not cycle.response_complete
        earlier = self.pipeline or (pending and self._in_head)
        if not earlier and not (cycle is not None and pending and cycle.response_started) and not self._answered():
            body, headers = error_answer(error)
            parts = [STATUS_LINE[error.status]]
            for name, value in headers:
                parts += (name, b": ", value, b"\r\n")
            parts += (b"content-length: ", str(len(body)).encode(), b"\r\nconnection: close\r\n\r\n", body)
            self.transport.write(b"".join(parts))
        self.transport.close()
        if cycle is not None and pending:
            cycle.disconnected = True
            cycle.message_event.set()

    def _answered(self) -> bool:
        """Whether the request that is read now has its answer already."""
        return self._in_message and not self._in_head and self.cycle is not None and self.cycle.response_complete


def connection_class(settings: Settings, metrics: Metrics) -> type[Connection]:
    """The class for `uvicorn.Config(http=...)`, which makes instances without arguments of ours."""
    namespace: dict[str, Any] = {"settings": settings, "metrics": metrics}
    return type("Connection", (Connection,), namespace)
