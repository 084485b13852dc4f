"""TLS by option: real handshakes with a real process, and a certificate that is renewed while it serves."""

import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start
from tests.faults.test_wire import until
from tests.server import certificates
from twintrack.errors import SettingsError
from twintrack.settings import load_settings
from twintrack.testing import wire_event
from twintrack.tls import Certificate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, authority: tuple[Path, Path, Path]) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    for file in authority[1:]:
        shutil.copy(file, folder)
    running = start(
        folder / "data",
        TWINTRACK_TLS_CERTIFICATE=str(folder / "server.pem"),
        TWINTRACK_TLS_KEY=str(folder / "server.key"),
    )
    yield running
    assert running.stop() == 0


def client_of(running: Running, ca: Path) -> httpx.Client:
    return httpx.Client(base_url=running.address, verify=ssl.create_default_context(cafile=ca), timeout=30)


def port_of(running: Running) -> int:
    port = urlsplit(running.address).port
    assert port
    return port


def test_events_and_pages_come_over_tls_and_the_browser_is_told_to_stay_there(
    served: Running, authority: tuple[Path, Path, Path]
) -> None:
    key = served.command("keys", "create", "--role", "write").strip()
    owner = served.command("keys", "create", "--role", "owner").strip()
    with client_of(served, authority[0]) as client:
        answer = client.post("/api/analytics/events", json=[wire_event()] * 1, headers={"X-Write-Key": key})
        assert answer.json()["accepted"] == 1
        answer = client.post("/api/session", json={"key": owner})
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "secure" in answer.headers["set-cookie"].lower()


def test_client_that_trusts_another_authority_is_not_answered(served: Running, other: tuple[Path, Path, Path]) -> None:
    with client_of(served, other[0]) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get("/healthz")


def test_request_without_tls_is_not_answered(served: Running) -> None:
    with socket.create_connection(("127.0.0.1", port_of(served)), timeout=30) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(1000)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused(served: Running) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port_of(served)), timeout=30) as raw, pytest.raises(OSError):
        context.wrap_socket(raw)


def test_renewed_certificate_is_shown_without_a_restart(
    served: Running, authority: tuple[Path, Path, Path], other: tuple[Path, Path, Path]
) -> None:
    folder = served.data.parent

    def answered(ca: Path) -> bool:
        try:
            with client_of(served, ca) as client:
                return client.get("/healthz").status_code == 200
        except httpx.ConnectError:
            return False

    assert answered(authority[0]) and not answered(other[0])
    shutil.copy(other[1], folder / "server.pem")  # for a while certificate and key do not fit
    shutil.copy(other[2], folder / "server.key")
    until(lambda: answered(other[0]))


def test_half_a_renewal_leaves_the_certificate_in_use(
    tmp_path: Path, authority: tuple[Path, Path, Path], other: tuple[Path, Path, Path]
) -> None:
    for file in authority[1:]:
        shutil.copy(file, tmp_path)
    certificate = Certificate(tmp_path / "server.pem", tmp_path / "server.key")
    assert not certificate.look()
    shutil.copy(other[1], tmp_path / "server.pem")
    assert not certificate.look()
    shutil.copy(other[2], tmp_path / "server.key")
    assert certificate.look()
    assert not certificate.look()


def test_files_that_do_not_fit_together_are_refused_at_the_start(
    authority: tuple[Path, Path, Path], other: tuple[Path, Path, Path]
) -> None:
    with pytest.raises(SettingsError, match="TLS_CERTIFICATE"):
        Certificate(authority[1], other[2])
    with pytest.raises(SettingsError, match="No such file"):
        Certificate(Path("/nowhere.pem"), other[2])
    with pytest.raises(SettingsError, match="go together"):
        load_settings(tls_certificate="server.pem")
