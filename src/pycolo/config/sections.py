"""The tables of the file and their keys; docs/configuration.md describes each, and a test holds it to this."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pycolo import limits
from pycolo.config import keys
from pycolo.link.hello import Role
from pycolo.transport.linksetup import Address

SOCKET_PATH_BYTES_MAX: Final = 107
"""unix(7): sun_path is 108 bytes with its final zero."""

SOCKET_NAME_BYTES_MAX: Final = 24
"""The longest name, with its slash, of a socket that a node makes in `qemu.directory`."""

ARBITER_KINDS: Final = ("manual", "command", "etcd", "first-to-notice")
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_U31: Final = (1 << 31) - 1

_SOCKET: Final = keys.path("an absolute path of at most 107 bytes", SOCKET_PATH_BYTES_MAX)
_SOCKETS: Final = keys.path(
    "an absolute path of at most 83 bytes, without commas", SOCKET_PATH_BYTES_MAX - SOCKET_NAME_BYTES_MAX, "\0,"
)
_DIRECTORY: Final = keys.path("an absolute path", 4_095)
_URLS: Final = "an array of URLs such as http://10.0.0.3:2379"
_COMMAND: Final = "an array of strings, the program first"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file; the attributes are its keys."""

    def contradictions(self) -> "Iterator[tuple[str, str, object]]":
        """What cannot be true together: key, what is expected of it, what was found."""
        return iter(())


class LinkOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The connections to the other node."""

    listen: Annotated[Address, keys.address(1)]
    peer: Annotated[Address, keys.address(1)]
    tls: Annotated[Path | None, _DIRECTORY] = None
    insecure: Annotated[bool, keys.boolean()] = False
    insecure_link: Annotated[str | None, keys.text("an interface, an address or a prefix", r"[!-~]{1,64}")] = None

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """TLS or plain text; two different ends."""
        if self.listen == self.peer:
            yield "peer", "another address than link.listen", str(self.peer)
        if self.tls is not None and self.insecure:
            yield "insecure", "false, since link.tls is given", True
        if self.tls is None and not self.insecure:
            yield "tls", "the directory of `colo certs init`, or insecure = true", None
        if self.insecure_link is not None and not self.insecure:
            yield "insecure_link", "insecure = true with it", self.insecure_link


class QemuOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """This host's QEMU."""

    qmp: Annotated[Path, _SOCKET]
    yank: Annotated[Path | None, _SOCKET] = None
    netdev: Annotated[
        str, keys.text("an id of QEMU: a letter, then letters, digits, - . _", r"[A-Za-z][A-Za-z0-9._-]{0,126}")
    ]
    directory: Annotated[Path, _SOCKETS]
    command: Annotated[list[str], keys.strings(_COMMAND, keys.check_command)] = msgspec.field(default_factory=list)
    environment: Annotated[Mapping[str, str], keys.variables()] = msgspec.field(default_factory=dict)
    start_timeout_ms: Annotated[int, keys.milliseconds(100, 3_600_000)] = 20_000

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """QEMU cannot listen twice at one path."""
        if self.yank == self.qmp:
            yield "yank", "another path than qemu.qmp", str(self.yank)


class NetworkOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How this host begins and ceases to serve the clients."""

    serve: Annotated[list[str], keys.strings(_COMMAND)] = msgspec.field(default_factory=list)
    retire: Annotated[list[str], keys.strings(_COMMAND)] = msgspec.field(default_factory=list)

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """What one does the other must be able to undo."""
        if self.serve and not self.retire:
            yield "retire", "a command that undoes network.serve", None
        if self.retire and not self.serve:
            yield "serve", "a command that undoes network.retire", None


class CheckpointOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the primary's state is copied over the secondary's."""

    min_distance_ms: Annotated[int, keys.milliseconds(0, 60_000)] = 20
    max_interval_ms: Annotated[int, keys.milliseconds(0, _U31)] = 10_000
    timeout_ms: Annotated[int, keys.milliseconds(100, 600_000)] = 5_000

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """A period shorter than the distance cannot be kept."""
        if 0 < self.max_interval_ms < self.min_distance_ms:
            yield "max_interval_ms", f"0, or at least min_distance_ms ({self.min_distance_ms})", self.max_interval_ms


class CompareOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The comparison of the two guests' output."""

    compare_timeout_ms: Annotated[int, keys.milliseconds(1, 3_600_000)] = 500
    ack_policy: Annotated[str, keys.choice("commit", "immediate")] = "commit"
    max_queue_size: Annotated[int, keys.integer(1, limits.HELD_PACKETS_MAX // 2, "packets")] = (
        limits.NODE_QUEUE_PACKETS_MAX
    )
    enabled: Annotated[bool, keys.boolean()] = True


class HeartbeatOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the nodes notice one another's silence."""

    interval_ms: Annotated[int, keys.milliseconds(1, 60_000)] = limits.HEARTBEAT_INTERVAL_MS
    timeout_ms: Annotated[int, keys.milliseconds(3, 600_000)] = limits.HEARTBEAT_TIMEOUT_MS

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """One late heartbeat is no silence."""
        if self.timeout_ms < 3 * self.interval_ms:
            yield "timeout_ms", f"at least three intervals of {self.interval_ms} ms", self.timeout_ms


class ArbiterOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who turns a suspicion into permission; the keys of other kinds than `kind` may stay in the file."""

    kind: Annotated[str, keys.choice(*ARBITER_KINDS)] = "manual"
    command: Annotated[list[str], keys.strings(_COMMAND, keys.check_placeholders)] = msgspec.field(default_factory=list)
    timeout_ms: Annotated[int, keys.milliseconds(100, 600_000)] = 10_000
    endpoints: Annotated[list[str], keys.strings(_URLS, keys.check_endpoint)] = msgspec.field(default_factory=list)
    ttl_ms: Annotated[int, keys.milliseconds(1_000, 600_000)] = 3_000
    prefix: Annotated[str, keys.text("1 to 128 printable characters without spaces", r"[!-~]{1,128}")] = "/colo/"

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """What a kind cannot do without."""
        if self.kind == "command" and not self.command:
            yield "command", f'{_COMMAND}, since kind is "command"', None
        if self.kind == "etcd" and not self.endpoints:
            yield "endpoints", 'an array of URLs, since kind is "etcd"', None


class ControlOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The socket on which `colo status` and its like ask."""

    socket: Annotated[Path, _SOCKET]
    mode: Annotated[int, keys.mode()] = 0o600
    group: Annotated[str | None, keys.text("the name of a group", r"[A-Za-z_][A-Za-z0-9._-]{0,31}\$?")] = None

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """A group that may do nothing is a mistake."""
        if self.group is not None and not self.mode & stat.S_IWGRP:
            yield (
                "mode",
                'a mode that lets the group in, such as "0660", since control.group is given',
                f"{self.mode:04o}",
            )


class MetricsOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prometheus metrics over HTTP."""

    listen: Annotated[Address, keys.address(0)]


class LogOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lines on standard error."""

    format: Annotated[str, keys.choice(*LOG_FORMATS)] = "text"
    level: Annotated[str, keys.choice(*LOG_LEVELS)] = "info"


class PairConfig(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file of one node of a pair."""

    pair: Annotated[str, keys.pair_name()]
    role: Annotated[Role, keys.role()]
    state: Annotated[Path, _DIRECTORY]
    link: LinkOptions
    qemu: QemuOptions
    network: NetworkOptions = msgspec.field(default_factory=NetworkOptions)
    checkpoint: CheckpointOptions = msgspec.field(default_factory=CheckpointOptions)
    compare: CompareOptions = msgspec.field(default_factory=CompareOptions)
    heartbeat: HeartbeatOptions = msgspec.field(default_factory=HeartbeatOptions)
    arbiter: ArbiterOptions = msgspec.field(default_factory=ArbiterOptions)
    control: ControlOptions
    metrics: MetricsOptions | None = None
    log: LogOptions = msgspec.field(default_factory=LogOptions)

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """The node's own socket is not QEMU's."""
        if self.control.socket in (self.qemu.qmp, self.qemu.yank):
            yield "control.socket", "another path than QEMU's sockets", str(self.control.socket)
