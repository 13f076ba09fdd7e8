"""A data path that has ended leaves at once: nodes go through any number of them, and each holds megabytes."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo.config import load
from pycolo.link.hello import Role
from pycolo.node.handover import PathState
from pycolo.node.options import NodeOptions
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.transport.portspec import parse_port
from pycolo.transport.streamport import StreamPort
from pycolo.vm.guestwiring import CardPorts
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.paths import make_primary_path, make_secondary_path

CONFIG = """
pair = "x"
role = "primary"
state = "{0}/state"
link = {{ listen = "127.0.0.1:9000", peer = "127.0.0.1:9001", insecure = true }}
qemu = {{ qmp = "{0}/qmp", directory = "{0}" }}
card = [{{ netdev = "hn0" }}]
control = {{ socket = "{0}/control" }}
"""


@pytest.fixture
def options(tmp_path: Path) -> NodeOptions:
    """Those of a node with a QEMU."""
    path = tmp_path / "vm.toml"
    path.write_text(CONFIG.format(tmp_path))
    return node_options(load(path), Role.PRIMARY)


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Only what is not referred to is freed."""
    gc.disable()
    yield
    gc.enable()


CALLBACKS = dict.fromkeys(("on_link_lost", "on_note", "on_fatal"), lambda text: None)


def ports(place: Path) -> CardPorts:
    """Ports that never connect."""
    specs = (parse_port(f"unix:{place / name},reconnect-ms=100,vnet_hdr=on", name) for name in ("lan", "guest"))
    lan, guest = (StreamPort(spec, "card") for spec in specs)
    return CardPorts(lan, guest, None)


def primary(options: NodeOptions, place: Path, state: PathState | None = None) -> PrimaryPath:
    return make_primary_path(options, CALLBACKS, lambda commands, epoch: None, state or ports(place))


def secondary(options: NodeOptions, place: Path) -> SecondaryPath:
    return make_secondary_path(options, CALLBACKS, lambda resent: None, ports(place))


@pytest.mark.parametrize("make", [primary, secondary])
def test_a_path_that_has_stopped_is_gone(options, make, tmp_path):
    path = make(options, tmp_path)
    path.start()
    path.ask(lambda: None).result(10)
    path.stop()
    kept = weakref.ref(path)
    del path
    assert kept() is None


def test_so_are_one_that_has_served_and_its_successor(options, tmp_path):
    serving = secondary(options, tmp_path)
    serving.start()
    serving.ask(serving.take_over).result(10)
    state = serving.ask(serving.hand_over).result(10)
    serving.join()
    successor = primary(options, tmp_path, state)
    successor.start()
    successor.stop()
    kept = weakref.ref(serving), weakref.ref(successor)
    del serving, successor, state
    assert [one() for one in kept] == [None, None]
