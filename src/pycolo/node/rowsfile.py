"""The rows of a survivor's translated connections in a file, so that a restart of its node does not end them.

At a takeover the file is made beside its final name, filled, and renamed: it is there whole, or not at all. From then
on the rewriter writes changed rows into its mapping (`pycolo.core.SavedRows`). What is assumed of the kernel: pages of
a mapped file outlive the process that has changed them. They need not outlive the host, whose guest dies with it: a
file of another boot is removed. All of its space is reserved when it is made, for a store into a page that a full file
system cannot provide would kill the node.

::

    magic  version  sizes  slots  term  boot  salt  pair  checksum  │ addresses of the guest │ slots

The file says besides that this node serves, and since which term: `colo secondary` has no other record.
"""

import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final
from uuid import UUID

from pycolo import limits
from pycolo.core import SAVED_SLOT_BYTES, Rewriter
from pycolo.errors import ConfigError, ConnectError
from pycolo.rewrite.neighbours import Neighbour

MAGIC: Final = b"COLOROWS"
VERSION: Final = 1
HEADER_BYTES: Final = 12_288
"""Whole pages: the words below, and NEIGHBOURS_MAX addresses."""

_WORDS: Final = struct.Struct(">8sIIIIQ16sQ64s")
"""The pair's name has at most 64 bytes (`pycolo.link.hello`)."""

_SUM: Final = struct.Struct(">I")
_NEIGHBOUR: Final = struct.Struct(">6sBx16sI4x")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_REMEDY: Final = "remove it, and the connections of before the takeover end"

assert _WORDS.size + _SUM.size + limits.NEIGHBOURS_MAX * _NEIGHBOUR.size <= HEADER_BYTES


@dataclass(frozen=True)
class Restored:
    """How many rows a rewriter has taken from a file, and how many it could not read."""

    rows: int
    unreadable: int


@dataclass(frozen=True)
class KeptRows:
    """What a file says. `term`: under which the node took over."""

    term: int
    neighbours: tuple[Neighbour, ...]
    slots: int
    _salt: int
    _memory: mmap.mmap

    def restore(self, rewriter: Rewriter, now_us: int) -> Restored:
        """Give the rows to a new rewriter, which serves from now on and writes their changes to the file."""
        view = memoryview(self._memory)[HEADER_BYTES : HEADER_BYTES + self.slots * SAVED_SLOT_BYTES]
        unreadable = rewriter.read_rows(view, self._salt, now_us)
        for neighbour in self.neighbours:
            rewriter.neighbours.add(neighbour)
        return Restored(rewriter.saved.used, unreadable)


