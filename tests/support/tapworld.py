"""Two nodes' loops with a guest's tap each, and two QEMUs, in one thread: a world whose steps are drawn by a seed.

A guest has a state (how many frames it has had, and their running hash), and answers each frame with its state. QEMU
reads its tap, keeps frames in a queue that belongs to the state, and after its stop reads one frame more, which it
discards. The link, the taps and the LAN are sockets; the loops are the compiled ones.
"""

import hashlib
import os
import random
import select
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from pycolo.core import Comparator, PrimaryPump, Rewriter, SecondaryPump
from pycolo.link.codec import DATA_FROM_PRIMARY, DATA_FROM_SECONDARY, MessageType
from pycolo.path.clock import now_us
from pycolo.transport.guesttap import GuestTap
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import DevicePort
from pycolo.transport.tapinterface import TapInterface
from support.segments import udp

RING_BYTES = 4000
MARKER_BYTES = 16


class FakeInterface(TapInterface):
    """A tap's counters, in files and in Python."""

    def __init__(self, ring: "Ring") -> None:
        self._ring = ring
        self.name = "tap"
        self._files = [os.memfd_create("tx"), os.memfd_create("queue")]
        self.tx_fd, self.queue_fd = self._files
        self.is_tap = True
        self.heard = 0
        self.count(0)
        os.pwrite(self.queue_fd, b"1000\n", 0)

    def count(self, read: int) -> None:
        os.pwrite(self.tx_fd, b"%d\n" % read, 0)

    def rx_packets(self) -> int:
        return self.heard

    def socket_counts(self) -> tuple[int, int]:
        return self.heard, 0

    def show_outgoing(self) -> None:
        """There are no others here."""

    def empty_queue(self) -> None:
        self._ring.take(1000)


class Ring:
    """A tap: `port` is the node's end."""

    def __init__(self) -> None:
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (near, self._far):
            end.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RING_BYTES)
        self.read_count = 0
        self.interface = FakeInterface(self)
        self.port = GuestTap("--guest tap", near, 0, self.interface)

    def take(self, count: int) -> list[bytes]:
        """Frames out of the ring."""
        found = []
        with suppress(BlockingIOError):
            while len(found) < count:
                found.append(self._far.recv(1 << 17))
        return found

    def read(self, count: int) -> list[bytes]:
        """The same, as QEMU does: the kernel counts them."""
        found = self.take(count)
        self.read_count += len(found)
        self.interface.count(self.read_count)
        return found

    def say(self, octets: bytes) -> bool:
        try:
            self._far.send(octets)
        except BlockingIOError:
            return False
        self.interface.heard += 1
        return True

    def close(self) -> None:
        self.port.close()
        self._far.close()


@dataclass
class State:
    """What a checkpoint copies."""

    count: int = 0
    digest: bytes = b""
    queue: list[bytes] = field(default_factory=list)
    unsaid: list[bytes] = field(default_factory=list)

    def copied(self) -> "State":
        return State(self.count, self.digest, [*self.queue], [*self.unsaid])


