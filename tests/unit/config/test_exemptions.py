"""[[bypass]] and [[mask]] in a node's file: what the comparator is told."""

import re
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
        ('addresses = ["fe80::1%eth0"]', "bypass[0].addresses[0]", "an address without a zone"),
        ('addresses = ["::ffff:10.0.0.1"]', "bypass[0].addresses[0]", "an IPv4 address written as such"),
        (f"ports = {list(range(1, 66))}", "bypass[0].ports", "an array of 1 to 64 ports"),
        ("port = 80", "bypass[0].port", "did you mean ports?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, place, expected):
    with pytest.raises(ConfigFileError) as caught:
        flows(text)
    assert re.search(rf"vm\.toml: (line \d+: )?{re.escape(place)}: expected ", str(caught.value))
    assert expected in str(caught.value)


def test_no_file_has_more_than_the_comparator_takes():
    ports = f"ports = {list(range(1, 65))}\n"
    addresses = 'addresses = ["10.0.0.0/8", "fd00::/8"]\n'
    assert len(flows(ports + addresses + 'protocol = "tcp"')) == limits.FLOWS_MAX
    for text in (ports + addresses, f'{ports}{addresses}protocol = "tcp"\n[[bypass]]\nprotocol = "esp"'):
        with pytest.raises(ConfigFileError, match=f"at most {limits.FLOWS_MAX} combinations"):
            flows(text)
    Flows(flows(ports + addresses + 'protocol = "tcp"'))


OTHERS = {
    "order": "[[order]]\nports = [22, 5432]\n",
    "mask": "[[mask]]\nports = [22, '5430-5439']\npattern = 'a'\n",
}
COVERS = ["protocol = 'tcp'", "ports = ['5000-5999']", "ports = ['5430-5439']\nprotocol = 'tcp'\ndirection = 'in'"]
COVERS_NOT = [
    "protocol = 'udp'",
    "ports = ['5000-5999']\ndirection = 'out'",
    "ports = ['5000-5999']\naddresses = ['10.0.0.0/8']",
    "ports = [5431, 80]",
]


@pytest.mark.rule("C7")
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("bypass", [*COVERS, *COVERS_NOT])
def test_what_is_never_compared_is_neither_ordered_nor_masked(bypass, other):
    text = f"[[bypass]]\n{bypass}\n{OTHERS[other]}"
    if bypass in COVERS_NOT:
        read(text)
        return
    with pytest.raises(ConfigFileError) as caught:
        read(text)
    assert f"{other}[0].ports: expected ports that bypass[0] does not let pass uncompared" in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_port_that_is_never_ordered_may_pass():
    read("[[bypass]]\nports = [5432]\n[[order]]\nports = [5432]\nmode = 'off'\n")


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
        ("pattern = 'a'", "vm.toml: mask[0].ports: expected an array of 1 to 64 ports"),
        ("ports = [80]", "vm.toml: mask[0].pattern: expected a pattern such as"),
        ("ports = [80]\nname = 'a b'\npattern = 'a'", "mask[0].name: expected 1 to 32 letters"),
        ("ports = [80]\npattern = '(ab|cd){1,200}'", "at most 128 choices in all masks together, found 398"),
        ("ports = [80]\npattern = '[^\\x00-\\xff]'", "expected a class that leaves a byte, at character 1"),
        ("ports = [80]\npattern = 'a{600}'\n" + MASK.replace("'a", "'a{600}"), "1024 bytes together, found 1200"),
        (f"ports = {list(range(1, 65))}\npattern = 'a'\n" + 4 * (MASK + "direction = 'both'\n"), None),
        (
            "ports = [80]\npattern = 'a'\nname = '2'\n" + MASK,
            "mask[1].name: expected another one than mask[0] has, found '2'",
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


@pytest.mark.parametrize(
    ("written", "shown"),
    [(r"'a\r\n*'", r"'a\r\n*'"), (r'"a\r*"', r"'a\r*'"), ('"\'*"', '"\'*"'), (f"'{60 * 'a'}\\n*'", r"aa…'")],
)
def test_a_pattern_is_shown_as_it_is_written(written, shown):
    """So that characters can be counted in it."""
    with pytest.raises(ConfigFileError) as caught:
        read(f"[[mask]]\nports = [80]\npattern = {written}\n")
    assert str(caught.value).endswith(shown)


def test_what_the_page_shows_can_be_used():
    bypass, mask = examples_of("exemptions.md")
    config = read(bypass + mask)
    assert len(config.bypass) == len(config.mask) == 2
    comparator = Comparator(1, bypass=bypass_flows(config.bypass), masks=masks(config.mask))
    assert comparator.tcp.masks.names == ("date", "request")
