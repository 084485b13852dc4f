"""From where and until when a key may be used."""

import pytest

from twintrack.bounds import UNBOUND, Bounds, bounds_of
from twintrack.errors import RequestError


@pytest.mark.parametrize(
    ("allowed", "origin", "fits"),
    [
        ("https://shop.example", "https://shop.example", True),
        ("https://shop.example/", "https://shop.example", True),
        ("https://Shop.Example", "https://shop.example", True),
        ("https://shop.example", "http://shop.example", False),
        ("https://shop.example", "https://shop.example:8443", False),
        ("https://shop.example:8443", "https://shop.example:8443", True),
        ("https://shop.example", "https://evil-shop.example", False),
        ("https://shop.example", "https://shop.example.evil.test", False),
        ("https://shop.example", "null", False),
        ("https://shop.example", "", False),
        ("https://shop.example", None, False),
        ("https://*.shop.example", "https://a.shop.example", True),
        ("https://*.shop.example", "https://a.b.shop.example", True),
        ("https://*.shop.example", "https://shop.example", False),
        ("https://*.shop.example", "https://.shop.example", False),
        ("https://*.shop.example", "https://evilshop.example", False),
        ("https://*.shop.example", "http://a.shop.example", False),
        ("http://localhost:5173", "http://localhost:5173", True),
    ],
)
def test_origin_fits_whole_labels_and_its_own_scheme_and_port_only(
    allowed: str, origin: str | None, fits: bool
) -> None:
    assert bounds_of([allowed], [], None).allows_origin(origin) is fits


@pytest.mark.parametrize(
    ("networks", "address", "fits"),
    [
        (["203.0.113.0/24"], "203.0.113.9", True),
        (["203.0.113.0/24"], "203.0.114.9", False),
        (["203.0.113.7"], "203.0.113.7", True),
        (["203.0.113.7/24"], "203.0.113.9", True),
        (["2001:db8::/32"], "2001:db8:1::1", True),
        (["2001:db8::/32"], "203.0.113.7", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["10.0.0.0/8", "::1"], "::1", True),
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "nonsense", False),
    ],
)
def test_address_must_be_in_one_of_the_networks(networks: list[str], address: str, fits: bool) -> None:
    assert bounds_of([], networks, None).allows_address(address) is fits


def test_without_bounds_everything_is_allowed_for_ever() -> None:
    assert UNBOUND.allows_origin(None) and UNBOUND.allows_address("") and UNBOUND.lives_at(2**62)
    assert not Bounds(expires_milliseconds=5).lives_at(5)


@pytest.mark.parametrize(
    ("origins", "networks"),
    [
        (["shop.example"], []),
        (["https://"], []),
        (["*"], []),
        (["https://*"], []),
        (["https://a.*.example"], []),
        (["https://shop.example/path"], []),
        (["https://user@shop.example"], []),
        (["javascript:alert(1)"], []),
        (["https://shop.example\n"], ["x"]),
        ([], ["nonsense"]),
        ([], ["10.0.0.0/33"]),
        ([], [""]),
        (["https://a.example"] * 101, []),
    ],
)
def test_bound_that_is_none_is_refused(origins: list[str], networks: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        bounds_of(origins, networks, None)
    assert caught.value.code == "bad_bounds"
