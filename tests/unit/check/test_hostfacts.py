"""The facts of this host, and of files that a kernel could show."""

import ipaddress
import os

import pytest

from pycolo.check.hostfacts import HostFacts, interface_to, look
from pycolo.config import parse
from support.configs import changed, checkable

ROUTES4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0000080A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth2\t0001080A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ROUTES6 = (
    "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 "
    "00000100 00000001 00000000 00000001     eth3\n"
    "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 "
    "00000000 00000002 00000000 80200001       lo\n"
)


def configuration(tmp_path, changes=None):
    return parse(changed(checkable(tmp_path, changes)).encode(), "vm1.toml")


def test_this_host_is_looked_at(tmp_path):
    facts = look(configuration(tmp_path))
    assert facts.hostname == os.uname().nodename
    assert facts.kernel == os.uname().release
    assert 1 <= facts.cpus <= (os.cpu_count() or 1)
    assert 0 < facts.available_bytes <= facts.memory_bytes
    assert facts.clock_ns > 1_700_000_000_000_000_000
    assert facts.state_free_bytes > 0
    assert facts.qemu == ""  # `true` is no QEMU


def test_a_programs_version_is_what_it_prints(tmp_path):
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian 1:7.2)'\necho more\n")
    program.chmod(0o755)
    assert look(configuration(tmp_path, {"qemu.command": [str(program)]})).qemu == "7.2.22 (Debian 1:7.2)"


@pytest.mark.parametrize("script", ["exit 1", "printf '\\377\\376'", "kill $$", ":"])
def test_a_program_that_prints_nothing_useful_has_no_version(tmp_path, script):
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert look(configuration(tmp_path, {"qemu.command": [str(program)]})).qemu == ""


@pytest.mark.parametrize(
    ("address", "interface"),
    [("10.8.1.2", "eth2"), ("10.8.2.2", "eth1"), ("192.0.2.9", "eth0"), ("fd00::7", "eth3"), ("2001:db8::1", "")],
)
def test_the_longest_prefix_leads_to_the_other_host(tmp_path, address, interface):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text(ROUTES4)
    (tmp_path / "net/ipv6_route").write_text(ROUTES6)
    assert interface_to(ipaddress.ip_address(address), tmp_path) == interface


def test_without_routes_there_is_no_interface(tmp_path):
    assert interface_to(ipaddress.ip_address("10.0.0.1"), tmp_path) == ""
    assert interface_to(ipaddress.ip_address("::1"), tmp_path) == ""


def test_a_name_without_an_address_has_no_card(tmp_path):
    assert look(configuration(tmp_path, {"link.peer": "nowhere.invalid:9000"})).link is None


def test_nothing_is_known_of_a_host_beforehand():
    assert HostFacts().has_kvm is None
