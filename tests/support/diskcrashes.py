"""A host with a survivor's disks, whose node or QEMU is killed at any point where something durable has changed.

What is in files outlives a kill; what a QEMU has in its memory does not: tables of an overlay that was not flushed, as
QEMU 7.2, 10.0 and 11.1 lose them. `qemu-img` is made up as the real one behaves (tests/unit/vm/test_diskimages.py):
it takes an overlay's mark away when it opens it for writing, before it has copied anything.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pycolo.errors import ConnectError, PeerError
from pycolo.vm import diskimages, disknote, disksettling

SIZE = 1 << 20
DISKS = ("disk-0", "disk-1")


class Killed(BaseException):
    """The process that did this is gone: nothing of it goes on."""


class Layer:
    """An image file. `there` is in the file; `cached` in a QEMU that has it open."""

    def __init__(self) -> None:
        self.there: dict[int, str] = {}
        self.cached: dict[int, str] = {}
        self.is_dirty = False

    def write(self, block: int, what: str) -> None:
        self.cached[block] = what
        self.is_dirty = True

    def flush(self) -> None:
        self.there |= self.cached
        self.cached = {}

    def read(self, block: int) -> str | None:
        return self.cached.get(block, self.there.get(block))


class Host:
    """Its files, and the points at which a process may be killed."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.layers: dict[str, Layer] = {}
        self.left: int | None = None
        """So many points more, then this process is killed; None: it lives on."""
        self.is_killed = False
        self.fails: int | None = None
        """The one of what may fail that does; None: nothing."""
        self.tried = 0
        for number in range(len(DISKS)):
            for name in (self.image(number), *self.overlays(number)):
                name.touch()
                self.layers[str(name)] = Layer()
        replace, unlink = disknote.replace_durably, diskimages.remove_overlays

        def replace_durably(path: Path, octets: bytes) -> None:
            self.point()
            self.try_one()
            replace(path, octets)
            self.point()
            self.try_one()

        async def remove_overlays(overlays: Any) -> None:
            for path in overlays:
                self.point()
                await unlink([path])
                self.layers[str(path)] = Layer()
            self.point()

        monkeypatch.setattr(disknote, "replace_durably", replace_durably)
        monkeypatch.setattr(diskimages, "remove_overlays", remove_overlays)
        monkeypatch.setattr(diskimages, "run", self.qemu_img)
        monkeypatch.setattr(diskimages, "_sync", lambda path: None)
        monkeypatch.setattr(disksettling, "LOOK_S", 0)

    def image(self, number: int) -> Path:
        return self.place / f"{number}.raw"

    def overlays(self, number: int) -> tuple[Path, Path]:
        return self.place / f"{number}.active", self.place / f"{number}.hidden"

    def stack(self, number: int) -> list[Layer]:
        """From the uppermost to the image."""
        return [self.layers[str(path)] for path in (*self.overlays(number), self.image(number))]

    def point(self) -> None:
        """Something durable is about to change, or has."""
        if self.is_killed:
            raise Killed
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.is_killed = True
                raise Killed

    def try_one(self) -> None:
        """Something is done that a disk may refuse."""
        self.tried += 1
        if self.fails == self.tried:
            raise ConnectError("Input/output error")

    def begin_anew(self) -> None:
        """Another process."""
        self.is_killed, self.left = False, None

    async def qemu_img(self, *words: str, timeout_s: float = 0) -> str:
        if words[0] == "info":
            layer = self.layers[words[-1]]
            return json.dumps({"virtual-size": SIZE, "dirty-flag": layer.is_dirty})
        if words[0] == "check":
            self.point()
            self.try_one()
            self.layers[words[-1]].is_dirty = False
            self.point()
            return ""
        assert words[0] == "commit"
        options = dict(pair.split("=", 1) for pair in words[-1].split(","))
        upper, lower = (options[f"{prefix}file.filename"] for prefix in ("", "backing."))
        for path in (upper, lower):
            if not Path(path).exists():
                raise PeerError(f"qemu-img commit: Could not open '{path}'")
        self.point()
        self.try_one()
        above, below = self.layers[upper], self.layers[lower]
        above.is_dirty = below.is_dirty = False
        for block, what in sorted(above.there.items()):
            self.point()
            self.try_one()
            below.there[block] = what
        self.point()
        if "-d" not in words:
            above.there = {}
        self.point()
        return ""


