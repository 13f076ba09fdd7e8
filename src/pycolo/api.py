"""The two cores for programs of your own: `from pycolo import Comparator, Rewriter` (docs/api.md).

A frame is bytes; a batch is many of them in one buffer (`pycolo.frames.batch`). Each method that takes frames has a
twin that takes a batch. Nothing here reads a clock: each fact comes with its time in microseconds, on any clock that
does not go backwards. Where frames carry vnet headers (`vnet_header_bytes`), each begins with one, in and out.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pycolo import core
from pycolo.compare.difference import Command, Difference
from pycolo.compare.kinds import DivergencePolicy
from pycolo.frames import batch, unbatch
from pycolo.limits import (
    BATCH_BYTES,
    COMPARE_TIMEOUT_MS,
    CONNECTIONS_MAX,
    EXPIRED_SCAN_CYCLE_MS,
    HELD_BYTES_MAX,
    HELD_PACKETS_MAX,
    QUEUE_PACKETS_MAX,
    UNACKED_BYTES_MAX,
)
from pycolo.path.cores import comparator_counters, rewriter_counters
from pycolo.rewrite.kinds import OffsetState
from pycolo.wire.buffers import Buffer

Octets = bytes | bytearray | memoryview


class Passed(NamedTuple):
    """What came of a batch: how many of its bytes were taken (all, unless its last frame is incomplete), and what goes
    on."""

    taken: int
    batch: bytes


class Offset(NamedTuple):
    """What is added between a client's numbers and a guest's in one connection."""

    state: OffsetState
    seq_offset: int
    timestamp_offset: int


class _Frames:
    """How frames travel: with or without vnet headers; and a buffer for what a core gives out."""

    def __init__(self, vnet_header_bytes: int | None) -> None:
        self.vnet_header_bytes = vnet_header_bytes
        self.has_vnet = vnet_header_bytes is not None
        self._words = 8 if self.has_vnet else 4
        self._out: bytearray | None = None

    def batch(self, frames: Iterable[bytes]) -> bytearray:
        return batch(frames, vnet_header_bytes=self.vnet_header_bytes)

    def unbatch(self, octets: Octets) -> list[bytes]:
        return unbatch(octets, has_vnet=self.has_vnet)

    def count(self, frames: Iterable[bytes], taken: int) -> int:
        """How many frames the first `taken` bytes of their batch are."""
        number, end = 0, 0
        for frame in frames:
            end += self._words + len(frame)
            if end > taken:
                break
            number += 1
        return number

    def drain(self, write: Callable[[Buffer, int], int]) -> bytes:
        """All that a core has to write."""
        if self._out is None:
            self._out = bytearray(BATCH_BYTES)
        found = bytearray()
        while end := write(self._out, 0):
            found += self._out[:end]
        return bytes(found)


class Comparator:
    """colo-compare: what the primary sends leaves when the secondary has sent the same.

    Facts go in (`primary`, `secondary`, `client`, `advance`, …); ask afterwards what has left (`released`) and what was
    found (`commands`). `core` is the compiled comparator itself, whose methods take a buffer without copying it.

    `policy`: what a difference does to its connection. `commits_input`: rule C3. `needs_handshake`: connections whose
    SYN was not seen pass uncompared. `queue_packets_max`: per connection and side. `primary_name`, `secondary_name`: of
    the streams, in a `FramingError`. `seed`: of the tables' hash; random unless you need the same run twice.
    """

    def __init__(
        self,
        *,
        vnet_header_bytes: int | None = None,
        policy: DivergencePolicy = DivergencePolicy.CHECKPOINT,
        commits_input: bool = True,
        needs_handshake: bool = False,
        compare_timeout_ms: int = COMPARE_TIMEOUT_MS,
        scan_cycle_ms: int = EXPIRED_SCAN_CYCLE_MS,
        queue_packets_max: int = QUEUE_PACKETS_MAX,
        connections_max: int = CONNECTIONS_MAX,
        held_bytes_max: int = HELD_BYTES_MAX,
        held_packets_max: int = HELD_PACKETS_MAX,
        primary_name: str = "primary_in",
        secondary_name: str = "secondary_in",
        seed: int | None = None,
    ) -> None:
        self._frames = _Frames(vnet_header_bytes)
        self.core = core.Comparator(
            _seed(seed),
            has_vnet=self._frames.has_vnet,
            policy=policy,
            commits_input=commits_input,
            needs_handshake=needs_handshake,
            compare_timeout_ms=compare_timeout_ms,
            scan_cycle_ms=scan_cycle_ms,
            queue_packets_max=queue_packets_max,
            connections_max=connections_max,
            held_bytes_max=held_bytes_max,
            held_packets_max=held_packets_max,
            primary_name=primary_name,
            secondary_name=secondary_name,
        )
        self._now_us: int | None = None  # when the last fact came

    # ── frames in ─────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, *frames: bytes, at_us: int) -> int:
        """Frames of the primary guest. How many were taken: where that is less than all, there was no room."""
        return self._frames.count(frames, self.primary_batch(self._frames.batch(frames), at_us=at_us))

    def primary_batch(self, octets: Octets, *, at_us: int) -> int:
        """A batch of the primary guest: how many bytes of it were taken. Raises `FramingError`."""
        return self._take(self.core.primary_frames, octets, at_us)

    def secondary(self, *frames: bytes, at_us: int) -> int:
        """Frames of the secondary guest, with the primary's numbers; otherwise as `primary`."""
        return self._frames.count(frames, self.secondary_batch(self._frames.batch(frames), at_us=at_us))

    def secondary_batch(self, octets: Octets, *, at_us: int) -> int:
        """A batch of the secondary guest; otherwise as `primary_batch`."""
        return self._take(self.core.secondary_frames, octets, at_us)

    def client(self, *frames: bytes, at_us: int) -> list[bytes]:
        """Frames of clients on their way to the primary: those that the secondary is to get too.

        Need not be given at all; what they say makes the comparison sharper (rules C8 and R1).
        """
        return self._frames.unbatch(self.client_batch(self._frames.batch(frames), at_us=at_us).batch)

    def client_batch(self, octets: Octets, *, at_us: int) -> Passed:
        """A batch of clients' frames, and the batch for the secondary."""
        buffer, pos, shown = bytearray(octets), 0, bytearray()
        while pos < len(buffer):
            until, behind = self.core.client_frames(buffer, pos, len(buffer), self._noted(at_us))
            shown += buffer[pos:until]
            if behind == pos:
                break
            pos = behind
        return Passed(pos, bytes(shown))

    def _take(self, take: Callable[[Buffer, int, int, int], int], octets: Octets, at_us: int) -> int:
        self._noted(at_us)
        buffer = octets if isinstance(octets, bytearray) else bytearray(octets)
        return take(buffer, 0, len(buffer), at_us) if buffer else 0

    # ── other facts ───────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, *, to_us: int) -> None:
        """Time has passed: what has waited too long by then is a difference, what is idle is forgotten."""
        while self._now_us is not None and (due := self.core.deadline_us()) is not None and due < to_us:
            self._now_us = max(due, self._now_us)
            self.core.timer_fired(self._now_us)
        self.core.timer_fired(self._noted(to_us))

    def _noted(self, at_us: int) -> int:
        self._now_us = at_us
        return at_us

    @property
    def deadline_us(self) -> int | None:
        """When `advance` is to be called next; None: when the next frame comes."""
        return self.core.deadline_us()

    def checkpoint_committed(self, *, at_us: int, awaits_marker: bool = False) -> None:
        """The secondary is a copy of the primary now: what is held leaves, the secondary's is discarded.

        `awaits_marker`: the secondary's frames up to `epoch_marker` are of its old state (rule E2).
        """
        self.core.checkpoint_committed(self._noted(at_us), awaits_marker=awaits_marker)

    def epoch_marker(self, epoch: int) -> None:
        """The secondary's frames are of `epoch` from here on."""
        self.core.epoch_marker(epoch)

    def pair_lost(self, *, at_us: int) -> None:
        """There is no secondary any more: what is held leaves, and all that follows passes."""
        self.core.pair_lost(self._noted(at_us))

    def pair_formed(self, *, at_us: int) -> None:
        """There is a secondary again."""
        self.core.pair_formed(self._noted(at_us))

    # ── what comes out ────────────────────────────────────────────────────────────────────────────────────────

    def released(self) -> list[bytes]:
        """The frames that have left since the last call."""
        return self._frames.unbatch(self.released_batch())

    def released_batch(self) -> bytes:
        """The same as a batch."""
        return self._frames.drain(self.core.drain)

    def commands(self) -> list[Command]:
        """What was found since the last call: `RequestCheckpoint` once an epoch, else `ReportDifference`."""
        return self.core.commands()

    def differences(self) -> list[Difference]:
        """The differences of `commands`, for programs that make no checkpoints."""
        return [command.difference for command in self.commands()]

    @property
    def epoch(self) -> int:
        """How many checkpoints were committed."""
        return self.core.epoch

    @property
    def held_packets(self) -> int:
        """Packets of both guests that wait, and those that have not been asked for with `released`."""
        return self.core.held_packets()

    @property
    def held_bytes(self) -> int:
        """The memory that they take."""
        return self.core.held_bytes()

    def counters(self) -> dict[str, int]:
        """All that is counted (docs/status.md)."""
        return comparator_counters(self.core)


