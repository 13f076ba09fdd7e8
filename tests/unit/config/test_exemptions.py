"""[[bypass]] and [[mask]] in a node's file: what the comparator is told."""

from ipaddress import ip_network

import pytest

from pycolo import limits
from pycolo.compare.flows import ALL_PORTS, Flow
from pycolo.config import ConfigFileError, describe, parse
from pycolo.config.exemptions import bypass_flows, masks
from pycolo.core import Comparator, Flows
from pycolo.link.hello import Role
from pycolo.vm.nodeoptions import node_options
from support.configs import example, examples_of


def read(text):
    return parse((example() + text).encode(), "vm.toml")


def flows(text):
    """Of the first table."""
    found = bypass_flows(read(f"[[bypass]]\n{text}\n").bypass)
    assert {flow.table for flow in found} <= {1}
    return [flow._replace(table=0) for flow in found]


def test_without_a_table_everything_is_compared():
    assert bypass_flows(read("").bypass) == []


def test_what_a_table_says():
    assert flows('protocol = "udp"\nports = [123, "500-510"]\ndirection = "out"') == [
        Flow(17, other_ports=(123, 123)),
        Flow(17, other_ports=(500, 510)),
    ]
    assert flows('ports = [22]\ndirection = "in"') == [Flow(number, guest_ports=(22, 22)) for number in (6, 17, 132)]
    assert flows('protocol = "tcp"\nports = [22]') == [Flow(6, guest_ports=(22, 22)), Flow(6, other_ports=(22, 22))]
    assert flows('addresses = ["10.0.0.0/8", "fd00::1"]') == [
        Flow(None, None, ALL_PORTS, ip_network("10.0.0.0/8"), ALL_PORTS),
        Flow(None, None, ALL_PORTS, ip_network("fd00::1"), ALL_PORTS),
    ]
    assert [flow.protocol for flow in flows('protocol = "icmp"')] == [1, 58]


def test_the_comparators_of_the_node_are_told():
    config = read('[[bypass]]\nprotocol = "esp"\n[[bypass]]\nprotocol = "gre"\n')
    assert [(flow.protocol, flow.table) for flow in node_options(config, Role.PRIMARY).bypass] == [(50, 1), (47, 2)]


def test_it_is_written_as_it_was_read():
    config = read('[[bypass]]\nports = [22, "80-89"]\naddresses = ["10.0.0.0/8"]\ndirection = "in"\n')
    assert parse(describe(config).encode(), "again.toml") == config


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", "bypass[0].protocol", "at least one of protocol, addresses and ports"),
        ('direction = "both"', "bypass[0].protocol", "at least one of"),
        ('protocol = "icmp"\nports = [1]', "bypass[0].ports", "no ports, which icmp does not have"),
        ('protocol = "tcp"\ndirection = "in"', "bypass[0].direction", "ports with it"),
        ('protocol = "http"', "bypass[0].protocol", "tcp, udp, icmp, sctp, esp, gre or any"),
        ("ports = [80, 0]", "bypass[0].ports[1]", "a port from 1 to 65535"),
        ('addresses = ["10.0.0.1/8"]', "bypass[0].addresses[0]", "a prefix without bits behind its length"),
        ("port = 80", "bypass[0].port", "did you mean ports?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, place, expected):
    with pytest.raises(ConfigFileError) as caught:
        flows(text)
    assert f"vm.toml: {place}: expected " in str(caught.value)
    assert expected in str(caught.value)


def test_no_file_has_more_than_the_comparator_takes():
    ports = f"ports = {list(range(1, 65))}\n"
    addresses = 'addresses = ["10.0.0.0/8", "fd00::/8"]\n'
    assert len(flows(ports + addresses + 'protocol = "tcp"')) == limits.FLOWS_MAX
    for text in (ports + addresses, f'{ports}{addresses}protocol = "tcp"\n[[bypass]]\nprotocol = "esp"'):
        with pytest.raises(ConfigFileError, match=f"at most {limits.FLOWS_MAX} combinations"):
            flows(text)
    Flows(flows(ports + addresses + 'protocol = "tcp"'))


# ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────

MASK = "[[mask]]\nports = [80]\npattern = 'a'\n"


def test_what_a_mask_says():
    config = read(
        "[[mask]]\nports = [80, 8080]\npattern = 'Date: [^\\r]{8}'\n[[mask]]\nname = 'id'\nports = [443]\n"
        "pattern = 'x'\ndirection = 'out'\n"
    )
    first, second = masks(config.mask)
    assert (first.name, first.pattern) == ("1", r"Date: [^\r]{8}")
    assert first.flows == (Flow(6, guest_ports=(80, 80)), Flow(6, guest_ports=(8080, 8080)))
    assert second.name == "id"
    assert second.flows == (Flow(6, other_ports=(443, 443)),)
    assert node_options(config, Role.PRIMARY).masks == (first, second)
    assert parse(describe(config).encode(), "again.toml") == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pattern = 'a'", "vm.toml: mask[0].ports: expected an array of ports"),
        ("ports = [80]", "vm.toml: mask[0].pattern: expected a pattern such as"),
        ("ports = [80]\nname = 'a b'\npattern = 'a'", "vm.toml: mask[0].name: expected 1 to 32 letters"),
        ("ports = [80]\npattern = '(ab|cd){1,200}'", "vm.toml: mask: expected at most 128 choices"),
        ("ports = [80]\npattern = 'a{600}'\n[[mask]]\nports = [80]\npattern = 'a{600}'", "1024 bytes together"),
        (f"ports = {list(range(1, 65))}\npattern = 'a'\n" + 4 * (MASK + "direction = 'both'\n"), None),
        (
            "ports = [80]\npattern = 'a'\nname = '2'\n" + MASK,
            "vm.toml: mask[1].name: expected another one than mask[0] has, found '2'",
        ),
    ],
)
def test_what_is_wrong_with_a_mask_is_said(text, expected):
    text = f"[[mask]]\n{text}\n"
    if expected is None:
        read(text)
        return
    with pytest.raises(ConfigFileError) as caught:
        read(text)
    assert expected in str(caught.value)


def test_a_pattern_is_refused_with_its_line():
    text = example() + "[[mask]]\nports = [80]\npattern = 'X-Session: .*'\n"
    line = len(text.splitlines())
    with pytest.raises(ConfigFileError) as caught:
        parse(text.encode(), "vm.toml")
    assert str(caught.value) == (
        f"vm.toml: line {line}: mask[0].pattern: expected a repeat with a bound, such as {{1,64}}, at character 13, "
        "found 'X-Session: .*'"
    )


def test_what_the_page_shows_can_be_used():
    bypass, mask = examples_of("exemptions.md")
    config = read(bypass + mask)
    assert len(config.bypass) == len(config.mask) == 2
    comparator = Comparator(1, bypass=bypass_flows(config.bypass), masks=masks(config.mask))
    assert comparator.tcp.masks.names == ("date", "request")
