"""SQL that no engine here can run: each statement is parsed by the engine, and what must hold of it is read in it."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.server import Server
from twintrack.errors import StoreError
from twintrack.store.cluster import render
from twintrack.store.grants import grants
from twintrack.store.migrate import known

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    opened = Server(tmp_path_factory.mktemp("server") / "engine")
    yield opened
    opened.close()


def parsed(server: Server, statement: str) -> bool:
    return bool(server.store.select(f"EXPLAIN AST {statement}").rows)


def test_statements_for_a_cluster_are_parsed_by_the_engine(server: Server) -> None:
    for statement in render("shop"):
        if not statement.startswith("INSERT"):
            assert "ON CLUSTER 'shop'" in statement
            assert parsed(server, statement), statement
    with pytest.raises(StoreError):
        parsed(server, render("shop")[2].replace("ENGINE", "ENGNE"))


def test_each_table_is_replicated_with_a_window_and_read_through_a_distributed_one() -> None:
    made = render("shop")
    names = re.findall(
        r"CREATE TABLE IF NOT EXISTS analytics\.(\w+)", "".join(s for m in known() for s in m.statements)
    )
    assert len(names) >= 5
    for name in (name for name in names if name != "erasing"):  # in memory, nothing to replicate
        [local] = [s for s in made if s.startswith(f"CREATE TABLE IF NOT EXISTS analytics.{name}_local ON")]
        assert re.search(r"ENGINE = Replicated\w*MergeTree\('/clickhouse/tables/\{shard\}/", local)
        assert "replicated_deduplication_window_seconds = 604800" in local
        assert "non_replicated" not in local
        [front] = [s for s in made if s.startswith(f"CREATE TABLE IF NOT EXISTS analytics.{name} ON")]
        assert f"Distributed('shop', 'analytics', '{name}_local'" in front


def test_replicas_clean_at_the_engines_own_pace() -> None:
    """Each look of a replica is a question to Keeper; once a second is for an engine of its own."""
    assert any("cleanup_delay_period" in s for migration in known() for s in migration.statements)
    assert not any("cleanup_delay_period" in statement for statement in render("shop"))
    assert not any(statement.rstrip().endswith(("MODIFY SETTING", ",")) for statement in render("shop"))


def test_events_are_spread_by_chunk_and_views_stay_on_their_shard() -> None:
    made = render("shop")
    [front] = [s for s in made if s.startswith("CREATE TABLE IF NOT EXISTS analytics.events ON")]
    assert front.endswith("'events_local', cityHash64(chunk_id))")
    feeds = [s for s in made if s.startswith("CREATE MATERIALIZED VIEW")]
    assert len(feeds) >= 3
    for feed in feeds:
        assert re.search(r" TO analytics\.\w+_local AS", feed)
        assert "FROM analytics.events_local" in feed


@pytest.mark.parametrize("name", ["", "a b", "1a", "a'; DROP", "é"])
def test_cluster_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        render(name)


@pytest.mark.parametrize("cluster", ["", "shop"])
def test_grants_are_parsed_by_the_engine_and_reach_no_other_database(server: Server, cluster: str) -> None:
    for statement in grants(cluster):
        assert parsed(server, statement), statement
        assert " ALL " not in statement and "WITH GRANT OPTION" not in statement
        place = re.search(r" ON (\S+\.\S+) TO ", statement)
        assert place is not None
        allowed = place.group(1) in ("analytics.*", "analytics.erasing") or place.group(1).startswith("system.")
        of_no_database = "CREATE TEMPORARY TABLE ON *.*" in statement
        assert allowed or of_no_database or (cluster and "CLUSTER, REMOTE ON *.*" in statement)


def test_server_configuration_is_well_formed_and_bounds_every_system_table_it_keeps() -> None:
    root = ElementTree.parse(OPERATIONS / "twintrack.xml").getroot()
    assert root.tag == "clickhouse"
    logs = [child for child in root if child.tag.endswith("_log")]
    assert len(logs) >= 8
    for log in logs:
        ttl = log.find("ttl")
        assert log.get("remove") == "1" or (ttl is not None and "INTERVAL" in (ttl.text or "")), log.tag
