"""Socket chardevs: what `-chardev socket,…` says, and the port that implements it.

A server with `wait=on` (QEMU's default) keeps its object from starting until a peer has connected. A client without
`reconnect` must find its peer at start, as in QEMU. If it loses the peer later, it retries every second; QEMU does not
(`reconnect=0` restores QEMU's behaviour: never again).
"""

import socket
import time
from typing import Final

import msgspec

from pycolo.errors import ConnectError
from pycolo.path.clock import now_us
from pycolo.proxy.qemuopts import Group, OptionError, Properties, did_you_mean
from pycolo.transport.portspec import PortKind, PortSpec
from pycolo.transport.streamport import StreamPort

RECONNECT_MS: Final = 1_000
"""Pause between two attempts if the command line gives none."""

_PRIVILEGED_PORTS: Final = 1_024
_UNIX_PATH_BYTES_MAX: Final = 107
_LOOK_AGAIN_S: Final = 0.005

_KNOWN: Final = ("id", "path", "host", "port", "server", "wait", "reconnect", "reconnect-ms", "nodelay", "delay",
                 "ipv4", "ipv6")  # fmt: skip
_REFUSED: Final = {
    "fd": "descriptors cannot be inherited; give path= or host= and port=",
    "to": "port ranges are not supported; give one port",
    "abstract": "abstract sockets are not supported; give a path in a directory of your own",
    "tight": "it belongs to abstract sockets, which are not supported",
    "telnet": "the stream carries frames, not telnet; leave it out",
    "tn3270": "the stream carries frames, not a terminal; leave it out",
    "websocket": "websockets are not supported; leave it out",
    "tls-creds": "these sockets carry frames in plain text; between hosts use `colo primary` and `colo secondary`",
    "tls-authz": "these sockets carry frames in plain text; between hosts use `colo primary` and `colo secondary`",
    "mux": "a chardev belongs to one object; leave it out",
    "logfile": "bytes are not logged; leave it out",
    "logappend": "bytes are not logged; leave it out",
}
_OTHER_BACKENDS: Final = (
    "null", "udp", "msmouse", "hub", "vc", "ringbuf", "file", "pipe", "pty", "stdio", "braille", "serial", "tty",
    "parallel", "parport", "spicevmc", "spiceport", "qemu-vdagent", "dbus", "memory", "testdev", "wctablet",
)  # fmt: skip


class Chardev(msgspec.Struct, frozen=True):
    """One `-chardev socket`. `target`: a path or ADDRESS:PORT. `reconnect_ms` None: not given; 0: never reconnect."""

    id: str
    kind: PortKind
    target: str
    is_server: bool
    waits: bool
    reconnect_ms: int | None
    notes: tuple[str, ...] = ()


def parse_chardev(group: Group) -> Chardev:
    """Read one `-chardev`. Raises `OptionError`: one line that says what is wrong."""
    if group.head != "socket":
        if group.head in _OTHER_BACKENDS:
            raise OptionError(group.where, "only socket chardevs are supported: use -chardev socket")
        raise OptionError("-chardev", f"unknown backend '{group.head}'{did_you_mean(group.head, ('socket',))}")
    properties = Properties(group, _KNOWN, _REFUSED)
    name = properties.identifier()
    is_server = properties.switch("server", False)
    if properties.has("wait") and not is_server:
        raise OptionError(group.where, f"chardev '{name}': wait applies to servers only (server=on); leave it out")
    kind, target = _address(properties, name, is_server)
    notes = []
    if properties.has("nodelay") and not properties.switch("nodelay", False):
        notes.append(f"chardev '{name}': nodelay=off has no effect, frames are always sent at once")
    if properties.switch("delay", False):
        notes.append(f"chardev '{name}': delay=on has no effect, frames are always sent at once")
    return Chardev(
        id=name,
        kind=kind,
        target=target,
        is_server=is_server,
        waits=is_server and properties.switch("wait", True),
        reconnect_ms=_reconnect_ms(properties, name, is_server),
        notes=tuple(notes),
    )


def _reconnect_ms(properties: Properties, name: str, is_server: bool) -> int | None:  # noqa: FBT001 - one fact
    given = [key for key in ("reconnect", "reconnect-ms") if properties.has(key)]
    if not given:
        return None
    if len(given) == 2:
        raise OptionError(properties.where, f"chardev '{name}': reconnect and reconnect-ms mean the same; give one")
    milliseconds = 1000 * properties.number("reconnect", 0, 0, 3_600) or properties.number(
        "reconnect-ms", 0, 0, 3_600_000
    )
    if is_server and milliseconds:
        raise OptionError(properties.where, f"chardev '{name}': {given[0]} applies to clients only; leave it out")
    return milliseconds


