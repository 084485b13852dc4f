"""The whole pipeline over the wire: the same loader, a server's HTTP interface, a real socket in between."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, open_service
from tests.faults.proxy import FaultProxy
from tests.server import Server, TlsFront, certificates
from twintrack.commands import command_app
from twintrack.errors import SettingsError, StoreDenied, StoreUnavailable
from twintrack.settings import load_settings
from twintrack.testing import wire_event


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    opened = Server(tmp_path_factory.mktemp("server") / "engine")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def empty(server: Server) -> Server:
    server.empty()
    return server


def exact(service: Service, events: int) -> None:
    """Each event is one row and counted once in every rollup, and the balance holds."""
    assert service.rows("SELECT count(), uniqExact(project, event_id) FROM analytics.events") == [[events, events]]
    assert service.rows("SELECT sum(event_count) FROM analytics.events_hourly") == [[events]]
    assert service.rows("SELECT sum(event_count) FROM analytics.events_daily") == [[events]]
    assert service.get("/api/analytics/pipeline").json()["balance"]["holds"]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_events_reach_a_server_under_each_compression(tmp_path: Path, empty: Server, compression: str) -> None:
    proxy = FaultProxy(("127.0.0.1", empty.port))
    service = open_service(tmp_path, store=empty.url(proxy.port), store_compression=compression)
    try:
        service.send(
            [wire_event(user_id=f"u{i}", message_content='a line\nand "another" \u2028 one') for i in range(50)]
        )
        exact(service, 50)
        wanted = b"" if compression == "none" else f"content-encoding: {compression}".encode()
        assert proxy.bodies and all(wanted in head.lower() for head in proxy.bodies)
        assert wanted or not any(b"content-encoding" in head.lower() for head in proxy.bodies)
        store = service.get("/readyz").json()["store"]
        assert store == {
            "engine": "clickhouse",
            "state": "loading",
            "error": None,
            "hint": None,
            "failures": 0,
            "retry_in_seconds": 0.0,
        }
    finally:
        service.services.close()
        proxy.close()


def test_events_reach_a_server_over_tls_of_a_private_authority(tmp_path: Path, empty: Server) -> None:
    authority, certificate, key = certificates(tmp_path)
    front = TlsFront(("127.0.0.1", empty.port), certificate, key)
    url = empty.url(front.port, "https", "localhost")
    service = open_service(tmp_path / "data", store=url, store_ca_file=str(authority))
    try:
        service.send([wire_event() for _ in range(7)])
        exact(service, 7)
        assert front.refused == 0
    finally:
        service.services.close()
        front.close()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_unknown_authority_is_refused_unless_verification_is_off(tmp_path: Path, empty: Server) -> None:
    _, certificate, key = certificates(tmp_path)
    front = TlsFront(("127.0.0.1", empty.port), certificate, key)
    url = empty.url(front.port, "https", "localhost")
    store = empty.open(url)
    with pytest.raises(StoreUnavailable) as caught:
        store.probe()
    assert empty.password not in str(caught.value.__dict__)
    assert front.refused > 0
    store.close()
    unchecked = empty.open(url, store_verify=False)
    unchecked.probe()
    unchecked.close()
    front.close()


def test_https_is_spoken_on_any_port(tmp_path: Path, empty: Server) -> None:
    """The driver takes the scheme from the port alone; a password must not go out in the clear for that."""
    store = empty.open(empty.url(empty.port, "https"))
    with pytest.raises(StoreUnavailable):
        store.probe()
    store.close()


def test_wrong_password_is_denied_without_saying_it(tmp_path: Path, empty: Server) -> None:
    store = empty.open(f"http://twintrack:not-the-password@127.0.0.1:{empty.port}")
    with pytest.raises(StoreDenied) as caught:
        store.probe()
    assert "AUTHENTICATION_FAILED (516)" in caught.value.message
    assert "not-the-password" not in caught.value.message + caught.value.hint
    assert str(empty.port) not in caught.value.message
    store.close()


def test_server_without_migrations_is_not_loaded_and_events_are_kept(tmp_path: Path) -> None:
    bare = Server(tmp_path / "engine")
    service = open_service(tmp_path / "data", store=bare.url(), store_backoff_seconds=0.05)
    try:
        service.send([wire_event() for _ in range(3)])
        _until(lambda: service.services.loader.last_error != "")
        ready = service.get("/readyz")
        assert ready.status_code == 200  # an event can be accepted durably
        store = ready.json()["store"]
        assert store["state"] == "waiting"
        assert "lacks migrations: 0001_events" in store["error"]
        assert "twintrack migrate" in store["hint"]
        assert bare.store.select("SELECT count() FROM system.databases WHERE name = 'analytics'").rows[0][0] == 0
        state = service.get("/api/analytics/pipeline").json()
        assert (state["store"]["ok"], state["store"]["state"], state["in_spool"]) == (False, "waiting", 3)
        assert "lacks migrations: 0001_events" in state["store"]["error"]
        checks = {check["check"]: check for check in asyncio.run(_doctor(service))["checks"]}
        assert not checks["store"]["ok"]
        assert "lacks migrations: 0001_events" in checks["store"]["says"]
        assert "twintrack migrate" in checks["store"]["do"]
        bare.migrate()
        exact(service, 3)
        assert service.get("/readyz").json()["store"]["state"] == "loading"
    finally:
        service.services.close()
        bare.close()


@pytest.mark.parametrize(
    "url",
    ["ftp://host:1", "http://", "http://u:pa/ss@host:8123", "chdb://", "http://host:8123/other", "https://h:notaport"],
)
def test_store_address_that_means_nothing_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(store=url)
    assert "TWINTRACK_STORE" in caught.value.message
    assert "pa" not in caught.value.message.replace("path", "").replace("pass", "")


async def _doctor(service: Service) -> dict[str, Any]:
    transport = httpx.ASGITransport(app=command_app(service.services))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        report: dict[str, Any] = (await client.get("/doctor")).json()
        return report


def _until(what, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    import time

    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


def test_text_of_metadata_that_reads_like_a_moment_stays_text(tmp_path: Path, empty: Server) -> None:
    texts = {"day": "2024-01-01", "moment": "2024-01-01 10:00:00", "exact": "2024-01-01T10:00:00.250Z", "number": "17"}
    service = open_service(tmp_path, store=empty.url())
    try:
        service.send([wire_event(event_metadata=texts), wire_event(event_metadata={"day": 5})])
        kinds = ", ".join(f"dynamicType(event_metadata.{name}), event_metadata.{name}" for name in texts)
        [row] = service.rows(f"SELECT {kinds} FROM analytics.events WHERE event_metadata.moment IS NOT NULL")
        assert row == [cell for text in texts.values() for cell in ("String", text)]
        assert service.rows("SELECT event_metadata.day FROM analytics.events WHERE event_metadata.moment IS NULL") == [
            [5]
        ]
    finally:
        service.services.close()
