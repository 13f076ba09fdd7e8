"""A data path that has ended leaves at once: nodes go through any number of them, and each holds megabytes."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pycolo.config import load
from pycolo.link.hello import Role
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.paths import make_primary_path, make_secondary_path

CONFIG = """
pair = "x"
role = "primary"
state = "{0}/state"
link = {{ listen = "127.0.0.1:9000", peer = "127.0.0.1:9001", insecure = true }}
qemu = {{ qmp = "{0}/qmp", netdev = "hn0", directory = "{0}" }}
control = {{ socket = "{0}/control" }}
"""


@pytest.fixture
def node(tmp_path: Path) -> Any:
    """As much of a node as a path needs."""
    path = tmp_path / "vm.toml"
    path.write_text(CONFIG.format(tmp_path))
    nothing = dict.fromkeys(("on_link_lost", "on_note", "on_fatal"), lambda text: None)
    return SimpleNamespace(
        options=node_options(load(path), Role.PRIMARY),
        note_differences=lambda commands, epoch: None,
        on_serving=lambda resent: None,
        path_callbacks=lambda: nothing,
    )


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Nothing is freed but what nobody refers to."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("make", [lambda node: make_primary_path(node, None), make_secondary_path])
def test_a_path_that_has_stopped_is_gone(node, make):
    path = make(node)
    path.start()
    path.ask(lambda: None).result(10)
    path.stop()
    kept = weakref.ref(path)
    del path
    assert kept() is None


def test_so_are_one_that_has_served_and_its_successor(node):
    serving = make_secondary_path(node)
    serving.start()
    serving.ask(serving.take_over).result(10)
    state = serving.ask(serving.hand_over).result(10)
    serving.join()
    successor = make_primary_path(node, state)
    successor.start()
    successor.stop()
    kept = weakref.ref(serving), weakref.ref(successor)
    del serving, successor, state
    assert [one() for one in kept] == [None, None]
