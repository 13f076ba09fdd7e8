"""The interface through which a guest uses its node."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pycolo.checkpoint.epoch import Epoch
from pycolo.compare.difference import Command
from pycolo.compare.wait import Wait
from pycolo.config import PairConfig
from pycolo.errors import ConnectError
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact, Role
from pycolo.link.codec import Channel
from pycolo.link.orders import JsonObject
from pycolo.node.inthread import opened
from pycolo.transport.linksetup import RawLink
from pycolo.vm.findings import Findings


class GuestHost(Protocol):
    """What a guest needs of its node. Called in asyncio's thread, except for methods marked *any thread*."""

    config: PairConfig
    epoch: Epoch
    pid: int
    """Pid of this host's QEMU in the record on disk; 0 without one. Only `note_pid` changes it."""
    spin_us: int
    findings: Findings
    """What was found at the last attempt to protect the guest."""

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run `function(*arguments)` in asyncio's thread. Any thread."""

    def tell(self, fact: Fact, told: Told) -> None:
        """Report GUEST_GONE, GUEST_OFF, GUEST_HANGS, AVAILABLE, COLO_BROKEN or DATA_LOST."""

    def until_ns(self) -> int:
        """Time (CLOCK_MONOTONIC) until which frames may leave; 0: none may. Any thread."""

    def role(self) -> Role:
        """The role of the moment."""

    def term(self) -> int:
        """The term of the moment."""

    def is_on_guard(self) -> bool:
        """Whether this node is the primary of a pair and receives the other node's heartbeats."""

    def is_taking_over(self) -> bool:
        """Whether this node is taking over with the secondary's guest."""

    def guest_came(self) -> None:
        """A QEMU has been found after there was none: an attempt to protect that lacked it may begin."""

    async def try_host(self) -> None:
        """Try what a failover will need of this host. Raises `PeerError` for what would fail."""

    # ── the other node ────────────────────────────────────────────────────────────────────────────────────────

    async def ask_peer(self, order: str, arguments: JsonObject | None = None, timeout_s: float = ...) -> JsonObject:
        """Ask the other node and return its answer. Raises `PeerError` when it refuses, does not answer or is gone."""

    def expect_link(self, channel: Channel) -> "asyncio.Future[RawLink]":
        """Expect a raw connection, which the other node is about to open."""

    def forget_link(self, channel: Channel) -> None:
        """Expect it no longer."""

    def dial_raw(self, channel: Channel) -> RawLink:
        """Open a raw connection; blocks. Raises `ConnectError`, `LinkError`. Any thread."""

    # ── kept and shown ────────────────────────────────────────────────────────────────────────────────────────

    def note_pid(self, pid: int) -> None:
        """Record the pid of this host's QEMU on disk; 0: there is none. Raises `PycoloError`."""

    def note_divergences(self, found: list[Command]) -> None:
        """Note the divergences among the comparator's commands. Any thread."""

    def note_waits(self, epoch: int, waits: list[Wait]) -> None:
        """Note who has waited for the checkpoint that began `epoch`. Any thread."""

    def on_serving(self, resent: int) -> None:
        """The takeover has sent `resent` frames again. Any thread."""

    def on_note(self, text: str) -> None:
        """Log a message of the data path. Any thread."""

    def on_fatal(self, error: BaseException) -> None:
        """The data path has failed. Any thread."""


async def open_raw(host: GuestHost, path: Path, channel: Channel, what: str) -> tuple[socket.socket, RawLink]:
    """Connect with this host's QEMU at `path`, and with the primary's node. Raises `PycoloError`."""
    guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        guest.connect(str(path))
    except OSError as error:
        guest.close()
        raise ConnectError(f"{what}: {error.strerror or error}") from error
    try:
        return guest, await opened(partial(host.dial_raw, channel))
    except BaseException:
        guest.close()
        raise
