"""How a connection to the other node is made: dial or listen, TLS, hello, verdict.

Everything here blocks, in threads of its own, and ends by one deadline (`limits.HELLO_TIMEOUT_MS`): a peer that is
silent, slow or sends nonsense costs one small thread for that long and one line in the log. If peers flood the
listener, the oldest unfinished peer is closed, not the newest, since the other node finishes within milliseconds.

Each read takes exactly one message: the bytes after the hello belong to the `LinkSocket`.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Final, NamedTuple, Self

import msgspec

from pycolo import limits
from pycolo.errors import ConfigError, ConnectError, LinkError
from pycolo.link import codec
from pycolo.link.codec import Channel, MessageType
from pycolo.link.hello import (
    Hello,
    HelloError,
    Refusal,
    RefusalReason,
    Role,
    Welcome,
    decode_hello,
    decode_refusal,
    encode_hello,
    encode_refusal,
    judge,
)
from pycolo.transport import tls
from pycolo.transport.linksocket import LinkSocket, control_link_socket
from pycolo.transport.occupied import why_not
from pycolo.transport.tcpoptions import set_options

HANDSHAKES_MAX: Final = 16
"""Peers between accept and welcome at once, each with its thread. The other node needs two."""

BACKLOG: Final = 128
"""Backlog of the kernel; beyond it, the other node's SYN would be lost for a second."""

ACCEPT_RETRY_S: Final = 0.1
"""Pause after a failed accept: a lack of descriptors lasts."""

GENTLE_CLOSE_S: Final = 0.2
GENTLE_CLOSE_BYTES_MAX: Final = 64 << 10
"""A refused peer may take this long, and send this much, before it reads the reason; then it is disconnected."""

CONTROL_PRIORITY: Final = 6
"""Linux' TC_PRIO_INTERACTIVE, the highest priority without privilege: heartbeats overtake a full interface queue."""


class Address(NamedTuple):
    """A node's address; printed, and read by `parse`, as HOST:PORT or [HOST]:PORT."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str) -> Self:
        """Raises `ConfigError` that names `option`."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host.strip("[]") or (":" in host and not bracketed):
            raise ConfigError(option, "HOST:PORT, or [HOST]:PORT for IPv6", text)
        if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ConfigError(option, "a port from 0 to 65535 after the colon", text)
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RawLink(NamedTuple):
    """A connection without messages: see `Channel.is_raw`. `sock` blocks, and belongs to this object's owner."""

    sock: socket.socket
    stream: str

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class Established(NamedTuple):
    """A connection on which both nodes agree; a `RawLink` where the channel is raw, otherwise a `LinkSocket`."""

    link: LinkSocket | RawLink
    theirs: Hello
    welcome: Welcome

    @property
    def messages(self) -> LinkSocket:
        """The link of a control or data connection."""
        assert isinstance(self.link, LinkSocket)
        return self.link

    def close(self) -> None:
        """Close the connection."""
        self.link.close()


# ── connecting ──────────────────────────────────────────────────────────────────────────────────────────────


def dial(
    address: Address,
    own: Hello,
    context: ssl.SSLContext | None,
    *,
    interface: str | None = None,
    timeout_ms: int = limits.HELLO_TIMEOUT_MS,
) -> Established:
    """Open the connection `own.channel` to the node at `address`; blocks for `timeout_ms` at most.

    `context` None is plain text; `interface` binds the socket to it. Raises `ConnectError` if no node is reached,
    `HelloError` (with the reason) if one node refuses the other, `LinkError` for any other disagreement.
    """
    stream = f"{own.channel.value} link to {address}"
    payload = encode_hello(own)
    deadline_s = monotonic() + timeout_ms / 1000
    peer = _Peer(_connect(address, interface, stream, deadline_s), stream, deadline_s)
    try:
        if context is not None:
            peer.start_tls(context, own.pair, Role.PRIMARY)
        peer.send(MessageType.HELLO, payload)
        message_type, answer = peer.receive(frozenset({MessageType.WELCOME, MessageType.REFUSED}))
        if message_type is MessageType.REFUSED:
            refusal = decode_refusal(answer)
            raise HelloError(refusal.reason, f"{stream}: refused by the other node: {refusal.text}")
        theirs = decode_hello(answer, stream)
        verdict = judge(own, theirs)
        if isinstance(verdict, Refusal):
            raise HelloError(verdict.reason, f"{stream}: {verdict.text}")
        return Established(peer.link_socket(own.channel, theirs.role, verdict.features), theirs, verdict)
    except BaseException:
        peer.close()
        raise


