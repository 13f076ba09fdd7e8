"""Files of 50 MB by scp, to the guest and back, and the law: each copy ends without an error and has the file's hash.

The hash of what was sent is read from the guest's disk, not from its memory.
"""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Final

from pycolo_lab.work.result import SSH_OPTIONS, USER, Work, WorkResult, main, shown

FILE_BYTES: Final = 50_000_000
COPY_S: Final = 600.0
"""For one file each way, which takes half a minute; longer than any fault."""

TARGET: Final = "copied"


class _CopyError(Exception):
    pass


def _done(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COPY_S, check=False)
    except subprocess.TimeoutExpired:
        raise _CopyError(f"{command[0]} did not end within {COPY_S:.0f} s") from None
    if done.returncode != 0:
        raise _CopyError(f"{command[0]}: exit code {done.returncode}: {' | '.join(done.stderr.splitlines())[-200:]}")
    return done.stdout


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _there_and_back(work: Work, file: Path) -> None:
    back = work.directory / "back"
    there = f"{USER}@{work.address}"
    wanted = hash_of(file)
    _done(["scp", *SSH_OPTIONS, str(file), f"{there}:{TARGET}"])
    read = "sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum"
    if (found := _done(["ssh", *SSH_OPTIONS, there, f"{read} {TARGET}"]).split()[:1]) != [wanted]:
        raise _CopyError(f"the guest's disk has another file than was sent: {found}")
    _done(["scp", *SSH_OPTIONS, f"{there}:{TARGET}", str(back)])
    if hash_of(back) != wanted:
        raise _CopyError("another file came back than was sent")


def run(work: Work) -> WorkResult:
    """Until the run ends it: what is under way then is finished."""
    file = work.directory / "sent"
    copies, found = 0, []
    try:
        while not copies or not work.is_over():
            file.write_bytes(os.urandom(FILE_BYTES))
            _there_and_back(work, file)
            copies += 1
    except _CopyError as error:
        found.append(f"after {copies} files there and back: {error}")
    for path in work.directory.iterdir():
        path.unlink()
    account = f"{copies} files of {FILE_BYTES / 1e6:.0f} MB went there and back by scp"
    return WorkResult(copies, account, shown(found))


if __name__ == "__main__":
    main("copying", run)
