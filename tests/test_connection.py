"""The connection under the door, with real sockets against a real `twintrack serve`: odd, broken and slow requests."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Running, start
from twintrack.testing import wire_event

PATH = "/api/analytics/events"
Answer = tuple[int, dict[str, str], bytes]
SECRET_QUERY = "tt_write_in-the-address"


@dataclass
class Door:
    running: Running
    key: str
    log: Path

    def connect(self) -> socket.socket:
        host, port = self.running.address.removeprefix("http://").split(":")
        found = socket.create_connection((host, int(port)), 10)
        found.settimeout(10)
        return found

    def head(self, *lines: str, target: str = PATH, method: str = "POST") -> bytes:
        words = [f"{method} {target} HTTP/1.1", "Host: test", f"X-Write-Key: {self.key}", *lines]
        return ("\r\n".join(words) + "\r\n\r\n").encode()

    def post(self, body: bytes, *lines: str, target: str = PATH) -> bytes:
        return self.head(f"Content-Length: {len(body)}", *lines, target=target) + body

    def ask(self, data: bytes, most: int = 1) -> list[Answer]:
        """Sends bytes on a connection of their own and reads so many answers, or until the other side closes."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):  # closed before all was sent: what was answered counts
                connection.sendall(data)
            return answers(connection, most)

    def metric(self, line: str) -> float:
        (_, _, body), *_ = self.ask(self.head("Connection: close", target="/metrics", method="GET"))
        found = re.search(rf"^{re.escape(line)} (\S+)$", body.decode(), re.M)
        return float(found.group(1)) if found else 0.0


def answers(connection: socket.socket, most: int = 9) -> list[Answer]:
    data, found = b"", []
    while len(found) < most:
        head, end, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if end and len(rest) >= length:
            found.append((int(first.split()[1]), headers, rest[:length]))
            data = rest[length:]
            continue
        try:
            piece = connection.recv(65536)
        except OSError:
            piece = b""
        if not piece:
            break
        data += piece
    return found


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    running = start(
        folder / "data",
        TWINTRACK_HEAD_SECONDS="1",
        TWINTRACK_BODY_SECONDS="1.5",
        TWINTRACK_IDLE_SECONDS="2",
        TWINTRACK_MOST_CONNECTIONS="20",
        TWINTRACK_ALLOWED_ORIGINS="https://app.example.com",
    )
    yield Door(running, running.command("keys", "create", "--role", "write").strip(), folder / "serve.log")
    assert running.stop() == 0


def one() -> bytes:
    return json.dumps([wire_event()]).encode()


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def test_plain_and_chunked_bodies_are_accepted(door: Door) -> None:
    for data in (door.post(one()), door.head("Transfer-Encoding: chunked") + chunked(one())):
        ((status, headers, body),) = door.ask(data)
        assert (status, json.loads(body)["accepted"]) == (200, 1)
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: -1",),
        ("Content-Length: +4",),
        ("Content-Length: 4 4",),
        ("Content-Length: 0x4",),
        ("Content-Length: 99999999999999999999999999",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Content-Length : 4",),
        ("Broken header",),
        ("X-Folded: a", " b"),
        ("X-Nul: a\0b",),
    ],
)
def test_message_of_unclear_length_is_refused_and_nothing_behind_it_is_read(door: Door, lines: tuple[str, ...]) -> None:
    """Source: RFC 9112 section 6.3: what two servers may read differently must not be read at all."""
    before = door.metric('twintrack_ingest_requests_total{status="200"}')
    found = door.ask(door.head(*lines) + b"0\r\n\r\n" + door.post(one()), 2)
    assert [status for status, _, _ in found] in ([400], [413]), found
    assert json.loads(found[0][2])["error"]["hint"]
    assert door.metric('twintrack_ingest_requests_total{status="200"}') == before


