"""SQL as files, explained, and kept under names: what holds for the JSON answer holds for these too."""

import csv
import io
import json
from collections.abc import Iterator

import httpx2 as httpx
import pyarrow.parquet
import pytest

from tests.conftest import Service, running
from twintrack.auth import Role
from twintrack.testing import wire_event

EVENTS = 500


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("files") / "data"
    with running(folder, query_file_rows=400_000) as service:
        service.send([wire_event(sequence=n, message_content=f"hello {n}") for n in range(EVENTS)])
        service.elsewhere().send([wire_event(event_name="not_yours")])
        service.settle()
        yield service


def file(service: Service, output: str, sql: str, key: str | None = None, **parameters: object) -> httpx.Response:
    return service.request(
        "POST",
        "/api/analytics/sql",
        json={"sql": sql, "parameters": parameters, "format": output},
        headers={"Authorization": f"Bearer {key or service.owner_key}"},
    )


def key_of(service: Service, role: Role) -> str:
    return service.services.control.create_key(role, "demo", "local")


@pytest.mark.parametrize("output", ["csv", "json", "parquet"])
def test_file_holds_every_row_of_the_answer_in_its_format(filled: Service, output: str) -> None:
    answer = file(filled, output, "SELECT sequence FROM events WHERE sequence >= {n:UInt64} ORDER BY sequence", n=100)
    assert answer.status_code == 200, answer.text
    rows = {
        "csv": lambda: [int(row["sequence"]) for row in csv.DictReader(io.StringIO(answer.text))],
        "json": lambda: [int(json.loads(line)["sequence"]) for line in answer.text.splitlines()],
        "parquet": lambda: pyarrow.parquet.read_table(io.BytesIO(answer.content))["sequence"].to_pylist(),
    }[output]()
    assert rows == list(range(100, EVENTS))


def test_file_shows_only_the_keys_own_project(filled: Service) -> None:
    assert "not_yours" not in file(filled, "csv", "SELECT * FROM events").text
    refused = file(filled, "csv", "SELECT * FROM file('/etc/passwd')")
    assert refused.status_code == 400 and "error" in refused.json()


def test_file_takes_a_parameter_by_the_engine_alone(filled: Service) -> None:
    """The driver would write this value into the text that was judged."""
    stolen = "x' UNION ALL SELECT name FROM system.tables --"
    answer = file(filled, "csv", "SELECT '%(x)s' FROM events LIMIT 1", x=stolen)
    assert "tables" not in answer.text


def test_file_hides_what_the_role_may_not_see(filled: Service) -> None:
    text = file(filled, "json", "SELECT message_content FROM events", key_of(filled, Role.ANALYST)).text
    assert "hello" not in text and "[MESSAGE]" in text


@pytest.mark.parametrize("role", [Role.READ, Role.VIEWER, Role.WRITE])
def test_file_is_for_roles_that_may_export(filled: Service, role: Role) -> None:
    assert file(filled, "csv", "SELECT 1 FROM events", key_of(filled, role)).status_code == 403


def test_file_larger_than_the_limit_is_refused_and_never_cut(filled: Service) -> None:
    sql = "SELECT a.sequence FROM events AS a CROSS JOIN events AS b CROSS JOIN (SELECT 1 FROM events LIMIT 2) AS c"
    answer = file(filled, "parquet", sql)
    assert answer.status_code == 400 and "400" in answer.json()["error"]["message"], answer.text


def test_explained_statement_names_what_would_be_read_with_its_parameters(filled: Service) -> None:
    """That it is not run: tests/query/test_explain.py."""
    answer = filled.request(
        "POST",
        "/api/analytics/sql/explain",
        json={"sql": "SELECT count() FROM events WHERE event_name = {name:String}", "parameters": {"name": "page"}},
        headers={"Authorization": f"Bearer {filled.owner_key}"},
    )
    assert answer.status_code == 200, answer.text
    assert any("analytics.events" in line for line in answer.json()["plan"]) and "page" in str(answer.json()["plan"])


def test_saved_query_is_listed_run_changed_and_forgotten(filled: Service) -> None:
    head = {"Authorization": f"Bearer {filled.owner_key}"}
    path = "/api/analytics/saved/first events"
    for sql, expected in (
        ("SELECT count() AS n FROM events WHERE sequence < {n:UInt64}", 10),
        ("SELECT count() AS n FROM events WHERE sequence <= {n:UInt64}", 11),
    ):
        kept = filled.request("PUT", path, json={"sql": sql, "description": "how many"}, headers=head)
        assert kept.status_code == 200, kept.text
        ran = filled.request("POST", path, json={"parameters": {"n": 10}}, headers=head)
        assert ran.json()["rows"] == [[expected]]
    listed = filled.request("GET", "/api/analytics/saved", headers=head).json()["saved"]
    assert [(one["name"], one["description"]) for one in listed] == [("first events", "how many")]
    other = {"Authorization": f"Bearer {filled.elsewhere().owner_key}"}
    assert filled.request("POST", path, json={}, headers=other).status_code == 404
    assert filled.request("DELETE", path, headers=head).status_code == 204
    assert filled.request("POST", path, json={}, headers=head).status_code == 404


@pytest.mark.parametrize("sql", ["DROP TABLE events", "SELECT * FROM system.users", "SELECT 1; SELECT 2"])
def test_statement_that_may_not_run_may_not_be_saved(filled: Service, sql: str) -> None:
    head = {"Authorization": f"Bearer {filled.owner_key}"}
    assert filled.request("PUT", "/api/analytics/saved/x", json={"sql": sql}, headers=head).status_code == 400
