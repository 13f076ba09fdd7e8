"""The data paths of a node with a QEMU: in line with the guest in either role, in QEMU's four sockets."""

import weakref
from typing import Final

from pycolo.compare.difference import Command
from pycolo.core import Comparator
from pycolo.node.handover import PathState
from pycolo.node.options import NodeOptions
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.path.cores import new_comparator, new_rewriter
from pycolo.transport.portspec import PortSpec
from pycolo.vm.guesthost import PrimaryHost, SecondaryHost
from pycolo.vm.qemuport import QemuPort

_CHARDEVS: Final = "qemu.directory"


def _open(spec: PortSpec | None) -> QemuPort:
    assert spec is not None
    return QemuPort(spec, _CHARDEVS)


def _comparator(options: NodeOptions) -> Comparator:
    return new_comparator(
        has_vnet=options.has_vnet,
        policy=options.on_divergence,
        commits_input=options.commits_input,
        needs_handshake=False,  # the secondary has the primary's state: older connections are alike too
        compare_timeout_ms=options.compare_timeout_ms,
        queue_packets_max=options.queue_packets_max,
        primary_name="colo-guest-in",
        secondary_name="data link",
    )


def make_primary_path(host: PrimaryHost, state: PathState | None) -> PrimaryPath:
    """A path that passes everything on until `start_comparing`; `state`: of the path with which this node serves."""
    options = host.options
    comparator = _comparator(options)
    path: PrimaryPath
    common = {"compares": options.without != "compare", "mirrors_at_once": False, **host.path_callbacks()}

    def on_commands(commands: list[Command]) -> None:
        path = made()
        assert path is not None, "it calls"
        host.note_differences(commands, path.epoch)

    if state is not None:
        path = PrimaryPath.from_state(comparator, state, on_commands, **common)
        made = weakref.ref(path)
        return path
    path = PrimaryPath(
        comparator,
        _open(options.lan_in),
        _open(options.lan_out),
        _open(options.guest_in),
        _open(options.guest_out),
        on_commands,
        **common,
    )
    made = weakref.ref(path)  # a circle would keep its megabytes until Python looks for circles
    return path


def make_secondary_path(host: SecondaryHost) -> SecondaryPath:
    """A path between the link and the guest."""
    options = host.options
    rewriter = new_rewriter(
        keeps_copies=True, has_vnet=options.has_vnet, client_name="data link", guest_name="colo-guest-in"
    )
    return SecondaryPath(
        rewriter,
        _open(options.lan_in),
        _open(options.lan_out),
        _open(options.guest_in),
        _open(options.guest_out),
        on_serving=host.on_serving,
        **host.path_callbacks(),
    )
