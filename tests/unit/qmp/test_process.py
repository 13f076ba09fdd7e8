"""What a QEMU's process shows."""

import os
from dataclasses import replace
from pathlib import Path

from pycolo.qmp.process import has_vhost, with_process
from support.qemufacts import GOOD


def process(proc: Path, *targets: str) -> None:
    folder = proc / "7" / "fd"
    folder.mkdir(parents=True)
    for number, target in enumerate(targets):
        (folder / str(number)).symlink_to(target)


def test_vhost_shows_by_its_device(tmp_path: Path) -> None:
    process(tmp_path, "/dev/kvm", "socket:[4711]")
    assert has_vhost(7, tmp_path) is False
    (tmp_path / "7" / "fd" / "9").symlink_to("/dev/vhost-net")
    assert has_vhost(7, tmp_path) is True


def test_a_process_that_cannot_be_read_shows_nothing(tmp_path: Path) -> None:
    assert has_vhost(7, tmp_path) is None
    assert with_process(GOOD, 0, tmp_path) == GOOD


def test_the_library_matters_to_software_emulation_only(tmp_path: Path) -> None:
    process(tmp_path, "/dev/vhost-net")
    assert with_process(GOOD, 7, tmp_path) == replace(GOOD, has_vhost=True)
    assert with_process(replace(GOOD, accelerator="tcg"), os.getpid()).has_preload is None, "no QEMU"
