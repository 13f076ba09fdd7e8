"""Addresses, ports and the link to the other node."""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from pycolo.check.moment import Moment
from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.errors import ConfigError, PycoloError
from pycolo.link.hello import Role
from pycolo.transport import tls
from pycolo.transport.certs import node_uri
from pycolo.transport.linksetup import Address

RESOLVE_S: Final = 5.0
"""A resolver's own first time-out; addresses in a file of hosts, or literal ones, take none."""

CONNECT_S: Final = 2.0
"""For a host on the same network, with one lost SYN."""

_TCP_LISTEN: Final = "0A"


class Found(NamedTuple):
    """One address of a host."""

    family: int
    target: tuple[str, int]

    @property
    def is_any(self) -> bool:
        """All addresses of the host."""
        return ipaddress.ip_address(self.target[0].partition("%")[0]).is_unspecified

    @property
    def is_loopback(self) -> bool:
        """This host, whichever it is."""
        return ipaddress.ip_address(self.target[0].partition("%")[0]).is_loopback

    def is_own(self) -> bool:
        """Whether it is this host's, by the kernel's routes; nothing is sent."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((self.target[0], self.target[1] or 9))
            except OSError:
                return False
            return bool(sock.getsockname()[0] == self.target[0])


async def network_items(config: PairConfig, moment: Moment) -> AsyncIterator[Item]:
    """`moment` says which node may hold the ports."""
    yield await _listen_item("link.listen", config.link.listen, moment)
    for address in config.link.also_listen:
        yield await _listen_item("link.also_listen", address, moment)
    if config.metrics is not None:
        yield await _listen_item("metrics.listen", config.metrics.listen, moment)
    yield await _peer_item("link.peer", config.link.peer)
    for address in config.link.also_peer:
        yield await _peer_item("link.also_peer", address)
    if config.link.tls is None:
        yield plaintext_item(config)


async def _resolved(name: str, address: Address) -> list[Found] | Item:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return refused(name, f"{address.host}: no answer from the resolver within {RESOLVE_S:g} s: write an address")
    except OSError as error:
        return refused(name, f"{address.host} has no address: {error.strerror}: correct the name, or write an address")
    return [Found(family, (str(target[0]), int(target[1]))) for family, _, _, _, target in found]


async def _listen_item(name: str, address: Address, moment: Moment) -> Item:
    found = await _resolved(name, address)
    if isinstance(found, Item):
        return found
    first = found[0]
    if not first.is_any and not first.is_own():
        return refused(name, f"{address.host} is not an address of this host: correct it, or set the address up")
    with socket.socket(first.family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(first.target)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _held_item(name, address, moment)
            return refused(name, f"{address} cannot be listened at: {error.strerror}: choose another port")
    return ok(name, f"{address} is free")


def _held_item(name: str, address: Address, moment: Moment) -> Item:
    if moment.pid is not None and holds_port(moment.pid, address.port):
        return ok(name, f"{address} is held by this pair's node")
    return refused(
        name, f"{address} is held by another process: end it, or choose another port (ss -ltnp sport = :{address.port})"
    )


def holds_port(pid: int, port: int) -> bool:
    """Whether the process listens at this TCP port; True as well if that cannot be seen."""
    listening = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == _TCP_LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    listening.add(f"socket:[{words[9]}]")
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return True
    held = set()
    for descriptor in descriptors:
        with suppress(OSError):
            held.add(str(descriptor.readlink()))
    return not listening.isdisjoint(held)


async def _peer_item(name: str, address: Address) -> Item:
    found = await _resolved(name, address)
    if isinstance(found, Item):
        return found
    shown = ", ".join(dict.fromkeys(one.target[0] for one in found))
    if any(one.is_loopback for one in found):
        return warning(name, f"{shown} is this host: both nodes on one host protect against no host's failure")
    if any(one.is_own() for one in found):
        return refused(name, f"{shown} is an address of this host: are link.listen and link.peer swapped?")
    return ok(name, shown)


def plaintext_item(config: PairConfig) -> Item:
    """In both roles: listening as the primary, dialing as the secondary."""
    name = "link.insecure"
    link = config.link
    try:
        for host in (link.listen.host, link.peer.host):
            tls.check_plaintext_allowed(host, insecure=link.insecure, allowed_link=link.insecure_link, names=tls.KEYS)
    except ConfigError as error:
        return refused(name, str(error))
    return warning(name, "the guest's memory crosses the link in plain text: set link.tls up where others can listen")


# ── the link ────────────────────────────────────────────────────────────────────────────────────────────────


async def link_item(config: PairConfig, moment: Moment) -> Item:
    """Never refused: the other host may be down for now."""
    name = "link"
    if moment.is_linked:
        return ok(name, f"linked to {config.link.peer}")
    return await asyncio.to_thread(_reached, name, config)


def _reached(name: str, config: PairConfig) -> Item:
    peer = config.link.peer
    try:
        sock = socket.create_connection(peer, CONNECT_S)
    except ConnectionRefusedError:
        return warning(name, f"the host of {peer} answers, but no node listens there: start that host's node")
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return warning(name, f"{peer} is not reached: {why}: is that host up, and its firewall open?")
    with sock:
        if config.link.tls is None:
            return ok(name, f"{peer} answers")
        try:
            return _greeted(name, sock, config, config.link.tls)
        except PycoloError as error:
            return warning(name, f"{peer} answers, but no link can be made: {error}")
        except OSError as error:
            return warning(name, f"{peer} answers, but no link can be made: {tls.describe(error)}")


def _greeted(name: str, sock: socket.socket, config: PairConfig, directory: Path) -> Item:
    """As far as TLS, by which both hosts' files are compared; then the connection is closed."""
    context = tls.client_context(directory, config.pair)
    with context.wrap_socket(sock, do_handshake_on_connect=False) as wrapped:
        wrapped.settimeout(CONNECT_S)
        wrapped.do_handshake()
        names = _names(wrapped)
    expected = {node_uri(config.pair, role) for role in Role}
    if not expected & names:
        shown = ", ".join(sorted(names)) or "no pair"
        return warning(name, f"{config.link.peer} is the node of {shown}: correct link.peer")
    return ok(name, f"{config.link.peer} answers, with a certificate of this pair")


def _names(sock: ssl.SSLSocket) -> set[str]:
    names = (sock.getpeercert() or {}).get("subjectAltName", ())
    return {str(found[1]) for found in names if isinstance(found, tuple) and found[0] == "URI"}
