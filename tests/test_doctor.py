"""`doctor`, `rollup rebuild` and `replay`: each thing that can be wrong is named, and mended by what it says to do."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import ANY_TEXT, Service, running
from tests.e2e.conftest import start
from tests.faults.test_wire import until
from tests.test_commands import command
from twintrack.commands import command_app
from twintrack.load.rollup import compare, first_whole_month, months
from twintrack.testing import ManualClock, wire_event


def ask(service: Service, method: str, path: str, body: Any = None) -> httpx.Response:
    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(app=command_app(service.services))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, json=body)

    return asyncio.run(one())


def checks(service: Service) -> dict[str, dict[str, Any]]:
    return {check["check"]: check for check in ask(service, "GET", "/doctor").json()["checks"]}


def rebuilt(service: Service) -> bool:
    return not ask(service, "GET", "/rollup").json()["left"]


def test_healthy_service_passes_every_check(service: Service) -> None:
    service.send([wire_event() for _ in range(5)])
    service.settle()
    found = checks(service)
    assert set(found) == {
        "lock",
        "disk",
        "store",
        "balance",
        "masking",
        "chunks",
        "erasures",
        "schema",
        "rollups",
        "expiry",
        "clock",
        "person_keys",
    }
    assert [check for check in found.values() if not check["ok"] or check["do"]] == []


@pytest.mark.parametrize("table", ["events_hourly", "events_daily", "identities"])
def test_rollup_that_lost_its_cells_is_named_and_made_again(service: Service, table: str) -> None:
    service.send([wire_event(user_id="ann") for _ in range(5)])
    service.settle()
    service.services.store.command(f"TRUNCATE TABLE analytics.{table}")
    said = checks(service)["rollups"]
    assert not said["ok"] and table in said["says"] and "rollup rebuild" in said["do"], said
    wanted = [int(word) for word in said["do"].partition("rebuild ")[2].strip("`").split()]
    assert ask(service, "POST", "/rollup", {"months": wanted}).json()["months"] == wanted
    until(lambda: rebuilt(service))
    assert checks(service)["rollups"]["ok"]


def test_rollup_rebuild_below_the_watermark_is_refused_and_changes_nothing(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    (month,) = months(service.services.store)
    with service.services.spool.ledger as ledger:
        ledger.set_complete_since("demo", service.services.clock.milliseconds())
    for wanted in ([month], [0]):
        answer = ask(service, "POST", "/rollup", {"months": wanted})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "below_watermark"
    assert service.services.spool.stale_months() == []
    assert compare(service.services.store) == []


def test_month_below_the_watermark_that_was_in_doubt_is_named_and_left(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    (month,) = months(service.services.store)
    with service.services.spool.ledger as ledger:
        ledger.set_complete_since("demo", service.services.clock.milliseconds())
    service.services.spool.reinsert((), [month, 0])
    assert rebuilt(service)  # nothing of it is waited for
    said = checks(service)["rollups"]
    assert not said["ok"] and f"all time, {month}" in said["says"] and "leave them" in said["do"]


@pytest.mark.parametrize("month", [202613, 7, -1])
def test_rollup_rebuild_of_no_month_is_refused(service: Service, month: int) -> None:
    assert ask(service, "POST", "/rollup", {"months": [month]}).json()["error"]["code"] == "bad_month"


@pytest.mark.parametrize(
    ("milliseconds", "month"),
    [(0, 0), (1_767_225_600_000, 202601), (1_767_225_600_001, 202602), (1_767_225_599_999, 202601)],
)
def test_first_whole_month_is_the_one_behind_the_watermark(milliseconds: int, month: int) -> None:
    assert first_whole_month({"demo": milliseconds}) == month


def test_chunk_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        service.make_the_store_refuse_text_values()
        service.send([wire_event(event_value="two")])
        service.settle()
        said = checks(service)["chunks"]
        assert not said["ok"] and "1 rows stand in quarantine" in said["says"]
        (chunk,) = service.services.spool.ledger.chunks("quarantined")
        for file in (tmp_path / "data" / "spool" / "chunks").glob(f"*{chunk.chunk_id}*"):
            file.unlink()
        said = checks(service)["chunks"]
        assert not said["ok"] and chunk.chunk_id in said["says"]


def test_missing_migration_is_named(service: Service) -> None:
    service.services.store.command("ALTER TABLE analytics.migrations DELETE WHERE 1 SETTINGS mutations_sync = 2")
    said = checks(service)["schema"]
    assert not said["ok"] and "twintrack migrate" in said["do"]


def test_clock_that_went_back_is_named(tmp_path: Path) -> None:
    clock = ManualClock()
    with running(tmp_path / "data", clock) as service:
        service.send([wire_event(clock.milliseconds())])
        service.settle()
        clock.advance(-3600)
        said = checks(service)["clock"]
        assert not said["ok"] and "the clock went back" in said["says"]


def test_poison_event_is_quarantined_alone_and_replayed_once_the_cause_is_mended(service: Service) -> None:
    service.make_the_store_refuse_text_values()
    poison = wire_event(event_value="two")
    service.send([wire_event() for _ in range(7)] + [poison] + [wire_event() for _ in range(7)])
    service.settle()
    assert service.rows("SELECT count() FROM analytics.events") == [[14]]
    assert service.fate(poison["event_id"])["fate"] == "quarantined"
    assert service.send([poison])["duplicate"] == 1
    service.services.store.command(ANY_TEXT)
    assert ask(service, "POST", "/replay", {"event_id": poison["event_id"]}).json()["rows"] == 1
    until(lambda: not ask(service, "GET", "/replay").json()["waiting"])
    assert service.rows("SELECT count(), uniqExact(event_id) FROM analytics.events") == [[15, 15]]
    assert checks(service)["balance"]["ok"] and checks(service)["chunks"]["ok"] and checks(service)["rollups"]["ok"]


@pytest.mark.parametrize("served", [True, False], ids=["served", "alone"])
def test_commands_work_with_a_service_running_and_without(tmp_path: Path, served: bool) -> None:
    data = tmp_path / "data"
    serving = start(data) if served else None
    try:
        for words, said in ((["replay"], "0 put back, 0 in quarantine"), (["rollup", "rebuild"], "rebuilt: ")):
            done = command(data, *words)
            assert done.returncode == 0 and said in done.stdout, done.stderr
        assert "FAIL" not in command(data, "doctor").stdout
        refused = command(data, "rollup", "rebuild", "202613")
        assert refused.returncode == 1 and "is no month" in refused.stderr
    finally:
        if serving is not None:
            assert serving.stop() == 0
