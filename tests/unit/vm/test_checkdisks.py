"""What `colo check` says of the disks' copies."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pycolo.check import Level
from pycolo.config import PairConfig, parse
from pycolo.errors import ConnectError, PeerError
from pycolo.qmp.diskrules import COMMANDS, HostImage
from pycolo.qmp.guestdisks import GuestDisk
from pycolo.vm import checkdisks
from pycolo.vm.checkdisks import copy_items, guest_disks, images_here
from pycolo.vm.diskplaces import CommandPlaces, Place
from support.configs import changed, checkable
from support.qemufacts import GOOD

GIB = 1 << 30
DISK = GuestDisk(
    name="d0",
    device="",
    kind="virtio-blk-pci",
    place="pci.0 04.0",
    size_bytes=GIB,
    used_bytes=GIB // 2,
    format="qcow2",
    file="/var/lib/d0",
    is_writable=True,
    iothread="",
    has_generated_name=False,
)
IMAGE = HostImage(name="d0", path="/copy/d0", size_bytes=0, free_bytes=9 * GIB, overlay_free_bytes=8 * GIB)
FACTS = replace(GOOD, commands=GOOD.commands | set(COMMANDS))
COMMAND = ["qemu", "-drive", "if=none,id=d0,file=/copy/d0,format=qcow2", "-device", "virtio-blk-pci,drive=d0"]


def config(tmp_path: Path, disks: str | None, command: list[str] | None = None) -> PairConfig:
    text = changed(checkable(tmp_path, {"qemu.command": command or COMMAND}))
    return parse((text + ("" if disks is None else f"[disks]\n{disks}\n")).encode(), "vm.toml")


async def here(made: PairConfig) -> list[HostImage] | None:
    return await images_here(made, CommandPlaces(made), None)


def test_a_copy_that_fits_is_shown_with_the_room_that_it_has() -> None:
    (item,) = copy_items([DISK], [IMAGE])
    assert item.level is Level.OK
    assert item.text == "d0, 1.0 GiB: /copy/d0 is made, with room for 9.0 GiB; 8.0 GiB for overlays"
    (item,) = copy_items([DISK], [msgspec.structs.replace(IMAGE, size_bytes=GIB)])
    assert "is there and is overwritten" in item.text


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"overlay_free_bytes": 1 << 20}, "between two checkpoints"),
        ({"free_bytes": 1 << 20}, "room for 1 MiB"),
        ({"size_bytes": 2 * GIB}, "has 1073741824 bytes"),
        ({"name": "other"}, "not in [qemu] command"),
    ],
)
def test_what_does_not_fit_is_refused_as_protect_would(image: dict[str, Any], words: str) -> None:
    items = copy_items([DISK], [msgspec.structs.replace(IMAGE, **image)])
    assert {item.level for item in items} == {Level.REFUSED}
    assert words in items[0].text


def test_without_disks_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert copy_items([], []) == []
    assert copy_items([DISK], None) == []
    assert asyncio.run(here(config(tmp_path, None))) is None
    machine: Any = None
    assert asyncio.run(guest_disks(config(tmp_path, None), machine, FACTS)) == ([], [])


def test_the_images_are_looked_for_where_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[Path, Path]] = []

    async def look(place: Place) -> HostImage:
        looked.append((place.path, place.overlays.active.parent))
        return IMAGE

    monkeypatch.setattr(checkdisks.diskimages, "look", look)
    for given in ("", 'images = "/pool"', 'images = "/pool"\noverlays = "/fast"'):
        assert asyncio.run(here(config(tmp_path, given))) == [IMAGE]
    assert [(str(path), str(overlays)) for path, overlays in looked] == [
        ("/copy/d0", "/copy"),
        ("/pool/d0", "/pool"),
        ("/pool/d0", "/fast"),
    ]


def test_what_cannot_be_looked_at_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: Any) -> HostImage:
        raise ConnectError("qemu-img: No such file or directory; Debian has it in qemu-utils")

    monkeypatch.setattr(checkdisks.diskimages, "look", look)
    assert asyncio.run(here(config(tmp_path, ""))) is None


@pytest.mark.parametrize(
    ("disk", "levels"), [({}, []), ({"is_writable": False}, []), ({"kind": "sd-card"}, [Level.REFUSED])]
)
def test_the_guests_disks_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: dict[str, Any], levels: list[Level]
) -> None:
    found = msgspec.structs.replace(DISK, **disk)

    async def probed(machine: Any) -> tuple[GuestDisk, ...]:
        return (found,)

    monkeypatch.setattr(checkdisks, "probe_disks", probed)
    machine: Any = None
    disks, items = asyncio.run(guest_disks(config(tmp_path, ""), machine, FACTS))
    assert disks == ([found] if found.is_writable else [])
    assert [(item.level, item.where) for item in items] == [(level, "guest") for level in levels]


def test_a_qemu_that_does_not_say_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probed(machine: Any) -> tuple[GuestDisk, ...]:
        raise PeerError("query-block: the answer cannot be parsed")

    monkeypatch.setattr(checkdisks, "probe_disks", probed)
    machine: Any = None
    disks, (item,) = asyncio.run(guest_disks(config(tmp_path, ""), machine, FACTS))
    assert (disks, item.level) == ([], Level.REFUSED)
