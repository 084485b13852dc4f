"""The golden cases: each body is answered as the contract says, and what is accepted can be stored and read."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Service, running
from twintrack.clock import milliseconds_of
from twintrack.outcomes import Reason
from twintrack.testing import ManualClock

CASES = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text())
    for file in sorted((Path(__file__).parents[2] / "contract" / "cases").glob("*/*.json"))
}
# What no single body can bring about: a switch, a setting, or the store itself decides.
ELSEWHERE = {
    Reason.FOUND_IN_STORE,
    Reason.KILLED,
    Reason.NOT_IN_ROLLOUT,
    Reason.SAMPLED,
    Reason.CONSENT_WITHDRAWN,
    Reason.ERASED,
    Reason.EXPIRED,
    Reason.UNVERIFIED_USER,
    Reason.RATE_LIMITED,
}


class Sent(NamedTuple):
    service: Service
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """A service at the moment that the cases name, to which every case was sent once."""
    (moment,) = {case["received_at"] for case in CASES.values()}
    clock = ManualClock(milliseconds_of(datetime.fromisoformat(moment)))
    answers = {}
    with running(tmp_path_factory.mktemp("cases") / "data", clock) as service:
        for name, case in CASES.items():
            answers[name] = service.request(
                "POST",
                "/api/analytics/events",
                content=(case["text"] if "text" in case else json.dumps(case["body"])).encode(),
                headers={"X-Write-Key": service.write_key, "Content-Type": "application/json"},
            )
        yield Sent(service, answers)


@pytest.mark.parametrize("name", CASES)
def test_case_is_answered_as_the_contract_says(sent: Sent, name: str) -> None:
    case, response = CASES[name], sent.answers[name]
    if "error" in case:
        assert (response.status_code, response.json()["error"]["code"]) == (
            case["error"]["status"],
            case["error"]["code"],
        )
        return
    assert response.status_code == 200, response.text
    answer = response.json()
    verdicts = {result["index"]: (result["status"], result["code"]) for result in answer["results"]}
    wanted = [(verdict["status"], verdict.get("code", "")) for verdict in case["answer"]]
    assert [verdicts.get(index, ("accepted", "")) for index in range(len(wanted))] == wanted
    for status in ("accepted", "duplicate", "rejected", "dropped", "retry"):
        assert answer[status] == sum(verdict["status"] == status for verdict in case["answer"]), status


def test_whatever_is_accepted_is_stored_and_can_be_read(sent: Sent) -> None:
    accepted = sum(answer.json()["accepted"] for answer in sent.answers.values() if answer.status_code == 200)
    assert accepted > 50
    assert sent.service.rows("SELECT count() FROM analytics.events") == [[accepted]]
    state = sent.service.get("/api/analytics/pipeline").json()
    assert (state["quarantined"], state["balance"]["holds"], state["accepted"]) == (0, True, accepted)
    read = sent.service.sql("SELECT * FROM events")
    assert read.status_code == 200, read.text
    assert len(read.json()["rows"]) == accepted


def test_receipts_of_the_cases_are_stored(sent: Sent) -> None:
    assert sent.service.rows("SELECT count() FROM analytics.receipts") == [[3]]


def test_every_reason_has_a_case_or_its_own_test() -> None:
    answered = {verdict.get("code") for case in CASES.values() for verdict in case.get("answer", [])}
    assert set(Reason) - answered == ELSEWHERE


def test_no_message_quotes_a_payload(sent: Sent) -> None:
    for name, answer in sent.answers.items():
        if answer.status_code == 200:
            text = " ".join(result["message"] for result in answer.json()["results"])
            assert not any(word in text for word in ("nonsense", "noon", "xxx", "9999-12", "[EMAIL]", "ada@")), name
