"""One request of ingest as the door sees it: its head, what it is answered, and what is told about it afterwards."""

from itertools import count
from os import urandom
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from twintrack.errors import TwintrackError, Unavailable
from twintrack.event import Tenancy
from twintrack.logs import BatchLine
from twintrack.metrics import STAGES

_ENCODER = msgspec.json.Encoder()
# A request's id: drawn once for the process, then counted; a random one for each request costs more than its log line.
_PROCESS = urandom(5).hex()
_numbers = count(1)
ANSWER = "twintrack.answer"
_MILLISECONDS = {stage: f"{stage}_ms" for stage in STAGES}


class Gone(Exception):
    """The client went away before its body was here."""


class Visit:
    """Times are monotonic seconds: 0.0 for a stage that was not reached."""

    __slots__ = (
        "address", "appended", "body_bytes", "body_here", "code", "counts", "decoded", "encoding", "headers", "held",
        "inflated", "inflated_bytes", "key_id", "origin", "prepared", "receive", "request_id", "scope", "send",
        "started", "tenancy",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        self.scope, self.receive, self.send, self.started = scope, receive, send, started
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = f"{_PROCESS}{next(_numbers):08x}"
        self.origin = self.headers.get(b"origin")
        self.encoding = self.headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        self.body_here = self.inflated = self.decoded = self.prepared = self.appended = 0.0
        self.body_bytes = self.inflated_bytes = self.held = 0
        self.key_id = self.code = self.address = ""
        self.tenancy: Tenancy | None = None
        self.counts: dict[str, int] = {}

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def all_of(self, name: bytes) -> str:
        """Every value of a header that may come more than once, as one list."""
        return ",".join(value.decode("latin-1") for key, value in self.scope["headers"] if key == name)

    def header_key(self) -> str:
        """The key of the head; it beats the envelope's, which beats the address's."""
        found = self.headers.get(b"authorization")
        if found is not None:
            scheme, _, value = found.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and value.strip():
                return value.strip()
        return self.header(b"x-write-key")

    def query_key(self) -> str:
        query = self.scope.get("query_string", b"")
        if b"write_key=" not in query:
            return ""
        keys: list[str] = parse_qs(query.decode("latin-1")).get("write_key", [""])
        return keys[0]

    def stages(self, ended: float) -> list[tuple[str, float, float]]:
        """(stage, start, end) of every stage that was gone through."""
        found: list[tuple[str, float, float]] = []
        before = self.started
        for stage, at in (
            ("body", self.body_here),
            ("inflate", self.inflated),
            ("decode", self.decoded),
            ("prepare", self.prepared),
            ("append", self.appended),
        ):
            if not at:
                break
            found.append((stage, before, at))
            before = at
        found.append(("answer", before, ended))
        return found

    def line(self, status: int, stages: list[tuple[str, float, float]]) -> BatchLine:
        """What the log says of this request."""
        line = BatchLine("", "", "batch", self.request_id, status, self.key_id, self.body_bytes, self.inflated_bytes)
        for stage, start, end in stages:
            setattr(line, _MILLISECONDS[stage], round((end - start) * 1000, 2))
        if self.tenancy is not None:
            line.project, line.environment = self.tenancy
        for name, events in self.counts.items():
            if events:
                setattr(line, name, events)
        line.code = self.code
        return line

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends the whole answer; in one piece where the server under us can do that."""
        headers = [
            *headers,
            (b"x-request-id", self.request_id.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        direct = self.scope.get("extensions", {}).get(ANSWER)
        if direct is not None:
            await direct(status, headers, body)
            return
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def error_answer(error: TwintrackError) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers of a refusal."""
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, Unavailable):
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    return _ENCODER.encode(error.body()), headers
