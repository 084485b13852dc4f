"""Retention: what is past its deadline is gone from store and disk, is counted as expired, and comes back by no way."""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Service, running
from tests.privacy.canary import plain
from tests.test_balance import doctor
from twintrack.clock import iso
from twintrack.control.erasures import State
from twintrack.load.rollup import compare, first_whole_month
from twintrack.testing import ManualClock, uuid7, wire_event

DAY = 86_400
NOON = 1_770_638_400_000  # 2026-02-09 12:00 UTC
COUNT = "SELECT count() FROM analytics.events"


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def event(clock: ManualClock, age_days: float, **more: Any) -> dict[str, Any]:
    """An event that happened so long ago and is sent now."""
    now = clock.milliseconds()
    return wire_event(round(now - age_days * DAY * 1000), event_id=uuid7(now), **more)


def keep(service: Service, days: int | str, name: str = "", field: str = "") -> None:
    body = {"event": name, "field": field, "days": days}
    answer = service.request(
        "PUT",
        "/api/analytics/privacy/retention",
        json=body,
        headers={"Authorization": f"Bearer {service.owner_key}"},
    )
    assert answer.status_code == 200, answer.text


def rested(service: Service) -> bool:
    """Whether every pass that was due is done."""
    spool = service.services.spool
    removals, policies = spool.removals, service.services.control.retention.policies()
    return not removals.pending() and not removals.rewrites() and removals.version() == policies.version


def balanced(service: Service) -> dict[str, Any]:
    state: dict[str, Any] = service.get("/api/analytics/pipeline").json()
    assert state["balance"] == {"holds": True, "difference": 0}, state
    assert state["in_spool"] == 0
    assert state["accepted"] == state["stored"] + state["expired"] + state["quarantined"], state
    return state


def left(service: Service, rows: int) -> None:
    until(lambda: service.rows(COUNT)[0][0] == rows and rested(service))


def everything_in(folder: Path, but: str = "") -> bytes:
    """Of a folder that changes meanwhile, but for what lies in one of that name."""
    found = []
    for place, _, names in os.walk(folder):
        for name in () if Path(place).name == but else names:
            with contextlib.suppress(FileNotFoundError):
                found.append((Path(place) / name).read_bytes())
    return b"\n".join(found)


def test_rows_go_at_their_deadline_and_are_counted_as_expired(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        sent = [event(clock, age) for age in (0, 1, 3, 5)]
        service.send(sent)
        keep(service, 4)
        left(service, 3)  # a rule reaches what is stored already
        assert balanced(service)["expired"] == 1
        clock.advance(2 * DAY)
        left(service, 2)
        assert balanced(service)["expired"] == 2
        again = service.send(sent)
        assert (again["accepted"], again["duplicate"], again["dropped"]) == (0, 2, 2)
        left(service, 2)
        assert doctor(service)["expiry"]["ok"] and doctor(service)["balance"]["ok"]


def test_doctor_finds_rows_that_stay_past_their_deadline(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, 0)])
        keep(service, 1)
        left(service, 1)
        service.services.loader.stop()
        clock.advance(4 * DAY)
        said = doctor(service)["expiry"]
        assert not said["ok"] and "1 rows" in said["says"]


def test_deadline_that_passed_while_nobody_served_holds_at_the_next_start(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, 0), event(clock, 1)])
        keep(service, 3)
        left(service, 2)
    clock.advance(2.5 * DAY)
    with running(tmp_path / "data", clock) as service:
        left(service, 1)
        assert balanced(service)["expired"] == 1


