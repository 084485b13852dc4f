"""Copies of events through the real service, in every order and wherever the first one stands: one row, counted once."""

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import ANY_TEXT, Service, open_service
from tests.faults.test_wire import until
from tests.test_doctor import ask, checks
from twintrack.auth import Role
from twintrack.load.rollup import compare
from twintrack.testing import ManualClock, uuid7, wire_event

DAY_SECONDS = 86_400
SLOW = 3_600_000  # milliseconds that the loader waits for company: nothing is frozen meanwhile


def assert_each_once(service: Service, events: int) -> None:
    """The invariants of the issue, after everything is loaded."""
    service.settle()
    until(lambda: not service.services.spool.stale_months())
    count = "SELECT count(), uniqExact(project, event_id) FROM analytics.events"
    assert service.rows(count) == [[events, events]]
    assert compare(service.services.store) == []
    assert checks(service)["balance"]["ok"], checks(service)["balance"]


def duplicates_found_in_store(service: Service) -> int:
    tallies = service.services.spool.tallies()
    return sum(n for (_, _, outcome, why), n in tallies.items() if (outcome, why) == ("duplicate", "found_in_store"))


def batch(size: int, clock: ManualClock | None = None, **fields: Any) -> list[dict[str, Any]]:
    return [wire_event(clock.milliseconds() if clock else None, user_id="ann", **fields) for _ in range(size)]


@contextmanager
def restarted(folder: Path, clock: ManualClock | None = None, **settings: Any) -> Iterator[Service]:
    opened = open_service(folder, clock, **settings)
    try:
        yield opened
    finally:
        opened.services.close()


# -- order of arrival ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_retried_overlapping_split_and_reordered_batches_are_each_event_once(service: Service, seed: int) -> None:
    source = random.Random(seed)
    events = batch(120)
    answers = [service.send(events[:60])]
    for _ in range(25):
        start = source.randrange(120)
        part = events[start : start + source.randrange(1, 60)]
        source.shuffle(part)
        answers.append(service.send(part))
    answers.append(service.send(events[::-1]))
    assert sum(answer["accepted"] for answer in answers) == 120
    assert service.send(events)["duplicate"] == 120
    assert_each_once(service, 120)


def test_copies_inside_one_batch_are_one_event(service: Service) -> None:
    (event,) = batch(1)
    answer = service.send([event, event, event])
    assert (answer["accepted"], answer["duplicate"]) == (1, 2)
    assert_each_once(service, 1)


