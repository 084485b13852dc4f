"""From where and until when a key may be used. Pure: origins, addresses and the clock come in as values."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

from twintrack.errors import RequestError

_MOST = 100
# `https://shop.example`, `https://*.shop.example`, with a port where it is not the scheme's own.
_ORIGIN = re.compile(r"(https?)://(\*\.)?((?:[a-z0-9_-]+\.)*[a-z0-9_-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class Bounds(msgspec.Struct, frozen=True):
    """Of one key. An empty list allows every origin or address; `expires_milliseconds` None is never.

    A key with origins is for browsers: a request without an `Origin` is refused too.
    """

    origins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires_milliseconds: int | None = None

    def allows_origin(self, origin: str | None) -> bool:
        if not self.origins:
            return True
        return origin is not None and any(_fits(origin.lower(), allowed) for allowed in self.origins)

    def allows_address(self, address: str) -> bool:
        """Whether a client address is in one of the networks; "" is in none."""
        if not self.networks:
            return True
        try:
            parsed: IPv4Address | IPv6Address = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in map(_network, self.networks))

    def lives_at(self, milliseconds: int) -> bool:
        return self.expires_milliseconds is None or milliseconds < self.expires_milliseconds


UNBOUND = Bounds()


def bounds_of(origins: list[str], networks: list[str], expires_milliseconds: int | None) -> Bounds:
    """Raises: RequestError that names the first entry which is none."""
    if max(len(origins), len(networks)) > _MOST:
        raise RequestError(f"a key has at most {_MOST} origins and {_MOST} networks", code="bad_bounds")
    cleaned = [origin.strip().rstrip("/").lower() for origin in origins]
    for place, origin in enumerate(cleaned):
        if not _ORIGIN.fullmatch(origin):
            raise RequestError(
                f"origin {place + 1} is none",
                hint="scheme and host, such as https://shop.example or https://*.shop.example",
                code="bad_bounds",
            )
    for place, network in enumerate(networks):
        try:
            _network(network.strip())
        except ValueError as error:
            raise RequestError(
                f"network {place + 1} is none", hint="such as 203.0.113.0/24 or 2001:db8::/32", code="bad_bounds"
            ) from error
    return Bounds(tuple(cleaned), tuple(n.strip() for n in networks), expires_milliseconds)


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


def _fits(origin: str, allowed: str) -> bool:
    scheme, marked, host = allowed.partition("://*.")
    if not marked:
        return origin == allowed
    # `*.shop.example` is a name below it, whole labels only.
    return (
        origin.startswith(f"{scheme}://") and origin.endswith(f".{host}") and len(origin) > len(f"{scheme}://.{host}")
    )


def foreign_address() -> RequestError:
    return RequestError(
        "this key may not be used from this address",
        hint="`twintrack keys list` shows its networks; behind a proxy set TWINTRACK_TRUSTED_PROXIES",
        code="foreign_address",
        status=403,
    )


def foreign_origin() -> RequestError:
    return RequestError(
        "this key may not be used from this origin",
        hint="`twintrack keys list` shows its origins; a key with origins is for browsers, which send theirs",
        code="foreign_origin",
        status=403,
    )
