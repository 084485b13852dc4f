"""Whose request this is, by address: what the socket says, and what proxies that are trusted say before it."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.requests import HTTPConnection


def asker_address(request: HTTPConnection, trusted: str) -> str:
    """`client_address` of a request. A header that comes twice is one list: a proxy may add a line of its own."""
    peer = request.client.host if request.client is not None else ""
    return client_address(peer, ",".join(request.headers.getlist("x-forwarded-for")), trusted)


def client_address(peer: str, forwarded_for: str, trusted: str) -> str:
    """The nearest address that no configured proxy vouches for; "" where there is none.

    `X-Forwarded-For` is read from the right, and only while the hop before it is a trusted proxy.
    """
    networks = [ip_network(part.strip()) for part in trusted.split(",") if part.strip()]
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    current = parsed_address(peer)
    while hops and current is not None and any(current in network for network in networks):
        current = parsed_address(hops.pop())
    return "" if current is None else str(current)


def parsed_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address without what proxies put around it: a port, brackets, a zone (the store takes none of them), and
    IPv4 written as IPv6."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """What a limit counts: an IPv4 address, or the /64 of an IPv6 address, since one home has a whole /64."""
    parsed = parsed_address(address)
    if parsed is None:
        return "unknown"
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else str(parsed)
