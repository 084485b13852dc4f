"""Receipts: each is judged alone, none of them costs an event, and what comes twice is there once."""

import json
import time
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Service
from twintrack.clock import iso
from twintrack.event import RECEIPT_STATUSES, VENDORS, Tenancy
from twintrack.metrics import RECEIPTS
from twintrack.testing import wire_event

DAY = 86_400_000


def receipt(service: Service, **fields: Any) -> dict[str, Any]:
    made = {
        "event_id": str(uuid4()),
        "vendor": "gtm",
        "status": "handed",
        "at": iso(service.services.clock.milliseconds()),
    }
    return made | fields


def counted(service: Service) -> dict[str, int]:
    """Receipts by what became of them."""
    found = {}
    for line in service.get("/metrics").text.splitlines():
        if line.startswith("twintrack_ingest_receipts_total{"):
            found[line.split('"')[1]] = int(float(line.rsplit(" ", 1)[1]))
    return {result: count for result, count in found.items() if count}


def settle(service: Service) -> None:
    """Receipts are outside of the depth of the spool, so its log is asked whether anything waits."""
    spool = service.services.spool
    until = time.monotonic() + 60
    while spool.sizes().log_bytes or spool.pending():
        assert time.monotonic() < until, "the spool did not drain"
        time.sleep(0.02)


def stored(service: Service) -> int:
    """As anybody sees it who asks, once everything that was sent is loaded."""
    settle(service)
    rows: list[list[int]] = service.sql("SELECT count() FROM receipts").json()["rows"]
    return rows[0][0]


@pytest.mark.parametrize("tolerant", [False, True], ids=["fast decode", "event by event"])
def test_bad_receipts_cost_neither_events_nor_their_neighbours_and_are_counted(
    service: Service, tolerant: bool
) -> None:
    now = service.services.clock.milliseconds()
    good = [receipt(service, vendor=vendor, status=status) for vendor in VENDORS for status in RECEIPT_STATUSES]
    bad = [
        receipt(service, vendor="facebook"),
        receipt(service, vendor=""),
        receipt(service, status="lost"),
        receipt(service, at=iso(now - 31 * DAY)),
        receipt(service, at=iso(now + 2 * DAY)),
    ]
    malformed: list[Any] = [
        5,
        {},
        receipt(service, event_id="no"),
        receipt(service, at="soon"),
        receipt(service, status=7),
    ]
    sent = [*bad[:3], *good, *bad[3:], *(malformed if tolerant else [])]
    assert service.send({"events": [wire_event(), wire_event()], "receipts": sent})["accepted"] == 2
    wanted = {"accepted": len(good), "unknown_vendor": 2, "unknown_status": 1, "impossible_time": 2}
    assert counted(service) == wanted | ({"malformed": 5} if tolerant else {})
    assert stored(service) == len(good)
    assert service.rows("SELECT count() FROM analytics.events") == [[2]]


@pytest.mark.parametrize("receipts", [5, "x", {}, None, {"event_id": 1}])
def test_receipts_that_are_no_list_leave_the_events(service: Service, receipts: Any) -> None:
    assert service.send({"events": [wire_event()], "receipts": receipts})["accepted"] == 1
    assert counted(service) == {"malformed": 1}


def test_same_receipt_is_there_once_however_often_and_whenever_it_comes(service: Service) -> None:
    one = receipt(service)
    now = service.services.clock.milliseconds()
    for again in (one, one, {**one, "at": iso(now - 20 * DAY)}, {**one, "at": iso(now - 29 * DAY)}):
        service.send({"receipts": [again, again]})
        settle(service)
    service.send({"receipts": [{**one, "status": "delivered"}, {**one, "vendor": "statsig"}]})
    assert stored(service) == 3
    trace = service.get(f"/api/analytics/events/{one['event_id']}")
    assert trace.status_code == 404  # receipts alone make no event


def test_envelope_of_receipts_alone_is_answered_with_the_configuration(service: Service) -> None:
    answer = service.send({"receipts": [receipt(service)]})
    assert (answer["accepted"], answer["results"], answer["config"]) == (0, [], {"version": 1, "kill": False})
    assert stored(service) == 1


def test_receipts_beyond_their_limit_are_counted(service: Service) -> None:
    most = service.services.settings.limits.batch_receipts
    one = receipt(service)
    service.send({"events": [wire_event()], "receipts": [one] * (most + 2)})
    assert counted(service) == {"accepted": most, "too_many": 2}
    body = json.dumps({"events": [wire_event()], "receipts": [5, *[one] * (most + 2)]})
    answer = service.request("POST", "/api/analytics/events", content=body, headers={"X-Write-Key": service.write_key})
    assert answer.json()["accepted"] == 1
    # Reading stops behind the first one too many.
    assert counted(service) == {"accepted": 2 * most - 1, "malformed": 1, "too_many": 3}


def test_every_result_stands_in_the_metrics_from_the_start(service: Service) -> None:
    text = service.get("/metrics").text
    assert all(f'twintrack_ingest_receipts_total{{result="{result}"}} 0.0' in text for result in RECEIPTS)


def test_excluded_clients_may_still_tell_what_vendors_did_and_killed_ones_may_not(service: Service) -> None:
    here = Tenancy("demo", "local")
    service.services.control.change_rollout(here, {"share": 0})
    assert service.send({"events": [wire_event()], "receipts": [receipt(service)]})["dropped"] == 1
    service.services.control.change_rollout(here, {"kill": True})
    assert service.send({"events": [wire_event()], "receipts": [receipt(service)]})["dropped"] == 1
    assert counted(service) == {"accepted": 1, "killed": 1}
    assert stored(service) == 1
