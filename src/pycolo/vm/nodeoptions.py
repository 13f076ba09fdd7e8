"""From a pair's configuration to what the link and the data path need, for either role."""

from typing import Final

from pycolo.compare.kinds import DivergencePolicy
from pycolo.config import PairConfig
from pycolo.config.exemptions import bypass_flows, masks
from pycolo.link.hello import Role
from pycolo.node.options import NodeOptions
from pycolo.transport.portspec import parse_port

_LAN: Final = parse_port("tap:node,vnet_hdr=on", "card")
_GUEST: Final = parse_port("packet:guest,vnet_hdr=on", "card")
"""In the place of the cards' ports, which `pycolo.vm.tapwiring` opens: all of them have vnet headers."""


def node_options(config: PairConfig, role: Role) -> NodeOptions:
    """The primary listens at this node's address, the secondary dials the other's."""
    return NodeOptions(
        role=role,
        link=config.link.listen if role is Role.PRIMARY else config.link.peer,
        lan_in=_LAN,
        lan_out=_LAN,
        guest_in=_GUEST,
        guest_out=_GUEST,
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
        bypass=tuple(bypass_flows(config.bypass)),
        masks=tuple(masks(config.mask)),
        without=None if config.compare.enabled else "compare",
    )