def test_event_that_is_past_its_deadline_on_arrival_is_dropped_and_says_so(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        keep(service, 2)
        answer = service.send([event(clock, 1), event(clock, 3)])
        assert (answer["accepted"], answer["dropped"]) == (1, 1)
        assert answer["results"][0]["code"] == "expired" and "2 days" in answer["results"][0]["message"]
        left(service, 1)
        assert balanced(service)["dropped"] == 1


def test_event_with_a_rule_of_its_own_is_kept_longer_or_shorter_than_the_rest(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        for name in ("buy", "move", "other"):
            service.send([event(clock, 3, event_name=name)])
        keep(service, 5)
        keep(service, "forever", "buy")
        keep(service, 1, "move")
        left(service, 2)
        clock.advance(10 * DAY)
        left(service, 1)
        assert service.rows("SELECT event_name, expires_at FROM analytics.events") == [["buy", None]]


def test_text_and_single_fields_go_and_their_row_stays(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        metadata = {"plan": "pro", "mail": {"box": "in"}, "mailbox": 1}
        service.send([event(clock, age, message_content="words", event_metadata=metadata) for age in (1, 4)])
        keep(service, 3, field="message")
        keep(service, 2, field="metadata.mail")
        asked = "SELECT message_content, toString(event_metadata), message_length FROM analytics.events ORDER BY 1"
        whole = ["words", '{"mail":{"box":"in"},"mailbox":1,"plan":"pro"}', 5]
        bare = [None, '{"mailbox":1,"plan":"pro"}', 5]
        until(lambda: service.rows(asked) == [whole, bare])
        assert balanced(service)["expired"] == 0


def test_rule_that_is_taken_away_or_made_longer_reaches_rows_that_carry_the_old_deadline(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, 0), event(clock, 0, event_name="buy")])
        keep(service, 2)
        keep(service, 2, "buy")
        left(service, 2)
        keep(service, "off")
        keep(service, 9, "buy")
        until(lambda: rested(service))
        clock.advance(5 * DAY)
        left(service, 2)
        clock.advance(5 * DAY)
        left(service, 1)
        assert service.rows("SELECT expires_at FROM analytics.events") == [[None]]


def test_bytes_of_what_expired_leave_store_chunk_files_and_log(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    data = tmp_path / "data"
    with running(data, clock, masking=False) as service:
        plain(service)  # nothing is compressed, so that a search finds what is there
        old = {name: f"old-canary-{name}" for name in ("user_id", "anonymous_id", "session_id", "event_name")}
        gone = event(clock, 0, message_content="OLDCANARY", **old)
        service.send([gone], key=service.server_key)
        hand_over(service, clock, gone)
        until(lambda: service.rows("SELECT count() FROM analytics.receipts") == [[1]])
        clock.advance(1.5 * DAY)
        service.send([event(clock, 0, message_content="NEWCANARY")])
        service.settle()
        held = everything_in(data)
        words = [word.encode() for name, word in old.items() if name != "event_name"]
        words += [b"OLDCANARY", stored_id(gone["event_id"])]
        assert [word for word in words if word not in held] == []
        keep(service, 2)
        clock.advance(1 * DAY)
        left(service, 1)

        def found() -> list[bytes]:
            held = everything_in(data, but="claims")  # random ids stay in the index of duplicates
            if b"NEWCANARY" not in held:  # a file went between being listed and read
                return [b"NEWCANARY"]
            return [word for word in words if word in held]

        until(lambda: found() == [], 180)
        assert service.rows("SELECT sum(event_count) FROM analytics.events_daily") == [[2]]


def hand_over(service: Service, clock: ManualClock, *events: dict[str, Any]) -> None:
    """A receipt for each event comes in."""
    at = iso(clock.milliseconds())
    receipts = [{"event_id": e["event_id"], "vendor": "gtm", "status": "handed", "at": at} for e in events]
    answer = service.request(
        "POST", "/api/analytics/events", json={"receipts": receipts}, headers={"X-Write-Key": service.write_key}
    )
    assert answer.status_code == 200, answer.text


def stored_id(event_id: str) -> bytes:
    """As the engine writes it."""
    raw = UUID(event_id).bytes
    return raw[7::-1] + raw[:7:-1]


def daily(service: Service) -> list[list[Any]]:
    return service.rows(
        "SELECT toString(date), user_id, session_id, sum(event_count) FROM analytics.events_daily GROUP BY ALL ORDER BY ALL"
    )


def test_rollups_count_what_expired_under_nobodys_name(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        store = service.services.store
        # A rollup of tomorrow: found by the schema, and by the names of its columns.
        store.command(
            "CREATE TABLE analytics.pages_daily (project String, date Date, anonymous_id String, event_name String,"
            " views SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(date)"
            " ORDER BY (project, date, anonymous_id, event_name)"
        )
        store.command(
            "CREATE MATERIALIZED VIEW analytics.pages_feed TO analytics.pages_daily AS SELECT project, date, anonymous_id,"
            " event_name, count() AS views FROM analytics.events GROUP BY project, date, anonymous_id, event_name"
        )
        # 2.2 and 1.8 days ago are one day, half of which goes; some have neither user nor session, as what is folded.
        for age, user, session in ((4, "ann", "s1"), (2.2, "ann", "s2"), (1.8, "bob", "s3"), (0, "bob", "s4")):
            service.send([event(clock, age, user_id=user, session_id=session)], key=service.server_key)
            service.send([event(clock, age, session_id="", event_name="bare") for _ in range(2)])
        service.settle()
        keep(service, 2)
        left(service, 6)
        assert daily(service) == [
            ["2026-02-05", "", "", 3],
            ["2026-02-07", "", "", 5],
            ["2026-02-07", "bob", "s3", 1],
            ["2026-02-09", "", "", 2],
            ["2026-02-09", "bob", "s4", 1],
        ]
        hourly = (
            "SELECT toString(toDate(hour)), sum(event_count), uniqExactMerge(persons), uniqExactMerge(sessions)"
            " FROM analytics.events_hourly WHERE event_name != 'bare' GROUP BY 1 ORDER BY 1"
        )
        assert service.rows(hourly) == [["2026-02-05", 1, 0, 0], ["2026-02-07", 2, 1, 1], ["2026-02-09", 1, 1, 1]]
        tomorrow = "SELECT anonymous_id, sum(views) FROM analytics.pages_daily GROUP BY 1 ORDER BY 1"
        assert service.rows(tomorrow) == [["", 6], ["anon-1", 6]]
        clock.advance(3 * DAY)
        left(service, 0)
        assert service.rows(
            "SELECT user_id, session_id, sum(event_count) FROM analytics.events_daily GROUP BY ALL"
        ) == [["", "", 12]]
        assert service.rows(tomorrow) == [["", 12]]
        assert doctor(service)["expiry"]["ok"]


def test_links_go_with_the_last_event_that_they_are_for(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:

        def sent(age: float, user: str | None, browser: str) -> None:
            service.send([event(clock, age, user_id=user, anonymous_id=browser)], key=service.server_key)

        sent(5, "ann", "gone")
        sent(5, "ann", "shared")  # the first, but nothing of hers is left in it
        sent(0, "bob", "shared")
        sent(5, "cid", "owned")  # his browser still sends, without his name
        sent(4, "dan", "owned")
        sent(0, None, "owned")
        sent(5, "eve", "still")
        sent(0, "eve", "still")
        service.settle()
        keep(service, 2)
        left(service, 3)
        asked = (
            "SELECT anonymous_id, user_id, toString(toDate(min(first_linked_at))) FROM analytics.identities"
            " GROUP BY ALL ORDER BY ALL"
        )
        until(lambda: len(service.rows(asked)) == 3)
        assert service.rows(asked) == [
            ["owned", "cid", "2026-02-04"],
            ["shared", "bob", "2026-02-09"],
            ["still", "eve", "2026-02-04"],
        ]


def test_receipts_go_with_their_event_and_a_late_one_a_rule_s_length_after_it_came(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        old, kept = event(clock, 0), event(clock, 0, event_name="buy")
        service.send([old, kept])
        hand_over(service, clock, old, kept)
        until(lambda: service.rows("SELECT count() FROM analytics.receipts") == [[2]])
        keep(service, 2)
        keep(service, "forever", "buy")
        left(service, 2)
        clock.advance(2.5 * DAY)
        left(service, 1)
        asked = "SELECT DISTINCT toString(event_id) FROM analytics.receipts"
        until(lambda: service.rows(asked) == [[kept["event_id"]]])
        hand_over(service, clock, old)  # nobody knows any more what it is of
        until(lambda: len(service.rows(asked)) == 2)
        clock.advance(1 * DAY)
        until(lambda: rested(service))
        assert len(service.rows(asked)) == 2
        clock.advance(1.5 * DAY)
        until(lambda: service.rows(asked) == [[kept["event_id"]]])


def test_names_that_an_earlier_version_left_in_rollups_are_found_and_go_at_the_next_start(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, 3), event(clock, 0)])
        service.settle()
        keep(service, 2)
        left(service, 1)
        service.services.loader.stop()
        place = "SELECT 'demo', 'local', toDate('2026-02-06'), 'ann', 'click_send', 's1', 4"
        service.services.store.command(f"INSERT INTO analytics.events_daily {place}")
        said = doctor(service)["expiry"]
        assert not said["ok"] and "202602" in said["says"]
    clock.advance(60)
    with running(tmp_path / "data", clock) as service:
        until(lambda: ["2026-02-06", "", "", 5] in daily(service))
        assert doctor(service)["expiry"]["ok"]


def test_power_cut_after_expiry_brings_nothing_back_and_doubles_nothing(tmp_path: Path) -> None:
    """The chunk's file is still there and the machine goes down: what expiry took is not what the store lost."""
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock, boot="one") as service:
        sent = [event(clock, age) for age in (0, 1, 3, 3)]
        service.send(sent)
        keep(service, 2)
        left(service, 2)
    with running(tmp_path / "data", clock, boot="two") as service:
        until(lambda: not service.services.spool.reconciling)
        left(service, 2)
        assert balanced(service)["expired"] == 2
        assert service.services.spool.stale_months() == []
    with running(tmp_path / "data", clock, boot="three") as service:
        until(lambda: not service.services.spool.reconciling)
        service.services.store.command("ALTER TABLE analytics.events DELETE WHERE 1 SETTINGS mutations_sync = 2")
    with running(tmp_path / "data", clock, boot="four") as service:  # now the store has lost what is not expired
        left(service, 2)
        assert balanced(service)["expired"] == 2
        again = service.send(sent)
        assert (again["accepted"], again["duplicate"], again["dropped"]) == (0, 2, 2)


def test_erasure_and_expiry_before_an_unclean_boot_hold_and_count_each_event_once(tmp_path: Path) -> None:
    """Some of a person's events expire, the others are erased meanwhile; then the machine goes down, twice."""
    clock, data = ManualClock(NOON), tmp_path / "data"

    def sent(user: str, age: float) -> dict[str, Any]:
        return event(clock, age, user_id=user, anonymous_id=f"of-{user}", session_id=f"s-{user}")

    with running(data, clock, boot="one") as service:
        all_of_them = [sent(user, age) for user in ("ann", "bob") for age in (0, 0.1, 3, 3.5)]
        service.send(all_of_them, key=service.server_key)
        service.settle()
        keep(service, 2)
        clock.advance(1)
        erased = service.services.eraser.request("demo", "ann", None)

        def done() -> bool:
            clock.advance(1)
            return service.services.eraser.get(erased.id).state is State.DONE

        until(done)
        left(service, 2)
        assert service.services.spool.ledger.chunks("loaded"), "files are still kept, and were amended"
    with running(data, clock, boot="two") as service:
        until(lambda: not service.services.spool.reconciling)
        left(service, 2)
        assert service.services.spool.stale_months() == []
        # Nothing is out of grace: what the store lost now is put back from the files, and nothing else is.
        service.services.store.command("ALTER TABLE analytics.events DELETE WHERE 1 SETTINGS mutations_sync = 2")
    with running(data, clock, boot="three") as service:
        left(service, 2)
        assert service.rows("SELECT user_id, count(), uniqExact(event_id) FROM analytics.events GROUP BY 1") == [
            ["bob", 2, 2]
        ]
        named = "SELECT DISTINCT user_id FROM analytics.{} WHERE user_id != ''"
        for table in ("events_daily", "identities"):
            assert service.rows(named.format(table)) == [["bob"]]
        again = service.send(all_of_them, key=service.server_key)
        assert (again["accepted"], again["duplicate"], again["dropped"]) == (0, 2, 6)
        state = service.get("/api/analytics/pipeline").json()
        assert state["balance"]["holds"], state
        assert (state["stored"], state["expired"] + state["erased"]) == (2, 6), state


def test_crash_between_count_and_deletion_ends_in_one_deletion_and_one_count(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, 0), event(clock, 3)])
        service.settle()
        service.services.loader.stop()
        removals = service.services.spool.removals
        service.services.store.command(
            "ALTER TABLE analytics.events UPDATE expires_at = toDateTime(event_timestamp) + 172800 WHERE 1"
            " SETTINGS mutations_sync = 2"
        )
        month, due = 202602, clock.milliseconds() // 1000
        place = ("demo", "local")
        gone = service.services.store.select(
            f"SELECT count() FROM analytics.events WHERE expires_at <= toDateTime({due}, 'UTC')"
        ).rows[0][0]
        removals.begin(month, due, {place: gone}, {"demo": due * 1000 - 3 * DAY * 1000}, [], lambda line: line)
        state = service.get("/api/analytics/pipeline").json()
        assert state["balance"]["holds"] and state["expired"] == 1 and state["stored"] == 1
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, 0)])
        until(lambda: service.rows(COUNT)[0][0] == 2 and not service.services.spool.removals.pending())
        assert balanced(service)["expired"] == 1
        assert ["2026-02-06", "", "", 1] in daily(
            service
        )  # what rollups named went before the deletion counted as done


