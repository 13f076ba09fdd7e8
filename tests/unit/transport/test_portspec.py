"""What the user may write for a port, and the one line that says what is wrong with the rest."""

import pytest

from pycolo.errors import ConfigError
from pycolo.transport.portspec import RECONNECT_MS, PortKind, parse_port


def test_a_device_has_vnet_headers_and_a_stream_has_none_unless_told_otherwise():
    assert parse_port("tap:eth0", "--lan").vnet_hdr
    assert parse_port("packet:eth0", "--lan").vnet_hdr
    assert not parse_port("tap:eth0,vnet_hdr=off", "--lan").vnet_hdr
    assert not parse_port("unix:/run/x", "--lan").vnet_hdr
    assert parse_port("tcp:[::1]:80,vnet_hdr", "--lan").vnet_hdr


def test_all_properties_are_read():
    found = parse_port("tap:eth0,netns=/run/netns/a,vnet_hdr=off", "--guest")
    assert (found.kind, found.target, found.netns) == (PortKind.TAP, "eth0", "/run/netns/a")
    found = parse_port("unix:/run/x,server=on,reconnect-ms=20", "--guest")
    assert (found.kind, found.target, found.server, found.reconnect_ms) == (PortKind.UNIX, "/run/x", True, 20)
    found = parse_port("tcp:host:80", "--guest")
    assert (found.target, found.server, found.reconnect_ms, found.netns) == ("host:80", False, RECONNECT_MS, None)
    assert found.text == "tcp:host:80"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tap:NAME"),
        ("eth0", "tap:NAME"),
        ("udp:x:1", "tap:NAME"),
        ("tap", "tap:SOMETHING"),
        ("unix:", "unix:SOMETHING"),
        ("tap:abcdefghijklmnop", "at most 15 bytes"),
        ("tap:äöüäöüäöü", "at most 15 bytes"),
        ("unix:" + "x" * 108, "at most 107 bytes"),
        ("tcp:80", "tcp:HOST:PORT"),
        ("tcp::80", "tcp:HOST:PORT"),
        ("tcp:[]:80", "tcp:HOST:PORT"),
        ("tcp:host:", "tcp:HOST:PORT"),
        ("tcp:host:0", "tcp:HOST:PORT"),
        ("tcp:host:65536", "tcp:HOST:PORT"),
        ("tcp:host:²", "tcp:HOST:PORT"),
        ("tcp:host:-1", "tcp:HOST:PORT"),
        ("tap:x,server=on", "one of netns, vnet_hdr"),
        ("unix:x,netns=/y", "one of server"),
        ("tap:x,vnet_hrd=off", "did you mean 'vnet_hdr'?"),
        ("unix:x,sever=on", "did you mean 'server'?"),
        ("tap:x,vnet_hdr=yes", "on or off"),
        ("tap:x,vnet_hdr=", "vnet_hdr=VALUE"),
        ("tap:x,netns", "netns=VALUE"),
        ("tap:x,netns=", "netns=VALUE"),
        ("tap:x,vnet_hdr=on,vnet_hdr=on", "vnet_hdr once"),
        ("unix:x,reconnect-ms=0", "from 1 to 3600000"),
        ("unix:x,reconnect-ms=³", "from 1 to 3600000"),
        ("unix:x,reconnect-ms=" + "9" * 5_000, "from 1 to 3600000"),
        ("tap:x,", "one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_option(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_port(text, "--lan")
    assert str(caught.value).startswith("--lan")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
