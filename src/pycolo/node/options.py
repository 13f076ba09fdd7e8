"""The options of a node, checked."""

from pathlib import Path

import msgspec

from pycolo import limits
from pycolo.compare.flows import Flow
from pycolo.compare.kinds import DivergencePolicy
from pycolo.compare.noise import Mask
from pycolo.errors import ConfigError
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.link.hello import PAIR_DEFAULT, Role, check_pair_name
from pycolo.transport.linksetup import Address
from pycolo.transport.portspec import PortSpec


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `colo primary` and `colo secondary`; those of one role have defaults that do nothing in the other.

    `link`: where the primary listens and the secondary connects. `tls` None is plain text, allowed by `insecure` and
    `insecure_link`. Without `guest_out` the guest gets its frames elsewhere (QEMU's own network). `rows`: where a
    secondary that has taken over keeps what it needs when it is started again. `bypass`: connections that are never
    compared; `masks`: bytes that may differ.
    """

    role: Role
    link: Address
    lan_in: PortSpec
    lan_out: PortSpec
    guest_in: PortSpec
    guest_out: PortSpec | None
    pair: str = PAIR_DEFAULT
    tls: Path | None = None
    insecure: bool = False
    insecure_link: str | None = None
    arbiter: str = "manual"
    peer_node: str | None = None
    head_start_ms: int = limits.HEAD_START_MS
    heartbeat_interval_ms: int = limits.HEARTBEAT_INTERVAL_MS
    heartbeat_timeout_ms: int = limits.HEARTBEAT_TIMEOUT_MS
    control: Path | None = None
    rows: Path | None = None
    on_divergence: DivergencePolicy = DivergencePolicy.REPORT
    commits_input: bool = True
    compare_timeout_ms: int = limits.COMPARE_TIMEOUT_MS
    queue_packets_max: int = limits.NODE_QUEUE_PACKETS_MAX
    bypass: tuple[Flow, ...] = ()
    masks: tuple[Mask, ...] = ()
    without: str | None = None
    spin_us: int = 0

    def __post_init__(self) -> None:
        check_pair_name(self.pair)
        if self.heartbeat_timeout_ms < 3 * self.heartbeat_interval_ms:
            raise ConfigError(
                "--heartbeat-timeout",
                f"at least three intervals of {self.heartbeat_interval_ms} ms",
                self.heartbeat_timeout_ms,
            )
        if (self.arbiter == PacemakerArbiter.name) != (self.peer_node is not None):
            expected = "the other host's name in the cluster" if self.peer_node is None else "--arbiter pacemaker"
            raise ConfigError("--peer-node", expected, self.peer_node)
        self._check_link()
        self._check_ports()

    def _check_link(self) -> None:
        if self.role is Role.SECONDARY and self.link.port == 0:
            raise ConfigError("--connect", "a port from 1 to 65535", str(self.link))
        if self.tls is not None and (self.insecure or self.insecure_link is not None):
            raise ConfigError("--tls", "either --tls or --insecure", "both")
        if self.insecure_link is not None and not self.insecure:
            raise ConfigError("--insecure-link", "--insecure with it", "no --insecure")

    def _check_ports(self) -> None:
        vnet = {spec.vnet_hdr for spec in self.ports()}
        if len(vnet) > 1:
            raise ConfigError(
                "vnet_hdr", "the same for all ports of a node", ", ".join(spec.text for spec in self.ports())
            )
        lan = {self.lan_in.text, self.lan_out.text}
        if any(spec is not None and spec.text in lan for spec in (self.guest_in, self.guest_out)):
            raise ConfigError("--guest", "another port than the LAN's", self.guest_in.text)
        if self.role is Role.SECONDARY and self.guest_out is None:
            raise ConfigError("--guest-out", "a port to the guest (--guest: in both directions)", None)

    def ports(self) -> list[PortSpec]:
        """The ports that are given."""
        given = (self.lan_in, self.lan_out, self.guest_in, self.guest_out)
        return [spec for spec in given if spec is not None]

    @property
    def own_stall_ms(self) -> int:
        """A longer gap in this node's own loop is no silence of the other: above one interval, below the time-out."""
        shortest_ms = self.heartbeat_interval_ms + self.heartbeat_interval_ms // 5
        return max(shortest_ms, min(limits.OWN_STALL_MS, self.heartbeat_timeout_ms // 2))

    @property
    def has_vnet(self) -> bool:
        """Whether frames carry vnet headers."""
        return self.lan_in.vnet_hdr
