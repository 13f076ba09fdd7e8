"""QEMU's own objects as peers of ours, on both hosts of a pair, without a guest.

::

    client ═ udp ═ netdev ─ filter-mirror ─────────────► client_in  filter-rewriter  guest_out ─► secondary
                      │                                  client_out ◄──────┬──────── guest_in  ◄─ secondary
             filter-redirectors ─► primary_in ┐                            │
                      ▲              colo-compare  secondary_in ◄──────────┘
                      └── outdev ◄────────────┘

The primary host's mirror and redirectors are QEMU's, the client is its netdev's other end; the test plays the client
and both guests. Rewriter and comparison are QEMU's or ours, in each of the four ways, and the client sees the same.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from conformance.frames import Frame, Tcp, Udp
from conformance.lockstep import new_connection
from conformance.peers import (
    ANSWER_SECONDS,
    CHECKPOINT_DONE,
    START_SECONDS,
    TRY_SECONDS,
    Compare,
    Peer,
    PeerError,
    Program,
    Rewriter,
    fences,
    free_udp_ports,
)

pytestmark = pytest.mark.qemu

OFFSET = 100
SYN = Tcp(500, flags="S", ack=0, from_client=True)
SYN_ACK = Tcp(100, flags="SA", ack=501)


class PrimaryHost(Peer):
    """QEMU with the filters of a COLO primary. `guest` is where its guest's frames enter.

    The list of filters runs backwards for what the guest sends: from `guest` to the comparison, and what that
    releases goes on to the netdev.
    """

    def __init__(self, mirrored: Path, primary_in: Path, outdev: Path) -> None:
        ports = free_udp_ports(2)
        self._client_address = ("127.0.0.1", ports[0])
        self._netdev_address = ("127.0.0.1", ports[1])
        netdev = f"socket,id=nd0,udp=127.0.0.1:{ports[0]},localaddr=127.0.0.1:{ports[1]}"
        arguments = [
            "-netdev",
            netdev,
            "-netdev",
            "hubport,id=hp0,hubid=0,netdev=nd0",
            "-netdev",
            "hubport,id=hp1,hubid=0",
        ]
        for filter_object in (
            "filter-mirror,id=m0,netdev=nd0,queue=tx,outdev=mirrored",
            "filter-redirector,id=r0,netdev=nd0,queue=rx,indev=released",
            "filter-redirector,id=r1,netdev=nd0,queue=rx,outdev=primary",
            "filter-redirector,id=r2,netdev=nd0,queue=rx,indev=guest",
        ):
            arguments += ["-object", filter_object]
        joined = {"mirrored": mirrored, "primary": primary_in, "released": outdev}
        super().__init__(Program.QEMU, ["guest", *joined], arguments, joined=joined)

    def __enter__(self) -> Self:
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.bind(self._client_address)
        try:
            super().__enter__()
        except BaseException:
            self.client.close()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        self.client.close()

    def client_sends(self, octets: bytes) -> None:
        self.client.sendto(octets, self._netdev_address)


class Pair:
    """A primary host, a secondary's rewriter and a comparison, wired to one another; the test is the rest."""

    def __init__(self, host: PrimaryHost, rewriter: Rewriter, compare: Compare) -> None:
        self.host, self.rewriter, self.compare = host, rewriter, compare
        self.connection = new_connection()
        self._fences = fences(None)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        """Frames for sockets that are not open yet are lost: try until one comes through, on each way."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            fence = next(self._fences)
            self.host.client_sends(fence)
            self._send_fence(fence)
            with contextlib.suppress(PeerError, TimeoutError):
                self.rewriter.read_until("cout", fence, TRY_SECONDS)
                self._read_until(fence, TRY_SECONDS)
                self._settle_whatever_comes()
                return
        raise self.host.failure("no frame comes through the pair")

    def _settle_whatever_comes(self) -> None:
        """Several frames that were tried may come together, the last one first, and make QEMU ask for a checkpoint."""
        for _ in range(2):
            fence = next(self._fences)
            self._send_fence(fence)
            self._read_until(fence, ANSWER_SECONDS)
            self.compare.asked()

    def client(self, frame: Frame, secondary_gets: Frame | None = None) -> None:
        """The client sends `frame`; the secondary gets it, or `secondary_gets`."""
        self.host.client_sends(frame.on(self.connection))
        assert self.rewriter.read("cout") == (secondary_gets or frame).on(self.connection)

    def primary(self, *frames: Frame, client_gets: tuple[Frame, ...] = (), asks: int = 0) -> None:
        """The primary guest sends `frames`."""
        self.host.channels["guest"].send(*(frame.on(self.connection) for frame in frames))
        self._settle(client_gets, asks)

    def secondary(self, *frames: Frame, client_gets: tuple[Frame, ...] = (), asks: int = 0) -> None:
        """The secondary guest sends `frames`."""
        self.rewriter.channels["sin"].send(*(frame.on(self.connection) for frame in frames))
        self._settle(client_gets, asks)

    def checkpoint(self, client_gets: tuple[Frame, ...] = ()) -> None:
        self.rewriter.checkpoint()
        self.compare.channels["notify"].send(CHECKPOINT_DONE)
        assert self.compare.asked() == 0
        self._settle(client_gets, 0)

    def _settle(self, client_gets: tuple[Frame, ...], asks: int) -> None:
        """A datagram of both guests behind it all: what reaches the client before it is what the step has released."""
        fence = next(self._fences)
        self._send_fence(fence)
        assert self._read_until(fence, ANSWER_SECONDS) == [frame.on(self.connection) for frame in client_gets]
        assert self.compare.asked() == asks

    def _send_fence(self, fence: bytes) -> None:
        self.rewriter.channels["sin"].send(fence)
        self.host.channels["guest"].send(fence)

    def _read_until(self, fence: bytes, seconds: float) -> list[bytes]:
        self.host.client.settimeout(seconds)
        got = []
        while (octets := self.host.client.recv(1 << 16)) != fence:
            got.append(octets)
        return got


@contextlib.contextmanager
def wired(rewriter: Program, compare: Program) -> Iterator[Pair]:
    """Each process connects to those that were started before it."""
    with contextlib.ExitStack() as stack:
        comparing = stack.enter_context(Compare(compare, left_to_others=("pri", "sec", "out")))
        joined = {"sout": comparing.folder / "sec"}
        rewriting = stack.enter_context(Rewriter(rewriter, joined=joined, left_to_others=("cin",)))
        host = PrimaryHost(rewriting.folder / "cin", comparing.folder / "pri", comparing.folder / "out")
        yield Pair(stack.enter_context(host), rewriting, comparing)


WAYS = [(rewriter, compare) for rewriter in Program for compare in Program]


@pytest.mark.parametrize(("rewriter", "compare"), WAYS, ids=[f"{a}-rewriter-{b}-compare" for a, b in WAYS])
def test_a_connection_through_a_pair(rewriter: Program, compare: Program):
    """Other ISNs, other segments, a divergence, a checkpoint, and the end."""
    with wired(rewriter, compare) as pair:
        pair.client(SYN)
        pair.primary(SYN_ACK)
        pair.secondary(shifted(SYN_ACK), client_gets=(SYN_ACK,))
        last = Tcp(501, ack=101, from_client=True)
        pair.client(last, secondary_gets=replace(last, ack=201))

        request = Tcp(501, b"GET", ack=101, from_client=True)
        pair.client(request, secondary_gets=replace(request, ack=201))
        answer = Tcp(101, b"first and second", ack=504)
        # The secondary first: a segment that waits for the rest of the secondary's may leave in parts.
        pair.secondary(Tcp(201, b"first", ack=504), Tcp(206, b" and ", ack=504), Tcp(211, b"second", ack=504))
        pair.primary(answer, client_gets=(answer,))

        clock = Tcp(117, b"12:00:00", ack=504)
        pair.primary(clock)
        pair.secondary(Tcp(217, b"12:00:01", ack=504), asks=1)
        pair.checkpoint(client_gets=(clock,))

        thanks = Tcp(504, b"thanks", ack=125, from_client=True)
        pair.client(thanks)
        end = Tcp(125, b"bye", "FA", ack=510)
        pair.primary(end)
        pair.secondary(end, client_gets=(end,))
        pair.client(Tcp(510, flags="FA", ack=129, from_client=True))


@pytest.mark.parametrize(("rewriter", "compare"), WAYS, ids=[f"{a}-rewriter-{b}-compare" for a, b in WAYS])
def test_datagrams_through_a_pair(rewriter: Program, compare: Program):
    with wired(rewriter, compare) as pair:
        pair.client(Udp(b"question", from_client=True))
        pair.secondary(Udp(b"answer"))
        pair.primary(Udp(b"answer"), client_gets=(Udp(b"answer"),))


def shifted(segment: Tcp) -> Tcp:
    """The secondary guest's segment for what the primary sends as `segment`."""
    return replace(segment, seq=segment.seq + OFFSET)
