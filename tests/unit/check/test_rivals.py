"""What else manages the same guest on this host."""

from pathlib import Path

import pytest

from pycolo.check import Item, Level, Moment
from pycolo.check.rivals import rival_items
from pycolo.config import PairConfig, parse
from pycolo.link.hello import Role
from support.configs import changed, checkable


class Host:
    """/proc and /etc, with the file of this node."""

    def __init__(self, place: Path) -> None:
        self.proc, self.etc = place / "proc", place / "etc"
        self.place = place
        self.process("self", [])
        (self.etc / "colo").mkdir(parents=True)

    def config(self, changes: dict[str, object] | None = None) -> PairConfig:
        text = changed(checkable(self.place, changes))
        (self.etc / "colo" / "vm1.toml").write_text(text)
        return parse(text.encode(), "vm1.toml")

    def process(self, pid: str, words: list[str], namespace: str = "mnt:[1]") -> None:
        folder = self.proc / pid
        (folder / "ns").mkdir(parents=True)
        (folder / "ns" / "mnt").symlink_to(namespace)
        (folder / "cwd").symlink_to(self.place)
        (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in words))

    def enable(self, *instances: str) -> None:
        for instance in instances:
            folder = self.etc / "systemd/system/multi-user.target.wants"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"colo@{instance}.service").symlink_to("/nowhere")

    def said(self, config: PairConfig, pid: int | None = None) -> list[Item]:
        return list(rival_items(config, Moment(Role.PRIMARY, pid), proc=self.proc, etc=self.etc))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


NODE = ["/usr/bin/python3", "/usr/bin/colo", "node", "--config"]


def test_alone_is_well(host: Host) -> None:
    host.process("5", ["qemu-system-x86_64", "node"])
    host.process("6", ["/usr/bin/colo", "status", "--config", str(host.etc / "colo/vm1.toml")])
    host.enable("vm1")
    assert [item.level for item in host.said(host.config())] == [Level.OK]


@pytest.mark.parametrize("path", ["etc/colo/vm1.toml", "/absolute"])
def test_another_node_of_the_same_guest_is_refused(host: Host, path: str) -> None:
    config = host.config()
    given = path if path.startswith("etc") else str(host.etc / "colo/vm1.toml")
    host.process("7", [*NODE, given])
    (item,) = host.said(config)
    assert (item.level, "process 7" in item.text) == (Level.REFUSED, True)
    assert [item.level for item in host.said(config, pid=7)] == [Level.OK], "it is this pair's node itself"


def test_a_node_in_a_container_or_of_another_pair_is_none(host: Host) -> None:
    config = host.config()
    host.process("7", [*NODE, str(host.etc / "colo/vm1.toml")], namespace="mnt:[2]")
    (host.etc / "colo/vm2.toml").write_text('pair = "vm2"\nstate = "/x"\n[qemu]\nqmp = "/y"\n')
    host.process("8", [*NODE, str(host.etc / "colo/vm2.toml")])
    host.process("9", [*NODE, "/nowhere"])
    host.process("10", NODE)
    assert [item.level for item in host.said(config)] == [Level.OK]


def test_a_unit_that_is_enabled_beside_pacemaker_is_refused(host: Host) -> None:
    host.enable("vm1")
    config = host.config({"arbiter.kind": "pacemaker", "arbiter.node": "b"})
    (item,) = host.said(config)
    assert (item.level, "systemctl disable colo@vm1" in item.text) == (Level.REFUSED, True)


def test_two_units_of_one_guest_are_refused(host: Host) -> None:
    config = host.config()
    (host.etc / "colo/copy.toml").write_text((host.etc / "colo/vm1.toml").read_text())
    host.enable("vm1", "copy")
    (item,) = host.said(config)
    assert (item.level, "colo@copy and colo@vm1" in item.text) == (Level.REFUSED, True)


@pytest.mark.parametrize("name", ["vm1", "kiosk"])
def test_libvirt_must_not_start_the_guest_with_the_host(host: Host, name: str) -> None:
    config = host.config({"qemu.command": ["qemu", "-name", "guest=kiosk,debug-threads=on"]})
    folder = host.etc / "libvirt/qemu/autostart"
    folder.mkdir(parents=True)
    (folder / f"{name}.xml").symlink_to("/nowhere")
    items = host.said(config)
    assert [(item.name, item.level) for item in items] == [("autostart", Level.WARNING)]
    assert f"virsh autostart --disable {name}" in items[0].text
