"""A protected domain that stands until the user ends it (`--hold`), and how to get to its hosts."""

import sys
from collections.abc import Sequence
from typing import Final

from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.pair import Pair
from pycolo_lab.processes import Host, reap_strangers
from pycolo_lab.qemu.nodes import LETTERS
from pycolo_lab.qemu.programs import say
from pycolo_lab.qemu.topology import GUEST_ADDRESS

STEP_S: Final = 1.0

OFF_S: Final = 10.0
"""A host that was fenced stays off for so long: long enough to be looked at."""


def hold(pair: Pair, outer_pid: int, inside: Sequence[str]) -> None:
    """Until an interruption. Hosts that were switched off boot again, and nodes that have ended are started.

    `inside`: before a command of libvirt's on a host.
    """
    stage = pair.stage
    pair.ensure_whole()
    tell("\n".join(instructions(pair, outer_pid, inside)))
    while True:
        stage.rest(STEP_S)
        reap_strangers()
        for host, one in stage.hosts.items():
            if not one.powered.is_on:
                say(f"{host.value} is off, and boots in {OFF_S:.0f} s")
                stage.rest(OFF_S)
                pair.power_on(host)
                tell(f"{host.value} is up again. To get there:\n{way_to(pair, host, outer_pid)}")
            elif not pair.is_running(host):
                say(f"the node of {host.value} has ended, and is started again")
                pair.start_node(host)
        if pair.is_whole():
            pair.may_fence_again()


def tell(text: str) -> None:
    """To the user; standard output stays for results."""
    print(text, file=sys.stderr, flush=True)


def way_to(pair: Pair, host: Host, outer_pid: int) -> str:
    """A function of the user's shell that does its words on that host."""
    command = pair.stage.hosts[host].powered.command('"$@"')
    return _function(LETTERS[host], outer_pid, command)


def _function(name: str, outer_pid: int, command: Sequence[str]) -> str:
    return f"  {name}() {{ nsenter --target {outer_pid} --mount --pid {' '.join(command)}; }}"


def instructions(pair: Pair, outer_pid: int, inside: Sequence[str]) -> list[str]:
    """How to get inside: lines to paste into a shell."""
    stage = pair.stage
    client = ["nsenter", f"--net={stage.network.client.path}", '"$@"']
    virsh = " ".join([*inside, "virsh"])
    colo = f"{sys.executable} -m pycolo"
    primary = LETTERS[pair.serving() or Host.A]
    return [
        f"The domain {NAME} is protected and held. Paste this into a shell of root's, for the hosts and the client:",
        *(way_to(pair, host, outer_pid) for host in stage.hosts),
        _function("client", outer_pid, client),
        "libvirt, on both hosts:",
        *(f"  {letter} {virsh} list --all    # also dumpxml {NAME}, domiflist {NAME} …" for letter in LETTERS.values()),
        "The nodes:",
        *(f"  {letter} {colo} status {NAME}" for letter in LETTERS.values()),
        f"The guest is {GUEST_ADDRESS}; on the client:",
        f"  client curl -s http://{GUEST_ADDRESS}/",
        f"  client ssh -o StrictHostKeyChecking=no root@{GUEST_ADDRESS}    # no password",
        "A failover, by libvirt and without it:",
        f"  {primary} {virsh} destroy {NAME}",
        f"  {primary} sh -c 'kill -9 $(cat /run/libvirt/qemu/{NAME}.pid)'",
        f"Files of the hosts, and logs: nsenter --target {outer_pid} --mount ls {stage.directory}",
        "Ctrl-C ends it.",
    ]
