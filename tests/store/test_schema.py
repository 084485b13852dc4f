"""The tables: column order, exact rollups, and the plan's own query as a golden test."""

from uuid import uuid4

import msgspec

from tests.conftest import Service
from twintrack.event import RequestContext, Row, Tenancy, WireConsent, WireEvent, limits
from twintrack.ingest.enrich import enrich
from twintrack.store.migrate import known, migrate, missing
from twintrack.store.schema import read_as
from twintrack.testing import wire_event

PLANS_QUERY = (
    "SELECT date, user_id, event_name, count() AS event_count, uniq(session_id) AS session_count"
    " FROM analytics.events GROUP BY date, user_id, event_name"
)


def test_row_fields_are_columns_of_the_table(service: Service) -> None:
    columns = {r[0] for r in service.services.store.select("DESCRIBE TABLE analytics.events").rows}
    assert set(Row.__struct_fields__) | {"chunk_id"} <= columns


def test_cells_are_read_as_what_their_columns_can_hold(service: Service) -> None:
    columns = {r[0]: r[1] for r in service.services.store.select("DESCRIBE TABLE analytics.events").rows}
    cells = read_as("events")
    # Read as another JSON type, each object would be written and parsed once more.
    assert f"event_metadata {columns['event_metadata'].replace('=', ' = ')}" in cells.replace("=", "=")
    # A number that is too wide for its column is cut without a word.
    assert limits().viewport_pixels < 2**16
    assert columns["viewport_width"] == columns["viewport_height"] == "UInt16"
    assert limits().message_content_characters < 2**32
    assert columns["message_length"] == "Nullable(UInt32)"


def test_plans_query_and_daily_user_events_agree_over_many_inserts(service: Service) -> None:
    for insert in range(4):
        service.send([wire_event(user_id=f"u{i % 3}", session_id=f"s{i % 2}") for i in range(10 + insert)])
        service.settle()
    plan = service.rows(PLANS_QUERY)
    view = service.rows("SELECT date, user_id, event_name, event_count, session_count FROM analytics.daily_user_events")
    assert sorted(map(tuple, plan)) == sorted(map(tuple, view))
    assert len(plan) == 3


def test_hourly_rollup_equals_raw(service: Service) -> None:
    for _ in range(3):
        service.send([wire_event(user_id=f"u{i}", session_id=f"s{i % 2}") for i in range(5)])
        service.settle()
    raw = service.rows("SELECT count(), uniqExact(user_id), uniqExact(session_id) FROM analytics.events")
    rollup = service.rows(
        "SELECT sum(event_count), uniqExactMerge(persons), uniqExactMerge(sessions) FROM analytics.events_hourly"
    )
    assert raw == rollup == [[15, 5, 2]]


def test_nullable_columns_keep_the_plans_meaning(service: Service) -> None:
    service.send([wire_event(), wire_event(message_content="", event_value="5", thread_id="t")])
    sql = "SELECT countIf({0} IS NULL) FROM analytics.events"
    for column in ("event_value", "message_content", "message_length", "thread_id"):
        assert service.rows(sql.format(column)) == [[1]], column


def test_both_ids_make_one_link(service: Service) -> None:
    service.send(
        [wire_event(user_id="ann", anonymous_id="a1"), wire_event(user_id="ann", anonymous_id="a1"), wire_event()]
    )
    sql = "SELECT anonymous_id, user_id, sum(links) FROM analytics.identities GROUP BY ALL"
    assert service.rows(sql) == [["a1", "ann", 2]]


def test_receipts_are_idempotent_and_outside_the_balance(service: Service) -> None:
    event = wire_event()
    receipt = {"event_id": event["event_id"], "vendor": "statsig", "status": "handed", "at": event["client_timestamp"]}
    service.send({"events": [event], "receipts": [receipt, {**receipt, "vendor": "nobody"}]})
    service.send({"events": [], "receipts": [receipt]})
    assert service.rows("SELECT count() FROM analytics.receipts FINAL") == [[1]]
    state = service.get("/api/analytics/pipeline").json()
    assert (state["received"], state["balance"]["holds"]) == (1, True)


def test_migrations_are_applied_once(service: Service) -> None:
    assert missing(service.services.store) == []
    assert migrate(service.services.store) == []
    assert [m.name for m in known()] == sorted(m.name for m in known())


def test_row_that_waited_over_the_update_that_brought_consent_is_taken_without_it(service: Service) -> None:
    """What an older version left in the spool has fewer columns; the newer ones stand last."""
    names = (*Row.__struct_fields__,)
    assert names[-2:] == ("consent_at", "consent_denied")
    tenancy = Tenancy("demo", "local")
    context = RequestContext(tenancy, False, None, 1_767_225_600_000, 0, "::", "", False)
    old = msgspec.to_builtins(enrich(WireEvent(uuid4(), "old", consent="granted"), context, ""))[:-2]
    new = msgspec.to_builtins(
        enrich(WireEvent(uuid4(), "new", consent=WireConsent("granted", None, ["gtm"])), context, "")
    )
    rows = b"\n".join(msgspec.json.encode(row) for row in (old, new))
    service.services.store.insert("events", str(uuid4()), rows, "a token")
    found = "SELECT event_name, consent, consent_at, consent_denied FROM analytics.events ORDER BY event_name"
    assert service.rows(found) == [["new", "granted", None, ["gtm"]], ["old", "granted", None, []]]


def test_table_of_an_older_version_gets_its_columns_and_keeps_its_rows(service: Service) -> None:
    store = service.services.store
    service.send([wire_event()])
    service.settle()
    for column in ("consent_at", "consent_denied"):
        store.command(f"ALTER TABLE analytics.events DROP COLUMN {column}")
    store.command("ALTER TABLE analytics.migrations DELETE WHERE name = '0004_consent' SETTINGS mutations_sync = 1")
    assert [m.name for m in missing(store)] == ["0004_consent"]
    assert migrate(store) == ["0004_consent"]
    service.send([wire_event(consent={"state": "granted", "denied": ["statsig"]})])
    assert service.rows("SELECT consent_denied FROM analytics.events ORDER BY consent_denied") == [[[]], [["statsig"]]]
