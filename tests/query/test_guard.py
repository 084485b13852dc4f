"""Foreign SQL: what is refused, what is harmless, what must pass, and that no clause widens the scope."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service, open_service, running
from twintrack.auth import Role
from twintrack.errors import RequestError, StoreError
from twintrack.event import Tenancy
from twintrack.permissions import Permission, hidden_from, roles_with
from twintrack.query.guard import locks, scope
from twintrack.query.vocabulary import AGGREGATES, FUNCTIONS, NEVER, may_be_called
from twintrack.store.schema import READABLE, READABLE_COLUMNS
from twintrack.testing import wire_event

DATA = Path(__file__).parents[1] / "data"
CORPUS: dict[str, Any] = tomllib.loads((DATA / "hostile_sql.toml").read_text())
REFUSED = [sql for group in CORPUS.values() for sql in group.get("refused", [])]
HARMLESS = [sql for group in CORPUS.values() for sql in group.get("harmless", [])]
GOOD: list[str] = tomllib.loads((DATA / "analyst_sql.toml").read_text())["statements"]
DEMO = Tenancy("demo", "local")
# Of another project, of another environment, and of ours what only some may see.
FOREIGN, TEXT, CLAIM = "CANARYFOREIGN", "CANARYTEXT", "CANARYCLAIM"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Rows of ours, and beside them a second project and a second environment full of canaries."""
    with running(tmp_path_factory.mktemp("guard") / "data", query_seconds=3.0, query_memory_bytes=300 << 20) as service:
        for project, environment in (("other", "local"), ("demo", "production")):
            key = service.services.control.create_key(Role.SERVER, project, environment)
            marks = {
                name: f"{FOREIGN}{name.replace('_', '')}"
                for name in ("event_name", "user_id", "anonymous_id", "session_id", "thread_id", "message_content")
            }
            events = [wire_event(**marks, event_metadata={FOREIGN: FOREIGN}) for _ in range(3)]
            receipt = {"event_id": events[0]["event_id"], "vendor": "gtm", "status": "failed"}
            service.send({"events": events, "receipts": [{**receipt, "at": events[0]["client_timestamp"]}]}, key=key)
        ours = [wire_event(user_id=CLAIM, message_content=f"{TEXT} secret", event_metadata={"n": n}) for n in range(5)]
        receipt = {"event_id": ours[0]["event_id"], "vendor": "statsig", "status": "handed"}
        service.send({"events": ours, "receipts": [{**receipt, "at": ours[0]["client_timestamp"]}]})
        service.send([wire_event(user_id="known", message_content=TEXT)], key=service.server_key)
        service.settle()
        yield service


def test_corpora_are_large_enough_to_mean_something() -> None:
    assert len({*REFUSED, *HARMLESS}) >= 400 and len(set(GOOD)) >= 80
    assert not set(GOOD) & set(REFUSED)


@pytest.mark.parametrize("sql", REFUSED)
def test_statement_that_reaches_beyond_is_refused_with_a_hint_that_does_not_quote_it(sql: str) -> None:
    for tenancy in (DEMO, None):
        with pytest.raises(RequestError) as caught:
            scope(sql, tenancy)
        error = caught.value
        assert (error.code, error.status) == ("sql_refused", 400)
        assert error.message and error.hint
        assert "passwd" not in error.message + error.hint


def test_refusal_over_http_is_a_400_in_the_one_shape(filled: Service) -> None:
    answer = filled.sql("SELECT file('/etc/passwd')")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "sql_refused"


