"""A held domain: what contradicts it, and the commands that lead to its hosts."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from pycolo_lab.errors import LabUsageError
from pycolo_lab.libvirt.held import instructions
from pycolo_lab.libvirt.options import LibvirtLabOptions, check_options
from pycolo_lab.processes import Host


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"hold": True, "rounds": 2}, "--rounds contradicts --hold"),
        ({"hold": True, "scenarios": ("save",)}, "--scenario contradicts --hold"),
        ({"libvirt": "9.9"}, "--libvirt 9.9: not one of 11.3"),
    ],
)
def test_what_contradicts_each_other_is_refused(options, why):
    with pytest.raises(LabUsageError, match=why):
        check_options(LibvirtLabOptions(**options))


def test_a_held_pair_may_be_of_any_guest_and_libvirt():
    check_options(LibvirtLabOptions(hold=True, guest="small", libvirt="11.3", keep=True))


def powered(first):
    return SimpleNamespace(command=lambda *words: ["nsenter", "--target", str(first), "--net", "--", *words])


PAIR = SimpleNamespace(
    serving=lambda: Host.B,
    stage=SimpleNamespace(
        hosts={Host.A: SimpleNamespace(powered=powered(7)), Host.B: SimpleNamespace(powered=powered(8))},
        network=SimpleNamespace(client=SimpleNamespace(path=Path("/run/client"))),
        directory=Path("/lab/v"),
    ),
)


def test_each_line_can_be_pasted_into_a_shell():
    lines = instructions(PAIR, 4711, ("chroot", "/lab/root"))
    commands = "\n".join(line for line in lines if line.startswith("  "))
    shell = f'nsenter() {{ echo nsenter "$@"; }}\n{commands}\n'
    done = subprocess.run(["bash", "-eu", "-c", shell], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert "nsenter --target 4711 --mount --pid nsenter --target 7 --net -- chroot /lab/root virsh list --all" in said
    assert "nsenter --target 4711 --mount --pid nsenter --net=/run/client curl -s http://10.9.0.2/" in said
    assert any(line.endswith("virsh destroy vm1") and "--target 8 " in line for line in said), "the primary's"
    assert lines[-1] == "Ctrl-C ends it."
