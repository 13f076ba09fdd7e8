"""Whether a secondary that is started serves on."""

import socket

import msgspec
import pytest

from pycolo.errors import ConfigError
from pycolo.link.hello import Role
from pycolo.node.options import NodeOptions
from pycolo.node.rowsfile import RowsFile
from pycolo.node.survivor import find_survivor, is_listening
from pycolo.transport.linksetup import Address
from pycolo.transport.portspec import parse_port
from support.ports import unused_port
from support.survivors import serving


@pytest.fixture
def options(tmp_path):
    lan, guest = (parse_port(f"unix:{tmp_path / name},server=on", f"--{name}") for name in ("lan", "guest"))
    return NodeOptions(
        role=Role.SECONDARY,
        link=Address("127.0.0.1", unused_port()),
        lan_in=lan,
        lan_out=lan,
        guest_in=guest,
        guest_out=guest,
        insecure=True,
        rows=tmp_path / "rows",
    )


def written(options):
    RowsFile(options.rows, options.pair, lambda: 5).write(serving())


def test_a_file_of_a_takeover_is_a_survivor(options):
    assert find_survivor(options) is None
    written(options)
    assert find_survivor(options).term == 5
    assert find_survivor(msgspec.structs.replace(options, rows=None)) is None


def test_a_primary_that_listens_is_not_served_beside(options):
    written(options)
    with socket.create_server((options.link.host, options.link.port)):
        assert is_listening(options.link)
        with pytest.raises(ConfigError, match=r"no primary at 127\.0\.0\.1:\d+ while this node serves"):
            find_survivor(options)
    assert not is_listening(options.link)


def test_another_pairs_file_is_no_survivor(options):
    written(options)
    with pytest.raises(ConfigError, match="the pair other"):
        find_survivor(msgspec.structs.replace(options, pair="other"))