@pytest.mark.parametrize("role", ["owner", "read"])
def test_hostile_statement_shows_nothing_of_another_project_and_nothing_hidden(filled: Service, role: str) -> None:
    key = filled.owner_key if role == "owner" else filled.read_key
    hidden = (FOREIGN,) if role == "owner" else (FOREIGN, TEXT, CLAIM)
    ran = 0
    for sql in HARMLESS:
        answer = filled.sql(sql, key=key)
        ran += answer.status_code == 200
        assert answer.status_code in (200, 400, 502, 503), sql
        shown = {**answer.json()}
        shown.pop("sql", None)
        assert "root:" not in str(shown), (role, sql)
        for canary in hidden:
            assert canary not in str(shown), (role, sql)
            assert canary.encode().hex() not in str(shown).lower(), (role, sql)
        if answer.status_code != 200:
            assert answer.json()["error"]["message"]
    assert ran > len(HARMLESS) // 2


@pytest.mark.parametrize("role", sorted(roles_with(Permission.SQL)))
def test_question_of_an_analyst_is_answered(filled: Service, role: Role) -> None:
    key = filled.services.control.create_key(role, *DEMO)
    failed = {}
    for sql in GOOD:
        answer = filled.sql(sql, key=key, name="click_send")
        if answer.status_code != 200:
            failed[sql] = answer.json()["error"]["message"]
    assert not failed, "\n".join(f"{sql}\n   {said}" for sql, said in failed.items())


def test_engine_itself_filters_every_table_where_the_guard_is_passed_by(filled: Service) -> None:
    """The second wall: statements that no guard has seen, with the settings that go with every question."""
    executor = filled.services.executor
    bounds = {**executor.bounds(), **locks(DEMO)}
    for table in READABLE:
        rows = filled.services.store.select(f"SELECT DISTINCT project FROM analytics.{table}", None, bounds).rows
        assert [list(row) for row in rows] == [["demo"]], table
    for sql in (
        "SELECT groupUniqArray(project) FROM (SELECT * FROM analytics.events)",
        "WITH arrayMap(((x, y) -> 1) AS equals, [1], [2]) AS z SELECT groupUniqArray(project), z FROM analytics.events",
        f"SELECT countIf(event_name LIKE '{FOREIGN}%') FROM analytics.events"
        " WHERE event_id IN (SELECT event_id FROM analytics.events)",
        f"SELECT '{FOREIGN}eventname' IN (SELECT event_name FROM analytics.events)",
    ):
        shown = str([list(row) for row in filled.services.store.select(sql, None, bounds).rows])
        assert "other" not in shown and shown in ("[[['demo']]]", "[[['demo'], [1]]]", "[[0]]"), sql


def test_lock_that_a_name_tries_to_leave_holds(filled: Service) -> None:
    settings = locks(Tenancy("x' OR 1 = 1 --", "\\' OR 1 --"))
    rows = filled.services.store.select("SELECT count() FROM analytics.events", None, settings).rows
    assert [list(row) for row in rows] == [[0]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM analytics.events",
        "SELECT count() FROM events AS e WHERE e.event_name = 'click_send'",
        "WITH x AS (SELECT event_id FROM events) SELECT count() FROM x",
        "SELECT count() FROM events a JOIN events b ON a.event_id = b.event_id",
        "SELECT count() FROM events WHERE 1 OR project = 'other'",
        "SELECT sum(n) FROM (SELECT count() AS n FROM events UNION ALL SELECT 0)",
        "SELECT uniqExact(event_metadata.feature) FROM events",
        "WITH x AS (SELECT event_id FROM events) SELECT count() FROM events WHERE event_id IN x",
        "WITH x AS (SELECT event_id FROM events) SELECT count() FROM events WHERE event_id IN (x)",
        "SELECT count() FROM events WHERE event_name IN ('click_send') AND user_id NOT IN ('a', 'b')",
        "SELECT count() FROM events PREWHERE event_name = 'click_send' WHERE user_id = ''",
    ],
)
def test_key_sees_only_its_own_project_and_environment(filled: Service, sql: str) -> None:
    alone = filled.elsewhere()
    alone.send([wire_event()])
    alone.settle()
    answer = alone.sql(sql)
    assert answer.json().get("rows") == [[1]], answer.text


