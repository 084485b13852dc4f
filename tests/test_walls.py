"""Who may import whom. A wall that falls here falls in review."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "twintrack"
FILES = sorted(SOURCE.rglob("*.py"))


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room(file: Path) -> str:
    return str(file.relative_to(SOURCE))


@pytest.mark.parametrize(
    "folder,forbidden",
    [
        (
            "ingest",
            (
                "twintrack.store",
                "twintrack.load",
                "twintrack.query",
                "twintrack.spool.local",
                "twintrack.spool.ledger",
                "twintrack.spool.kafka",
            ),
        ),
        (
            "load",
            (
                "twintrack.ingest",
                "twintrack.query",
                "twintrack.spool.local",
                "twintrack.spool.chunks",
                "twintrack.spool.kafka",
                "twintrack.store.clickhouse",
            ),
        ),
        ("query", ("twintrack.ingest", "twintrack.spool", "twintrack.load", "twintrack.store.clickhouse")),
        ("store", ("twintrack.ingest", "twintrack.spool", "twintrack.load", "twintrack.query")),
        ("spool", ("twintrack.ingest", "twintrack.store", "twintrack.load", "twintrack.query")),
        ("control", ("twintrack.ingest", "twintrack.store", "twintrack.load", "twintrack.spool", "twintrack.query")),
    ],
)
def test_room_knows_only_what_the_design_lets_it_know(folder: str, forbidden: tuple[str, ...]) -> None:
    broken = {
        f"{room(file)} imports {name}"
        for file in SOURCE.glob(f"{folder}/**/*.py")
        for name in imports(file)
        if name.startswith(forbidden)
    }
    assert broken == set()


@pytest.mark.parametrize(
    "module,owners",
    [
        ("clickhouse_connect", {"store/clickhouse.py"}),
        ("chdb", {"store/engine.py"}),
        ("lmdb", {"spool/claims.py"}),
        ("confluent_kafka", {"spool/kafka/broker.py"}),
        ("sqlite3", {"spool/ledger.py"}),
    ],
)
def test_driver_is_imported_only_by_its_owner(module: str, owners: set[str]) -> None:
    users = {room(f) for f in FILES if any(n == module or n.startswith(module + ".") for n in imports(f))}
    assert users <= owners


def calls(file: Path) -> set[str]:
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_only_settings_reads_the_environment() -> None:
    assert {room(f) for f in FILES if calls(f) & {"os.environ", "os.getenv"}} <= {"settings.py"}


def test_only_clock_reads_the_wall_clock() -> None:
    walls = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
    assert {room(f) for f in FILES if calls(f) & walls} <= {"clock.py", "testing.py"}


def test_only_the_composition_root_and_the_ends_import_app() -> None:
    users = {room(f) for f in FILES if "twintrack.app" in imports(f)}
    assert users <= {
        "cli.py",
        "terminal.py",
        "serve.py",
        "commands.py",
        "doctor.py",
        "backup_command.py",
        "backup/restore.py",
    }


def test_no_file_outgrows_500_lines() -> None:
    assert [room(f) for f in FILES if len(f.read_text().splitlines()) > 500] == []


ORACLE = sorted((Path(__file__).parent / "query" / "oracle").rglob("*.py"))


@pytest.mark.parametrize("file", ORACLE, ids=lambda file: file.name)
def test_oracle_imports_nothing_of_what_it_judges_nor_of_tests_that_do(file: Path) -> None:
    ours = {name for name in imports(file) if name.split(".")[0] in ("twintrack", "tests", "benchmarks")}
    assert all(name.startswith("tests.query.oracle") for name in ours), ours
    text = file.read_text()
    assert "importlib" not in text and "__import__" not in text


def test_oracle_is_there() -> None:
    assert {"trends.py", "funnel.py", "retention.py", "lists.py"} <= {file.name for file in ORACLE}
