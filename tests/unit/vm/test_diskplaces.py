"""Where a host has the copies of a guest's disks."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pycolo.config import DisksOptions
from pycolo.errors import PeerError, StateError
from pycolo.qmp.diskwords import overlays_in
from pycolo.vm.diskplaces import CommandPlaces, DomainPlaces, Place
from support.domaindisks import VDA, disk, domain

TOLD = (
    disk("vda", "virtio-disk0", file="/images/a.qcow2", format="qcow2"),
    disk("vdb", "virtio-disk1", file="/iso", is_writable=False),
)


class StandInHost:
    """This host's libvirt."""

    def __init__(self, own: str | None = None, others: dict[str, str] | None = None) -> None:
        self.own = own
        self.others = others or {}

    async def kept_definition(self) -> str | None:
        return self.own

    async def users_of(self, paths: list[str]) -> dict[str, str]:
        return {path: name for path, name in self.others.items() if path in paths}


def places(host: StandInHost, told: Any = TOLD, **options: Any) -> list[Place]:
    config: Any = SimpleNamespace(pair="vm1", disks=DisksOptions(**options))
    found: Any = DomainPlaces(config, host)  # type: ignore[arg-type]
    return asyncio.run(found.find(told))


def test_a_domains_writable_disks_have_a_place_and_their_overlays_beside_them() -> None:
    (place,) = places(StandInHost())
    assert place == Place("vda", Path("/images/a.qcow2"), "qcow2", overlays_in(Path("/images"), "vm1.vda"))
    (place,) = places(StandInHost(), images=Path("/pool"), overlays=Path("/fast"))
    assert (place.path, place.overlays.hidden) == (Path("/pool/a.qcow2"), Path("/fast/vm1.vda.hidden.qcow2"))
    (place,) = places(StandInHost(domain(VDA.replace("/images/", "/srv/"))), images=Path("/pool"))
    assert (place.path, place.overlays.active) == (Path("/srv/a.qcow2"), Path("/srv/vm1.vda.active.qcow2"))


def test_a_disk_of_another_domain_is_not_overwritten() -> None:
    (place,) = places(StandInHost(others={"/images/a.qcow2": "web"}))
    assert place.why_unusable == "it is a disk of domain web of that host"


def test_two_disks_are_not_put_into_one_file() -> None:
    told = [TOLD[0], disk("vdc", "virtio-disk2", file="/other/a.qcow2", format="qcow2")]
    assert [place.why_unusable for place in places(StandInHost(), told)] == ["", ""]
    assert all(
        "two disks would be there" in place.why_unusable for place in places(StandInHost(), told, images=Path("/p"))
    )


def test_two_disks_are_not_put_into_one_file_by_two_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    told = [
        disk("vda", "virtio-disk0", file=f"{tmp_path}/a", format="raw"),
        disk("vdb", "virtio-disk1", file=f"{tmp_path}/link/a", format="raw"),
    ]
    assert all("two disks would be there" in place.why_unusable for place in places(StandInHost(), told))
    words = [word for part in told for word in ("-drive", f"if=virtio,format=raw,file={part.file}")]
    config: Any = SimpleNamespace(pair="vm1", disks=DisksOptions(), qemu=SimpleNamespace(command=["qemu", *words]))
    found = asyncio.run(CommandPlaces(config).find(()))
    assert all("two disks would be there" in place.why_unusable for place in found)


def test_two_pairs_may_have_their_overlays_in_one_directory() -> None:
    """Each with a disk of the same name: one's overlays in the place of another's would be put into its image."""
    command = ["qemu", "-drive", "if=virtio,id=root,format=raw,file=/i/a"]
    found = []
    for pair in ("vm1", "vm2"):
        qemu = SimpleNamespace(command=command)
        config: Any = SimpleNamespace(pair=pair, disks=DisksOptions(overlays=Path("/fast")), qemu=qemu)
        found += asyncio.run(CommandPlaces(config).find(()))
    assert [str(place.overlays.active) for place in found] == [
        f"/fast/{pair}.root.active.qcow2" for pair in ("vm1", "vm2")
    ]


@pytest.mark.parametrize("path", ["", "a.qcow2", "nbd:a", "json:{}"])
def test_a_path_that_begins_nowhere_is_refused(path: str) -> None:
    with pytest.raises(PeerError, match="no path from the root"):
        places(StandInHost(), [disk("vda", "virtio-disk0", file=path, format="raw")])


def test_an_image_of_another_format_is_not_made() -> None:
    (place,) = places(StandInHost(), [disk("vda", "virtio-disk0", file="/i/a", format="vmdk")])
    assert place.why_unusable == "its format is vmdk, and only qcow2 and raw are copied"


def test_a_device_must_be_there_and_its_overlays_elsewhere() -> None:
    told = [disk("vda", "virtio-disk0", file="/dev/none-such", format="raw")]
    (place,) = places(StandInHost(), told)
    assert "[disks] overlays must name a directory" in place.why_unusable
    (place,) = places(StandInHost(), told, overlays=Path("/fast"))
    assert "no such device" in place.why_unusable
    command = ["qemu", "-drive", "if=virtio,id=root,format=raw,file=/dev/none-such"]
    for options, why in (
        (DisksOptions(), "must name a directory"),
        (DisksOptions(overlays=Path("/f")), "no such device"),
    ):
        config: Any = SimpleNamespace(pair="vm1", disks=options, qemu=SimpleNamespace(command=command))
        (place,) = asyncio.run(CommandPlaces(config).find(()))
        assert why in place.why_unusable


def test_a_name_from_which_no_file_may_be_named_is_refused() -> None:
    with pytest.raises(PeerError, match=r"disk '\.\./vda' of the other node's domain"):
        places(StandInHost(), [disk("../vda", "virtio-disk0")])


def test_without_disks_in_the_file_there_is_no_place() -> None:
    config: Any = SimpleNamespace(disks=None)
    for found in (CommandPlaces(config), DomainPlaces(config, StandInHost())):  # type: ignore[arg-type]
        with pytest.raises(StateError, match=r"without \[disks\]"):
            asyncio.run(found.find(TOLD))
