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
from pycolo.vm.guestwiring import CardPorts
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.paths import make_primary_path, make_secondary_path
from pycolo.vm.qemuport import QemuPort

CONFIG = """
pair = "x"
role = "primary"
state = "{0}/state"
link = {{ listen = "127.0.0.1:9000", peer = "127.0.0.1:9001", insecure = true }}
qemu = {{ qmp = "{0}/qmp", netdev = "hn0", directory = "{0}" }}
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


def ports(options: NodeOptions) -> CardPorts:
    given = {name: getattr(options, name) for name in ("lan_in", "lan_out", "guest_in", "guest_out")}
    return CardPorts(**{name: QemuPort(spec, name) for name, spec in given.items()}, tap=None)


def primary(options: NodeOptions, state: PathState | None = None) -> PrimaryPath:
    return make_primary_path(options, CALLBACKS, lambda commands, epoch: None, state or ports(options))


def secondary(options: NodeOptions) -> SecondaryPath:
    return make_secondary_path(options, CALLBACKS, lambda resent: None, ports(options))


@pytest.mark.parametrize("make", [primary, secondary])
def test_a_path_that_has_stopped_is_gone(options, make):
    path = make(options)
    path.start()
    path.ask(lambda: None).result(10)
    path.stop()
    kept = weakref.ref(path)
    del path
    assert kept() is None


def test_so_are_one_that_has_served_and_its_successor(options):
    serving = secondary(options)
    serving.start()
    serving.ask(serving.take_over).result(10)
    state = serving.ask(serving.hand_over).result(10)
    serving.join()
    successor = primary(options, state)
    successor.start()
    successor.stop()
    kept = weakref.ref(serving), weakref.ref(successor)
    del serving, successor, state
    assert [one() for one in kept] == [None, None]
