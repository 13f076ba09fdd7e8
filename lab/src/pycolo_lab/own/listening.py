"""Sockets that listen on a port of a network namespace: /proc/net/tcp and its three relatives."""

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from pycolo_lab.namespaces import Namespace

Address = IPv4Address | IPv6Address

TCP_LISTEN: Final = "0A"  # include/net/tcp_states.h, in hexadecimal as in /proc
UDP_UNCONNECTED: Final = "07"


def parse_listeners(lines: Iterable[str], state: str) -> Iterator[tuple[Address, int]]:
    """Local address and port of the sockets in that state."""
    for line in lines:
        words = line.split()
        if len(words) >= 4 and words[3] == state:
            address, _, local_port = words[1].partition(":")
            yield _address(address), int(local_port, 16)


def _address(text: str) -> Address:
    """/proc prints the words of an address as this machine's integers."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 4:
        return IPv4Address(packed)
    found = IPv6Address(packed)
    return found.ipv4_mapped or found


def listeners(namespace: Namespace, port: int, *, udp: bool) -> list[Address]:
    """Where something in the namespace listens on the port."""
    return [address for address, found in _all(namespace, udp=udp) if found == port]


def ports_in_use(namespace: Namespace, *, udp: bool) -> list[int]:
    """All ports on which something in the namespace listens."""
    return sorted({port for _, port in _all(namespace, udp=udp)})


def _all(namespace: Namespace, *, udp: bool) -> list[tuple[Address, int]]:
    name, state = ("udp", UDP_UNCONNECTED) if udp else ("tcp", TCP_LISTEN)
    found: list[tuple[Address, int]] = []
    with namespace.entered():
        for table in (name, f"{name}6"):
            try:
                lines = Path("/proc/thread-self/net", table).read_text().splitlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            found += parse_listeners(lines, state)
    return found


def is_reachable(found: Iterable[Address], host: str) -> bool:
    """Whether one of these addresses takes a connection to `host`. `::` takes both families, unless told otherwise."""
    wanted = ip_address(host)
    return any(address in (wanted, IPv6Address("::")) or _is_any(address, wanted.version) for address in found)


def _is_any(address: Address, version: int) -> bool:
    return address.is_unspecified and address.version == version


def why_unreachable(found: Iterable[Address], port: int, host: str) -> str:
    """For a server that listens where the client cannot reach it."""
    places = sorted({str(address) for address in found})
    where = " and ".join(places)
    if all(ip_address(place).is_loopback for place in places):
        cure = "let it listen on {host} or on all addresses"
    elif ":" in host:
        cure = "let it listen on {host} or on all IPv6 addresses"
    else:
        cure = "let it listen on {host} or on all addresses"
    return f"it listens on {where} only (port {port}); the client connects to {host}: {cure}"
