"""Which host's guest is on the LAN, as the wire shows it: the frames with the guest's address, per cable."""

import socket
import struct
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from time import monotonic_ns, time_ns
from typing import Final, NamedTuple

from pyroute2 import IPRoute

from pycolo_lab.namespaces import Namespace
from pycolo_lab.qemu.topology import BRIDGE, OURS, TAP
from pycolo_lab.topology import index_of

ETH_P_ALL: Final = 3
INCOMING: Final = frozenset({0, 1, 2, 3})
"""linux/if_packet.h: PACKET_HOST, _BROADCAST, _MULTICAST, _OTHERHOST; 4 is what leaves to the host."""

SO_TIMESTAMPNS: Final = 35
"""asm-generic/socket.h; the stamp's type in the ancillary data, too."""

STAMP: Final = struct.Struct("@qq")
STAMP_ROOM: Final = socket.CMSG_SPACE(STAMP.size)

APART_NS: Final = 100_000
"""Two clocks that are read within this time are read at once."""

READS_MAX: Final = 20

BRIDGED_NS: Final = 50_000_000


class Turn(NamedTuple):
    """Frames of one host's guest, without one of the other's between them."""

    letter: str
    first_ns: int
    last_ns: int
    frames: int


class Cable(NamedTuple):
    """Where the frames of one host's guest come in."""

    namespace: Namespace
    interface: str
    """Empty: every one of which `carries` says so, in the watching thread."""
    carries: Callable[[str], bool] = bool


class Wire:
    """Watches a cable for each host until `close`."""

    def __init__(self, cables: dict[str, Cable], mac: str) -> None:
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._frames: list[tuple[int, str]] = []
        self._sockets = []
        for letter, cable in cables.items():
            with cable.namespace.entered():
                watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                watcher.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                if cable.interface:
                    watcher.bind((cable.interface, 0))
            self._sockets.append(watcher)
            threading.Thread(target=self._watch, args=(letter, watcher, cable.carries), daemon=True).start()

    def _watch(self, letter: str, watcher: socket.socket, carries: Callable[[str], bool]) -> None:
        while True:
            try:
                frame, ancillary, _, address = watcher.recvmsg(14, STAMP_ROOM)
            except OSError:
                return
            if address[2] in INCOMING and frame[6:12] == self._mac and carries(address[0]):
                self._frames.append((arrived_ns(ancillary), letter))

    def turns(self, since_ns: int) -> list[Turn]:
        """Who served since then, in order."""
        return turns_of(frame for frame in list(self._frames) if frame[0] >= since_ns)

    def close(self) -> None:
        """Watch no more."""
        for watcher in self._sockets:
            watcher.close()


class Bridged:
    """What a host would send to its LAN, if it has a cable: the node's TAP, or the guest's while it is on the bridge.

    The guest's tap is asked about every `BRIDGED_NS`: it leaves the bridge before its guest's answers are compared.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._asked_ns = 0
        self._is_bridged = False

    def __call__(self, interface: str) -> bool:
        """Whether a frame that came in there goes on to the LAN."""
        if interface != TAP:
            return interface.startswith(OURS)
        if monotonic_ns() - self._asked_ns > BRIDGED_NS:
            with self._namespace.entered(), IPRoute() as netlink:
                found = netlink.get_links(ifname=TAP)
                self._is_bridged = bool(found) and found[0].get("master") == index_of(netlink, BRIDGE)
            self._asked_ns = monotonic_ns()
        return self._is_bridged


def arrived_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel had the frame, by the monotonic clock.

    The watching threads of the two hosts get CPU time when they do: by the times at which they see their frames, hosts
    seem to serve at once that have not.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = STAMP.unpack(data)
            at_ns: int = seconds * 1_000_000_000 + nanoseconds
            return at_ns - _ahead_ns()
    return monotonic_ns()


def _ahead_ns() -> int:
    """The time of day less the monotonic clock's; read again if this thread may have stood still between."""
    for _ in range(READS_MAX):
        before_ns = monotonic_ns()
        ahead_ns = time_ns() - before_ns
        if monotonic_ns() - before_ns <= APART_NS:
            break
    return ahead_ns


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
