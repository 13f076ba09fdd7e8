"""Host B's node in the laboratory: `colo` itself, with the twist at its guest's port and nowhere else."""

import pytest

from pycolo.link.hello import Role
from pycolo.node import roles
from pycolo.node.options import NodeOptions
from pycolo.transport.linksetup import Address
from pycolo.transport.portspec import parse_port
from pycolo.transport.streamport import StreamPort
from pycolo_lab import twisted
from pycolo_lab.twist import TwistedPort


@pytest.mark.parametrize(("option", "kind"), [("--guest", TwistedPort), ("--lan", StreamPort)])
def test_only_the_guests_port_has_it(tmp_path, option, kind):
    port = twisted.open_port(parse_port(f"unix:{tmp_path}/port,server=on", option), option)
    try:
        assert type(port) is kind
    finally:
        port.close()


@pytest.mark.parametrize("role", Role)
def test_a_node_opens_each_of_its_ports_once_and_as_it_is_told(role):
    asked = []

    def remember(spec, option):
        asked.append((spec.text, option))
        return StreamPort(spec, option)

    lan, guest = (parse_port(f"tcp:127.0.0.1:{port}", "--x") for port in (1, 2))
    options = NodeOptions(
        role=role, link=Address("127.0.0.1", 3), lan_in=lan, lan_out=lan, guest_in=guest, guest_out=guest, insecure=True
    )
    ports = roles._open_ports(options, remember)
    try:
        assert asked == [(lan.text, "--lan"), (guest.text, "--guest")]
        assert ports[0] is ports[1]
        assert ports[2] is ports[3]
    finally:
        ports[0].close()
        ports[2].close()


def test_its_command_line_is_colos(capfd, monkeypatch):
    monkeypatch.setattr("sys.argv", ["colo", "secondary"])
    with pytest.raises(SystemExit) as caught:
        twisted.main(twisted.open_port)
    assert caught.value.code == 2
    assert capfd.readouterr().err == "colo: missing option '--connect'; see colo secondary --help\n"