def _address(properties: Properties, name: str, is_server: bool) -> tuple[PortKind, str]:  # noqa: FBT001 - one fact
    path = properties.text("path")
    if path is not None:
        for other in ("host", "port", "ipv4", "ipv6"):
            if properties.has(other):
                raise OptionError(properties.where, f"chardev '{name}': path and {other} exclude each other")
        if len(path.encode("utf-8", "surrogateescape")) > _UNIX_PATH_BYTES_MAX:
            raise OptionError(
                properties.where, f"chardev '{name}': a unix socket path has at most {_UNIX_PATH_BYTES_MAX} bytes"
            )
        return PortKind.UNIX, path
    host = properties.text("host")
    if not properties.has("port"):
        missing = "port" if host is not None else "path (or host and port)"
        raise OptionError(properties.where, f"chardev '{name}': property '{missing}' is missing")
    port = properties.number("port", 0, 1, 65_535)
    if host is None and not is_server:
        raise OptionError(properties.where, f"chardev '{name}': property 'host' is missing")
    return PortKind.TCP, _numeric(properties, name, host, port)


def _numeric(properties: Properties, name: str, host: str | None, port: int) -> str:
    """ADDRESS:PORT of the first address of `host` in an allowed family; None: all interfaces."""
    wants = {key: properties.switch(key, False) for key in ("ipv4", "ipv6") if properties.has(key)}
    family = socket.AF_UNSPEC
    if wants.get("ipv4") is not wants.get("ipv6"):
        is_ipv4 = wants.get("ipv4", not wants.get("ipv6", True))
        family = socket.AF_INET if is_ipv4 else socket.AF_INET6
    elif wants.get("ipv4") is False:
        raise OptionError(properties.where, f"chardev '{name}': ipv4=off and ipv6=off leave no address family")
    bare = host.strip("[]") if host is not None else None
    try:
        found = socket.getaddrinfo(bare, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConnectError(
            f"{properties.where}: chardev '{name}': {host} has no address: {error.strerror or error}"
        ) from error
    address = str(found[0][4][0])
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class ChardevPort(StreamPort):
    """A chardev that one object uses. `use`: its name in messages, e.g. `c0.primary_in`.

    A server listens at once; a client without `reconnect` connects at once. Raises `ConnectError` if that fails.
    """

    def __init__(self, chardev: Chardev, use: str, has_vnet: bool) -> None:  # noqa: FBT001 - one fact of the stream
        self._chardev = chardev
        self.changes = 0
        """How often it has connected or disconnected: while this is unchanged, so is the descriptor."""
        spec = PortSpec(
            text=chardev.target,
            kind=chardev.kind,
            target=chardev.target,
            vnet_hdr=has_vnet,
            server=chardev.is_server,
            reconnect_ms=chardev.reconnect_ms or RECONNECT_MS,
        )
        try:
            super().__init__(spec, f"{use} (chardev {chardev.id})")
        except ConnectError as error:
            if isinstance(error.__cause__, PermissionError) and _is_privileged(chardev):
                raise ConnectError(f"{error}; ports below {_PRIVILEGED_PORTS} need CAP_NET_BIND_SERVICE") from error
            raise
        if not chardev.is_server and not chardev.reconnect_ms:
            try:
                self._connect_now()
            except ConnectError:
                self.close()
                raise

    @property
    def waits(self) -> bool:
        """Whether the object must not start yet: a server with wait=on that has had no connection."""
        return self._chardev.waits and not self.connections

    @property
    def is_unix(self) -> bool:
        """Whether it is a unix socket."""
        return self._chardev.kind is PortKind.UNIX

    def service(self, now: int) -> int | None:
        """Accept or connect. With reconnect=0 a lost connection is not opened again."""
        if self._chardev.reconnect_ms == 0 and self.connections and not self._chardev.is_server:
            return None
        return super().service(now)

    def _adopt(self, sock: socket.socket) -> None:
        self.changes += 1
        super()._adopt(sock)

    def drop(self) -> None:
        """Close this connection; another may follow."""
        self.changes += 1
        super().drop()

    def _connect_now(self) -> None:
        while not self.is_connected:
            super().service(now_us())
            if self.take_note() is not None:
                raise ConnectError(
                    f"{self.name}: cannot connect: {self._failure}; start the other side first or give reconnect=1"
                )
            if not self.is_connected:
                time.sleep(_LOOK_AGAIN_S)


def _is_privileged(chardev: Chardev) -> bool:
    return chardev.kind is PortKind.TCP and int(chardev.target.rpartition(":")[2]) < _PRIVILEGED_PORTS
