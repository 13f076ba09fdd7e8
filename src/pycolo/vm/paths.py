"""The data paths of a node with a QEMU: in line with the guest in either role."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from pycolo.compare.difference import Command
from pycolo.core import Comparator, Rewriter
from pycolo.node.handover import PathState
from pycolo.node.options import NodeOptions
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.rowsfile import KeptRows, Restored, RowsFile
from pycolo.node.secondarypath import SecondaryPath
from pycolo.path.clock import now_us
from pycolo.path.cores import new_comparator, new_rewriter, node_ages
from pycolo.vm.guestwiring import CardPorts


def _comparator(options: NodeOptions) -> Comparator:
    return new_comparator(
        has_vnet=options.has_vnet,
        policy=options.on_divergence,
        commits_input=options.commits_input,
        needs_handshake=False,  # the secondary has the primary's state: older connections are alike too
        **node_ages(options.compare_timeout_ms),
        bypass=options.bypass,
        masks=options.masks,
        queue_packets_max=options.queue_packets_max,
        primary_name="guest",
        secondary_name="data link",
    )


def make_primary_path(
    options: NodeOptions,
    callbacks: Mapping[str, Any],
    on_differences: Callable[[list[Command], int], None],
    begins: PathState | CardPorts,
    *,
    rewriter: Rewriter | None = None,
    rows: RowsFile | None = None,
) -> PrimaryPath:
    """A path that passes everything on until `start_comparing`.

    It begins with open ports, or with the state of the path with which this node serves.

    `callbacks`: see `DataPath`. `on_differences(commands, epoch)` is called in the path's thread. `rewriter` and
    `rows`: see `restored_rewriter`.
    """
    comparator = _comparator(options)
    path: PrimaryPath
    common = {"compares": options.without != "compare", "mirrors_at_once": False, **callbacks}

    def on_commands(commands: list[Command]) -> None:
        path = made()
        assert path is not None, "it calls"
        on_differences(commands, path.epoch)

    if isinstance(begins, PathState):
        path = PrimaryPath.from_state(comparator, begins, on_commands, **common)
        made = weakref.ref(path)
        return path
    path = PrimaryPath(
        comparator,
        begins.lan,
        begins.lan,
        begins.guest,
        begins.guest,
        on_commands,
        tap=begins.tap,
        rewriter=rewriter,
        rows=rows,
        **common,
    )
    made = weakref.ref(path)  # a circle would keep its megabytes until Python looks for circles
    return path


def restored_rewriter(options: NodeOptions, kept: KeptRows) -> tuple[Rewriter, Restored]:
    """The rewriter of a node that had taken over before it was started again."""
    rewriter = new_rewriter(keeps_copies=False, has_vnet=options.has_vnet, client_name="LAN", guest_name="guest")
    return rewriter, kept.restore(rewriter, now_us())


def make_secondary_path(
    options: NodeOptions,
    callbacks: Mapping[str, Any],
    on_serving: Callable[[int], None],
    ports: CardPorts,
    rows: RowsFile | None = None,
) -> SecondaryPath:
    """A path between the link and the guest. The arguments: see `DataPath`, `SecondaryPath`."""
    rewriter = new_rewriter(keeps_copies=True, has_vnet=options.has_vnet, client_name="data link", guest_name="guest")
    return SecondaryPath(
        rewriter,
        ports.lan,
        ports.lan,
        ports.guest,
        ports.guest,
        on_serving=on_serving,
        tap=ports.tap,
        rows=rows,
        **callbacks,
    )
