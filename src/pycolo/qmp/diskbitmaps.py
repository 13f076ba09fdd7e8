"""QEMU's dirty bitmaps, in which a primary keeps what its guest has written since the two hosts had the same.

Pure. Each session, from one copy of the disks to its loss, has a token, and two bitmaps for each disk, which are
emptied in turn::

    checkpoint   0        1         2         3
    bitmap 0     made               emptied
    bitmap 1              made                emptied

At a checkpoint the primary stands still, and the other host has acknowledged all that was written. It may still lose
what its QEMU or its kernel has not put on the disk. It has put that there when it has stopped for the *next* one, since
QEMU flushes all images when it stops a guest. So the one of the two bitmaps that was emptied earlier has everything
that may be missing there. It holds at least what the other one holds, which is how it is found.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

PREFIX: Final = "colo-"

WORK: Final = f"{PREFIX}work"
"""What is still to be copied, while a resynchronisation is under way."""

GRANULARITY_BYTES: Final = 65536
"""One bit for so much, or more: QEMU's own default for qcow2."""

BITS_MAX: Final = 1 << 22
"""Of one bitmap, for a disk of up to 256 GiB. It is emptied while the guest stands still: QEMU took 4 ms for four times
as many, on a machine that was very busy.
"""

SLOTS: Final = (0, 1)

Bitmaps = Mapping[str, int]
"""Of one block node: the name of each usable bitmap of this project, and for how many bytes it has bits."""


class Base(NamedTuple):
    """From where one disk can be resynchronised."""

    node: str
    bitmap: str
    dirty_bytes: int


def granularity_bytes(size_bytes: int) -> int:
    """What one bit stands for, on a disk of this size: a power of two."""
    granularity = GRANULARITY_BYTES
    while granularity * BITS_MAX < size_bytes:
        granularity *= 2
    return granularity


def bitmap_name(token: str, slot: int) -> str:
    """QEMU's name of one of a session's two bitmaps."""
    return f"{PREFIX}{token}-{slot}"


def found_bitmaps(nodes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Block node → its bitmaps, from the answer to query-named-block-nodes."""
    return {
        str(node["node-name"]): {
            str(bitmap["name"]): int(bitmap["count"])
            for bitmap in node.get("dirty-bitmaps", ())
            if str(bitmap.get("name", "")).startswith(PREFIX) and _is_usable(bitmap)
        }
        for node in nodes
    }


def _is_usable(bitmap: Mapping[str, Any]) -> bool:
    return bool(bitmap.get("recording")) and not bitmap.get("inconsistent") and not bitmap.get("busy")


def bases(found: Mapping[str, Bitmaps], nodes: Sequence[str]) -> dict[str, list[Base]]:
    """Token → where each of `nodes` can be resynchronised from; only sessions that both bitmaps of each node are of.

    Those with the least to copy come first.
    """
    tokens = {_token(name) for name in found.get(nodes[0], {}) if name != WORK} if nodes else set()
    known: dict[str, list[Base]] = {}
    for token in tokens:
        both = [bitmap_name(token, slot) for slot in SLOTS]
        if all(name in found.get(node, {}) for node in nodes for name in both):
            known[token] = [_larger(node, both, found[node]) for node in nodes]
    return dict(sorted(known.items(), key=lambda item: (sum(base.dirty_bytes for base in item[1]), item[0])))


def _larger(node: str, names: Sequence[str], bitmaps: Bitmaps) -> Base:
    name = max(names, key=lambda name: bitmaps[name])
    return Base(node, name, bitmaps[name])


def _token(name: str) -> str:
    return name.removeprefix(PREFIX).rpartition("-")[0]
