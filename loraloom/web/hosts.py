"""Checks of host names and addresses, including those in Host headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Return whether an address stands for all addresses of this machine."""
    return is_address(host) and ipaddress.ip_address(host.strip("[]")).is_unspecified


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def host_name(host_header: str) -> str:
    """Return the name in a Host header, without its port; "" if the header is invalid.

    >>> host_name("localhost:8000"), host_name("[::1]:8000")
    ('localhost', '::1')
    """
    try:
        parts = urlsplit(f"//{host_header}")
        is_plain = "@" not in host_header and not parts.path and not parts.query and not parts.fragment
        return (parts.hostname or "").rstrip(".") if is_plain else ""
    except ValueError:
        return ""


def names_server(host_header: str, host: str, allowed_hosts: Iterable[str]) -> bool:
    """Return whether a Host header names a server; requiring this prevents DNS rebinding.

    Args:
        host_header: header of a request.
        host: the address that the server binds.
        allowed_hosts: further names by which clients reach it.
    """
    name = host_name(host_header)
    if name in {allowed.lower() for allowed in allowed_hosts}:
        return True
    if is_loopback(host):
        return is_loopback(name)
    if is_wildcard(host):  # DNS cannot rebind an address
        return is_loopback(name) or is_address(name)
    return name == host.lower()
