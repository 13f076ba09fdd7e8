"""QEMU's versions: which have been tried with COLO, and what is known of them."""

from collections.abc import Mapping
from typing import Final

Version = tuple[int, int, int]
Release = tuple[int, int]

TESTED: Final[frozenset[Release]] = frozenset({(7, 2), (10, 0), (11, 1)})

BROKEN: Final[Mapping[Release, int]] = {(10, 0): 7, (10, 1): 3}
"""Release → the first of its versions in which a migration goes over into COLO again.

QEMU's commit 4881411136 (in 10.0.0) broke it and "migration: Fix transition to COLO state from precopy" mended it, in
10.0.7 by Debian's changelog. Of 10.1 that changelog does not say it; 10.1.3 is the first version after the patch.
"""

DEADLOCKS_UNDER_TCG: Final[frozenset[Release]] = frozenset({(7, 2), (10, 0)})
"""Seen: without the preloaded library a checkpoint under software emulation does not end. 11.1.3 made 50 of 50."""

STALE_CODE_UNDER_TCG: Final[frozenset[Release]] = frozenset({(11, 1)})
"""Releases that drop what they have translated of the guest's code in the run state `restore-vm` only (11.1.3, by its
machine code), and not when a secondary loads a checkpoint. Seen: PostgreSQL's processes end there with segmentation
faults, in three runs of three; with the preloaded library in none of two.
"""

RETURN_PATH_SINCE: Final[Release] = (11, 0)
"""From here on x-colo requires the capability return-path (seen on 11.1.3); with it 7.2 and 10.0 leave COLO at once."""

FORCE: Final = "; `colo protect --force` protects it all the same"
"""Ends a refusal that can be overridden."""


def shown(version: Version) -> str:
    """As QEMU writes it."""
    return ".".join(map(str, version))


def is_broken(version: Version) -> bool:
    """Whether QEMU's authors have found that COLO does not work in it."""
    return version[2] < BROKEN.get(version[:2], 0)


def why_unknown(version: Version) -> str | None:
    """Why COLO must not be tried with this version; None if it has been tried."""
    release = version[:2]
    if is_broken(version):
        mended = ".".join(map(str, (*release, BROKEN[release])))
        return f"QEMU {shown(version)} does not enter COLO after the first copy: use {mended} or newer"
    if release in TESTED:
        return None
    known = ", ".join(".".join(map(str, release)) for release in sorted(TESTED))
    return f"QEMU {shown(version)} has not been tried with COLO, and a QEMU may abort: use {known}"


def colo_capabilities(version: Version) -> dict[str, bool]:
    """The migration capabilities that COLO needs, on both QEMUs.

    x-colo is needed on the secondary too: without it QEMU 10.0 aborts at the migration's first byte.
    """
    return {"events": True, "x-colo": True, "return-path": version[:2] >= RETURN_PATH_SINCE}
