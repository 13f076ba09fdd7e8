"""What a QEMU's process shows."""

import os
from dataclasses import replace
from pathlib import Path

from pycolo.qmp.probe import Netdev
from pycolo.qmp.process import has_vhost, with_process, with_taps
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
    assert with_process(GOOD, 0, proc=tmp_path) == GOOD


def test_the_library_matters_to_software_emulation_only(tmp_path: Path) -> None:
    process(tmp_path, "/dev/vhost-net")
    assert with_process(GOOD, 7, proc=tmp_path) == replace(GOOD, has_vhost=True)
    assert with_process(replace(GOOD, accelerator="tcg"), os.getpid()).has_preload is None, "no QEMU"


def test_a_tap_that_was_opened_for_qemu_is_found_by_its_number(tmp_path: Path) -> None:
    """QEMU says "fd=30" of it; what is behind that, its process shows, or who has opened it says."""
    folder = tmp_path / "7" / "fdinfo"
    folder.mkdir(parents=True)
    (folder / "30").write_text("pos:\t0\nflags:\t0104002\niff:\tvnet3\n")
    (folder / "31").write_text("pos:\t0\n")
    given = {
        "hostnet0": Netdev(id="hostnet0", type="tap", info="index=0,type=tap,fd=30"),
        "hostnet1": Netdev(id="hostnet1", type="tap", info="fd=31"),
        "hn2": Netdev(id="hn2", type="tap", info="ifname=tap0,script=no"),
        "hn3": Netdev(id="hn3", type="user", info="net=10.0.2.0,fd=30"),
    }
    found = with_taps(given, 7, {}, tmp_path)
    assert found["hostnet0"].info == "index=0,type=tap,fd=30,ifname=vnet3"
    assert {name: found[name] for name in ("hostnet1", "hn2", "hn3")} == {
        name: given[name] for name in ("hostnet1", "hn2", "hn3")
    }
    assert with_taps(given, 8, {}, tmp_path) == given, "it may not be looked into"
    assert with_taps(given, 8, {"hostnet0": "vnet5"}, tmp_path)["hostnet0"].info.endswith(",ifname=vnet5")
