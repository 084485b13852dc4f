"""What a real service writes down: a line for each request with counts and ids, and nothing of what was sent."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jwt
import pytest

from tests.conftest import open_service
from tests.e2e.conftest import Running, start
from twintrack.testing import uuid7, wire_event

CANARY = "quetzal"
SECRET = "test-secret-that-is-long-enough-for-hs256"
TEXTS = (
    "event_name", "event_value", "user_id", "anonymous_id", "session_id", "message_content", "thread_id", "consent",
    "source", "client_timestamp",
)  # fmt: skip


@dataclass
class Told:
    lines: list[dict[str, Any]]
    text: str
    keys: list[str]
    answers: dict[str, httpx.Response]

    def batches(self, answer: str) -> list[dict[str, Any]]:
        request = self.answers[answer].headers["x-request-id"]
        return [line for line in self.lines if line["event"] == "batch" and line["request"] == request]


def full_of_canaries(**more: Any) -> dict[str, Any]:
    texts = {name: f"{CANARY} {name} x" for name in TEXTS if name not in ("consent", "source", "client_timestamp")}
    address = f"https://{CANARY}.example/{CANARY}?{CANARY}={CANARY}"
    context = {"page": dict.fromkeys(("url", "path", "title"), address), "referrer": address, "locale": CANARY}
    metadata = {CANARY: CANARY, "deep": {CANARY: [CANARY, {CANARY: f"{CANARY}@example.com"}]}}
    return {**wire_event(**texts, event_metadata=metadata, context=context), CANARY: CANARY, **more}


def requests(running: Running, write: str) -> dict[str, httpx.Response]:
    """Everything that can go well or wrong with a request, with the word in each field and header."""
    token = jwt.encode({"sub": CANARY, "exp": int(time.time()) + 60}, SECRET, "HS256")
    head = {
        "X-Write-Key": write,
        "User-Agent": CANARY,
        "Cookie": CANARY,
        "X-Forwarded-For": CANARY,
        f"X-{CANARY}": CANARY,
    }
    good = full_of_canaries(event_value="7")
    receipt = {"event_id": uuid7(), "vendor": CANARY, "status": CANARY, "at": "2026-01-01T00:00:00Z"}
    envelope = {"events": [full_of_canaries()], "batch_id": CANARY, "token": token, "receipts": [receipt]}
    bad_fields = [full_of_canaries(**{name: {CANARY: CANARY}}) for name in TEXTS]
    bad_fields += [full_of_canaries(**{name: f"{CANARY}\ud83d" * 50_000}) for name in ("user_id", "message_content")]
    bad_fields += [
        full_of_canaries(event_id=CANARY),
        full_of_canaries(event_metadata={"a.b": CANARY, "a": {"b": CANARY}}),
    ]
    nested: Any = CANARY
    for _ in range(40):
        nested = {CANARY: nested}
    bad_fields.append(full_of_canaries(event_metadata=nested))
    bodies: dict[str, tuple[bytes, dict[str, str]]] = {
        "good": (json.dumps([good]).encode(), {}),
        "again": (json.dumps([good]).encode(), {}),
        "envelope": (json.dumps({**envelope, "sdk": CANARY, CANARY: CANARY}).encode(), {}),
        "poison": (json.dumps([full_of_canaries(event_value=f"{CANARY} no number")]).encode(), {}),
        "bad_fields": (json.dumps(bad_fields).encode(), {}),
        "no_events": (json.dumps({CANARY: CANARY}).encode(), {}),
        "no_json": (CANARY.encode() * 100, {}),
        "broken_gzip": (gzip.compress(CANARY.encode() * 100)[:-9], {"Content-Encoding": "gzip"}),
        "odd_encoding": (CANARY.encode(), {"Content-Encoding": CANARY}),
        "odd_type": (CANARY.encode(), {"Content-Type": f"text/{CANARY}"}),
        "odd_key": (json.dumps([good]).encode(), {"X-Write-Key": f"tt_write_{CANARY}"}),
        "too_large": (CANARY.encode() * 1_000_000, {}),
    }
    with httpx.Client(base_url=running.address) as client:
        path = f"/api/analytics/events?{CANARY}={CANARY}"
        found = {
            name: client.post(path, content=body, headers={"Content-Type": "application/json", **head, **more})
            for name, (body, more) in bodies.items()
        }
        client.get(f"/{CANARY}?{CANARY}", headers=head)
        client.post("/api/analytics/sql", json={"sql": f"SELECT '{CANARY}' FROM {CANARY}"}, headers=head)
        until = time.monotonic() + 60
        while "\ntwintrack_spool_events 0.0\n" not in client.get("/metrics").text:
            assert time.monotonic() < until
            time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("logs")
    prepared = open_service(folder / "data")
    prepared.make_the_store_refuse_text_values()
    prepared.services.close()
    running = start(
        folder / "data",
        TWINTRACK_LOG_LEVEL="debug",
        TWINTRACK_LOG_FORMAT="json",
        TWINTRACK_JWT_SECRET=SECRET,
        TWINTRACK_TRUSTED_PROXIES="127.0.0.0/8",
        TWINTRACK_LIMIT_PERSON_PER_MINUTE="0",
    )
    try:
        write = running.command("keys", "create", "--role", "write").strip()
        answers = requests(running, write)
    finally:
        code = running.stop()
    assert code == 0
    text = (folder / "serve.log").read_text()
    yield Told([json.loads(line) for line in text.splitlines()], text, [write], answers)


def test_every_line_is_json_with_time_level_and_event(told: Told) -> None:
    assert len(told.lines) > len(told.answers)
    assert all(list(line)[:3] == ["at", "level", "event"] for line in told.lines)


def test_no_field_header_address_or_key_is_in_any_line(told: Told) -> None:
    assert {answer.status_code for answer in told.answers.values()} == {200, 400, 401, 413, 415}
    assert any(line["event"] == "chunk_refused" for line in told.lines)
    assert CANARY not in told.text
    assert not any(key in told.text for key in told.keys)


def test_each_request_is_one_line_with_its_counts_and_stages(told: Told) -> None:
    for name, answer in told.answers.items():
        (line,) = told.batches(name)
        assert line["status"] == answer.status_code
        assert line["key"] != told.keys[0]
        if answer.status_code == 200:
            for count in ("accepted", "duplicate", "rejected", "dropped", "retry"):
                assert line.get(count, 0) == answer.json()[count]
            assert line["project"] and line["append_ms"] >= 0 and line["bytes"] > 0
        else:
            assert line["code"] == answer.json()["error"]["code"]
            assert "accepted" not in line and "append_ms" not in line


# Whatever raises, warns or logs may quote contents: run in a process of its own, since this sets up its loggers.
FOREIGN = f"""
import asyncio, logging, sys, threading, warnings
import structlog
from twintrack.logs import configure, loop_exception, watch_process
configure("debug", sys.argv[1]); watch_process()
log = structlog.get_logger()
def fail():
    local = "{CANARY}"
    try:
        raise KeyError("{CANARY}")
    except KeyError as error:
        raise ValueError("{CANARY}") from error
try:
    fail()
except ValueError:
    log.error("caught", exc_info=True)
    logging.getLogger("some.library").exception("it says %s", "{CANARY}")
logging.getLogger("some.library").error("{CANARY}")
logging.getLogger("uvicorn.error").error("request %s", "{CANARY}")
warnings.warn("{CANARY}")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
async def main():
    asyncio.get_running_loop().set_exception_handler(loop_exception)
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
asyncio.run(main())
fail()
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_libraries_and_exceptions_say_is_cut_to_what_their_authors_wrote(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, form], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "caught" in done.stderr and done.stderr.count("ValueError") >= 4
    assert "it says %s" in done.stderr and "request %s" in done.stderr
    assert CANARY not in done.stderr


def test_log_that_cannot_be_written_costs_no_request(tmp_path: Path) -> None:
    words = "import structlog; from twintrack.logs import configure; configure('info', 'json')\n"
    words += "structlog.get_logger().info('lost'); print('went on')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", words], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (0, "went on\n")
