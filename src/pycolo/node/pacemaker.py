"""The arbiter `pacemaker` of one node, put together: its core, Pacemaker's programs, and the agent's orders."""

from collections.abc import Callable
from typing import Final

from pycolo.arbiters.pacemakertools import PacemakerTools, own_resource
from pycolo.arbiters.runner import ArbiterRunner
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.failover.pairstates import Command, Role
from pycolo.failover.turns import Turns
from pycolo.node.cluster import Cluster, Pausable
from pycolo.node.decider import Decider
from pycolo.node.node import Node
from pycolo.node.permission import Permission
from pycolo.transport.linksetup import Address

FENCING_S: Final = 60.0
"""For a host to be fenced: power switches take seconds, and Pacemaker's own limit is a minute."""


class Pacemaker:
    """`run` is the node's `MakeRunner`. Raises `ConfigError` where the resource agent has not started the process."""

    def __init__(self, peer: str, link: Address | None, head_start_ms: int, decider: Decider) -> None:
        """`peer`: the other host's name in the cluster. `link`: where its node listens for this one's, if it does."""
        self._peer = peer
        self._decider = decider
        turns = Turns(head_start_ms, decider.pair.settings.timeout_ms)
        self._core = PacemakerArbiter(decider.pair.term, turns)
        self._tools = PacemakerTools(peer, link, own_resource(), FENCING_S, self._is_secondary)

    def _is_secondary(self) -> bool:
        return self._decider.pair.role is Role.SECONDARY

    def run(self, on_change: Callable[[], None]) -> ArbiterRunner:
        """See `MakeRunner`."""
        return ArbiterRunner(self._core, on_change, self._tools.ask)

    def join(self, node: Node, permission: Permission, guest: Pausable) -> Cluster:
        """What the agent may order, as a part of the node. A primary is held back until it is promoted."""
        if not self._is_secondary():
            guest.hold_back()
        cluster = Cluster(self._decider, permission, self._core, guest, self._peer, self._tools.score)
        node.add(cluster, cluster.changed, without=Command.RELEASE)
        return cluster
