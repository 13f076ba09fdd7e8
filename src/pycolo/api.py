"""The two cores for your own programs: `from pycolo import Comparator, Rewriter` (docs/api.md).

A frame is bytes; a batch is many frames in one buffer (`pycolo.frames.batch`). Each method for frames has a twin for a
batch. Nothing here reads a clock: each fact has its time in microseconds, by any clock that does not go backwards. With
vnet headers (`vnet_header_bytes`), each frame begins with one, in and out.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pycolo import core
from pycolo.compare.difference import Command, Difference
from pycolo.compare.flows import Flow
from pycolo.compare.kinds import DivergencePolicy
from pycolo.compare.noise import Mask
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
    """The result of a batch: how many of its bytes were taken (all, unless its last frame is incomplete), and the
    output."""

    taken: int
    batch: bytes


class Offset(NamedTuple):
    """The difference between a client's and a guest's numbers in one connection."""

    state: OffsetState
    seq_offset: int
    timestamp_offset: int


class _Frames:
    """How frames are encoded, with or without vnet headers; and an output buffer for a core."""

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
        """The number of frames in the first `taken` bytes of their batch."""
        number, end = 0, 0
        for frame in frames:
            end += self._words + len(frame)
            if end > taken:
                break
            number += 1
        return number

    def drain(self, write: Callable[[Buffer, int], int]) -> bytes:
        """Everything that a core has to write."""
        if self._out is None:
            self._out = bytearray(BATCH_BYTES)
        found = bytearray()
        while end := write(self._out, 0):
            found += self._out[:end]
        return bytes(found)


class Comparator:
    """colo-compare: releases the primary's frames once the secondary has sent the same.

    Facts go in (`primary`, `secondary`, `client`, `advance`, …); then query what was released (`released`) and what was
    found (`commands`). `core` is the compiled comparator itself, whose methods take a buffer without copying it.

    `policy`: what happens to a connection that differs. `commits_input`: rule C3. `needs_handshake`: connections whose
    SYN was not seen pass uncompared. `age_cycle_ms`: how often ages are looked at while packets wait; 0: once per
    scan, as colo-compare does. `mutual_wait_ms`: after how long without any progress it is a difference that one
    connection waits for the secondary and another for the primary; 0: never. `bypass`: connections that are never
    compared (C7); `pycolo.compare.flows` says how they are named. `masks`: bytes that may differ, see
    `pycolo.compare.noise`. `queue_packets_max`: per connection and side. `primary_name`, `secondary_name`: the
    streams' names in a `FramingError`. `seed`: for the tables' hash; random unless you need a reproducible run.
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
        age_cycle_ms: int = 0,
        mutual_wait_ms: int = 0,
        bypass: Iterable[Flow] = (),
        masks: Iterable[Mask] = (),
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
            age_cycle_ms=age_cycle_ms,
            mutual_wait_ms=mutual_wait_ms,
            bypass=bypass,
            masks=masks,
            queue_packets_max=queue_packets_max,
            connections_max=connections_max,
            held_bytes_max=held_bytes_max,
            held_packets_max=held_packets_max,
            primary_name=primary_name,
            secondary_name=secondary_name,
        )
        self._now_us: int | None = None  # time of the last fact

    # ── frames in ─────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, *frames: bytes, at_us: int) -> int:
        """Frames of the primary guest. Returns how many were taken: fewer than all means that there was no room."""
        return self._frames.count(frames, self.primary_batch(self._frames.batch(frames), at_us=at_us))

    def primary_batch(self, octets: Octets, *, at_us: int) -> int:
        """A batch of the primary guest. Returns how many of its bytes were taken. Raises `FramingError`."""
        return self._take(self.core.primary_frames, octets, at_us)

    def secondary(self, *frames: bytes, at_us: int) -> int:
        """Frames of the secondary guest, with the primary's numbers; otherwise as `primary`."""
        return self._frames.count(frames, self.secondary_batch(self._frames.batch(frames), at_us=at_us))

    def secondary_batch(self, octets: Octets, *, at_us: int) -> int:
        """A batch of the secondary guest; otherwise as `primary_batch`."""
        return self._take(self.core.secondary_frames, octets, at_us)

    def client(self, *frames: bytes, at_us: int) -> list[bytes]:
        """Frames of clients on their way to the primary. Returns those that the secondary must receive too.

        Optional; these frames make the comparison more precise (rules C8 and R1).
        """
        return self._frames.unbatch(self.client_batch(self._frames.batch(frames), at_us=at_us).batch)

    def client_batch(self, octets: Octets, *, at_us: int) -> Passed:
        """A batch of client frames. Returns the batch for the secondary."""
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
        """Time has passed: packets that have waited too long become differences, and idle connections are removed."""
        while self._now_us is not None and (due := self.core.deadline_us()) is not None and due < to_us:
            self._now_us = max(due, self._now_us)
            self.core.timer_fired(self._now_us)
        self.core.timer_fired(self._noted(to_us))

    def _noted(self, at_us: int) -> int:
        self._now_us = at_us
        return at_us

    @property
    def deadline_us(self) -> int | None:
        """When to call `advance` next; None: with the next frame."""
        return self.core.deadline_us()

    def checkpoint_committed(self, *, at_us: int, awaits_marker: bool = False) -> None:
        """The secondary is now a copy of the primary: held frames are released, the secondary's are discarded.

        `awaits_marker`: the secondary's frames before `epoch_marker` belong to its old state (rule E2).
        """
        self.core.checkpoint_committed(self._noted(at_us), awaits_marker=awaits_marker)

    def epoch_marker(self, epoch: int) -> None:
        """The secondary's frames belong to `epoch` from here on."""
        self.core.epoch_marker(epoch)

    def pair_lost(self, *, at_us: int) -> None:
        """The secondary is gone: held frames are released, and all later ones pass."""
        self.core.pair_lost(self._noted(at_us))

    def pair_formed(self, *, at_us: int) -> None:
        """There is a secondary again."""
        self.core.pair_formed(self._noted(at_us))

    # ── what comes out ────────────────────────────────────────────────────────────────────────────────────────

    def released(self) -> list[bytes]:
        """The frames released since the last call."""
        return self._frames.unbatch(self.released_batch())

    def released_batch(self) -> bytes:
        """The same as a batch."""
        return self._frames.drain(self.core.drain)

    def commands(self) -> list[Command]:
        """Findings since the last call: `RequestCheckpoint` once per epoch, otherwise `ReportDifference`."""
        return self.core.commands()

    def differences(self) -> list[Difference]:
        """The differences of `commands`, for programs that make no checkpoints."""
        return [command.difference for command in self.commands()]

    @property
    def epoch(self) -> int:
        """The number of committed checkpoints."""
        return self.core.epoch

    @property
    def held_packets(self) -> int:
        """Packets of both guests that wait, and those that `released` has not returned yet."""
        return self.core.held_packets()

    @property
    def held_bytes(self) -> int:
        """The memory of these packets."""
        return self.core.held_bytes()

    def counters(self) -> dict[str, int]:
        """All counters (docs/status.md)."""
        return comparator_counters(self.core)


