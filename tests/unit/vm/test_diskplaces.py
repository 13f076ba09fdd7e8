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
    told = [TOLD[0], disk("vdc", "virtio-disk2", file="/other/a.qcow2")]
    assert [place.why_unusable for place in places(StandInHost(), told)] == ["", ""]
    assert all(
        "two disks would be there" in place.why_unusable for place in places(StandInHost(), told, images=Path("/p"))
    )


def test_a_device_must_be_there_and_its_overlays_elsewhere() -> None:
    told = [disk("vda", "virtio-disk0", file="/dev/none-such", format="raw")]
    (place,) = places(StandInHost(), told)
    assert "[disks] overlays must name a directory" in place.why_unusable
    (place,) = places(StandInHost(), told, overlays=Path("/fast"))
    assert "no such device" in place.why_unusable


def test_a_name_from_which_no_file_may_be_named_is_refused() -> None:
    with pytest.raises(PeerError, match=r"disk '\.\./vda' of the other node's domain"):
        places(StandInHost(), [disk("../vda", "virtio-disk0")])


def test_without_disks_in_the_file_there_is_no_place() -> None:
    config: Any = SimpleNamespace(disks=None)
    for found in (CommandPlaces(config), DomainPlaces(config, StandInHost())):  # type: ignore[arg-type]
        with pytest.raises(StateError, match=r"without \[disks\]"):
            asyncio.run(found.find(TOLD))