def test_chunk_with_a_broken_size_is_refused_in_our_error_shape(door: Door) -> None:
    ((status, headers, body),) = door.ask(door.head("Transfer-Encoding: chunked") + b"zz\r\n" + one())
    assert (status, json.loads(body)["error"]["code"], headers["connection"]) == (400, "bad_request", "close")


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    found = door.ask(door.post(one()) + door.post(b"nonsense") + door.post(one()) + door.post(b"{}"), 4)
    assert [status for status, _, _ in found] == [200, 400, 200, 400]


def test_broken_request_behind_a_good_one_does_not_take_its_answer(door: Door) -> None:
    found = door.ask(door.post(one()) + b"\x16\x03\x01 not http\r\n\r\n", 2)
    assert [status for status, _, _ in found] in ([200], [], [200, 400])


def test_expect_100_continue_is_told_to_go_on_and_not_where_the_head_is_refused(door: Door) -> None:
    body = one()
    with door.connect() as connection:
        connection.sendall(door.head(f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with door.connect() as connection:
        connection.sendall(door.head(f"Content-Length: {99 << 20}", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_absolute_target_is_the_path_in_it(door: Door) -> None:
    ((status, _, _),) = door.ask(door.post(one(), "Connection: close", target=f"http://test{PATH}"))
    assert status == 200


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "GET"])
def test_other_methods_are_refused_with_what_is_allowed(door: Door, method: str) -> None:
    with door.connect() as connection:
        connection.sendall(door.head("Content-Length: 0", "Connection: close", method=method))
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"allow: POST, OPTIONS" in head.replace(b"Allow", b"allow").split(b"\r\n")
    assert (body == b"") if method == "HEAD" else (json.loads(body)["error"]["code"] == "method_not_allowed")


@pytest.mark.parametrize("target", ["*", "//" + PATH, "/%00", "/a b", "\x80", "?", "http://", "a" * 200_000])
def test_odd_target_never_breaks_the_server(door: Door, target: str) -> None:
    found = door.ask(door.post(b"[]", "Connection: close", target=target))
    assert all(400 <= status < 500 or status == 200 for status, _, _ in found), found
    assert door.ask(door.post(one()))[0][0] == 200


def test_upgrade_and_connect_do_not_hang(door: Door) -> None:
    for data in (
        door.post(one(), "Connection: upgrade", "Upgrade: websocket"),
        b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        found = door.ask(data)
        assert all(status < 500 for status, _, _ in found), found


def test_preflight_is_exact(door: Door) -> None:
    def preflight(origin: str) -> dict[str, str]:
        ((status, headers, body),) = door.ask(
            door.head(
                f"Origin: {origin}",
                "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: content-encoding,x-write-key",
                "Connection: close",
                method="OPTIONS",
            )
        )
        assert (status, body) == (204, b"")
        return {name: value for name, value in headers.items() if name.startswith("access-control") or name == "vary"}

    ours = preflight("https://app.example.com")
    assert ours["access-control-allow-origin"] == "https://app.example.com"
    assert ours["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert {"authorization", "content-type", "content-encoding", "x-write-key"} <= set(
        ours["access-control-allow-headers"].split(", ")
    )
    assert "access-control-allow-credentials" not in ours
    assert preflight("https://evil.example.com") == {"vary": "Origin"}
    assert preflight("https://app.example.com.evil.com") == {"vary": "Origin"}
    assert preflight("null") == {"vary": "Origin"}


def test_answer_of_every_status_can_be_read_across_origins(door: Door) -> None:
    for body, status in ((one(), 200), (b"nonsense", 400)):
        ((found, headers, _),) = door.ask(door.post(body, "Origin: https://app.example.com"))
        assert found == status
        assert headers["access-control-allow-origin"] == "https://app.example.com"
        assert "Retry-After" in headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "head"),
        (b"POST /", "head"),
        (b"POST /api/analytics/events HTTP/1.1\r\nHost: test\r\nX-Slow: ", "head"),
    ],
)
def test_slow_head_is_cut_within_its_time_however_it_drips(door: Door, data: bytes, kind: str) -> None:
    before = door.metric(f'twintrack_http_timeouts_total{{kind="{kind}"}}')
    with door.connect() as connection:
        began = time.monotonic()
        connection.sendall(data)
        connection.settimeout(0.1)
        got = b""
        while time.monotonic() < began + 8:
            try:
                if data:
                    connection.sendall(b"a")
                piece = connection.recv(65536)
                if not piece:
                    break
                got += piece
            except TimeoutError:
                continue
            except OSError:
                break
        assert 0.8 < time.monotonic() - began < 4
    if data:
        assert got == b"" or got.startswith(b"HTTP/1.1 408 ")
    assert door.metric(f'twintrack_http_timeouts_total{{kind="{kind}"}}') == before + 1


