"""What a host needs for the copies of disks, told beforehand."""

import json
from pathlib import Path

import pytest

from pycolo.check import disks
from pycolo.check.disks import copy_path, disk_items
from pycolo.check.hooks import qemu_items
from pycolo.check.table import Level
from pycolo.config import PairConfig, parse
from pycolo.qmp.diskwords import command_disks
from support.configs import changed, checkable


def config_of(place: Path, image: Path, table: str = "[disks]\n", *, drive: str | None = None) -> PairConfig:
    node = json.dumps({"driver": "raw", "node-name": "vda", "file": {"driver": "file", "filename": str(image)}})
    words = ["-drive", drive] if drive else ["-blockdev", node, "-device", "virtio-blk-pci,drive=vda"]
    text = changed(checkable(place, {"qemu.command": ["true", *words]}))
    return parse(f"{text}\n{table}".encode(), "vm.toml")


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "PROGRAM", "true")


def test_without_the_table_there_is_nothing_to_check(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "a.raw", "")
    assert disk_items(config) == []

    image = tmp_path / "new" / "a.raw"
    config = config_of(tmp_path, image, drive=f"if=virtio,format=raw,file={image}")
    (item,) = disk_items(config)
    assert (item.level, item.text) == (Level.OK, f"virtio0 at {image}")
    assert [item.level for item in qemu_items(config)] == [Level.OK]


def test_copies_may_be_elsewhere(tmp_path: Path) -> None:
    config = config_of(tmp_path, Path("/vm/a.raw"), f'[disks]\nimages = "{tmp_path}"\n')
    (disk,) = command_disks(config.qemu.command)
    assert copy_path(config, disk) == tmp_path / "a.raw"
    assert disk_items(config)[0].level is Level.OK


def test_what_cannot_be_copied_is_refused_by_name(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "a", drive="file=/vm/a.img,format=raw")
    (item,) = disk_items(config)
    assert item.level is Level.REFUSED
    assert "if=virtio" in item.text


def test_without_qemu_img_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "PROGRAM", "no-such-qemu-img")
    (item,) = disk_items(config_of(tmp_path, tmp_path / "a.raw"))
    assert item.level is Level.REFUSED
    assert "qemu-utils" in item.text


def test_a_file_is_no_directory_for_overlays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (item,) = disk_items(config_of(tmp_path, tmp_path / "a.raw", f'[disks]\noverlays = "{tmp_path}/file/x"\n'))
    assert (item.level, item.text) == (Level.REFUSED, f"vda: {tmp_path}/file is not a directory")


def test_a_guest_without_disks_needs_none(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "a", drive="if=none,id=cd,media=cdrom,file=/x.iso")
    assert disk_items(config)[0].text == "qemu.command has no writable disk"