class Rewriter:
    """filter-rewriter: translates between the clients' numbers and those of a secondary guest.

    `core` is the compiled rewriter itself. `keeps_copies`: of the guest's frames, for `takeover`.
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
        """Frames of clients. Returns those for the guest now; `to_guest` returns those that had to wait."""
        return self._frames.unbatch(self.client_batch(self._frames.batch(frames), at_us=at_us).batch)

    def client_batch(self, octets: Octets, *, at_us: int) -> Passed:
        """A batch of client frames. Returns the batch for the guest. Raises `FramingError`."""
        return self._translate(self.core.client_frames, octets, at_us)

    def guest(self, *frames: bytes, at_us: int) -> list[bytes]:
        """Frames of the guest. Returns those for the comparator, or for the clients after `takeover`."""
        return self._frames.unbatch(self.guest_batch(self._frames.batch(frames), at_us=at_us).batch)

    def guest_batch(self, octets: Octets, *, at_us: int) -> Passed:
        """A batch of the guest. Returns it translated. Raises `FramingError`."""
        return self._translate(self.core.guest_frames, octets, at_us)

    def _translate(
        self, take: Callable[[Buffer, int, int, int, Buffer, int], int], octets: Octets, at_us: int
    ) -> Passed:
        buffer = bytearray(octets)  # translated in place, as no frame grows
        taken = take(buffer, 0, len(buffer), at_us, buffer, 0) if buffer else 0
        return Passed(taken, bytes(buffer[: self.core.out_end]) if buffer else b"")

    def to_guest(self) -> list[bytes]:
        """Client frames that waited for the guest's answer to a SYN and may go to the guest now.

        Call it after each call of `client` and `guest`.
        """
        return self._frames.unbatch(self.to_guest_batch())

    def to_guest_batch(self) -> bytes:
        """The same as a batch."""
        return self._frames.drain(self.core.drain_guest)

    def to_client(self) -> list[bytes]:
        """After `takeover`: frames that the clients have not acknowledged, to be sent again."""
        return self._frames.unbatch(self.to_client_batch())

    def to_client_batch(self) -> bytes:
        """The same as a batch."""
        return self._frames.drain(self.core.drain_client)

    # ── other facts ───────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, *, to_us: int) -> None:
        """Time has passed: rows, waiting frames and copies that have expired are removed."""
        self.core.timer_fired(to_us)

    def checkpoint_committed(self) -> None:
        """The guest is now a copy of the primary, which has no offsets: this rewriter has none either."""
        self.core.checkpoint_committed()

    def export_offsets(self) -> bytes:
        """For `adopt_offsets` on the node whose guest becomes a copy of this one's."""
        return self.core.export_offsets()

    def adopt_offsets(self, table: bytes, *, at_us: int) -> None:
        """The guest is now a copy of the primary, with its offsets. Raises `LinkError` if the table is invalid."""
        self.core.adopt_offsets(table, at_us)

    def takeover(self) -> None:
        """This guest serves the clients from now on; see `to_client`."""
        self.core.takeover()

    def offset_of(self, frame: bytes) -> Offset | None:
        """What is known of a connection, given a `frame` as the guest could send it; None if it is unknown."""
        buffer, packet = bytearray(frame), core.Packet()
        core.parse_frame(buffer, 0, len(buffer), self._frames.vnet_header_bytes or 0, packet)
        found = self.core.seq_offset(packet)
        return None if found is None else Offset(OffsetState(found[0]), found[1], found[2])

    def counters(self) -> dict[str, int]:
        """All counters (docs/status.md)."""
        return rewriter_counters(self.core)


def _seed(seed: int | None) -> int:
    """An attacker who knows it can create connections that collide."""
    return secrets.randbits(128) if seed is None else seed
