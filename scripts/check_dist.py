"""Checks the contents of a source distribution and a wheel: python scripts/check_dist.py SDIST WHEEL LIST.

LIST has one path of the distribution's source tree a line. Prints one line for each file, or what is wrong with it.
"""

import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

MADE_BY_SETUPTOOLS = re.compile(r"PKG-INFO|setup\.cfg|src/\w+\.egg-info(/.*)?")

WHEEL_BYTES_MAX = 2 << 20
"""With debug information pycolo's would be near 3 MB."""

CORE = "pycolo/core.abi3.so"


class Wheel(NamedTuple):
    """What a distribution's wheel is called, and what is compiled for it."""

    name: re.Pattern[str]
    compiled: frozenset[str]


WHEELS = {
    "pycolo": Wheel(
        re.compile(r"pycolo-[\w.]+-cp311-abi3-(manylinux\w+\.)*manylinux_2_\d+_\w+\.whl"), frozenset({CORE})
    ),
    "pycolo_lab": Wheel(re.compile(r"pycolo_lab-[\w.]+-py3-none-any\.whl"), frozenset()),
}


def sdist_faults(path: Path, sources: set[str]) -> Iterator[str]:
    """The source distribution holds what the tree holds."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    names = {name for name in names if not MADE_BY_SETUPTOOLS.fullmatch(name)}
    for name in sorted(sources - names):
        yield f"{name} is missing (MANIFEST.in)"
    for name in sorted(names - sources):
        yield f"{name} is not from the source tree"


def wheel_faults(path: Path, sources: set[str]) -> Iterator[str]:
    """The package, the compiled core in place of its sources, and metadata; for every CPython from 3.11."""
    package = path.name.partition("-")[0]
    wheel = WHEELS[package]
    if not wheel.name.fullmatch(path.name):
        yield f"the name should match {wheel.name.pattern}"
    if path.stat().st_size > WHEEL_BYTES_MAX:
        yield f"has {path.stat().st_size} bytes, at most {WHEEL_BYTES_MAX} are all right"
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not re.match(rf"{package}-[^/]+\.dist-info/|.*/$", name)}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        yield from metadata_faults(archive.read(metadata).decode())
        expected = {name.removeprefix("src/") for name in sources if name.startswith("src/")} | wheel.compiled
        expected = {name for name in expected if not name.endswith((".h", ".pyx", ".pxi", ".pxd"))}
        for name in sorted(expected ^ names):
            yield f"{name} {'is missing' if name not in names else 'does not belong there'}"
        if CORE in names:
            yield from (f"{CORE} {fault}" for fault in extension_faults(archive.read(CORE)))


def extension_faults(octets: bytes) -> Iterator[str]:
    """Nothing for debuggers is left in it."""
    elf = ELFFile(io.BytesIO(octets))
    for section in elf.iter_sections():
        if section.name.startswith((".debug", ".symtab")):
            yield f"is not stripped: {section.name}"


def metadata_faults(text: str) -> Iterator[str]:
    """The description has no link that only holds in the repository; the test tools are not needed."""
    headers, _, description = text.partition("\n\n")
    for link in re.findall(r"\]\((?!https?://)[^)]*\)|(?:src|href)=[\"'](?!https?://)[^\"']*", description):
        yield f"the description has the relative link {link}"
    for name in ("pytest", "mypy", "ruff", "hypothesis", "scapy"):
        if re.search(rf"^Requires-Dist: {name}\b", headers, flags=re.MULTILINE):
            yield f"requires {name}"


def main() -> None:
    """Exit code 1 when something is wrong."""
    sdist, wheel, listing = map(Path, sys.argv[1:])
    sources = set(listing.read_text(encoding="utf-8").splitlines())
    found = {sdist: list(sdist_faults(sdist, sources)), wheel: list(wheel_faults(wheel, sources))}
    for path, faults in found.items():
        for fault in faults:
            print(f"error: {path.name}: {fault}", file=sys.stderr)
        if not faults:
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, complete")
    sys.exit(any(found.values()))


if __name__ == "__main__":
    main()
