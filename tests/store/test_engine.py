"""The engine's HTTP interface: its pure parts, and that the driver sees through it what the engine answers in process."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server import Server
from twintrack.errors import StoreDenied, StoreError, StoreUnavailable
from twintrack.store.clickhouse import ClickHouse
from twintrack.store.engine import empty_block, form, insert_from, question, quoted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    opened = Server(tmp_path_factory.mktemp("server") / "engine")
    yield opened
    opened.close()


@pytest.fixture
def store(server: Server) -> ClickHouse:
    return server.store


# -- pure ----------------------------------------------------------------------------------------------------------


def test_question_takes_an_insert_from_the_body_apart() -> None:
    asked = question({}, b'INSERT INTO a.t (`x`, `y`) FORMAT JSONCompactEachRow\n[1,"FORMAT\\n"]\n[2,3]')
    assert asked.statement == "INSERT INTO a.t (`x`, `y`) FORMAT JSONCompactEachRow"
    assert asked.data == b'[1,"FORMAT\\n"]\n[2,3]'
    assert asked.output_format == "JSONCompactEachRow"


def test_question_takes_an_insert_from_the_address_and_its_data_from_the_body() -> None:
    asked = question({"query": "INSERT INTO a.t FORMAT CSV"}, b"1,2\n3,4")
    assert (asked.statement, asked.data) == ("INSERT INTO a.t FORMAT CSV", b"1,2\n3,4")


def test_insert_of_rows_names_their_file_and_takes_what_its_select_makes_of_them() -> None:
    plain = question({"query": "INSERT INTO a.t FORMAT CSV"}, b"1")
    assert insert_from(plain, "/f") == "INSERT INTO a.t FROM INFILE '/f' FORMAT CSV"
    read = question({"query": "INSERT INTO a.t SELECT 1, * FROM input('x DateTime(\\'UTC\\')') FORMAT CSV"}, b"1")
    assert insert_from(read, "/f") == "INSERT INTO a.t SELECT 1, * FROM file('/f', 'CSV', 'x DateTime(\\'UTC\\')')"


def test_question_keeps_values_apart_from_settings_and_transport() -> None:
    given_ = {"database": "d", "param_x": "1", "max_threads": "2", "wait_end_of_query": "1", "query_id": "q"}
    asked = question(given_, b"SELECT {x:UInt8} FORMAT Native")
    assert asked.parameters == {"x": "1"}
    assert asked.settings == {"max_threads": "2"}
    assert (asked.database, asked.output_format, asked.data) == ("d", "Native", None)


@pytest.mark.parametrize("name", ["a b", "a;DROP", "1a", "a=1,b", "", "é"])
def test_setting_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        question({name: "1"}, b"SELECT 1")


def test_select_that_quotes_an_insert_is_no_insert() -> None:
    asked = question({}, b"SELECT 'INSERT INTO a.t FORMAT CSV\n' FORMAT JSON")
    assert asked.data is None
    assert asked.output_format == "JSON"


def test_form_is_read_field_by_field() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {x:String}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_x"\r\n\r\nline\r\nline \xc3\xa9\r\n--b--\r\n'
    )
    assert form("multipart/form-data; boundary=b", body) == {"query": "SELECT {x:String}", "param_x": "line\r\nline é"}


@pytest.mark.parametrize("body", [b"", b"--b--\r\n", b"nothing"])
def test_form_without_a_query_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        form("multipart/form-data; boundary=b", body)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_quoted_value_has_no_end_inside(value: str) -> None:
    inside = quoted(value)[1:-1]
    assert "'" not in inside.replace("\\\\", "").replace("\\'", "")
    assert inside.replace("\\'", "'").replace("\\\\", "\\") == value or "\\" in value


def test_empty_block_equals_what_the_engine_writes_for_no_rows(store: ClickHouse) -> None:
    """A Native block of one row, cut to its header, is the block of none but for the count."""
    one = b"".join(store.blocks("SELECT 1 AS a, 'x' AS b", "Native"))
    ours = empty_block([("a", "UInt8"), ("b", "String")])
    assert one == b"\x02\x01" + b"\x01a\x05UInt8" + b"\x01" + b"\x01b\x06String" + b"\x01x"
    assert ours == b"\x02\x00" + b"\x01a\x05UInt8" + b"\x01b\x06String"


# -- the driver's view ---------------------------------------------------------------------------------------------

TYPES = {
    "json": 'SELECT \'{"a": {"b": 1}, "c": [1, 2]}\'::JSON AS v',
    "low cardinality": "SELECT toLowCardinality(toString(number % 2)) AS v FROM numbers(5)",
    "nullable": "SELECT if(number % 2 = 0, NULL, number) AS v FROM numbers(4)",
    "nullable low cardinality": "SELECT toLowCardinality(if(number = 1, NULL, 'x')) AS v FROM numbers(3)",
    "moment": "SELECT toDateTime64('2026-02-28 23:59:59.999', 3, 'UTC') AS v",
    "date": "SELECT toDate('2026-02-28') AS v, toDateTime('2026-02-28 01:02:03', 'UTC') AS w",
    "address": "SELECT toIPv6('2001:db8::1') AS v, toIPv4('10.0.0.1') AS w",
    "uuid": "SELECT toUUID('0190a1b2-0000-7000-8000-000000000001') AS v",
    "arrays": "SELECT [1, 2, 3] AS v, [['a'], []] AS w, map('k', 1) AS m, (1, 'x') AS t",
    "numbers": "SELECT 18446744073709551615 AS v, -9223372036854775808 AS w, 1.5 AS f, nan AS n, toDecimal64(1.23, 2) AS d",
    "text": "SELECT 'tab\\t newline\\n quote\\' back\\\\ nul\\0 \u2028 \U0001f600' AS v",
    "no rows": "SELECT number AS n, toString(number) AS s, [number] AS a FROM numbers(0)",
    "no rows of all types": "SELECT toUUID('0190a1b2-0000-7000-8000-000000000001') AS u, '{}'::JSON AS j WHERE 0",
}
PLAIN = """
import json, sys
import clickhouse_connect
client = clickhouse_connect.get_client(dsn="chdb://" + sys.argv[1])
for name, sql in json.load(sys.stdin).items():
    result = client.query(sql)
    print(json.dumps([name, result.column_names, [t.name for t in result.column_types], repr(result.result_rows)]))
