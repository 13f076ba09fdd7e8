"""Addresses, ports and the link, on loopback only."""

import asyncio
import os
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from pycolo.check import Level, Moment, network
from pycolo.check.network import Found, holds_port, link_item, network_items
from pycolo.config import parse
from pycolo.link.hello import Role
from pycolo.transport import tls
from pycolo.transport.certs import create
from support.configs import changed, checkable

PRIMARY = Moment(Role.PRIMARY)
SECONDARY = Moment(Role.SECONDARY)

ELSEWHERE = "192.0.2.1"
"""RFC 5737: an address of documentation, which no host has."""


def config(tmp_path, changes=None):
    return parse(changed(checkable(tmp_path, changes)).encode(), "vm.toml")


def items(tmp_path, changes=None, moment=PRIMARY):
    async def run():
        return {item.name: item async for item in network_items(config(tmp_path, changes), moment)}

    return asyncio.run(run())


@contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.fixture
def peer_is_another_host(monkeypatch):
    """Loopback stands for another host."""
    monkeypatch.setattr(Found, "is_loopback", False)


# ── addresses and ports ─────────────────────────────────────────────────────────────────────────────────────


def test_both_nodes_on_one_host_is_a_warning_and_so_is_plain_text(tmp_path):
    found = items(tmp_path)
    assert {name: item.level for name, item in found.items()} == {
        "link.listen": Level.OK,
        "link.peer": Level.WARNING,
        "link.insecure": Level.WARNING,
    }


@pytest.mark.parametrize("key", ["link.listen", "metrics.listen"])
def test_an_address_of_another_host_is_refused(tmp_path, key):
    given = {key: f"{ELSEWHERE}:9000", "link.insecure_link": "192.0.2.0/24"}
    item = items(tmp_path, given)[key]
    assert item.level is Level.REFUSED
    assert f"{ELSEWHERE} is not an address of this host" in item.text


def test_a_peer_that_is_this_host_is_refused(tmp_path, peer_is_another_host):
    item = items(tmp_path)["link.peer"]
    assert (item.level, "swapped?" in item.text) == (Level.REFUSED, True)


def test_a_peer_elsewhere_is_right(tmp_path):
    given = {"link.peer": f"{ELSEWHERE}:9000", "link.insecure_link": "192.0.2.0/24"}
    assert items(tmp_path, given)["link.peer"].level is Level.OK


def test_further_addresses_are_looked_at_too(tmp_path):
    given = {"link.also_listen": [f"{ELSEWHERE}:9000"], "link.also_peer": ["127.0.0.1:3"]}
    found = items(tmp_path, given)
    assert found["link.also_listen"].level is Level.REFUSED
    assert found["link.also_peer"].level is Level.WARNING


@pytest.mark.parametrize("key", ["link.listen", "link.peer"])
def test_a_name_without_an_address_is_refused(tmp_path, key, monkeypatch):
    async def none(_loop, host, *_, **__):
        if host == "vm1.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 2))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", none)
    item = items(tmp_path, {key: "vm1.invalid:9000"})[key]
    assert item.level is Level.REFUSED
    assert "vm1.invalid has no address: Name or service not known" in item.text


def test_a_resolver_that_is_silent_is_waited_for_no_longer(tmp_path, monkeypatch):
    async def never(*_, **__):
        await asyncio.sleep(3600)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", never)
    monkeypatch.setattr(network, "RESOLVE_S", 0.05)
    assert "no answer from the resolver" in items(tmp_path)["link.listen"].text


@pytest.mark.parametrize("key", ["link.listen", "metrics.listen"])
def test_a_port_of_another_process_is_refused_and_the_nodes_own_is_not(tmp_path, key):
    with listening() as port:
        given = {key: f"127.0.0.1:{port}"}
        assert items(tmp_path, given)[key].level is Level.REFUSED
        assert items(tmp_path, given, Moment(Role.SECONDARY, 1))[key].level is Level.REFUSED, "init does not listen"
        assert items(tmp_path, given, Moment(Role.PRIMARY, os.getpid()))[key].level is Level.OK


def test_a_process_that_cannot_be_looked_into_gets_the_benefit(tmp_path):
    assert holds_port(0, 1)


