"""Gives the node's TAP the offloads of the guest's: what the guest cannot take, the kernel prepares before the node.

A guest that cannot take a TCP segment of 64 KiB (no TSO negotiated) has a tap that says so; the kernel then cuts such a
frame before it enters. The frame enters the node's TAP first, so that has to say the same. By ethtool's oldest
commands, which work from outside of the process that has the TAP open.
"""

import array
import fcntl
import socket
import struct
from typing import Final

from pycolo.errors import ConnectError

# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL: Final = 0x8946
_GSTRINGS: Final = 0x1B
_GSSET_INFO: Final = 0x37
_GFEATURES: Final = 0x3A
_SFEATURES: Final = 0x3B
_SS_FEATURES: Final = 4
_NAME_BYTES: Final = 32
FOLLOWED: Final = (
    "tx-checksum-ip-generic",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
)
"""What a guest's driver can switch off; the rest of a TAP's features is the same for all."""


def offloads(name: str) -> dict[str, bool]:
    """Those of `FOLLOWED` that the device knows, and whether they are on. Raises `ConnectError`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return {feature: is_on for feature, (is_on, _) in _features(sock, name).items()}


def follow_offloads(guest: str, node: str) -> None:
    """What is off on the guest's tap is off on the node's, and on where it can be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        wanted, found = _features(sock, guest), _features(sock, node)
        changed = {
            bit: wanted[feature][0]
            for feature, (is_on, bit) in found.items()
            if feature in wanted and wanted[feature][0] != is_on
        }
        if changed:
            _set(sock, node, len(_names(sock, node)), changed)


def _features(sock: socket.socket, name: str) -> dict[str, tuple[bool, int]]:
    """Feature -> whether it is on, and its bit."""
    names = _names(sock, name)
    blocks = (len(names) + 31) // 32
    answer = _ask(sock, name, struct.pack("=II", _GFEATURES, blocks) + bytes(16 * blocks))
    active = [struct.unpack_from("=I", answer, 8 + 16 * block + 8)[0] for block in range(blocks)]
    return {
        feature: (bool(active[bit // 32] >> bit % 32 & 1), bit)
        for bit, feature in enumerate(names)
        if feature in FOLLOWED
    }


def _names(sock: socket.socket, name: str) -> list[str]:
    asked = struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0)
    count = struct.unpack_from("=I", _ask(sock, name, asked), 16)[0]
    answer = _ask(sock, name, struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(_NAME_BYTES * count))
    fields = (answer[12 + _NAME_BYTES * bit : 12 + _NAME_BYTES * (bit + 1)] for bit in range(count))
    return [field.rstrip(b"\0").decode() for field in fields]


def _set(sock: socket.socket, name: str, count: int, changed: dict[int, bool]) -> None:
    blocks = (count + 31) // 32
    words = [[0, 0] for _ in range(blocks)]
    for bit, is_on in changed.items():
        words[bit // 32][0] |= 1 << bit % 32
        words[bit // 32][1] |= is_on << bit % 32
    _ask(sock, name, struct.pack("=II", _SFEATURES, blocks) + b"".join(struct.pack("=II", *word) for word in words))


def _ask(sock: socket.socket, name: str, octets: bytes) -> bytes:
    memory = array.array("B", octets)
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP", name.encode(), memory.buffer_info()[0]))
    except OSError as error:
        raise ConnectError(f"{name}: ethtool: {error.strerror or error}") from error
    return memory.tobytes()
