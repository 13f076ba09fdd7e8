"""From a pair's configuration to what the link and the data path need, for either role."""

from pycolo.compare.kinds import DivergencePolicy
from pycolo.config import PairConfig
from pycolo.link.hello import Role
from pycolo.node.options import NodeOptions
from pycolo.vm.wiring import ports


def node_options(config: PairConfig, role: Role) -> NodeOptions:
    """The primary listens at this node's address, the secondary dials the other's."""
    given = ports(config.qemu.directory)
    return NodeOptions(
        role=role,
        link=config.link.listen if role is Role.PRIMARY else config.link.peer,
        lan_in=given["lan_in"],
        lan_out=given["lan_out"],
        guest_in=given["guest_in"],
        guest_out=given["guest_out"],
        pair=config.pair,
        tls=config.link.tls,
        insecure=config.link.insecure,
        insecure_link=config.link.insecure_link,
        arbiter=config.arbiter.kind,
        peer_node=config.arbiter.node if config.arbiter.kind == "pacemaker" else None,
        heartbeat_interval_ms=config.heartbeat.interval_ms,
        heartbeat_timeout_ms=config.heartbeat.timeout_ms,
        control=config.control.socket,
        on_divergence=DivergencePolicy.CHECKPOINT,
        commits_input=config.compare.ack_policy == "commit",
        compare_timeout_ms=config.compare.compare_timeout_ms,
        queue_packets_max=config.compare.max_queue_size,
        without=None if config.compare.enabled else "compare",
    )
