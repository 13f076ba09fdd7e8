"""Frames for a guest that no guest answers, sent as if its network had sent them."""

import socket
from typing import Final

from pycolo.errors import ConnectError
from pycolo.transport.ports import bypass_queue

FRAMES: Final = 200
"""Of one trial: more than QEMU, or a thread of the kernel, takes from a tap at once (64)."""

_FRAME: Final = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + bytes(46)
"""Broadcast, with an EtherType for local experiments (IEEE 802): no stack has a use for it."""


def send_trial(node_tap: str, count: int = FRAMES) -> None:
    """What is sent to the node's TAP is read by the node, and by nothing else on the network. Raises `ConnectError`."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            bypass_queue(sock)  # a device whose carrier has just come has no queue yet, and drops what is put there
            sock.bind((node_tap, 0))
            for _ in range(count):
                sock.send(_FRAME)
    except OSError as error:
        raise ConnectError(f"{node_tap}: {error.strerror or error}") from error
