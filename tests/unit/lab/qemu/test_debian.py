"""The Debian guest's builder, as far as it needs no root, and how a machine boots from what it has made."""

import json
import subprocess
from pathlib import Path

import pytest

from pycolo_lab.errors import LabError, LabUsageError
from pycolo_lab.interruption import Interruption
from pycolo_lab.qemu import debian, debs
from pycolo_lab.qemu.image import Image
from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu
from pycolo_lab.qemu.programs import Programs
from pycolo_lab.qemu.scenarios import choose

MADE = debian.DebianGuest(Path("/m/d.qcow2"), Path("/m/k"), Path("/m/i"))


def machine(disk: str | None = None) -> Machine:
    plain = Machine(
        qemu=Qemu(command=("qemu-system-x86_64",), version="7.2.22"),
        image=Image(Path("/k"), Path("/i"), Path("/preload.so")),
        accelerator="tcg",
        guest=GUESTS["debian"],
    )
    return plain.with_debian(MADE).with_disk(disk)


@pytest.mark.parametrize("disk", [None, "qcow2", "raw"])
def test_a_machine_boots_from_a_disk_of_its_own_on_either_host(disk: str | None) -> None:
    command = machine(disk).command(Path("/b"), "x")
    assert command[command.index("-kernel") + 1] == "/m/k"
    assert command[command.index("-initrd") + 1] == "/m/i"
    drive = json.loads(command[command.index("-blockdev") + 1])
    assert drive["driver"] == (disk or "qcow2")
    assert Path(drive["file"]["filename"]).is_relative_to("/b")
    assert machine(disk).disk_source == MADE.disk
    assert machine(disk).environment == {"LD_PRELOAD": "/preload.so"}


def test_a_guest_is_there_when_it_was_built_of_what_it_would_be_built_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_directory: Path, guest: debian.DebianGuest, _programs: Programs) -> None:
        for path in guest:
            path.touch()

    monkeypatch.setattr(debian, "_build", build)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    programs = Programs(Interruption())
    monkeypatch.setattr(programs, "require", lambda _names: None)
    assert not debian.is_there(tmp_path)
    made = debian.ensure(tmp_path, programs)
    assert debian.is_there(tmp_path)
    assert {path.parent for path in made} == {tmp_path}
    made.disk.unlink()
    assert not debian.is_there(tmp_path)
    debian.ensure(tmp_path, programs)
    monkeypatch.setattr(debian, "PACKAGES", (*debian.PACKAGES, "one-more"))
    assert not debian.is_there(tmp_path)


def test_who_is_not_root_is_told_so_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root"):
        debian.ensure(tmp_path / "none", Programs(Interruption()))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["debian.sh", "debianinit.sh", "init.sh"])
def test_the_guests_scripts_can_be_read_by_a_shell(name: str) -> None:
    script = Path(debian.__file__).with_name("guest") / name
    assert subprocess.run(["sh", "-n", script], capture_output=True, check=False).stderr == b""


def test_a_kernel_package_without_a_kernel_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"{tmp_path.name} holds no boot/vmlinuz"):
        debs.kernel_image(tmp_path)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").touch()
    assert debs.kernel_image(tmp_path).name == "vmlinuz-6.1"


def test_in_ordered_scenarios_both_nodes_order_the_databases_requests() -> None:
    for scenario in choose([], has_services=True):
        ordered = ["pgbench-ordered", "redis-ordered", "redis-mixed-ordered"]
        assert ("order" in scenario.setting.more) is (scenario.name in ordered)
    (one,) = choose(["redis-ordered"], has_services=True)
    assert one.setting.more["order"] == [{"ports": [5432, 6379], "mode": "follow"}]


def test_scenarios_of_services_need_a_guest_that_has_them() -> None:
    assert [one.name for one in choose(["redis"], has_services=True)] == ["redis"]
    with pytest.raises(LabUsageError, match="redis: the guest has no such service: add --guest debian"):
        choose(["rest", "redis"])
    assert {one.name for one in choose([], has_services=True)} - {one.name for one in choose([])} == {
        *("pgbench", "pgbench-ordered", "redis", "redis-ordered", "redis-mixed", "redis-mixed-ordered", "scp", "ssh"),
    }
