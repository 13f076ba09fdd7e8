"""The node's TAP has the offloads that the guest's tap has at that moment."""

import fcntl
from pathlib import Path

import pytest

from pycolo.errors import ConnectError
from pycolo.hostnet.offloads import FOLLOWED, follow_offloads, offloads
from support.taphost import TapHost, inside

TUNSETOFFLOAD = 0x400454D0


@pytest.mark.namespaces
@pytest.mark.tun
def test_what_the_guest_takes_the_node_is_given(tmp_path: Path) -> None:
    host = TapHost(tmp_path)
    try:
        with inside(host.namespace.path):
            host.add_tap("tap0")
            host.add_tap("node")
            for flags in (
                0x01,
                0,
                0x01 | 0x02,
                0x01 | 0x02 | 0x04 | 0x08,
            ):  # checksum; nothing; TSO; all that a port has
                fcntl.ioctl(host.taps["tap0"], TUNSETOFFLOAD, flags)
                for _ in range(2):
                    follow_offloads("tap0", "node")
                    assert offloads("node") == offloads("tap0")
            assert offloads("tap0")["tx-tcp-segmentation"]
            assert set(offloads("tap0")) <= set(FOLLOWED)
            with pytest.raises(ConnectError, match="nothing: ethtool: No such device"):
                follow_offloads("tap0", "nothing")
    finally:
        host.close()