def test_slow_body_is_answered_408_and_holds_nothing(door: Door) -> None:
    with door.connect() as connection:
        connection.sendall(door.head("Content-Length: 100000") + b"[" + b" " * 1000)
        began = time.monotonic()
        ((status, _, body),) = answers(connection)
        assert (status, json.loads(body)["error"]["code"]) == (408, "body_too_slow")
        assert 1 < time.monotonic() - began < 5
    assert door.metric("twintrack_ingest_buffer_bytes") == 0


def test_idle_connection_is_closed_and_a_drip_after_an_answer_does_not_keep_it(door: Door) -> None:
    with door.connect() as connection:
        connection.sendall(door.post(one()))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert 1 < time.monotonic() - began < 5
    with door.connect() as connection:
        connection.sendall(door.post(one()))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST ")
        began = time.monotonic()
        ((status, _, _),) = answers(connection)
        assert status == 408 and time.monotonic() - began < 4


def test_endless_head_is_cut(door: Door) -> None:
    with door.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nX-Long: ")
        sent = 0
        try:
            while sent < 8 << 20:
                sent += connection.send(b"a" * 16384)
        except OSError:
            pass
        assert sent < 8 << 20
    ((status, _, _),) = door.ask(door.head(*(f"X-{i}: a" for i in range(300))))
    assert status == 431


def test_client_that_sends_a_refused_body_to_its_end_still_reads_why(door: Door) -> None:
    body = b" " * (12 << 20)
    with door.connect() as connection:
        connection.sendall(door.post(body) + door.post(one()))
        first, second = answers(connection, 2)
    assert (first[0], json.loads(first[2])["error"]["code"]) == (413, "body_too_large")
    assert second[0] == 200


def test_refused_body_is_read_on_only_for_a_while(door: Door) -> None:
    with door.connect() as connection:
        connection.sendall(door.head("Transfer-Encoding: chunked"))
        sent = 0
        piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        try:
            while sent < 512 << 20:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        assert sent < 256 << 20


def test_connections_beyond_the_limit_are_told_so_and_closed(door: Door) -> None:
    open_ones = [door.connect() for _ in range(20)]
    try:
        with door.connect() as late:
            ((status, headers, body),) = answers(late)
        assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
        assert int(headers["retry-after"]) >= 1
    finally:
        for connection in open_ones:
            connection.close()
    until = time.monotonic() + 10
    while (found := door.ask(door.post(one())))[:1] and found[0][0] != 200:
        assert time.monotonic() < until


def test_key_in_the_address_is_in_no_log(door: Door) -> None:
    target = f"{PATH}?write_key={SECRET_QUERY}"
    body = one()
    for method in ("POST", "GET", "PUT"):
        words = f"{method} {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        assert door.ask(words.encode() + body)[0][0] in (401, 404, 405)
    door.ask(f"POST {target} HTTP/1.1\r\nContent-Length: x\r\n\r\n".encode())
    text = door.log.read_text()
    assert '"code":"unknown_key"' in text
    assert SECRET_QUERY not in text and door.key not in text
