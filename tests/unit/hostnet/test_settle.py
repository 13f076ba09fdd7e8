"""A guest that serves without the node has its tap in its place, whichever node or QEMU has left it elsewhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycolo.errors import ConfigError, ConnectError
from pycolo.hostnet.facts import BridgePlace
from pycolo.hostnet.wire import journal_path
from support.taphost import BROADCAST, GUEST_MAC, TapHost, awaited, tap_host

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

FRAME = BROADCAST + GUEST_MAC + b"\x88\xb5" + bytes(60)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[TapHost]:
    with tap_host(tmp_path / "state") as made:
        yield made


def is_heard(host: TapHost) -> bool:
    """Whether the client hears the guest."""
    with host.client() as client:
        host.guest_says(FRAME)
        return awaited(client, FRAME)


def nothing(host: TapHost) -> None:
    """The tap is in its bridge."""


def in_none(host: TapHost) -> None:
    host.sh("ip link set tap0 nomaster")


def was_retired(host: TapHost) -> None:
    """This host has served, and has lost its guest: both taps are apart."""
    wire = host.wire()
    wire.prepare("tap0")
    wire.attach()
    wire.hold_apart()
    wire.close()


def was_secondary(host: TapHost) -> None:
    """The tap has never been in a bridge here."""
    in_none(host)
    wire = host.wire(bridge="br0")
    wire.prepare("tap0")
    wire.hold_apart()
    wire.close()


def new_qemu(host: TapHost) -> None:
    """A QEMU has ended, and its tap with it; the next one makes another tap of that name."""
    was_retired(host)
    host.close_tap("tap0")
    host.add_tap("tap0")


def as_qemu_leaves_it(host: TapHost) -> None:
    """`script=no`: the tap that QEMU has made is down, and in no bridge."""
    in_none(host)
    host.sh("ip link set tap0 down")


@pytest.mark.parametrize("before", [nothing, in_none, was_retired, was_secondary, new_qemu, as_qemu_leaves_it])
@pytest.mark.parametrize("times", [1, 2])
def test_the_clients_hear_the_guest(host: TapHost, before: Callable[[TapHost], None], times: int) -> None:
    before(host)
    for _ in range(times):
        wire = host.wire(bridge="br0")
        wire.settle("tap0")
        wire.close()
    assert isinstance(host.place("tap0"), BridgePlace)
    link = host.link("tap0")
    assert link is not None
    assert not link.is_silenced
    assert host.link("colo-vm1") is None
    assert not journal_path(host.state, 0).exists()
    assert is_heard(host)


@pytest.mark.parametrize("before", [was_retired, new_qemu])
def test_the_place_of_before_is_known_where_the_file_names_none(
    host: TapHost, before: Callable[[TapHost], None]
) -> None:
    before(host)
    host.wire().settle("tap0")
    assert is_heard(host)


def test_a_node_that_has_the_place_gives_it_back(host: TapHost) -> None:
    wire = host.wire()
    wire.prepare("tap0")
    wire.attach()
    wire.settle("tap0")
    assert is_heard(host)


def test_without_any_place_it_stays_and_the_error_says_what_is_missing(host: TapHost) -> None:
    in_none(host)
    with pytest.raises(ConfigError, match=r"card\[0\]\.bridge is missing: it names the bridge"):
        host.wire().settle("tap0")
    assert host.place("tap0") is None


def test_a_place_of_its_own_is_left_alone(host: TapHost) -> None:
    """Libvirt has put it elsewhere, or its user has."""
    host.sh("ip link add br7 type bridge", "ip link set tap0 master br7")
    host.wire(bridge="br0").settle("tap0")
    place = host.place("tap0")
    assert isinstance(place, BridgePlace)
    assert place.bridge == "br7"


def test_a_tap_that_is_not_there_is_named(host: TapHost) -> None:
    with pytest.raises(ConnectError, match="tap9"):
        host.wire(bridge="br0").settle("tap9")