client.close()
"""


def test_driver_sees_each_type_as_it_does_in_process(store: ClickHouse, tmp_path: Path) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tmp_path / "plain")],
        input=json.dumps(TYPES),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}
    for name, sql in TYPES.items():
        answer = store.select(sql)
        names, kinds = [n for n, _ in answer.columns], [t for _, t in answer.columns]
        if not name.startswith("no rows"):
            assert [names, kinds, repr(answer.rows)] == seen[name], name
            continue
        # In process an empty answer has no columns; a server names them.
        described = store.select(f"DESCRIBE TABLE ({sql})").rows
        assert [(row[0], row[1]) for row in described] == answer.columns
        assert list(answer.rows) == []


@pytest.mark.parametrize(
    "value",
    [
        "tab\there",
        "line\nline",
        "quote ' and \" ",
        "back\\slash\\n",
        "{x:String}",
        "é \u2028 \U0001f600",
        "",
        "a" * 50_000,
    ],
)
def test_parameter_arrives_as_it_was_given(store: ClickHouse, value: str) -> None:
    assert store.select("SELECT {x:String} AS v", {"x": value}).rows == [(value,)]


def test_settings_do_not_leak_into_the_next_question(store: ClickHouse) -> None:
    sql = "SELECT getSetting('max_threads'), getSetting('readonly'), getSetting('max_result_rows')"
    before = store.select(sql).rows
    store.select("SELECT 1", settings={"max_threads": 7, "max_result_rows": 9, "readonly": 1})
    with pytest.raises(StoreError):
        store.select(
            "SELECT number FROM numbers(100)", settings={"max_result_rows": 9, "result_overflow_mode": "throw"}
        )
    assert store.select(sql).rows == before


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE default.x (a Int8) ENGINE = Memory",
        "INSERT INTO FUNCTION null('a Int8') SELECT 1",
        "SELECT 1 SETTINGS max_threads = 3",
        "SET readonly = 0",
    ],
)
def test_readonly_holds(store: ClickHouse, sql: str) -> None:
    with pytest.raises(StoreError):
        store.select(sql, settings={"readonly": 1})


def test_error_has_the_engines_words_without_address_and_driver(server: Server, store: ClickHouse) -> None:
    with pytest.raises(StoreError) as caught:
        store.select("SELECT nothing FROM system.one")
    words = caught.value.message
    assert "nothing" in words and "UNKNOWN_IDENTIFIER" in words
    for part in ("127.0.0.1", str(server.port), server.password, "Received", "version", "http", "Code:"):
        assert part not in words


def test_wrong_password_is_denied(server: Server) -> None:
    other = server.open(f"http://twintrack:wrong@127.0.0.1:{server.port}")
    with pytest.raises(StoreDenied):
        other.select("SELECT 1")
    other.close()


def test_error_in_the_middle_of_a_stream_is_an_error(store: ClickHouse) -> None:
    sql = "SELECT throwIf(number = 3000000, 'late') AS v FROM numbers(5000000)"
    taken = 0
    with pytest.raises(StoreError):
        for _ in store.stream(sql):
            taken += 1
    assert 0 < taken < 5_000_000


def test_big_answer_is_streamed_in_bounded_memory(server: Server, store: ClickHouse) -> None:
    """300 MB of answer through an engine that grows by less than half of that: by a few blocks of 65,505 rows."""

    def resident() -> int:
        status = Path(f"/proc/{server.process.process_id}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    store.select("SELECT 1")
    before, most, rows = resident(), 0, 0
    for _ in store.stream("SELECT repeat('x', 100) AS v, number FROM numbers(3000000)"):
        rows += 1
        if rows % 200_000 == 0:
            most = max(most, resident())
    assert rows == 3_000_000
    assert most - before < 150


def test_questions_run_side_by_side(store: ClickHouse) -> None:
    def ask(number: int) -> Any:
        return store.select(f"SELECT sum(number), {number} FROM numbers(100000)").rows

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(120)))
    assert answers == [[(4_999_950_000, number)] for number in range(120)]


def running(store: ClickHouse) -> int:
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%numbers(1000000000000)%' AND query NOT LIKE '%processes%'"
    return int(store.select(sql).rows[0][0])


def until(what: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def test_question_whose_asker_has_gone_is_killed(server: Server, store: ClickHouse) -> None:
    asker = server.open(store_answer_seconds=1)
    with pytest.raises(StoreUnavailable):
        asker.select("SELECT sum(sipHash64(number)) FROM numbers(1000000000000)")
    until(lambda: running(store) == 0, 5)
    asker.close()


def test_cancel_ends_reads_at_once_and_leaves_inserts_alone(server: Server, store: ClickHouse) -> None:
    asker = server.open()
    failed: list[StoreError] = []

    def ask() -> None:
        try:
            asker.select("SELECT sum(sipHash64(number)) FROM numbers(1000000000000)")
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: running(store) == 3)
    asker.cancel()
    for thread in threads:
        thread.join(3)
    assert [type(error) for error in failed] == [StoreUnavailable] * 3
    until(lambda: running(store) == 0, 5)
    assert asker.select("SELECT 1").rows == [(1,)]
    asker.close()


def test_memory_limit_of_the_engine_holds_and_the_engine_lives(tmp_path: Path) -> None:
    from twintrack.settings import load_settings
    from twintrack.store.embedded import open_store

    small = open_store(load_settings(data=tmp_path, store_memory_bytes=256 << 20))
    try:
        with pytest.raises(StoreError) as caught:
            small.select("SELECT length(groupArray(number)) FROM numbers(100000000)")
        assert "MEMORY_LIMIT_EXCEEDED" in caught.value.message
        assert small.select("SELECT 1").rows == [(1,)]
    finally:
        small.close()
