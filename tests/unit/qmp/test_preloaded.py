"""Whether a process has the library in its memory is read from /proc, and only of a QEMU."""

import os
import shutil
import subprocess

import pytest

from pycolo.qmp.preloaded import FUNCTIONS, has_preload
from pycolo.vm.preload import FLAGS, SOURCE

LIBRARY = b"\x7fELF" + b"".join(FUNCTIONS)
NAMED = b"HOME=/\0LD_PRELOAD=/opt/a.so:/opt/lib/mine.so\0"


@pytest.fixture
def process(tmp_path):
    """A QEMU with pid 7, told by what its files in /proc say."""

    def make(*, exe="qemu-system-x86_64", environment=NAMED, maps=("/lib/libc.so.6", "/opt/lib/mine.so")):
        place = tmp_path / "7"
        root = place / "root"
        for name, octets in (("lib/libc.so.6", LIBRARY), ("opt/lib/mine.so", LIBRARY), ("opt/a.so", b"\x7fELF")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(octets)
        (place / "exe").symlink_to(f"/usr/bin/{exe}")
        (place / "environ").write_bytes(environment)
        lines = [f"7f0000000000-7f0000001000 r-xp 00000000 08:01 12 {' ' * 20}{path}\n" for path in maps]
        (place / "maps").write_text("7ffe00000000-7ffe00001000 rw-p 00000000 00:00 0\n" + "".join(lines))
        return tmp_path

    return make


def test_it_is_there_if_it_is_named_mapped_and_replaces_the_function(process):
    assert has_preload(7, process()) is True


def test_a_library_below_a_changed_root_is_found_by_its_whole_path(process, tmp_path):
    (tmp_path / "mine.so").write_bytes(LIBRARY)
    assert has_preload(7, process(maps=[f"{tmp_path}/mine.so"])) is True


@pytest.mark.parametrize(
    "changed",
    [
        {"environment": b"HOME=/\0"},
        {"environment": b"XLD_PRELOAD=/opt/lib/mine.so\0"},
        {"maps": ["/lib/libc.so.6"]},
        {"environment": b"LD_PRELOAD=/opt/a.so\0", "maps": ["/opt/a.so"]},
    ],
)
def test_it_is_not_there_otherwise(process, changed):
    assert has_preload(7, process(**changed)) is False


@pytest.mark.parametrize(
    "changed", [{"exe": "libvirtd"}, {"exe": "virtqemud"}, {"maps": ["/gone/mine.so"]}, {"maps": ["/a"], "exe": ""}]
)
def test_what_cannot_be_read_is_unknown(process, changed):
    assert has_preload(7, process(**changed)) is None


def test_no_process_is_unknown(tmp_path):
    assert has_preload(7, tmp_path) is None
    assert has_preload(os.getpid()) is None, "not a QEMU"


@pytest.mark.parametrize("is_preloaded", [True, False])
def test_the_real_library_in_a_real_process(tmp_path, is_preloaded):
    program = tmp_path / "qemu-stand-in"
    library = tmp_path / "any-name.so"
    subprocess.run(["gcc", *FLAGS, "-o", str(library), str(SOURCE)], check=True, timeout=60)
    shutil.copy(shutil.which("cat"), program)
    environment = {"LD_PRELOAD": str(library)} if is_preloaded else {}
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as running:
        running.stdin.write(b"x")
        running.stdin.flush()
        assert running.stdout.read(1) == b"x", "it runs, with its libraries"
        assert has_preload(running.pid) is is_preloaded
        running.stdin.close()
