"""A device that two hosts have."""

import os
from pathlib import Path

import pytest

from pycolo.vm.blockunit import unit_of, unit_of_device


def device(sysfs: Path, place: str, **files: str) -> None:
    """A device of number 8:1, whose directory in sysfs is `place`."""
    real = sysfs / "devices" / place
    real.mkdir(parents=True)
    for name, text in files.items():
        for directory in (real, real.parent) if name == "parent" else (real,):
            file = directory / name.replace("_", "/").replace("parent", "wwid")
            file.parent.mkdir(exist_ok=True)
            if name != "parent" or directory == real.parent:
                file.write_text(text)
    (sysfs / "8:1").symlink_to(real)


@pytest.mark.parametrize(
    ("place", "files", "unit"),
    [
        ("virtual/dm-0", {"dm_uuid": "LVM-abc\n"}, "LVM-abc"),
        ("nvme0n1", {"wwid": "eui.0025\n"}, "eui.0025"),
        ("sda", {"device_wwid": "naa.6000\n"}, "naa.6000"),
        ("nvme0n1/nvme0n1p2", {"partition": "2\n", "parent": "eui.0025\n"}, "eui.0025 2"),
        ("loop0", {}, ""),
        ("vda", {"partition": "1\n"}, ""),
    ],
)
def test_what_the_kernel_knows_of_it(tmp_path: Path, place: str, files: dict[str, str], unit: str) -> None:
    device(tmp_path, place, **files)
    assert unit_of_device(os.makedev(8, 1), tmp_path) == unit


def test_a_file_is_none(tmp_path: Path) -> None:
    assert unit_of(tmp_path / "missing") == unit_of(tmp_path) == ""
    assert unit_of_device(os.makedev(8, 2), tmp_path) == ""
