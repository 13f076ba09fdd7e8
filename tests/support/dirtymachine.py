"""A stand-in of a primary's QEMU with its dirty bitmaps, and of what the other host has of one disk."""

import random
from typing import Any

from pycolo.errors import QmpError
from pycolo.qmp.diskbitmaps import GRANULARITY_BYTES

from .diskhosts import DiskMachine

NODE = "disk-a"


class DirtyMachine(DiskMachine):
    """Blocks are numbered, and hold numbers. `copy` is what the other host's QEMU has; `stored` is on its disk."""

    def __init__(self) -> None:
        super().__init__()
        self.disk: dict[int, int] = {}
        self.copy: dict[int, int] = {}
        self.stored: dict[int, int] = {}
        self.is_mirrored = False
        self.bitmaps: dict[str, set[int]] = {}
        self._writes = 0
        self.answers |= {
            "block-dirty-bitmap-add": self._add,
            "block-dirty-bitmap-clear": self._clear,
            "block-dirty-bitmap-merge": self._merge,
            "block-dirty-bitmap-remove": self._remove,
            "query-named-block-nodes": self._nodes,
        }

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

    def write(self, block: int) -> None:
        """The guest writes."""
        self._writes += 1
        self.disk[block] = self._writes
        for dirty in self.bitmaps.values():
            dirty.add(block)
        if self.is_mirrored:
            self.copy[block] = self._writes

    def copy_all(self) -> None:
        """What a full copy does; nothing of it is on the other host's disk for certain."""
        self.copy = dict(self.disk)
        self.is_mirrored = True

    def secondary_stops(self) -> None:
        """For a checkpoint: QEMU flushes its images."""
        self.stored = dict(self.copy)

    def secondary_dies(self, rng: random.Random) -> None:
        """Of what was not flushed, each block may be on its disk or not."""
        self.is_mirrored = False
        for block, value in self.copy.items():
            if rng.random() < 0.5:
                self.stored[block] = value
        self.copy = dict(self.stored)

    def copy_changes(self, bitmap: str) -> None:
        """What an incremental copy does."""
        for block in self.bitmaps[bitmap]:
            self.copy[block] = self.disk[block]
        self.is_mirrored = True

    # ── QEMU's answers ────────────────────────────────────────────────────────────────────────────────────────

    def _of(self, arguments: dict[str, Any], name: str = "name") -> str:
        found = str(arguments[name])
        if arguments["node"] != NODE or found not in self.bitmaps:
            raise QmpError("vm1", "block-dirty-bitmap", "GenericError", f"Dirty bitmap '{found}' not found")
        return found

    def _add(self, arguments: dict[str, Any]) -> Any:
        assert arguments["granularity"] == GRANULARITY_BYTES
        if arguments["name"] in self.bitmaps:
            raise QmpError("vm1", "block-dirty-bitmap-add", "GenericError", "Bitmap already exists")
        self.bitmaps[arguments["name"]] = set()
        return {}

    def _clear(self, arguments: dict[str, Any]) -> Any:
        self.bitmaps[self._of(arguments)].clear()
        return {}

    def _merge(self, arguments: dict[str, Any]) -> Any:
        for name in arguments["bitmaps"]:
            self.bitmaps[self._of(arguments, "target")] |= self.bitmaps[name]
        return {}

    def _remove(self, arguments: dict[str, Any]) -> Any:
        del self.bitmaps[self._of(arguments)]
        return {}

    def _nodes(self, arguments: dict[str, Any]) -> Any:
        shown = [
            {"name": name, "count": len(dirty) * GRANULARITY_BYTES, "recording": True, "busy": False}
            for name, dirty in self.bitmaps.items()
        ]
        return [{"node-name": NODE, "dirty-bitmaps": shown}, {"node-name": "another"}]