def test_what_waits_in_quarantine_or_for_a_look_up_expires_too(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with running(tmp_path / "data", clock, masking=False) as service:
        service.send([event(clock, 0)])
        service.settle()
        service.make_the_store_refuse_text_values()
        service.send([event(clock, 0, event_value="TEXTCANARY"), event(clock, 0, event_value="5")])
        service.settle()
        assert len(service.services.spool.ledger.chunks("quarantined")) == 1
        keep(service, 2)
        until(lambda: rested(service))
        clock.advance(3 * DAY)
        left(service, 0)
        until(lambda: service.services.spool.ledger.chunks("quarantined") == [])
        state = balanced(service)
        assert (state["expired"], state["quarantined"], state["stored"]) == (3, 0, 0)
        assert b"TEXTCANARY" not in everything_in(tmp_path / "data" / "spool" / "chunks")
        assert service.services.spool.replay() == []


def test_rollups_keep_what_expired_and_equal_raw_above_the_watermark(tmp_path: Path) -> None:
    clock = ManualClock(1_772_193_600_000)  # 2026-02-27 12:00 UTC
    with running(tmp_path / "data", clock) as service:
        service.send([event(clock, age) for age in (0, 1, 2, 3)])
        clock.advance(6 * DAY)
        service.send([event(clock, age) for age in (0, 1, 2)])
        service.settle()
        keep(service, 5)
        left(service, 3)  # all of February is gone
        since = first_whole_month(service.services.spool.complete_since())
        assert since == 202603 and compare(service.services.store, since) == []
        assert service.rows("SELECT sum(event_count) FROM analytics.events_hourly") == [[7]]
        assert doctor(service)["rollups"]["ok"]

        def ask(measure: str) -> Any:
            headers = {"Authorization": f"Bearer {service.owner_key}"}
            asked = {"range": {"last": 2, "unit": "month"}, "interval": "month", "series": [{"measure": measure}]}
            return service.request("POST", "/api/analytics/query/trends", json=asked, headers=headers).json()

        counted, people = ask("count"), ask("persons")
        assert counted["source"] == "rollup" and counted["series"][0]["total"] == 7
        assert [b["state"] for b in people["buckets"]] == ["expired", "unfinished"]
        assert people["series"][0]["values"][0] is None and people["complete_from"].startswith("2026-02-")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"days": 0}, "1..36500"),
        ({"days": 40_000}, "1..36500"),
        ({"days": 5, "field": "user_id"}, "metadata.NAME"),
        ({"days": 5, "field": "metadata.a.b"}, "outermost"),
        ({"days": "off"}, "no such rule"),
    ],
)
def test_rule_out_of_its_limits_is_refused_and_says_which(service: Service, body: dict[str, Any], said: str) -> None:
    headers = {"Authorization": f"Bearer {service.owner_key}"}
    answer = service.request("PUT", "/api/analytics/privacy/retention", json=body, headers=headers)
    assert answer.status_code in (400, 404) and said in json.dumps(answer.json())


def test_only_those_who_guard_may_see_or_change_retention(service: Service) -> None:
    for key, status in ((service.read_key, 403), (service.write_key, 403), (service.owner_key, 200)):
        assert service.get("/api/analytics/privacy/retention", key).status_code == status