def test_all_addresses_of_the_host_can_be_listened_at(tmp_path):
    assert items(tmp_path, {"metrics.listen": "0.0.0.0:0"})["metrics.listen"].level is Level.OK


def test_plain_text_where_it_is_not_allowed_is_refused(tmp_path):
    """As the secondary this node would dial there."""
    item = items(tmp_path, {"link.peer": f"{ELSEWHERE}:9000"})["link.insecure"]
    assert item.level is Level.REFUSED
    assert "link.insecure_link" in item.text
    assert "--" not in item.text, "`colo node` has no such options"


# ── the link ────────────────────────────────────────────────────────────────────────────────────────────────


def link(tmp_path, changes=None, moment=PRIMARY):
    return asyncio.run(link_item(config(tmp_path, changes), moment))


def test_a_node_that_is_linked_needs_no_trial(tmp_path):
    assert link(tmp_path, moment=Moment(Role.PRIMARY, 1, is_linked=True)).level is Level.OK


@pytest.mark.parametrize("moment", [PRIMARY, SECONDARY])
def test_a_host_without_a_node_is_a_warning(tmp_path, moment):
    item = link(tmp_path, moment=moment)
    assert item.level is Level.WARNING
    assert "no node listens there" in item.text


def test_a_plain_link_that_answers(tmp_path):
    with listening() as port:
        assert link(tmp_path, {"link.peer": f"127.0.0.1:{port}"}).level is Level.OK


def test_a_host_that_cannot_be_reached_is_a_warning_only(tmp_path, monkeypatch):
    def unreachable(*_):
        raise OSError(113, "No route to host")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    item = link(tmp_path)
    assert item.level is Level.WARNING
    assert "127.0.0.1:2 is not reached: No route to host" in item.text


@contextmanager
def greeting(directory, pair):
    """The primary's node, as far as TLS."""
    context = tls.server_context(directory, pair)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            sock, _ = server.accept()
            with sock, suppress(OSError), context.wrap_socket(sock, server_side=True) as wrapped:
                wrapped.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(60)


@pytest.mark.parametrize(
    ("theirs", "pair", "level"),
    [("own", "vm1", Level.OK), ("other", "vm1", Level.WARNING), ("own", "vm2", Level.WARNING)],
)
def test_both_hosts_certificates_are_compared_by_a_handshake(tmp_path, theirs, pair, level, monkeypatch):
    create(tmp_path / "own", "vm1", 30, datetime.now(UTC))
    create(tmp_path / "other", "vm1", 30, datetime.now(UTC))
    given = {"link.tls": str(tmp_path / "own"), "link.insecure": None}
    with greeting(tmp_path / theirs, "vm1") as port:
        given["link.peer"] = f"127.0.0.1:{port}"
        asked = config(tmp_path, given)
        if pair != "vm1":
            monkeypatch.setattr(network, "node_uri", lambda _pair, role: f"colo:{pair}/{role}")
        assert asyncio.run(link_item(asked, SECONDARY)).level is level


def test_a_host_without_its_own_files_greets_no_peer(tmp_path):
    with listening() as port:
        given = {"link.tls": str(tmp_path), "link.insecure": None, "link.peer": f"127.0.0.1:{port}"}
        item = link(tmp_path, given)
    assert item.level is Level.WARNING
    assert "no link can be made" in item.text


def test_a_peer_that_speaks_no_tls_is_a_warning(tmp_path):
    create(tmp_path / "own", "vm1", 30, datetime.now(UTC))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            sock, _ = server.accept()
            with sock:
                sock.recv(1)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        given = {"link.tls": str(tmp_path / "own"), "link.insecure": None}
        item = link(tmp_path, given | {"link.peer": f"127.0.0.1:{server.getsockname()[1]}"}, SECONDARY)
        thread.join(60)
    assert item.level is Level.WARNING
    assert "TLS" in item.text


def test_a_certificate_without_names_is_of_no_pair():
    class Bare(ssl.SSLSocket):
        def __init__(self):
            """No socket."""

        def getpeercert(self):
            return {}

        def __del__(self):
            """Nothing to close."""

    assert network._names(Bare.__new__(Bare)) == set()