class Rewriter:
    """filter-rewriter: between the numbers that the clients know and those of a secondary guest.

    `core` is the compiled rewriter itself. `keeps_copies`: of what the guest sends, for `takeover`.
    """

    def __init__(
        self,
        *,
        vnet_header_bytes: int | None = None,
        connections_max: int = CONNECTIONS_MAX,
        unacked_bytes_max: int = UNACKED_BYTES_MAX,
        keeps_copies: bool = True,
        client_name: str = "client frames",
        guest_name: str = "guest frames",
        seed: int | None = None,
    ) -> None:
        self._frames = _Frames(vnet_header_bytes)
        self.core = core.Rewriter(
            _seed(seed),
            has_vnet=self._frames.has_vnet,
            connections_max=connections_max,
            unacked_bytes_max=unacked_bytes_max,
            client_name=client_name,
            guest_name=guest_name,
        )
        self.core.keeps_copies = keeps_copies

    # ── frames in, frames out ─────────────────────────────────────────────────────────────────────────────────

    def client(self, *frames: bytes, at_us: int) -> list[bytes]:
        """Frames of clients: what the guest is to get now. What waits for the guest comes from `to_guest`."""
        return self._frames.unbatch(self.client_batch(self._frames.batch(frames), at_us=at_us).batch)

    def client_batch(self, octets: Octets, *, at_us: int) -> Passed:
        """A batch of clients' frames, and the batch for the guest. Raises `FramingError`."""
        return self._translate(self.core.client_frames, octets, at_us)

    def guest(self, *frames: bytes, at_us: int) -> list[bytes]:
        """Frames of the guest: what goes to the comparator, or to the clients after `takeover`."""
        return self._frames.unbatch(self.guest_batch(self._frames.batch(frames), at_us=at_us).batch)

    def guest_batch(self, octets: Octets, *, at_us: int) -> Passed:
        """A batch of the guest, translated. Raises `FramingError`."""
        return self._translate(self.core.guest_frames, octets, at_us)

    def _translate(
        self, take: Callable[[Buffer, int, int, int, Buffer, int], int], octets: Octets, at_us: int
    ) -> Passed:
        buffer = bytearray(octets)  # changed on the way, and the result afterwards: no frame grows
        taken = take(buffer, 0, len(buffer), at_us, buffer, 0) if buffer else 0
        return Passed(taken, bytes(buffer[: self.core.out_end]) if buffer else b"")

    def to_guest(self) -> list[bytes]:
        """Clients' frames that have waited for the guest's answer to a SYN, and are to go to it now.

        To be asked for after each call of `client` and `guest`.
        """
        return self._frames.unbatch(self.to_guest_batch())

    def to_guest_batch(self) -> bytes:
        """The same as a batch."""
        return self._frames.drain(self.core.drain_guest)

    def to_client(self) -> list[bytes]:
        """After `takeover`: what the clients have not acknowledged, to be sent again."""
        return self._frames.unbatch(self.to_client_batch())

    def to_client_batch(self) -> bytes:
        """The same as a batch."""
        return self._frames.drain(self.core.drain_client)

    # ── other facts ───────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, *, to_us: int) -> None:
        """Time has passed: rows, waiting frames and copies whose time is over are forgotten."""
        self.core.timer_fired(to_us)

    def checkpoint_committed(self) -> None:
        """The guest is a copy of the primary now, which has no offsets: nor has this one."""
        self.core.checkpoint_committed()

    def export_offsets(self) -> bytes:
        """For `adopt_offsets` of the node whose guest becomes a copy of this one's."""
        return self.core.export_offsets()

    def adopt_offsets(self, table: bytes, *, at_us: int) -> None:
        """The guest is a copy of the primary now, with the primary's offsets. Raises `LinkError` for no such table."""
        self.core.adopt_offsets(table, at_us)

    def takeover(self) -> None:
        """This guest serves the clients from now on; see `to_client`."""
        self.core.takeover()

    def offset_of(self, frame: bytes) -> Offset | None:
        """What is known of a connection, of which `frame` is one that the guest could send; None: nothing."""
        buffer, packet = bytearray(frame), core.Packet()
        core.parse_frame(buffer, 0, len(buffer), self._frames.vnet_header_bytes or 0, packet)
        found = self.core.seq_offset(packet)
        return None if found is None else Offset(OffsetState(found[0]), found[1], found[2])

    def counters(self) -> dict[str, int]:
        """All that is counted (docs/status.md)."""
        return rewriter_counters(self.core)


def _seed(seed: int | None) -> int:
    """A stranger who knows it can make connections that collide."""
    return secrets.randbits(128) if seed is None else seed
