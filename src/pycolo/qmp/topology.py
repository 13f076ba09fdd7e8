"""Where a machine's devices are, and which blocks of memory it has: two QEMUs must agree in both.

A migration stream names a device by its place, and a block of memory by its name; it does not contain the ids that the
user has given. A place is the way from the machine's own bus to the device: "pcie.0 02.0/00.0" is function 0 of slot 0
behind the root port in slot 2. The numbers of PCI buses would not do: a secondary has none before its first state.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

FOLDERS: Final = ("/machine/peripheral", "/machine/peripheral-anon")
"""The devices that were added to the machine; in the second those without an id."""

PARENT: Final = "parent_bus"
_ADDRESS: Final = "addr"
_NUMBERS: Final = ("port", "channel", "scsi-id", "lun", "unit", "nr")
PROPERTIES: Final = (PARENT, _ADDRESS, *_NUMBERS)
"""What says where a device is: of the bus, of PCI, and of USB, SCSI, IDE and virtio-serial."""

_BLOCK: Final = re.compile(r"\s*(?P<name>\S+)\s+\d+ \w+(?:\s+0x[0-9a-f]+){2}\s+0x(?P<octets>[0-9a-f]+)(?:\s.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlace:
    """A device that was added to the machine."""

    device: str
    """Its QOM type."""
    place: str
    id: str = ""
    """The user's; empty: none."""

    def __str__(self) -> str:
        return f"{self.device} at {self.place}"


def device_places(found: Mapping[str, tuple[str, Mapping[str, Any]]]) -> tuple[DevicePlace, ...]:
    """Of devices as QEMU shows them: QOM path → type and properties."""
    places = [
        DevicePlace(
            device=kind, place=_place(path, found), id=path.removeprefix(f"{FOLDERS[0]}/") if _has_id(path) else ""
        )
        for path, (kind, _) in found.items()
    ]
    return tuple(sorted(places, key=lambda one: (one.place, one.device)))


def _has_id(path: str) -> bool:
    return path.startswith(f"{FOLDERS[0]}/")


def _place(path: str, found: Mapping[str, tuple[str, Mapping[str, Any]]]) -> str:
    """Raises `ValueError` for devices that are behind each other."""
    steps: list[str] = []
    while True:
        properties = found[path][1]
        steps.append(_address(properties))
        bus = properties.get(PARENT)
        bus = bus if isinstance(bus, str) else ""
        owner = _owner(bus, found)
        if owner is None:
            ways = "/".join(filter(None, reversed(steps)))
            return f"{bus.rpartition('/')[2] or 'no bus'} {ways}".strip()
        if len(steps) > len(found):
            raise ValueError(f"{path} is behind itself")
        path = owner


def _owner(bus: str, found: Mapping[str, object]) -> str | None:
    """The device whose bus this is; None: the machine's own."""
    while bus:
        bus = bus.rpartition("/")[0]
        if bus in found:
            return bus
    return None


def _address(properties: Mapping[str, Any]) -> str:
    """On its bus; empty where it has none, or QEMU has chosen it."""
    devfn = properties.get(_ADDRESS)
    if isinstance(devfn, int) and devfn >= 0:
        return f"{devfn >> 3:02x}.{devfn & 7:x}"
    given = ((name, properties.get(name)) for name in _NUMBERS)
    return ",".join(f"{name}={value}" for name, value in given if value not in (None, ""))


def ram_blocks(text: str) -> dict[str, int]:
    """Parse `info ramblock`: each block's name, and the most bytes that it may have."""
    return {found["name"]: int(found["octets"], 16) for found in _matches(text)}


def _matches(text: str) -> Iterator[re.Match[str]]:
    for line in text.splitlines():
        found = _BLOCK.fullmatch(line)
        if found is not None:
            yield found
