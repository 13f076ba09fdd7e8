"""An image that was changed after its QEMU had ended is told by its file."""

import os
from pathlib import Path

import pytest

from pycolo.vm import imageseal
from pycolo.vm.imageseal import seal


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.raw"
    path.write_bytes(b"1" * 4096)
    old = path.stat().st_mtime_ns - 10**9
    os.utime(path, ns=(old, old))  # further from now than a clock's tick
    return path


def test_it_stays_while_nothing_is_done(image: Path) -> None:
    before = seal(image, is_flushed=True)
    image.read_bytes()
    assert before == seal(image, is_flushed=True) != ""


def test_a_write_breaks_it(image: Path) -> None:
    before = seal(image, is_flushed=True)
    with image.open("r+b") as file:
        file.write(b"2")
    assert seal(image, is_flushed=True) != before


def test_so_does_another_file_in_its_place_though_it_looks_alike(image: Path) -> None:
    before, times = seal(image, is_flushed=True), image.stat()
    copy = image.with_suffix(".copy")
    copy.write_bytes(image.read_bytes())
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(image)
    assert seal(image, is_flushed=True) != before


def test_an_image_that_is_never_flushed_is_known_until_the_host_is_started_again(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("one\n")
    monkeypatch.setattr(imageseal, "BOOT", boot)
    lazy, usual = seal(image, is_flushed=False), seal(image, is_flushed=True)
    boot.write_text("two\n")
    assert seal(image, is_flushed=False) != lazy
    assert seal(image, is_flushed=True) == usual
    boot.unlink()
    assert seal(image, is_flushed=False) == ""


@pytest.mark.parametrize("path", ["/dev/null", "/nowhere/a.raw"])
def test_of_what_is_no_file_nothing_is_known(path: str) -> None:
    assert seal(Path(path), is_flushed=True) == ""
