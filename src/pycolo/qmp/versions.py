"""QEMU's versions: which have been tried with COLO, and what is known of them."""

from typing import Final

Version = tuple[int, int, int]
Release = tuple[int, int]

TESTED: Final[frozenset[Release]] = frozenset({(7, 2), (10, 0)})

DOUBTED: Final[frozenset[Release]] = frozenset({(10, 0), (10, 1)})
"""QEMU's own list of known problems calls COLO in these versions broken."""

DEADLOCKS_UNDER_TCG: Final[frozenset[Release]] = TESTED
"""Seen: without the preloaded library a checkpoint under software emulation does not end."""

LOSES_RAM_UNDER_TCG: Final[frozenset[Release]] = TESTED
"""Seen: software emulation loses dirty bits when the RAM is a multiple of 256 KiB."""

FORCE: Final = "; `colo protect --force` protects it all the same"
"""Ends a refusal that can be overridden."""


def shown(version: Version) -> str:
    """As QEMU writes it."""
    return ".".join(map(str, version))


def why_unknown(version: Version) -> str | None:
    """Why COLO must not be tried with this version; None if it has been tried."""
    if version[:2] in TESTED:
        return None
    known = " and ".join(".".join(map(str, release)) for release in sorted(TESTED))
    return f"QEMU {shown(version)} has not been tried with COLO, and a QEMU may abort: use {known}"
