"""The tables of the file and their keys. Their docstrings are Markdown: docs/configuration.md is made of them."""

import stat
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec

from pycolo import limits
from pycolo.config import exemptions, keys
from pycolo.config.exemptions import BypassOptions, MaskOptions
from pycolo.config.ordering import OrderOptions
from pycolo.config.ordering import contradictions as order_contradictions
from pycolo.config.section import Section
from pycolo.failover.kinds import ARBITER_KINDS
from pycolo.link.hello import Role
from pycolo.transport.linksetup import Address

SOCKET_PATH_BYTES_MAX: Final = 107
"""unix(7): sun_path is 108 bytes with its final zero."""

SOCKET_NAME_BYTES_MAX: Final = 24
"""The longest name, with its slash, of a socket that a node creates in `qemu.directory`."""

LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_U31: Final = (1 << 31) - 1

_SOCKET: Final = keys.path("an absolute path of at most 107 bytes", SOCKET_PATH_BYTES_MAX)
_SOCKETS: Final = keys.path(
    "an absolute path of at most 83 bytes, without commas", SOCKET_PATH_BYTES_MAX - SOCKET_NAME_BYTES_MAX, "\0,"
)
_DIRECTORY: Final = keys.path("an absolute path", 4_095)
_FILE: Final = keys.path("an absolute path", 4_095)
_URLS: Final = "an array of URLs such as http://10.0.0.3:2379"
_NETDEV: Final = keys.text("an id of QEMU: a letter, then letters, digits, - . _", r"[A-Za-z][A-Za-z0-9._-]{0,126}")
_INTERFACE: Final = keys.text("the name of a network interface, at most 15 characters", r"[^/\s\x00-\x1f:]{1,15}")
_LIBVIRT: Final = r"qemu:///system|qemu\+unix:///system\?socket=/[!-~]{1,107}"
_COMMAND: Final = "an array of strings, the program first"

_MOVES_A_PORT: Final = frozenset({"master", "nomaster", "addif", "delif", "add-port", "del-port"})
"""Words of ip, brctl and ovs-vsctl."""

REPLACED: Final = {
    "qemu.netdev": "a table [[card]] with this netdev, and its bridge in the place of network.serve and retire",
}
"""Keys of earlier versions, and what is to be written."""


class LinkOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The connections to the other node."""

    listen: Annotated[Address, keys.address(1)]
    """Address on which this node listens while it is primary."""

    peer: Annotated[Address, keys.address(1)]
    """The other node's `listen`."""

    also_listen: Annotated[list[Address], keys.addresses(1)] = msgspec.field(default_factory=list)
    """Further addresses of this node, on other networks: when the link is silent, the other node asks there what this
    one does.
    """

    also_peer: Annotated[list[Address], keys.addresses(1)] = msgspec.field(default_factory=list)
    """The other node's `also_listen`."""

    tls: Annotated[Path | None, _DIRECTORY] = None
    """Directory of `colo certs init`: TLS 1.3 with certificates on both sides. A node that may take either role needs
    the files of both roles.
    """

    insecure: Annotated[bool, keys.boolean()] = False
    """Plain text instead of TLS: over loopback, or over `insecure_link`. The link carries the guest's memory."""

    insecure_link: Annotated[str | None, keys.text("an interface, an address or a prefix", r"[!-~]{1,64}")] = None
    """The link on which plain text is allowed."""

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """TLS or plain text, not both; two different addresses."""
        if self.listen == self.peer:
            yield "peer", "another address than link.listen", str(self.peer)
        if self.tls is not None and self.insecure:
            yield "insecure", "false, since link.tls is given", True
        if self.tls is None and not self.insecure:
            yield "tls", "the directory of `colo certs init`, or insecure = true", None
        if self.insecure_link is not None and not self.insecure:
            yield "insecure_link", "insecure = true with it", self.insecure_link


class GuestOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A guest that libvirt starts, see [A guest of libvirt](libvirt.md): the other host's node has libvirt start the
    secondary, and after a failover `virsh list` is true on both hosts. `[qemu]` may be left out then, and `[[card]]`
    for a guest with one card.
    """

    domain: Annotated[str, keys.text("the name of a domain, without slashes", r"[^/\x00-\x1f]{1,64}")]
    """The domain's name, the same on both hosts. On the host of the secondary it is defined when it is needed."""

    uri: Annotated[str, keys.text("qemu:///system, or qemu+unix:///system?socket=PATH", _LIBVIRT)] = "qemu:///system"
    """This host's libvirtd, or virtqemud."""

    own_networks: Annotated[list[str], keys.strings("names of networks")] = msgspec.field(default_factory=list)
    """Networks that are each host's own (NAT, routed …) and are meant: no warning of [them](libvirt.md#networks)."""


class QemuOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """This host's QEMU."""

    INSTEAD: ClassVar[str] = ", or [guest] with domain for a guest of libvirt's"

    qmp: Annotated[Path, _SOCKET]
    """QMP socket on which this host's QEMU listens."""

    yank: Annotated[Path | None, _SOCKET] = None
    """A second QMP socket, for `yank`: a command that hangs blocks the first. Without it, a peer that hangs (rather
    than dies) delays a failover.
    """

    directory: Annotated[Path, _SOCKETS]
    """Directory for the sockets between the node and QEMU."""

    command: Annotated[list[str], keys.strings(_COMMAND, keys.check_command)] = msgspec.field(default_factory=list)
    """Starts a QEMU as secondary on this host; the node adds the QMP sockets and `-incoming defer`. Use the primary's
    command line with this host's names. Without this key, start that QEMU yourself, see
    [Start QEMU yourself](operate.md#start-qemu-yourself).
    """

    environment: Annotated[Mapping[str, str], keys.variables()] = msgspec.field(default_factory=dict)
    """Environment variables for that command, besides the node's own."""

    start_timeout_ms: Annotated[int, keys.milliseconds(100, 3_600_000)] = 20_000
    """Time limit for that QEMU to answer on its QMP socket."""

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """QEMU cannot listen twice at one path."""
        if self.yank == self.qmp:
            yield "yank", "another path than qemu.qmp", str(self.yank)


class CardOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network card to protect: one table for each, in the same order in both files; at least one.

    The node stands beside QEMU, in which nothing is added or changed for it: it takes the guest's tap out of its bridge
    and puts a TAP device of its own in that place, `colo-` with the pair's name, with the same settings. See
    [Where the guest's tap is](network.md).
    """

    WANTED: ClassVar[str] = "netdev and bridge for each network card"

    netdev: Annotated[str, _NETDEV]
    """Id of the card's tap netdev in QEMU."""

    bridge: Annotated[str | None, _INTERFACE] = None
    """The Linux bridge or Open vSwitch bridge of the clients on this host. Default: the one that the tap is in when the
    node begins to protect; a tap that is in none needs this key.
    """

    vlan: Annotated[int | None, keys.integer(1, 4_094, "a VLAN")] = None
    """The VLAN of the guest's untagged frames on that bridge. Default: what the tap has there, or what the bridge gives
    a new port.
    """

    tap: Annotated[str | None, _INTERFACE] = None
    """The tap on this host. Default: the one that QEMU says."""


class NetworkOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What else has to happen when this host starts or stops to serve the clients, such as moving a route.

    The node itself moves the tap of each `[[card]]`: these commands leave it alone. Give both or neither. Running one
    twice must do no harm. The commands run without a shell, for five seconds at most, with the placeholders of
    `arbiter.command`; `{term}` is the node's term.
    """

    serve: Annotated[list[str], keys.strings(_COMMAND, keys.check_placeholders)] = msgspec.field(default_factory=list)
    """Run when this host starts to serve; in a takeover before the node's TAP joins the bridge."""

    retire: Annotated[list[str], keys.strings(_COMMAND, keys.check_placeholders)] = msgspec.field(default_factory=list)
    """Run when this host must not serve, or no longer. Every check of this host runs it too, unless the host serves."""

    serve_dry_run: Annotated[list[str], keys.strings(_COMMAND, keys.check_placeholders)] = msgspec.field(
        default_factory=list
    )
    """Tries what `serve` needs without serving, such as `["ip", "route", "get", "192.0.2.1"]`, or `serve` with an
    option of its own: `serve` itself is never run outside of a takeover. See
    [Try everything beforehand](operate.md#try-everything-beforehand).
    """

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """Each command must be able to undo the other; a dry run is one of something; the taps are the node's."""
        for key in ("serve", "retire"):
            moves = _MOVES_A_PORT.intersection(getattr(self, key))
            if moves:
                yield key, "no command that moves a tap: the node does that, see the bridge of [[card]]", min(moves)
        if self.serve_dry_run and not self.serve:
            yield "serve_dry_run", "network.serve with it", self.serve_dry_run[0]
        if self.serve and not self.retire:
            yield "retire", "a command that undoes network.serve", None
        if self.retire and not self.serve:
            yield "serve", "a command that undoes network.retire", None


class CheckpointOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the primary's state is copied over the secondary's."""

    min_distance_ms: Annotated[int, keys.milliseconds(0, 60_000)] = 20
    """Minimum distance between the end of one checkpoint and the start of the next: both guests work in it."""

    max_distance_ms: Annotated[int | None, keys.milliseconds(0, 60_000)] = None
    """Maximum of that distance, which grows with what checkpoints for differences cost, see `busy_percent`. The same as
    `min_distance_ms`: it never grows. Default: 200 ms, or `min_distance_ms` if that is more.
    """

    busy_percent: Annotated[int, keys.integer(1, 90, "percent")] = 50
    """Share of the time that these may take, within both distances: if each costs 60 ms, the next comes 60 ms later."""

    max_wait_ms: Annotated[int, keys.milliseconds(0, 1_000)] = 10
    """How long a difference waits at most for others, which the same checkpoint answers. It waits only while that has
    saved more time than it takes. 0: never.
    """

    max_interval_ms: Annotated[int, keys.milliseconds(0, _U31)] = 10_000
    """Maximum time between two checkpoints; 0: only on request. A checkpoint copies everything that has changed since
    the last one while the guest stands still; a guest that changes much is copied sooner, see
    `protect.pause_target_ms`.
    """

    timeout_ms: Annotated[int, keys.milliseconds(100, 600_000)] = 5_000
    """A checkpoint of which nothing has moved for this long is abandoned and is a suspicion. What it copies may take
    longer, and loading that as long again.
    """

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """No maximum must be below the minimum."""
        if self.max_distance_ms is not None and self.max_distance_ms < self.min_distance_ms:
            yield "max_distance_ms", f"at least min_distance_ms ({self.min_distance_ms})", self.max_distance_ms
        if 0 < self.max_interval_ms < self.min_distance_ms:
            yield "max_interval_ms", f"0, or at least min_distance_ms ({self.min_distance_ms})", self.max_interval_ms

    @property
    def distances_ms(self) -> tuple[int, int]:
        """Minimum and maximum; Linux's TCP sends again after 200 ms."""
        most_ms = max(self.min_distance_ms, 200) if self.max_distance_ms is None else self.max_distance_ms
        return self.min_distance_ms, most_ms


class CompareOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The comparison of the two guests' output."""

    compare_timeout_ms: Annotated[int, keys.milliseconds(1, 3_600_000)] = 500
    """A packet that waits longer requests a checkpoint. A guest's first answers after a checkpoint take up to 55 ms."""

    ack_policy: Annotated[str, keys.choice("commit", "immediate")] = "commit"
    """Rule C3 on or off, see [rules](rules.md)."""

    max_queue_size: Annotated[int, keys.integer(1, limits.HELD_PACKETS_MAX // 2, "packets")] = (
        limits.NODE_QUEUE_PACKETS_MAX
    )
    """Maximum of held packets per connection and side; at this limit reading stops."""

    enabled: Annotated[bool, keys.boolean()] = True
    """False is a negative control: everything is released at once, and a failover breaks connections that differed."""


class HeartbeatOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How each node detects the other's silence."""

    interval_ms: Annotated[int, keys.milliseconds(1, 60_000)] = limits.HEARTBEAT_INTERVAL_MS
    """Interval between heartbeats."""

    timeout_ms: Annotated[int, keys.milliseconds(3, 600_000)] = limits.HEARTBEAT_TIMEOUT_MS
    """Silence of this length is a suspicion; at least three intervals, the same on both nodes."""

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """One late heartbeat is not silence."""
        if self.timeout_ms < 3 * self.interval_ms:
            yield "timeout_ms", f"at least three intervals of {self.interval_ms} ms", self.timeout_ms


class ArbiterOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What turns a suspicion into permission, see [failover](failover.md).

    Keys of other kinds than `kind` may stay in the file; they are checked all the same.
    """

    kind: Annotated[str, keys.choice(*ARBITER_KINDS)] = "manual"
    """`manual` waits for `colo failover`; `command` runs a command that fences the other host; `etcd` takes a lease;
    `pacemaker` takes the word of a cluster whose resource agent has started the node, see [Pacemaker](pacemaker.md);
    `first-to-notice` is for laboratories: a cut link makes both nodes serve.
    """

    command: Annotated[list[str], keys.strings(_COMMAND, keys.check_placeholders)] = msgspec.field(default_factory=list)
    """For `command`: exit code 0 means that the other host is fenced. `{peer}` is the host of `link.peer`, `{pair}` the
    pair, `{role}` this node's role, `{term}` the term that it requests.
    """

    timeout_ms: Annotated[int, keys.milliseconds(100, 600_000)] = 10_000
    """For `command`: time limit; after it the command is ended and has failed."""

    dry_run: Annotated[list[str], keys.strings(_COMMAND, keys.check_placeholders)] = msgspec.field(default_factory=list)
    """For `command`: tries whether it would work, and harms no host: a fence agent with the action `monitor`, for one.
    Exit code 0 means that it would. Every check runs it, with the same placeholders and time limit.
    """

    head_start_ms: Annotated[int, keys.milliseconds(0, 600_000)] = limits.HEAD_START_MS
    """For `command`, and for `pacemaker` in a cluster of two votes: the node that serves fences at once, the other one
    so much later, so that two healthy hosts that lose each other are not both fenced. A fencing that fails is repeated
    in turns of that length. For `command` at least `timeout_ms`; for `pacemaker` longer than fencing takes. When the
    host that serves is dead, its clients wait for this as well.
    """

    node: Annotated[str | None, keys.text("the name of a cluster node", r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")] = None
    """For `pacemaker`: the other host's name in the cluster."""

    endpoints: Annotated[list[str], keys.strings(_URLS, keys.check_endpoint)] = msgspec.field(default_factory=list)
    """For `etcd`: its client URLs."""

    ttl_ms: Annotated[int, keys.milliseconds(1_000, 600_000)] = 3_000
    """For `etcd`: how long a lease lasts after its last renewal; a survivor waits up to that long."""

    ca: Annotated[Path | None, _FILE] = None
    """For `etcd` over https: the authority that signed its certificate, in PEM. Default: the system's authorities."""

    certificate: Annotated[Path | None, _FILE] = None
    """For `etcd` over https: this node's client certificate, in PEM; with `key`."""

    key: Annotated[Path | None, _FILE] = None
    """The key of `certificate`, in PEM, not encrypted. Changed files are read again."""

    prefix: Annotated[str, keys.text("1 to 128 printable characters without spaces", r"[!-~]{1,128}")] = "/colo/"
    """For `etcd`: prefix of its keys."""

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """Keys that a kind requires."""
        if self.kind == "command" and not self.command:
            yield "command", f'{_COMMAND}, since kind is "command"', None
        if self.kind == "command" and self.head_start_ms < self.timeout_ms:
            yield "head_start_ms", f"at least arbiter.timeout_ms ({self.timeout_ms})", self.head_start_ms
        if self.dry_run and not self.command:
            yield "dry_run", "arbiter.command with it", self.dry_run[0]
        if self.kind == "pacemaker" and self.node is None:
            yield "node", 'the other host\'s name in the cluster, since kind is "pacemaker"', None
        if self.kind == "etcd" and not self.endpoints:
            yield "endpoints", 'an array of URLs, since kind is "etcd"', None
        if (self.certificate is None) != (self.key is None):
            name, other = ("key", "certificate") if self.key is None else ("certificate", "key")
            yield name, f"an absolute path, since arbiter.{other} is given", None
        plain = [url for url in self.endpoints if not url.startswith("https://")]
        for name in ("ca", "certificate"):
            if getattr(self, name) is not None and plain:
                yield "endpoints", f"https URLs, since arbiter.{name} is given", plain[0]


class ProtectOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the guest gets a secondary, and what that may cost it."""

    automatic: Annotated[bool, keys.boolean()] = True
    """`colo protect` is a wish that is remembered until `colo unprotect`: after a failure the node that serves protects
    its guest again as soon as the other node is linked, with growing pauses while that fails. False: only on command.
    """

    pause_target_ms: Annotated[int, keys.milliseconds(5, 60_000)] = 100
    """No checkpoint shall pause the guest for longer: the more it changes, the more often it is copied, within
    `checkpoint.min_distance_ms` and `max_interval_ms`. `colo status` says when that is not enough, see
    [Busy memory](operate.md#busy-memory).
    """


class DisksOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The guest's writable disks are copied to the other host, and each write is on both before it is complete. Without
    this table a guest with a writable disk is not protected. Read-only disks are not copied: both hosts need them.
    """

    images: Annotated[Path | None, _DIRECTORY] = None
    """Directory for this host's copies, each with the file name that it has in `qemu.command`, or of a domain on the
    other host. Without it they are the files that `qemu.command` names; of a domain the same paths as on the other
    host. A domain that this host's libvirt knows already keeps the images that it has there. Missing ones are created.
    """

    overlays: Annotated[Path | None, _DIRECTORY] = None
    """Directory for two files per disk while this host has the secondary: what its guest has written since the last
    checkpoint, and what the primary has overwritten since then. A fast one makes short pauses. Without it they are
    beside the copy.
    """

    copy_limit_mib: Annotated[int, keys.integer(0, 1 << 20, "MiB per second")] = 0
    """No disk is copied faster, when the guest is given a secondary; 0: as fast as it can be."""


class ControlOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The socket for `colo status` and similar commands."""

    socket: Annotated[Path, _SOCKET]
    """Unix socket for `colo status` and similar commands."""

    mode: Annotated[int, keys.mode()] = 0o600
    """Mode of the socket; write access also permits ordering a failover."""

    group: Annotated[str | None, keys.text("the name of a group", r"[A-Za-z_][A-Za-z0-9._-]{0,31}\$?")] = None
    """Group of the socket; needs a `mode` that grants it access."""

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """A group without access is a mistake."""
        if self.group is not None and not self.mode & stat.S_IWGRP:
            yield (
                "mode",
                'a mode that lets the group in, such as "0660", since control.group is given',
                f"{self.mode:04o}",
            )


class MetricsOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prometheus metrics over HTTP, and [a page for people](page.md).

    Without this table there are neither. They are not encrypted, and open to all that can reach the address.
    """

    listen: Annotated[Address, keys.address(0)]
    """Address of the HTTP server; port 0: any free one."""

    page: Annotated[bool | None, keys.boolean()] = None
    """Whether there is a page at `/`. It shows payload of the guest, so by default there is one only where `listen` is
    a loopback address.
    """

    @property
    def is_page_open(self) -> bool:
        """What `page` says, or means where it is not given."""
        if self.page is not None:
            return self.page
        try:
            return ip_address(self.listen.host).is_loopback
        except ValueError:
            return self.listen.host == "localhost"


class LogOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lines on standard error."""

    format: Annotated[str, keys.choice(*LOG_FORMATS)] = "text"
    """Lines for people, or one JSON object per line with the time in UTC; on standard error."""

    level: Annotated[str, keys.choice(*LOG_LEVELS)] = "info"
    """The lowest level that is written."""


class PairConfig(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file of one node of a pair."""

    pair: Annotated[str, keys.pair_name()]
    """Name of the pair: the same in both files, and in the certificates."""

    role: Annotated[Role, keys.role()]
    """For the very first start; afterwards the node's own record in `state` counts."""

    state: Annotated[Path, _DIRECTORY]
    """Directory for what must outlive a restart: role and term. Not in /run."""

    link: LinkOptions
    guest: GuestOptions | None = None
    qemu: QemuOptions
    card: tuple[CardOptions, ...]
    disks: DisksOptions | None = None
    network: NetworkOptions = msgspec.field(default_factory=NetworkOptions)
    checkpoint: CheckpointOptions = msgspec.field(default_factory=CheckpointOptions)
    protect: ProtectOptions = msgspec.field(default_factory=ProtectOptions)
    order: tuple[OrderOptions, ...] = ()
    compare: CompareOptions = msgspec.field(default_factory=CompareOptions)
    bypass: tuple[BypassOptions, ...] = ()
    mask: tuple[MaskOptions, ...] = ()
    heartbeat: HeartbeatOptions = msgspec.field(default_factory=HeartbeatOptions)
    arbiter: ArbiterOptions = msgspec.field(default_factory=ArbiterOptions)
    control: ControlOptions
    metrics: MetricsOptions | None = None
    log: LogOptions = msgspec.field(default_factory=LogOptions)

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """The node's own socket is not QEMU's; each card and each tap is named once."""
        if self.control.socket in (self.qemu.qmp, self.qemu.yank):
            yield "control.socket", "another path than QEMU's sockets", str(self.control.socket)
        if self.guest is not None:
            for key in ("command", "environment"):
                if found := getattr(self.qemu, key):
                    yield f"qemu.{key}", "none, since libvirt starts guest.domain", found
        elif self.disks is not None and not self.qemu.command:
            yield "qemu.command", "the secondary's command line, since [disks] has this node write its disks", None
        yield from exemptions.contradictions(self.bypass, self.mask)
        yield from order_contradictions(self.order, self.compare.ack_policy)
        ordered = [[(port, port) for port in table.ports] if table.mode != "off" else [] for table in self.order]
        yield from exemptions.never_compared(self.bypass, "order", ordered)
        served = [table.ports if table.direction == exemptions.IN else [] for table in self.mask]
        yield from exemptions.never_compared(self.bypass, "mask", served)
        for key in ("netdev", "tap"):
            given = [getattr(card, key) for card in self.card]
            for number, value in enumerate(given):
                if value is not None and value in given[:number]:
                    yield f"card[{number}].{key}", f"another one than card[{given.index(value)}] has", value
