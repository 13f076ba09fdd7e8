"""What a guest needs of the node that it belongs to: interfaces, so that a guest knows no node."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from pycolo.checkpoint.epoch import Epoch
from pycolo.compare.difference import Command
from pycolo.config import PairConfig
from pycolo.link.codec import Channel
from pycolo.link.orders import JsonObject
from pycolo.node.datapath import DataPath
from pycolo.node.options import NodeOptions
from pycolo.transport.linksetup import RawLink
from pycolo.transport.linksocket import LinkSocket
from pycolo.vm.checkpointdriver import CheckpointDriver


class GuestHost(Protocol):
    """Of both guests. In asyncio's thread, except `call`."""

    config: PairConfig
    options: NodeOptions
    pair_epoch: Epoch

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where everything here belongs."""

    @property
    def call(self) -> Callable[..., None]:
        """`call(function, *arguments)`: have it done in asyncio's thread."""

    def take_data_link(self) -> LinkSocket:
        """The data connection. Raises `PeerError` when there is none."""

    def use_path(self, path: DataPath) -> None:
        """Start it, and show it in the status."""

    async def drop_path(self, path: DataPath) -> None:
        """Stop it."""

    def path_callbacks(self) -> dict[str, Any]:
        """What every data path is built with."""

    async def record_term(self) -> None:
        """The term, onto the disk."""

    def guest_gone(self, text: str) -> None:
        """The QEMU has ended."""


class PrimaryHost(GuestHost, Protocol):
    """Of the primary's guest."""

    checkpoints: CheckpointDriver

    async def ask_peer(self, order: str, arguments: JsonObject | None = None, timeout_s: float = ...) -> JsonObject:
        """Ask the other node. Raises `PeerError`."""

    def expect_migration_link(self) -> "asyncio.Future[RawLink]":
        """The other node is about to open it."""

    def forget_migration_link(self) -> None:
        """It is not."""

    def trusted_until_ns(self) -> int:
        """Up to when the other node certainly has not taken over. Any thread."""

    def save(self, *, was_protected: bool) -> None:
        """What a restarted node must know, onto the disk."""

    def become_protected(self) -> None:
        """READY is here: the pair is whole from now on. Raises `StateError` when protecting was given up."""

    def tell_protected(self) -> None:
        """The secondary's node may hear of it too. Raises `PeerError`."""

    def note_differences(self, commands: list[Command], epoch: int) -> None:
        """What the comparator has found in `epoch`. From the data path's thread."""


class SecondaryHost(GuestHost, Protocol):
    """Of the secondary's guest."""

    async def end_leftover(self) -> None:
        """End the QEMU of an earlier life of this node."""

    async def serve_network(self) -> None:
        """The guest's tap onto the network."""

    async def leave_network(self) -> None:
        """The guest's tap off the network."""

    def note_pid(self, pid: int) -> None:
        """This host's QEMU is another one now, or none."""

    def dial_raw(self, channel: Channel) -> RawLink:
        """Open the migration connection; blocks. Raises `ConnectError`, `LinkError`."""

    def on_serving(self, resent: int) -> None:
        """The takeover's frames have been sent again. From the data path's thread."""
