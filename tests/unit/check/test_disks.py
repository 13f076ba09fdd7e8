"""What a host needs for the copies of disks, told beforehand."""

import json
import pwd
from pathlib import Path

import pytest

from pycolo.check import disks
from pycolo.check.disks import copy_path, disk_items, domain_disk_items
from pycolo.check.hooks import qemu_items
from pycolo.check.table import Level
from pycolo.config import PairConfig, parse
from pycolo.qmp.diskwords import command_disks
from support.configs import changed, checkable
from support.domaindisks import FILE, READ_ONLY, VDA, domain


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


# ── a domain's ────────────────────────────────────────────────────────────────────────────────────────────────


def domain_items(place: Path, xml: str | None, table: str | None) -> list[tuple[Level, str]]:
    text = FILE.format(place=place) + ("" if table is None else f"[disks]\n{table}")
    config = parse(text.encode(), "vm1.toml")
    assert disk_items(config) == []
    return [(item.level, item.text) for item in domain_disk_items(config, xml)]


def here(place: Path) -> str:
    return domain(VDA.replace("/images/", f"{place}/"), READ_ONLY)


def test_a_domains_disks_are_where_this_host_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "qemu_user", lambda: None)
    assert domain_items(tmp_path, here(tmp_path), "") == [(Level.OK, f"vda at {tmp_path}/a.qcow2")]
    assert domain_items(tmp_path, domain(READ_ONLY), "") == [(Level.OK, "no disk is writable")]
    assert domain_items(tmp_path, None, "") == []


def test_a_domains_writable_disk_without_the_table_is_refused_with_the_words_to_add(tmp_path: Path) -> None:
    ((level, text),) = domain_items(tmp_path, here(tmp_path), None)
    assert level is Level.REFUSED
    assert text.startswith(f"vda ({tmp_path}/a.qcow2) is writable: a table [disks]")
    assert domain_items(tmp_path, domain(READ_ONLY), None) == []
    assert domain_items(tmp_path, None, None) == []


def test_what_speaks_against_copying_a_domains_disk_is_said_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = here(tmp_path).replace("<backingStore/>", "<shareable/>")
    assert [level for level, _ in domain_items(tmp_path, shared, "")] == [Level.REFUSED]
    (tmp_path / "file").touch()
    ((level, text),) = domain_items(tmp_path, None, f'overlays = "{tmp_path}/file"')
    assert (level, "is not a directory" in text) == (Level.REFUSED, True)
    monkeypatch.setattr(disks, "PROGRAM", "no-such-qemu-img")
    for xml in (here(tmp_path), None):
        ((level, text),) = domain_items(tmp_path, xml, "")
        assert (level, "qemu-utils" in text) == (Level.REFUSED, True)
    assert domain_items(tmp_path, domain(READ_ONLY), "") == [(Level.OK, "no disk is writable")]


def test_a_folder_that_qemus_user_cannot_reach_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "qemu_user", lambda: pwd.getpwnam("nobody"))
    (tmp_path / "closed").mkdir(mode=0o700)
    monkeypatch.setattr(disks, "closed_to", lambda user, folder: tmp_path / "closed")
    ((level, text),) = domain_items(tmp_path, here(tmp_path / "closed"), "")
    assert level is Level.REFUSED
    assert text.endswith(f"cannot be reached by QEMU's user nobody: chmod o+x {tmp_path}/closed")
