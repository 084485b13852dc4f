"""Whose request this is, by address. Pure: what the socket and the head say comes in as values."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


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