def test_with_query_is_no_table_where_it_is_not_in_scope(filled: Service) -> None:
    """A name taken for a WITH query outside its scope would be read as a table, uncut."""
    sql = "SELECT * FROM (WITH events_daily_feed AS (SELECT 1 AS a) SELECT a FROM events_daily_feed) AS x, events_daily_feed"
    answer = filled.sql(sql)
    assert answer.status_code >= 400
    assert "twintrack_with_" in answer.json()["error"]["message"]


def test_each_role_sees_text_and_claimed_ids_as_the_table_says(filled: Service) -> None:
    sql = "SELECT user_id, message_content FROM events ORDER BY identity DESC, sequence LIMIT 1"
    for role in sorted(roles_with(Permission.SQL)):
        key = filled.services.control.create_key(role, *DEMO)
        claimed = filled.sql(
            "SELECT any(user_id), any(message_content) FROM events WHERE identity = 'claimed'", key=key
        ).json()["rows"][0]
        known = filled.sql(sql, key=key).json()["rows"][0]
        assert known[0] == "known"
        lacks = hidden_from(role)
        assert (claimed[0] == CLAIM) is (Permission.CLAIMS not in lacks)
        assert claimed[0].startswith("claimed-") is (Permission.CLAIMS in lacks)
        assert (TEXT in claimed[1]) is (Permission.TEXT not in lacks)
    assert filled.sql(sql, key=filled.write_key).status_code == 403


def test_hidden_names_count_and_join_within_an_answer_and_change_between_answers(filled: Service) -> None:
    one = "SELECT DISTINCT user_id FROM events WHERE identity = 'claimed'"
    first, second = (filled.sql(one, key=filled.read_key).json()["rows"] for _ in range(2))
    assert len(first) == len(second) == 1 and first != second
    joined = (
        "SELECT countIf(d.user_id = e.user_id) FROM (SELECT DISTINCT user_id FROM events WHERE identity = 'claimed') AS e"
        " JOIN (SELECT DISTINCT user_id FROM events_daily) AS d ON e.user_id = d.user_id"
    )
    assert filled.sql(joined, key=filled.read_key).json()["rows"] == [[1]]
    guess = f"SELECT countIf(user_id = '{CLAIM}') FROM events"
    assert filled.sql(guess, key=filled.read_key).json()["rows"] == [[0]]
    assert filled.sql(guess).json()["rows"] == [[5]]


def test_error_does_not_tell_the_numbers_that_hidden_names_are_made_with(filled: Service) -> None:
    """The engine quotes the statement with the parameters in it."""
    answer = filled.sql("SELECT user_id, no.such_thing FROM events", key=filled.read_key)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "sipHash128Keyed" in message and not re.search(r"\d{12,}", message)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '%(x)s'",
        "SELECT '%(x)s', '{x:'",
        "SELECT '%s', '%(x)s' FROM events",
        "SELECT '{x:', '%(x)s', '{y:String}'",
        "SELECT '%(x)s', {x:String}",
    ],
)
def test_value_of_a_parameter_is_never_written_into_the_statement(filled: Service, sql: str) -> None:
    """The driver does that where it sees no place for it: the value then ends the literal and is SQL, unjudged."""
    value = " AS a, (SELECT groupArray(event_name) FROM analytics.events) AS b, (SELECT count() FROM system.tables), "
    answer = filled.sql(sql, x=value, y="y")
    assert FOREIGN not in answer.text and answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        assert all(cell in ("%(x)s", "{x:", "%s", "{y:String}", value) for row in answer.json()["rows"] for cell in row)


def test_parameters_are_values_and_never_sql(service: Service) -> None:
    service.send([wire_event()])
    service.settle()
    sql = "SELECT count() FROM events WHERE event_name = {n:String}"
    assert service.sql(sql, n="click_send").json()["rows"] == [[1]]
    assert service.sql(sql, n="' OR 1 = 1 --").json()["rows"] == [[0]]