class RowsFile:
    """The file `path` of the pair `pair`. `term`: the present one; called in the data path's thread."""

    def __init__(self, path: Path, pair: str, term: Callable[[], int]) -> None:
        self.path = path
        self._beside = path.with_name(path.name + ".new")
        self._pair = pair.encode()
        self._term = term

    # ── before a takeover ─────────────────────────────────────────────────────────────────────────────────────

    def discard(self) -> None:
        """This node does not serve: no rows are there to be read. Raises `ConnectError` where none can be written."""
        try:
            os.close(os.open(self._beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            self._beside.unlink()
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ConnectError(f"rows {self.path}: {error.strerror or error}") from error

    # ── from the takeover on ──────────────────────────────────────────────────────────────────────────────────

    def write(self, rewriter: Rewriter) -> None:
        """Put all rows with an offset into a new file, and their changes from now on. Raises `ConnectError`."""
        rewriter.saved.end()
        try:
            memory = self._made(HEADER_BYTES + rewriter.saved.needed_bytes())
            salt = secrets.randbits(64)
            view = memoryview(memory)
            rewriter.saved.begin(view[HEADER_BYTES:], salt)
            view[:HEADER_BYTES] = self._header(rewriter, salt)
            self._beside.rename(self.path)
        except OSError as error:
            rewriter.saved.end()
            with suppress(OSError):
                self._beside.unlink(missing_ok=True)
            raise ConnectError(
                f"rows {self.path}: {error.strerror or error}; "
                "a restart of this node will end the connections of before the takeover"
            ) from error

    def tidy(self, rewriter: Rewriter, on_note: Callable[[str], None]) -> None:
        """Give the space back when the last row is gone. The file stays: it says that this node serves."""
        if rewriter.saved.slots and not rewriter.saved.used:
            try:
                self.write(rewriter)
            except ConnectError as error:
                on_note(str(error))

    def _made(self, size: int) -> mmap.mmap:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._beside, flags, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def _header(self, rewriter: Rewriter, salt: int) -> bytes:
        words = _WORDS.pack(
            MAGIC,
            VERSION,
            HEADER_BYTES,
            SAVED_SLOT_BYTES,
            rewriter.saved.slots,
            self._term(),
            boot_id(),
            salt,
            self._pair,
        )
        found = [
            _NEIGHBOUR.pack(one.mac, one.address.version, one.address.packed, one.vlan)
            for one in rewriter.neighbours.all()
        ]
        addresses = b"".join(found).ljust(HEADER_BYTES - len(words) - _SUM.size, b"\0")
        return words + _SUM.pack(zlib.crc32(words + addresses)) + addresses

    # ── after a restart ───────────────────────────────────────────────────────────────────────────────────────

    def read(self, rows_max: int = limits.CONNECTIONS_MAX) -> KeptRows | None:
        """What the node of before the restart has left; None if it did not serve, or if the host has been restarted.

        Raises `ConfigError` for a file that is not this pair's, not of this version, or damaged.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused("a file that can be read and written", error.strerror or str(error)) from error
        try:
            status = os.fstat(descriptor)
            if status.st_size < HEADER_BYTES:
                raise self._refused(f"at least {HEADER_BYTES} bytes", status.st_size)
            memory = mmap.mmap(descriptor, status.st_size)
        except (OSError, ValueError) as error:
            raise self._refused("a file that can be mapped", str(error)) from error
        finally:
            os.close(descriptor)
        return self._checked(memory, rows_max)

    def _checked(self, memory: mmap.mmap, rows_max: int) -> KeptRows | None:
        header = memory[:HEADER_BYTES]
        magic, version, header_bytes, slot_bytes, slots, term, boot, salt, pair = _WORDS.unpack_from(header)
        if magic != MAGIC:
            raise self._refused("rows of translated connections", magic)
        if (version, header_bytes, slot_bytes) != (VERSION, HEADER_BYTES, SAVED_SLOT_BYTES):
            raise self._refused(f"version {VERSION}", version)
        rest = header[_WORDS.size + _SUM.size :]
        (total,) = _SUM.unpack_from(header, _WORDS.size)
        if total != zlib.crc32(header[: _WORDS.size] + rest):
            raise self._refused("a whole header", "a wrong checksum")
        if boot != self._boot_id():
            self.path.unlink(missing_ok=True)
            return None
        if pair.rstrip(b"\0") != self._pair:
            raise self._refused(f"the pair {self._pair.decode()}", pair.rstrip(b"\0").decode(errors="replace"))
        if slots > rows_max or HEADER_BYTES + slots * SAVED_SLOT_BYTES > len(memory):
            raise self._refused(f"room for {slots} rows", f"{len(memory)} bytes")
        return KeptRows(term, _neighbours(rest), slots, salt, memory)

    def _boot_id(self) -> bytes:
        try:
            return boot_id()
        except OSError as error:
            raise self._refused(f"{_BOOT_ID} to compare it with", error.strerror or str(error)) from error

    def _refused(self, expected: str, found: object) -> ConfigError:
        return ConfigError(f"rows {self.path}", f"{expected} ({_REMEDY})", found)


def _neighbours(octets: bytes) -> tuple[Neighbour, ...]:
    found = []
    for mac, version, address, vlan in _NEIGHBOUR.iter_unpack(octets[: limits.NEIGHBOURS_MAX * _NEIGHBOUR.size]):
        if version == 4:
            found.append(Neighbour(mac, IPv4Address(address[:4]), vlan))
        elif version == 6:
            found.append(Neighbour(mac, IPv6Address(address), vlan))
    return tuple(found)


def boot_id() -> bytes:
    """The kernel's name for this run of the host: 16 bytes."""
    return UUID(_BOOT_ID.read_text().strip()).bytes
