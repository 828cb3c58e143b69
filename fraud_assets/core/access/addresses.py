"""Addresses: whether one is of this machine alone."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a name or an address leads to this machine, and nobody else's.

    >>> [is_loopback(one) for one in ("localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "::ffff:127.0.0.1")]
    [True, True, True, True, True, True]
    >>> [is_loopback(one) for one in ("0.0.0.0", "::", "192.168.1.7", "localhost.example.org", "")]
    [False, False, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