def test_two_senders_at_once_are_told_new_once_for_each_event(service: Service) -> None:
    events = batch(200)
    parts = [events[start : start + 20] for start in range(0, 200, 20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(service.send, parts + parts[::-1] + parts))
    assert sum(answer["accepted"] for answer in answers) == 200
    assert sum(answer["duplicate"] for answer in answers) == 400
    assert_each_once(service, 200)


def test_same_ids_in_two_projects_are_two_events(service: Service) -> None:
    other = service.services.control.create_key(Role.WRITE, "other", "local")
    events = batch(10)
    assert service.send(events)["accepted"] == 10
    assert service.send(events, other)["accepted"] == 10
    assert service.send(events, other)["duplicate"] == 10
    assert_each_once(service, 20)


def test_random_ids_are_looked_up_and_counted_as_duplicates(service: Service) -> None:
    events = [event | {"event_id": str(uuid4())} for event in batch(30)]
    service.send(events)
    service.settle()
    service.send(events)  # whether the door knows them still or the store is asked, it is told
    service.send(events[:7])
    assert_each_once(service, 30)
    tallies = service.services.spool.tallies()
    assert sum(n for (_, _, outcome, _), n in tallies.items() if outcome == "duplicate") == 37


# -- where the first copy stands -------------------------------------------------------------------------------------


def test_second_copy_is_a_duplicate_while_the_first_is_in_the_log_and_after_a_restart(tmp_path: Path) -> None:
    events = batch(8)
    with restarted(tmp_path / "data", chunk_age_milliseconds=SLOW) as service:
        service.send(events)
        assert service.services.spool.pending() == []
        assert service.send(events)["duplicate"] == 8
    with restarted(tmp_path / "data") as service:
        assert service.send(events)["duplicate"] == 8
        assert_each_once(service, 8)


def test_second_copy_is_a_duplicate_while_the_first_is_in_a_chunk_and_after_a_restart(tmp_path: Path) -> None:
    events = batch(8)
    with restarted(tmp_path / "data") as service:
        service.services.loader.stop()
        service.send(events)
        service.services.spool.freeze()
        assert len(service.services.spool.pending()) == 1
        assert service.send(events)["duplicate"] == 8
    with restarted(tmp_path / "data") as service:
        assert service.send(events)["duplicate"] == 8
        assert_each_once(service, 8)


def test_second_copy_is_a_duplicate_while_the_first_is_in_quarantine_and_after_a_restart(tmp_path: Path) -> None:
    events = batch(1, event_value="two")
    with restarted(tmp_path / "data") as service:
        service.make_the_store_refuse_text_values()
        service.send(events)
        service.settle()
        assert service.send(events)["duplicate"] == 1
    with restarted(tmp_path / "data") as service:
        assert service.send(events)["duplicate"] == 1
        assert_each_once(service, 0)
        service.services.store.command(ANY_TEXT)
        ask(service, "POST", "/replay", {"event_id": None})
        assert_each_once(service, 1)


@pytest.mark.parametrize("boot", ["the same", "another"])
@pytest.mark.parametrize("index", ["kept", "lost"])
def test_second_copy_adds_nothing_when_the_first_is_stored(tmp_path: Path, boot: str, index: str) -> None:
    """Without its index the door may call a copy new; the look-up then finds it and counts it."""
    events = batch(40)
    with restarted(tmp_path / "data", boot="the same") as service:
        service.send(events)
        assert_each_once(service, 40)
    if index == "lost":
        shutil.rmtree(tmp_path / "data" / "spool" / "claims")
    with restarted(tmp_path / "data", boot=boot) as service:
        answer = service.send(events)
        assert answer["accepted"] + answer["duplicate"] == 40
        if index == "kept" and boot == "the same":
            assert answer["duplicate"] == 40
        assert_each_once(service, 40)
        assert duplicates_found_in_store(service) == answer["accepted"]
        until(lambda: not service.services.spool.rebuilding)
        assert service.send(events)["duplicate"] == 40


@pytest.mark.parametrize("lost", ["1", "user_id = 'bob'"], ids=["all", "some"])
def test_rows_that_the_store_lost_with_the_machine_are_inserted_again(tmp_path: Path, lost: str) -> None:
    """The engine remembers the chunk's token though its rows are gone, so they go in under another."""
    events = batch(30) + [event | {"user_id": "bob"} for event in batch(10)]
    with restarted(tmp_path / "data", boot="before") as service:
        service.send(events)
        service.settle()
        service.services.store.command(f"ALTER TABLE analytics.events DELETE WHERE {lost} SETTINGS mutations_sync = 2")
    shutil.rmtree(tmp_path / "data" / "spool" / "claims")  # without a clean mark it is thrown away
    with restarted(tmp_path / "data", boot="after") as service:
        until(lambda: not service.services.spool.reconciling)
        assert_each_once(service, 40)
        until(lambda: not service.services.spool.rebuilding)
        assert service.send(events)["duplicate"] == 40
        assert_each_once(service, 40)


# -- behind the window -----------------------------------------------------------------------------------------------


def test_ids_older_than_the_window_are_looked_up_and_counted_as_duplicates(tmp_path: Path) -> None:
    clock = ManualClock()
    events = batch(25, clock)
    with restarted(tmp_path / "data", clock, id_window_days=1) as service:
        assert service.send(events)["accepted"] == 25
        service.settle()
        clock.advance(3 * DAY_SECONDS)
        service.services.spool.sweep()
        late = service.send(events)
        assert late["accepted"] + late["duplicate"] == 25
        assert_each_once(service, 25)
        assert duplicates_found_in_store(service) == late["accepted"] == 25


def test_import_again_past_the_window_adds_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    rows = [
        {
            "milliseconds": clock.milliseconds() - n * 60_000,
            "occurrence": 0,
            "event": {"event_name": "order_placed", "client_timestamp": "2025-12-31T00:00:00Z", "user_id": f"u{n}"},
        }
        for n in range(200)
    ]
    with restarted(tmp_path / "data", clock, id_window_days=1) as service:
        for name in ("first", "second"):
            body = {"import_id": name, "project": "shop", "environment": "local", "rows": rows}
            ask(service, "POST", "/import", json.loads(json.dumps(body)))
            done = ask(service, "POST", "/import/finish", {"import_id": name}).json()
            assert done["new"] == (200 if name == "first" else 0), done
            assert_each_once(service, 200)
            clock.advance(30 * DAY_SECONDS)
            service.services.spool.sweep()


@pytest.mark.parametrize("hours", [-48, 48])
def test_clock_that_jumps_doubles_and_loses_nothing(tmp_path: Path, hours: int) -> None:
    clock = ManualClock()
    events = batch(20, clock)
    with restarted(tmp_path / "data", clock) as service:
        service.send(events)
        service.settle()
        clock.advance(hours * 3600)
        service.services.spool.sweep()
        service.send(events)
        more = [event | {"event_id": uuid7(clock.milliseconds())} for event in batch(5, clock)]
        service.send(more)
        clock.advance(-hours * 3600)
        service.services.spool.sweep()
        service.send(events + more)
        assert_each_once(service, 25)
