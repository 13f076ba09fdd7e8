"""Whether an image was written to since its QEMU has ended, by what its file is like: then it is no copy any more.

The kernel notes the time of each change of a file, which no program can set. Nothing is known of a block device, nor,
after the host was started again, of an image that QEMU never flushes.
"""

import stat
from pathlib import Path
from typing import Final

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def seal(path: Path, *, is_flushed: bool) -> str:
    """What the file is like now; "": that says nothing."""
    try:
        found = path.stat()
        boot = "" if is_flushed else BOOT.read_text().strip()
    except OSError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    return " ".join(map(str, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, boot))).strip()