class Survivor:
    """A secondary's QEMU, and then a survivor's. `steps`: so many looks are answered before a disk is put together."""

    pid = 1

    def __init__(self, host: Host, steps: int = 2) -> None:
        self.host = host
        self.mode = "secondary"
        self.has_exports = True
        self.is_there = True
        self.steps = {number: steps + number for number in range(len(DISKS))}

    def read(self, number: int, block: int) -> str | None:
        return next((found for layer in self.host.stack(number) if (found := layer.read(block)) is not None), None)

    def view(self) -> list[dict[int, str | None]]:
        """What the guest sees."""
        blocks = {block for layer in self.host.layers.values() for block in (*layer.there, *layer.cached)}
        return [{block: self.read(number, block) for block in sorted(blocks)} for number in range(len(DISKS))]

    def follow(self, number: int, block: int, what: str) -> None:
        """A write of the primary's, which this guest does not see before the next checkpoint."""
        assert self.has_exports
        _, hidden, image = self.host.stack(number)
        if hidden.read(block) is None:
            hidden.write(block, image.read(block) or "zeroes")
        image.there[block] = what  # a raw one, without tables that QEMU keeps

    def write(self, number: int, block: int, what: str) -> None:
        """A write of this guest's, flushed."""
        top = self._top(number)
        top.write(block, what)
        top.flush()

    def _top(self, number: int) -> Layer:
        active, _, image = self.host.stack(number)
        return active if number in self.steps else image

    async def execute(self, command: str, arguments: Any = None, **options: Any) -> Any:
        if not self.is_there:
            raise ConnectError("no QEMU")
        do: Callable[..., Any] = getattr(self, "do_" + command.replace("-", "_"))
        return do(**{key.replace("-", "_"): value for key, value in (arguments or {}).items()})

    def do_query_named_block_nodes(self, flat: bool) -> Any:
        if self.mode == "none":
            self._settle()
        kinds = {"active": "qcow2", "hidden": "qcow2", "parent": "raw"}
        nodes = [{"node-name": name, "drv": "replication"} for name in DISKS]
        return nodes + [
            {"node-name": f"colo-{kind}-{number}", "drv": driver}
            for number in self.steps
            for kind, driver in kinds.items()
        ]

    def _settle(self) -> None:
        """Each look is a moment, in which the job goes on."""
        for number in list(self.steps):
            self.steps[number] -= 1
            active, hidden, image = self.host.stack(number)
            if self.steps[number] < 0:
                for layer in (hidden, active):
                    for block in {*layer.there, *layer.cached}:
                        image.there[block] = str(layer.read(block))
                        image.cached.pop(block, None)
                    layer.flush()
                    layer.is_dirty = False
                del self.steps[number]

    def do_query_block_exports(self) -> Any:
        return [{"node-name": f"colo-parent-{number}"} for number in self.steps] if self.has_exports else []

    def do_nbd_server_stop(self) -> Any:
        self.has_exports = False

    def do_human_monitor_command(self, command_line: str) -> Any:
        _, node, what = command_line.split()
        assert what == "flush"
        _, kind, number = node.split("-")
        self.host.stack(int(number))[{"active": 0, "hidden": 1, "parent": 2}[kind]].flush()

    def do_x_colo_lost_heartbeat(self) -> Any:
        self.mode = "none"

    def die(self) -> None:
        """By kill -9."""
        self.is_there = False
        for layer in self.host.layers.values():
            layer.cached = {}
