"""Trial frames reach the node as if the network had sent them, and reach nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo.core import BATCH_BUFFER_BYTES
from pycolo.errors import ConnectError
from pycolo.hostnet.trial import send_trial
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import parse_port
from support.nodes import wait_for
from support.segments import unbatch
from support.taphost import TapHost, drained, tap_host

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[TapHost]:
    with tap_host(tmp_path / "state") as made:
        yield made


def test_the_node_reads_them_and_nothing_else_does(host: TapHost) -> None:
    wire = host.wire()
    wire.prepare("tap0")
    wire.attach()
    port = open_device(parse_port(f"tap:{wire.node_tap},vnet_hdr=on", "card"), "card")
    buffer, heard = bytearray(BATCH_BUFFER_BYTES), []

    def count() -> bool:
        end = port.read_batch(buffer, 0)
        heard.extend(frame for frame in unbatch(bytes(buffer[:end]), has_vnet=True) if frame[12:14] == b"\x88\xb5")
        return len(heard) >= 50

    try:
        with host.client() as client:
            send_trial(wire.node_tap, 50)
            wait_for(count)
            assert not [frame for frame in drained(client.fileno(), 0) if b"\x88\xb5" in frame[:40]]
        assert not [frame for frame in host.guest_hears() if frame[12:14] == b"\x88\xb5"], "it goes by the node only"
        assert len(heard) == 50
    finally:
        port.close()


def test_without_the_nodes_tap_the_error_names_it(host: TapHost) -> None:
    with pytest.raises(ConnectError, match="colo-none"):
        send_trial("colo-none")
