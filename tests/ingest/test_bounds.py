"""Keys that are good from some origins and networks only, at the door of events."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.conftest import Service, open_service
from twintrack.auth import Role
from twintrack.bounds import bounds_of
from twintrack.testing import wire_event

PATH = "/api/analytics/events"


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Service]:
    service = open_service(tmp_path / "data", trusted_proxies="127.0.0.0/8")
    yield service
    service.services.close()


def key(service: Service, *, origins: list[str] | None = None, networks: list[str] | None = None) -> str:
    bounds = bounds_of(origins or [], networks or [], None)
    return service.services.control.create_key(Role.WRITE, "demo", "local", bounds)


def post(service: Service, sent: str, where: str, **headers: str) -> httpx.Response:
    """The key in the head, in the envelope, or in the address."""
    events: Any = [wire_event()]
    if where == "head":
        return service.request("POST", PATH, json=events, headers={"X-Write-Key": sent, **headers})
    if where == "envelope":
        return service.request("POST", PATH, json={"events": events, "key": sent}, headers=headers)
    return service.request("POST", f"{PATH}?write_key={sent}", json=events, headers=headers)


@pytest.mark.parametrize("where", ["head", "envelope", "address"])
def test_key_of_an_origin_sends_from_there_alone(proxied: Service, where: str) -> None:
    bound = key(proxied, origins=["https://shop.example"])
    assert post(proxied, bound, where, Origin="https://shop.example").status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        refused = post(proxied, bound, where, **headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")
        assert refused.json()["error"]["hint"]
    proxied.settle()
    assert proxied.rows("SELECT count() FROM analytics.events") == [[1]]


@pytest.mark.parametrize("where", ["head", "envelope", "address"])
def test_key_of_a_network_sends_from_there_alone(proxied: Service, where: str) -> None:
    bound = key(proxied, networks=["203.0.113.0/24"])
    assert post(proxied, bound, where, **{"X-Forwarded-For": "203.0.113.9"}).status_code == 200
    for address in ("198.51.100.1", "203.0.113.9, 198.51.100.1"):
        refused = post(proxied, bound, where, **{"X-Forwarded-For": address})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_address")
    assert proxied.rows("SELECT count() FROM analytics.events") == [[1]]


def test_header_of_a_stranger_is_no_address(service: Service) -> None:
    """Nobody vouches for it here: no proxy is trusted."""
    bound = key(service, networks=["203.0.113.0/24"])
    assert post(service, bound, "head", **{"X-Forwarded-For": "203.0.113.9"}).status_code == 403


def test_configuration_is_told_to_the_same_site_and_not_to_another(proxied: Service) -> None:
    bound = key(proxied, origins=["https://shop.example"])

    def ask(**headers: str) -> int:
        return proxied.request("GET", "/api/analytics/config", headers={"X-Write-Key": bound, **headers}).status_code

    assert ask() == 200  # a browser names no origin when it asks its own site
    assert ask(Origin="https://shop.example") == 200
    assert ask(Origin="https://evil.example") == 403


def test_revoked_key_is_refused_within_a_second(service: Service) -> None:
    sent = key(service)
    assert post(service, sent, "head").status_code == 200
    control = service.services.control
    control.revoke_key(next(k["id"] for k in control.list_keys() if k["write_key"] == sent))
    assert post(service, sent, "head").status_code == 401
