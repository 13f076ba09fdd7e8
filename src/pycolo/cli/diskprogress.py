"""How far the copies of a guest's disks are, as text."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

BAR_CHARACTERS: Final = 20

Fields = Mapping[str, Any]


def disk_lines(disks: list[Fields]) -> Iterator[str]:
    """One line for each. Losses are past where disks are copied."""
    copied = [disk for disk in disks if disk["state"] != "lost"]
    for disk in copied or disks:
        match disk["state"]:
            case "copying" if disk.get("is_incremental"):
                yield f"disk {disk['name']}: incremental, {_amount(disk['copied_bytes'])} of {_size(disk)} copied"
            case "copying":
                share = _share(disk)
                filled = int(share * BAR_CHARACTERS)
                bar = "#" * filled + "-" * (BAR_CHARACTERS - filled)
                left = f", {duration(disk['left_s'])} left" if disk.get("left_s") is not None else ""
                yield f"disk {disk['name']}: [{bar}] {share:.0%} of {_size(disk)} copied{left}"
            case "in step":
                moved = f", {_amount(disk['copied_bytes'])} of it copied anew" if disk.get("is_incremental") else ""
                yield f"disk {disk['name']}: both hosts have what is written ({_size(disk)}{moved})"
            case "lost":
                yield f"{disk['at']} {disk['reason']}: {disk['why']}"
            case "failed":
                yield f"disk {disk['name']}: could not be copied"
            case _:
                yield f"disk {disk['name']}: {disk['state']} of the primary's, {disk.get('file', '')}"


def _share(disk: Fields) -> float:
    return disk["copied_bytes"] / disk["size_bytes"] if disk["size_bytes"] else 1.0


def _size(disk: Fields) -> str:
    return _amount(disk["size_bytes"])


def _amount(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("MiB", "GiB"):
        value /= 1024 if unit == "GiB" else 1 << 20
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """Rounded to what a reader needs."""
    minutes = seconds / 60
    if minutes < 1.5:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


class Tenths:
    """What is worth a line of a log: each tenth of each copy once, and its end."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def new_lines(self, disks: list[Fields]) -> list[str]:
        """The lines that are due."""
        due = []
        for disk in disks:
            if disk["state"] == "lost":
                continue
            tenth = 10 if disk["state"] != "copying" else int(_share(disk) * 10)
            if tenth > self._said.get(disk["name"], -1):
                self._said[disk["name"]] = tenth
                due.append(disk)
        return list(disk_lines(due)) if due else []