def test_limit_that_was_met_is_named(tmp_path: Path) -> None:
    service = open_service(tmp_path / "data", query_result_rows=1)
    try:
        service.send([wire_event(), wire_event()])
        service.settle()
        answer = service.sql("SELECT event_id FROM events")
        assert answer.status_code == 400
        assert "rows" in answer.json()["error"]["message"].lower()
    finally:
        service.services.close()


def test_operator_reads_the_tables_themselves_with_what_only_they_have() -> None:
    asked = "SELECT DISTINCT event_name FROM events PREWHERE event_name = 'x'"
    assert scope(asked, None) == (
        'SELECT DISTINCT "event_name" FROM "analytics"."events" PREWHERE "event_name" = \'x\''
    )


def test_columns_that_may_be_named_are_the_engines(filled: Service) -> None:
    for table in READABLE:
        rows = filled.services.store.select(f"DESCRIBE TABLE analytics.{table}").rows
        assert {row[0] for row in rows} == set(READABLE_COLUMNS[table]), table


def test_no_function_on_the_list_is_of_a_kind_that_reaches_out(filled: Service) -> None:
    """The engine's own words about each: none reads a dictionary, a file, a setting or the server."""
    rows = filled.services.store.select("SELECT lower(name), lower(categories) FROM system.functions").rows
    there = {name: categories for name, categories in rows}
    bad = ("dictionar", "file", "server", "embedded", "machine learning", "introspection")
    for name in {*FUNCTIONS, *AGGREGATES}:
        categories = there.get(name.lower(), "")
        assert not any(word in categories for word in bad), (name, categories)


def test_columns_that_share_a_name_with_a_function_are_harmless(filled: Service) -> None:
    """A bare name that is a column of some table may stand where a function is taken: then it must be on the list."""
    rows = filled.services.store.select("SELECT lower(name) FROM system.functions").rows
    functions = {row[0] for row in rows}
    columns = {column for columns in READABLE_COLUMNS.values() for column in columns}
    assert {name for name in columns & functions if not may_be_called(name)} <= {"date"}


def answers(service: Service, sql: str) -> bool:
    """Whether the engine itself runs it."""
    try:
        service.services.store.select(sql)
    except StoreError:
        return False
    return True


def test_names_that_the_engine_calls_without_parentheses_are_allowed_or_never_taken(filled: Service) -> None:
    rows = filled.services.store.select("SELECT name FROM system.functions").rows
    called = {row[0] for row in rows if answers(filled, f'SELECT "{row[0]}"')}
    assert "now" in called
    assert {name for name in called if not may_be_called(name) and name.lower() not in NEVER} == set()


def test_no_function_but_those_of_arrays_and_maps_takes_a_function_by_its_name(filled: Service) -> None:
    """The others need no `identity` around a name that may be a function's."""
    shapes = ("length", "length, ['ab']", "['ab'], length", "1, length, ['ab']", "length, map('a', 'b')")
    takes = {
        name
        for name in {*FUNCTIONS, *AGGREGATES}
        if not name.startswith(("array", "map")) and any(answers(filled, f"SELECT {name}({shape})") for shape in shapes)
    }
    assert takes == set()
    assert answers(filled, "SELECT arraySum(length, ['ab'])")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("sum", True),
        ("SUM", True),
        ("sumIf", True),
        ("uniqExactMergeIf", True),
        ("sumOrDefaultIf", True),
        ("uniqExactState", False),
        ("sumStateIf", False),
        ("sumSimpleState", False),
        ("If", True),
        ("Merge", False),
        ("lengthIf", False),
        ("file", False),
        ("fileIf", False),
        ("", False),
    ],
)
def test_aggregate_may_carry_combinators_but_never_become_a_state(name: str, allowed: bool) -> None:
    assert may_be_called(name) is allowed