def _connect(address: Address, interface: str | None, stream: str, deadline_s: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers."""
    failure: OSError | None = None
    try:
        choices = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectError(f"{stream}: {address.host} has no address: {error.strerror}") from error
    for family, kind, protocol, _, target in choices:
        sock = socket.socket(family, kind, protocol)
        try:
            _bind_to_interface(sock, interface)
            sock.settimeout(max(0.001, deadline_s - monotonic()))
            sock.connect(target)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    why = "no answer in time" if isinstance(failure, TimeoutError) else failure and failure.strerror
    raise ConnectError(f"{stream}: cannot connect: {why} (does the primary node run there?)") from failure


def _bind_to_interface(sock: socket.socket, interface: str | None) -> None:
    if interface is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")


# ── listening ───────────────────────────────────────────────────────────────────────────────────────────────


class Listener:
    """Accepts the other node's connections.

    `local()` returns this node's hello after a peer's hello has arrived (its `channel` does not matter; set
    `peer_instance` while bound to a peer). `on_link` receives the agreed connection and owns its `LinkSocket`;
    `on_refused` receives one line per refused peer. All three are called in the listener's threads, `local` and
    `on_link` for one peer at a time: the next `local()` sees what `on_link` has changed.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext | None,
        local: Callable[[], Hello],
        on_link: Callable[[Established], None],
        on_refused: Callable[[str], None],
        *,
        interface: str | None = None,
        timeout_ms: int = limits.HELLO_TIMEOUT_MS,
    ) -> None:
        """Listens at once. Raises `ConnectError` if that fails. `context` None is plain text."""
        self._context = context
        self._local = local
        self._on_link = on_link
        self._on_refused = on_refused
        self._timeout_s = timeout_ms / 1000
        self._sock = _listen(address, interface)
        host, port = self._sock.getsockname()[:2]
        self.address = Address(host, port)
        self._closing = False
        self._lock = threading.Lock()  # over _pending and _closing
        self._pending: dict[_Peer, threading.Thread] = {}  # in the order of arrival
        self._verdict_lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="link listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and disconnect every peer without a welcome; no callback is called after this."""
        with self._lock:
            self._closing = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._sock.close()
        with self._lock:
            pending = dict(self._pending)
        for peer, thread in pending.items():
            peer.cut_off("this node is shutting down")
            thread.join()
        with self._verdict_lock:
            pass  # a peer in its welcome now belongs to on_link

    def _accept(self) -> None:
        while True:
            try:
                sock, (host, port, *_) = self._sock.accept()
            except OSError as error:
                if self._closing:
                    return
                self._on_refused(f"link at {self.address}: cannot accept: {error.strerror}")
                sleep(ACCEPT_RETRY_S)
                continue
            peer = _Peer(sock, f"link from {Address(host, port)}", monotonic() + self._timeout_s)
            thread = threading.Thread(target=self._greet, args=(peer,), name=peer.stream, daemon=True)
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                if len(self._pending) >= HANDSHAKES_MAX:
                    oldest = next(iter(self._pending))
                    del self._pending[oldest]
                    oldest.cut_off(f"more than {HANDSHAKES_MAX} connections have sent no hello; the oldest is closed")
                self._pending[peer] = thread
            self._start(peer, thread)

    def _start(self, peer: "_Peer", thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # out of memory or processes; the listener itself goes on
            with self._lock:
                self._pending.pop(peer, None)
            peer.close()
            self._on_refused(f"{peer.stream}: cannot be served: {error}")

    def _greet(self, peer: "_Peer") -> None:
        try:
            theirs = self._read_hello(peer)
            self._answer(peer, theirs)
        except LinkError as error:
            why = peer.cut_off_for or error
            peer.refuse(why)
            if not self._closing:
                self._on_refused(str(why))
        finally:
            with self._lock:
                self._pending.pop(peer, None)

    def _read_hello(self, peer: "_Peer") -> Hello:
        if self._context is not None:
            with self._verdict_lock:
                own = self._local()
            # A node shows the primary's certificate where it listens and the secondary's where it dials.
            peer.start_tls(self._context, own.pair, Role.SECONDARY)
        _, payload = peer.receive(frozenset({MessageType.HELLO}))
        theirs = decode_hello(payload, peer.stream)
        peer.stream = f"{theirs.channel.value} {peer.stream}"
        return theirs

    def _answer(self, peer: "_Peer", theirs: Hello) -> None:
        # Sending under the lock is quick: the socket's send buffer is empty and a WELCOME fits into it.
        with self._verdict_lock:
            own = msgspec.structs.replace(self._local(), channel=theirs.channel)
            verdict = judge(own, theirs)
            if isinstance(verdict, Refusal):
                raise HelloError(verdict.reason, f"{peer.stream}: {verdict.text}")
            with self._lock:
                if self._closing or self._pending.pop(peer, None) is None:
                    raise LinkError(f"{peer.stream}: cut off before its welcome")
            # From here on no other thread disconnects this peer.
            peer.send(MessageType.WELCOME, encode_hello(own))
            self._on_link(Established(peer.link_socket(theirs.channel, theirs.role, verdict.features), theirs, verdict))


def _listen(address: Address, interface: str | None) -> socket.socket:
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConnectError(f"link at {address}: cannot listen: {error.strerror}") from error
    try:
        _bind_to_interface(sock, interface)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConnectError(f"link at {address}: cannot listen: {why_not(error, address.port)}") from error
    return sock


# ── one peer between connection and verdict ─────────────────────────────────────────────────────────────────


class _Peer:
    """A blocking socket with one deadline for everything that is done on it."""

    def __init__(self, sock: socket.socket, stream: str, deadline_s: float) -> None:
        self.stream = stream
        self.cut_off_for: LinkError | None = None
        self._sock = sock
        self._deadline_s = deadline_s

    def start_tls(self, context: ssl.SSLContext, pair: str, peer_role: Role) -> None:
        server_side = context.protocol is ssl.PROTOCOL_TLS_SERVER
        try:
            timeout_s = self._left_s()
            self._sock = sock = context.wrap_socket(self._sock, server_side=server_side, do_handshake_on_connect=False)
        except OSError as error:  # no time left, or the peer has closed
            raise LinkError(f"{self.stream}: {tls.describe(error)}") from error
        tls.handshake(sock, pair, peer_role, self.stream, timeout_s)

    def send(self, message_type: MessageType, payload: bytes) -> None:
        """The whole message. Raises `LinkError`."""
        try:
            self._sock.settimeout(self._left_s())
            self._sock.sendall(codec.message(message_type, payload))
        except OSError as error:
            raise self._lost(error, f"cannot send {message_type.name}") from error

    def receive(self, types: frozenset[MessageType]) -> tuple[MessageType, bytes]:
        """Exactly one message of `types`. Raises `LinkError`."""
        wanted = " or ".join(sorted(message_type.name for message_type in types))
        head = self._receive_exactly(codec.HEADER_BYTES, wanted)
        if not isinstance(self._sock, ssl.SSLSocket) and tls.is_tls_record(head):
            raise LinkError(f"{self.stream}: the other side speaks TLS, this node plain text; give both --tls DIR")
        message_type, length = codec.parse_header(head, 0, types, self.stream, 0)
        return message_type, self._receive_exactly(length, wanted)

    def _receive_exactly(self, count: int, wanted: str) -> bytes:
        octets = bytearray()
        while len(octets) < count:
            try:
                self._sock.settimeout(self._left_s())
                part = self._sock.recv(count - len(octets))
            except OSError as error:
                raise self._lost(error, f"no {wanted}") from error
            if not part:
                raise LinkError(f"{self.stream}: closed by the other side, no {wanted} (is one node without --tls?)")
            octets += part
        return bytes(octets)

    def link_socket(self, channel: Channel, peer_role: Role, features: frozenset[str]) -> LinkSocket | RawLink:
        """The running connection; it owns the socket from here on."""
        if channel.is_raw:
            set_options(self._sock)
            self._sock.settimeout(None)
            return RawLink(self._sock, self.stream)
        if channel in (Channel.CONTROL, Channel.PATH):
            if self._sock.family in (socket.AF_INET, socket.AF_INET6):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
            return control_link_socket(self._sock, self.stream, codec.CONTROL_TYPES)
        types = codec.DATA_FROM_PRIMARY if peer_role is Role.PRIMARY else codec.DATA_FROM_SECONDARY
        return LinkSocket(self._sock, self.stream, types, features=features)

    def refuse(self, error: LinkError) -> None:
        """Send the reason if the peer is still reading, and close."""
        reason = error.reason if isinstance(error, HelloError) else RefusalReason.OTHER
        text = str(error).removeprefix(f"{self.stream}: ")
        is_ready = not isinstance(self._sock, ssl.SSLSocket) or self._sock.version() is not None
        if is_ready:
            with suppress(LinkError):
                self.send(MessageType.REFUSED, encode_refusal(Refusal(reason, text)))
        self._close_gently()

    def _close_gently(self) -> None:
        """Closing with unread bytes sends a reset, which overtakes our last message: read them first."""
        left = GENTLE_CLOSE_BYTES_MAX
        until_s = monotonic() + GENTLE_CLOSE_S
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while left > 0 and (wait_s := until_s - monotonic()) > 0:
                self._sock.settimeout(wait_s)
                count = len(self._sock.recv(4096))
                if count == 0:
                    break
                left -= count
        self.close()

    def cut_off(self, why: str) -> None:
        """Interrupt any operation of another thread on this socket."""
        self.cut_off_for = LinkError(f"{self.stream}: {why}")
        with suppress(OSError):
            # Not SSLSocket.shutdown, which removes the TLS state while that thread uses it.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _left_s(self) -> float:
        left_s = self._deadline_s - monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s

    def _lost(self, error: OSError, what: str) -> LinkError:
        if isinstance(error, TimeoutError):
            return LinkError(f"{self.stream}: {what} in time; link closed")
        if isinstance(error, ssl.SSLError):
            return LinkError(f"{self.stream}: {tls.describe(error)}")
        return LinkError(f"{self.stream}: {what}: {error.strerror or error}")
