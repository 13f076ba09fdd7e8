"""Files -> an initramfs: a cpio archive in the "newc" format (Linux, Documentation/driver-api/early-userspace)."""

import gzip
import stat
from collections.abc import Mapping
from typing import Final

Entry = tuple[int, bytes]
"""Mode with the file type (`stat`), and the content: a file's bytes, a link's target, nothing for a directory."""

_ALIGNMENT: Final = 4
_TRAILER: Final = "TRAILER!!!"


def file(content: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return stat.S_IFREG | mode, content


def program(content: bytes) -> Entry:
    """A file that may be executed."""
    return file(content, 0o755)


def link(target: str) -> Entry:
    """A symbolic link."""
    return stat.S_IFLNK | 0o777, target.encode()


def pack(entries: Mapping[str, Entry]) -> bytes:
    """The archive, compressed. `entries` maps paths without a leading slash; folders come by themselves."""
    folders = {
        "/".join(parts[:depth]): (stat.S_IFDIR | 0o755, b"")
        for parts in (path.split("/") for path in entries)
        for depth in range(1, len(parts))
    }
    everything = sorted({**folders, **entries}.items())
    members = [_member(number, path, entry) for number, (path, entry) in enumerate(everything, 1)]
    # mtime 0: the same files give the same archive.
    return gzip.compress(b"".join([*members, _member(0, _TRAILER, (0, b""))]), compresslevel=1, mtime=0)


def _member(inode: int, path: str, entry: Entry) -> bytes:
    mode, content = entry
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(header) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)
