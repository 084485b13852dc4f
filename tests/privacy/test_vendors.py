"""Vendors are told over real HTTP; one that is away is asked again, one without an interface stays pending."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.kit import ask, finished, served
from twintrack.control.erasures import State, Subject
from twintrack.privacy.vendors import GTM, Statsig
from twintrack.testing import wire_event

ANN = Subject("user", "ann", ["ann", "p_x"], [])


class Sandbox:
    """Answers deletion requests as it is told, and remembers them."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        sandbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                sandbox.asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(sandbox.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/deletions"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()


def test_statsig_is_told_every_form_of_the_user_once_accepted(sandbox: Sandbox) -> None:
    assert Statsig(sandbox.url, "secret-key").forget("r1", ANN) == {"status": "accepted", "request": "r1"}
    ((headers, body),) = sandbox.asked
    assert headers["statsig-api-key"] == "secret-key"
    assert body == {"unit_type": "user_id", "ids": "ann\np_x", "delimiter": "\n", "request_id": "r1"}


@pytest.mark.parametrize("user", ["x\nceo", "x\rceo", " ceo", "ceo\t", "x\u2028ceo"])
def test_statsig_is_not_asked_by_an_id_that_it_could_read_as_somebody_elses(sandbox: Sandbox, user: str) -> None:
    answer = Statsig(sandbox.url, "key").forget("r1", Subject("user", user, [user, "p_x"], []))
    assert answer["status"] == "pending" and "ceo" not in answer["why"] and sandbox.asked == []


@pytest.mark.parametrize("status,wanted", [(500, "waiting"), (429, "waiting"), (403, "failed")])
def test_statsig_that_refuses_is_asked_again_or_not(sandbox: Sandbox, status: int, wanted: str) -> None:
    sandbox.status = status
    answer = Statsig(sandbox.url, "key").forget("r1", ANN)
    assert answer["status"] == wanted and "ann" not in answer["why"]


def test_statsig_that_does_not_answer_is_asked_again(sandbox: Sandbox) -> None:
    sandbox.close()
    assert Statsig(sandbox.url, "key").forget("r1", ANN)["status"] == "waiting"


def test_vendor_without_an_interface_or_a_key_stays_pending() -> None:
    assert GTM.forget("r1", ANN)["status"] == "pending"
    assert Statsig("", "").forget("r1", ANN)["status"] == "pending"
    assert Statsig("http://x", "k").forget("r1", Subject("anonymous", "a", [], [("e", "a")]))["status"] == "pending"


def test_erasure_waits_for_a_vendor_and_the_certificate_names_the_answers(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.status = 503
    with served(tmp_path / "data", statsig_deletion_url=sandbox.url, statsig_deletion_key="key") as service:
        service.send([wire_event(user_id="ann")])
        request = ask(service, "POST", "erasures", {"user_id": "ann"}).json()["id"]
        waiting = finished(service, request, State.VENDORS)
        assert waiting.progress.vendors["statsig"]["status"] == "waiting" and waiting.certificate is None
        assert service.rows("SELECT count() FROM analytics.events") == [[0]]  # our own side does not wait
        sandbox.status = 200
        assert ask(service, "POST", f"erasures/{request}/resume").status_code == 200
        done = finished(service, request)
        assert done.certificate is not None
        assert done.certificate["vendors"]["statsig"] == {"status": "accepted", "request": request}
        assert done.certificate["vendors"]["gtm"]["status"] == "pending"
        assert [body["ids"].split("\n")[0] for _, body in sandbox.asked] == ["ann", "ann"]
