"""A wire that fails on request: real sockets between the service and the engine, one thread for each connection.

Reads whole HTTP requests, decides by `fault_of`, and passes on, breaks, delays or answers in the engine's place.
"""

import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote_plus


@dataclass(frozen=True)
class Fault:
    """What becomes of one request.

    Shape: `kind` is pass, hang, slow, answer (in the engine's place), answer_after (the engine did its work first),
    cut_answer (inside the answer), cut_request (inside the request).
    """

    kind: str
    status: int = 500
    code: int | None = None
    words: str = ""
    seconds: float = 0.0


PASS = Fault("pass")


def engine_error(code: int, name: str) -> Fault:
    words = f"Code: {code}. DB::Exception: Words that quote 'ann@example.com'. ({name}) (version 26.9.2.1)"
    return Fault("answer", 403 if code == 516 else 500, code, words)


class FaultProxy:
    """Shape: listens on a free loopback port; `inserts`, `questions` and `others` say what becomes of each."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.inserts: Fault = PASS
        self.questions: Fault = PASS  # of what names our tables or the engine's and is no insert
        self.others: Fault = PASS
        self.deletions: Fault = PASS
        self.poison = b""  # inserts that hold these bytes meet `poisoned`
        self.poisoned: Fault = PASS
        self.met: Counter[str] = Counter()
        self.bodies: list[bytes] = []  # heads of inserts, as they came
        self.asked: list[str] = []  # the start of every statement, with its address
        self._open: set[socket.socket] = set()
        self._thread(self._accept, self._listener)

    def refuse(self) -> None:
        """From now on nobody listens, and what was open is cut."""
        listener, self._listener = self._listener, socket.socket()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def listen(self) -> None:
        """Listens again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._thread(self._accept, self._listener)

    def mend(self) -> None:
        """From now on everything passes; what hangs is cut."""
        self.inserts = self.questions = self.others = self.deletions = self.poisoned = PASS
        self._released.set()
        self._released = threading.Event()

    def close(self) -> None:
        self.mend()
        self.refuse()

    @staticmethod
    def _thread(work: Callable[..., None], *given: object) -> None:
        threading.Thread(target=work, args=given, daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                self._thread(self._serve, listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            with suppress(OSError), client, client.makefile("rb") as requests:
                while (message := _read(requests)) is not None:
                    asked = unquote_plus(message[0].decode("latin1")).encode("latin1") + message[1][:4096]
                    self.asked.append(asked.decode("latin1"))
                    is_insert = b"INSERT INTO analytics" in asked
                    fault = self.inserts if is_insert else self.others
                    if not is_insert and b"analytics" in asked and fault is PASS:
                        fault = self.questions
                    if b"ALTER TABLE" in asked and b" DELETE " in asked:
                        fault = self.deletions
                    if is_insert and self.poison and self.poison in message[1]:
                        fault = self.poisoned
                    if is_insert:
                        self.bodies.append(message[0])
                    self.met[fault.kind if fault.code is None else str(fault.code)] += 1
                    if not self._one(client, message, fault):
                        return
        finally:
            self._open.discard(client)

    def _one(self, client: socket.socket, message: tuple[bytes, bytes], fault: Fault) -> bool:
        """Whether the connection goes on."""
        head, body = message
        if fault.kind == "hang":
            self._released.wait(30)
            return False
        if fault.kind == "slow":
            self._released.wait(fault.seconds)
        if fault.kind == "answer":
            client.sendall(_answer(fault))
            return True
        with socket.create_connection(self._target) as engine:
            if fault.kind == "cut_request":
                engine.sendall(head + body[: len(body) // 2])
                return False
            engine.sendall(head + body)
            with engine.makefile("rb") as answers:
                answer = _read(answers)
        if answer is None:
            return False
        if fault.kind == "answer_after":
            client.sendall(_answer(fault))
            return True
        whole = b"".join(answer)
        if fault.kind == "cut_answer":
            client.sendall(whole[: len(whole) // 2])
            return False
        client.sendall(whole)
        return True


def _answer(fault: Fault) -> bytes:
    code = f"X-ClickHouse-Exception-Code: {fault.code}\r\n" if fault.code is not None else ""
    body = fault.words.encode()
    return f"HTTP/1.1 {fault.status} X\r\n{code}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _read(file) -> tuple[bytes, bytes] | None:  # type: ignore[no-untyped-def]
    """Head and body of one message, as bytes on the wire; None at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            return None
        head += line
    length, chunked = 0, False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
        chunked = chunked or line.startswith(b"transfer-encoding: chunked")
    if not chunked:
        return head, file.read(length)
    body = b""
    while True:
        line = file.readline()
        if not line:
            return head, body
        part = file.read(int(line.split(b";")[0], 16) + 2)
        body += line + part
        if line.startswith(b"0"):
            return head, body
