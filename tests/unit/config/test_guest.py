"""`[guest]`: a domain in the place of a QMP socket and a command line."""

from pathlib import Path

import pytest

from pycolo.config import CardOptions, DisksOptions, GuestOptions, describe
from support.configs import WITHOUT_CARDS, errors_of, read

QEMU = '[qemu]\nqmp = "/q"\ndirectory = "/d"\n'
FILE = WITHOUT_CARDS.replace(QEMU, "") + '[guest]\ndomain = "vm 1"\n'


def test_a_domain_is_enough():
    found = read(FILE)
    assert found.guest == GuestOptions(domain="vm 1", uri="qemu:///system")
    assert found.qemu.directory == Path("/run/colo/vm1/qemu")
    assert (found.qemu.qmp, found.qemu.yank) == (
        Path("/run/colo/vm1/qemu/qmp.sock"),
        Path("/run/colo/vm1/qemu/yank.sock"),
    )
    assert found.card == (CardOptions(netdev="hostnet0"),)
    assert read(describe(found)) == found


def test_what_is_given_stays():
    found = read(FILE + "[qemu]\ndirectory = '/d'\nstart_timeout_ms = 5000\n[[card]]\nnetdev = 'hostnet1'\n")
    assert (found.qemu.qmp, found.qemu.start_timeout_ms) == (Path("/d/qmp.sock"), 5000)
    assert found.card == (CardOptions(netdev="hostnet1"),)
    assert read(FILE + "[disks]\n").disks == DisksOptions()
    found = read(FILE + "uri = 'qemu+unix:///system?socket=/run/x/libvirt-sock'\n")
    assert found.guest.uri == "qemu+unix:///system?socket=/run/x/libvirt-sock"


WRONG = [
    ("[qemu]\ncommand = ['qemu']\n", "qemu.command: expected none, since libvirt starts guest.domain"),
    ("[qemu]\nenvironment = { A = 'b' }\n", "qemu.environment: expected none, since libvirt starts guest.domain"),
    ("uri = 'qemu+ssh://host-b/system'\n", "guest.uri: expected qemu:///system, or qemu+unix:///system?socket=PATH"),
    ("[qemu]\ndirectory = 'here'\n", "qemu.directory: expected an absolute path"),
]


@pytest.mark.parametrize(("added", "says"), WRONG)
def test_what_contradicts_a_domain_is_named(added, says):
    assert any(error.startswith(says) for error in errors_of(FILE + added)), errors_of(FILE + added)


@pytest.mark.parametrize("name", ["a/b", "", "x" * 65])
def test_names_that_libvirt_has_not(name):
    (error,) = errors_of(FILE.replace('"vm 1"', f'"{name}"'))
    assert error.startswith("guest.domain: expected the name of a domain, without slashes")


def test_without_a_domain_the_socket_is_needed_as_ever():
    errors = errors_of(FILE.replace('[guest]\ndomain = "vm 1"\n', ""))
    assert any(error.startswith("qemu: expected a table [qemu] with qmp, directory") for error in errors)
