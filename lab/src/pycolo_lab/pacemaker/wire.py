"""Which host's guest is on the LAN, as the wire shows it: the frames with the guest's address, per cable."""

import socket
import threading
from collections.abc import Iterable
from itertools import pairwise
from time import monotonic_ns
from typing import Final, NamedTuple

from pycolo_lab.namespaces import Namespace

ETH_P_ALL: Final = 3
INCOMING: Final = frozenset({0, 1, 2, 3})
"""linux/if_packet.h: PACKET_HOST, _BROADCAST, _MULTICAST, _OTHERHOST; 4 is what leaves to the host."""


class Turn(NamedTuple):
    """Frames of one host's guest, without one of the other's between them."""

    letter: str
    first_ns: int
    last_ns: int
    frames: int


class Wire:
    """Watches an interface for each host until `close`."""

    def __init__(self, cables: dict[str, tuple[Namespace, str]], mac: str) -> None:
        """`cables`: host -> where its guest's frames come in: the port of the LAN's bridge, or its own tap."""
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._frames: list[tuple[int, str]] = []
        self._sockets = []
        for letter, (namespace, port) in cables.items():
            with namespace.entered():
                watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                watcher.bind((port, 0))
            self._sockets.append(watcher)
            threading.Thread(target=self._watch, args=(letter, watcher), daemon=True).start()

    def _watch(self, letter: str, watcher: socket.socket) -> None:
        while True:
            try:
                frame, address = watcher.recvfrom(14)
            except OSError:
                return
            if address[2] in INCOMING and frame[6:12] == self._mac:
                self._frames.append((monotonic_ns(), letter))

    def turns(self, since_ns: int) -> list[Turn]:
        """Who served since then, in order."""
        return turns_of(frame for frame in list(self._frames) if frame[0] >= since_ns)

    def close(self) -> None:
        """Watch no more."""
        for watcher in self._sockets:
            watcher.close()


def turns_of(frames: Iterable[tuple[int, str]]) -> list[Turn]:
    """Of frames with their times."""
    found: list[Turn] = []
    for at_ns, letter in sorted(frames):
        last = found[-1] if found else None
        if last is not None and last.letter == letter:
            found[-1] = last._replace(last_ns=at_ns, frames=last.frames + 1)
        else:
            found.append(Turn(letter, at_ns, at_ns, 1))
    return found


def handover_ms(turns: list[Turn]) -> float | None:
    """Without a frame of either guest at the first change of host; None without a change."""
    changes = [(second.first_ns - first.last_ns) / 1e6 for first, second in pairwise(turns)]
    return changes[0] if changes else None