class Qemu:
    """`answers` of each epoch: (count, digest), as they were said."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.state = State()
        self.runs = True
        self.answers: list[list[tuple[int, bytes]]] = [[]]

    def run(self, dice: random.Random) -> None:
        if not self.runs:
            return
        self.state.queue += self.ring.read(dice.choice([0, 1, 3, 20]))
        for _ in range(dice.choice([0, 1, 5, 30])):
            if self.state.queue:
                state = self.state
                state.digest = hashlib.blake2b(state.digest + state.queue.pop(0), digest_size=8).digest()
                state.count += 1
                state.unsaid.append(state.count.to_bytes(4) + state.digest)
        while self.state.unsaid and self.ring.say(udp(self.state.unsaid[0])):
            answer = self.state.unsaid.pop(0)
            self.answers[-1].append((int.from_bytes(answer[:4]), answer[4:]))

    def stop(self) -> None:
        self.runs = False
        self.ring.read(1)  # and discards it

    def load(self, state: State) -> None:
        self.state = state
        self.answers.append([])
        self.runs = True


class Node:
    """One of the two nodes: its LAN, its loop, its guest."""

    def __init__(self, stack: ExitStack) -> None:
        near, self.lan = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (near, self.lan):
            end.setblocking(False)
            stack.callback(end.close)
        self.lan_port = DevicePort("--lan fake", near.fileno(), 0, near)
        self.ring = Ring()
        stack.callback(self.ring.close)
        self.qemu = Qemu(self.ring)
        self.epoll = select.epoll()
        stack.callback(self.epoll.close)

    @property
    def tap(self) -> GuestTap:
        return self.ring.port


class World:
    """`step` moves one of its parts; `until` moves them until a condition holds, and says whether it came to hold."""

    def __init__(self, seed: int) -> None:
        self._stack = ExitStack()
        self.dice = random.Random(seed)
        self.primary, self.secondary = Node(self._stack), Node(self._stack)
        self.comparator = Comparator(1)
        self.comparator.pair_lost(now_us())  # it passes everything: here, guests are judged by themselves
        one, two = self.primary, self.secondary
        self.p = PrimaryPump(one.epoll.fileno(), 0, self.comparator, one.lan_port, one.lan_port, one.tap, one.tap)
        self.s = SecondaryPump(two.epoll.fileno(), 0, Rewriter(1), two.lan_port, two.lan_port, two.tap, two.tap)
        ours, theirs = socket.socketpair()
        self.to_secondary = LinkSocket(ours, "to the secondary", DATA_FROM_SECONDARY)
        self.to_primary = LinkSocket(theirs, "to the primary", DATA_FROM_PRIMARY)
        for link in (self.to_secondary, self.to_primary):
            self._stack.callback(link.close)
        self.p.attach(self.to_secondary)
        self.s.attach(self.to_primary)
        self.p.is_mirroring = True
        self.kept: list[bytes] = []
        self.marked: int | None = None
        self.asked = 0
        self.is_slow = False
        self._stack.callback(self.s.detach)
        self._stack.callback(self.p.detach)

    def close(self) -> None:
        self._stack.close()

    def step(self) -> None:
        part = self.dice.randrange(5)
        if part == 0:
            self._ask()
        elif part == 1:
            self.p.run(now_us())
        elif part == 2:
            self._run_secondary()
        elif part == 3:
            if not self.is_slow or self.dice.random() < 0.02:
                self.primary.qemu.run(self.dice)
        else:
            self.secondary.qemu.run(self.dice)

    def until(self, condition: Callable[[], bool], steps: int = 20_000) -> bool:
        for _ in range(steps):
            if condition():
                return True
            self.step()
        return condition()

    def _ask(self) -> None:
        """The clients."""
        with suppress(BlockingIOError):
            for _ in range(self.dice.choice([0, 1, 10])):
                data = self.asked.to_bytes(4) + bytes(self.dice.choice([4, 300]))
                self.primary.lan.send(udp(data, from_client=True))
                self.asked += 1
        with suppress(BlockingIOError):
            while True:
                self.primary.lan.recv(1 << 17)

    def _run_secondary(self) -> None:
        """What `SecondaryPath` does with the link's messages while its guest's input is held, and afterwards."""
        pump = self.s
        pump.run(now_us())
        if pump.is_held or pump.is_input_held:
            while (found := self.to_primary.front()) is not None:
                if found[0] is MessageType.CLIENT_FRAMES:
                    self.kept.append(bytes(found[1]))
                else:
                    assert found[0] is MessageType.OFFSETS
                    self.marked = len(self.kept)
                self.to_primary.inlet.advance()
            return
        while self.kept and pump.guest_out.batch.write_to(self.secondary.tap):
            octets = self.kept.pop(0)
            pump.guest_out.batch.buf[: len(octets)] = octets
            pump.guest_out.batch.start, pump.guest_out.batch.end = 0, len(octets)
        pump.has_mirrored = bool(self.kept)

    # ── a checkpoint ──────────────────────────────────────────────────────────────────────────────────────────

    def checkpoint(self) -> None:
        """The borders as a node draws them; with a guest that is too slow its tap is purged."""
        one, two = self.primary, self.secondary
        self.s.is_input_held = True  # REQUEST is held
        if not self.until(two.tap.is_input_read, 3000):
            two.tap.purge()
        two.qemu.stop()
        assert self.until(two.tap.is_output_read)  # REPLY is held
        self.s.is_held = self.p.is_input_held = True
        if not self.until(lambda: self.p.is_input_given() and one.tap.is_input_read(), 300 if self.is_slow else 20_000):
            one.tap.purge()
        self.p.run(now_us())
        self.to_secondary.queue(MessageType.OFFSETS, bytes(MARKER_BYTES))
        one.qemu.stop()
        two.qemu.load(one.qemu.state.copied())  # LOADED is held; the secondary runs
        assert self.until(one.tap.is_output_read)
        one.qemu.answers.append([])
        one.qemu.runs = True
        self.p.is_input_held = False
        assert self.until(lambda: self.marked is not None)
        del self.kept[: self.marked]
        self.marked = None
        self.s.guest_out.batch.clear()
        self.s.has_mirrored = bool(self.kept)
        self.s.is_held = self.s.is_input_held = False
