"""A guest's own room: its file system, its processes, its hostname. Runs inside the guest's network namespace.

Two copies of one server run on one machine as if each had its own. So each guest gets

* a PID namespace: all processes of the server, daemons too, die with process 1,
* copies of the directories of this machine: its writes go to a tmpfs above them and are visible only to it,
* an empty /run and /dev/shm, and a directory of its own, the same path in both guests,
* one hostname for both.

Process 1 is this module. It starts the server, reaps orphans, and ends with the server's exit code when no process is
left. If the kernel refuses a part, the guest shares it with the machine, and the report file says so.
"""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.namespaces import CLONE_NEWNS, CLONE_NEWPID, die_with_parent, mount, unshare

CLONE_NEWUTS: Final = 0x04000000  # linux/sched.h
CLONE_NEWIPC: Final = 0x08000000
MS_BIND: Final = 4096  # linux/mount.h
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

HOSTNAME: Final = "guest"
OWN_DIRECTORY: Final = "/run/guest"
NOT_COPIED: Final = frozenset({"proc", "sys", "dev", "run", "lost+found"})
KERNEL_FILE_SYSTEMS: Final = frozenset(
    {
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "sysfs", "tracefs",
    }
)  # fmt: skip
"""There is nothing to copy in them."""

OVERLAYS_MAX: Final = 512
"""Each costs the kernel a mount; a machine with more places is copied as far as that goes."""

EXIT_NOT_STARTED: Final = 126


class RoomJob(msgspec.Struct, kw_only=True):
    """What the room is told. `scratch`: an empty directory for what the guest writes."""

    words: list[str]
    scratch: str
    report: str


class RoomReport(msgspec.Struct, kw_only=True):
    """What the room says before the server starts. `first`: process 1, as seen outside."""

    first: int
    notes: list[str]


class Mounted(msgspec.Struct, frozen=True):
    """A line of /proc/self/mountinfo."""

    path: str
    kind: str


def parse_mounts(text: str) -> list[Mounted]:
    """What is mounted where, in the order of mounting."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        path = left.split()[4].encode().decode("unicode_escape")  # \040 is a space
        found.append(Mounted(path, right.split()[0]))
    return found


class Copier:
    """Puts an overlay over each directory of this machine, so that what is written stays in the room."""

    def __init__(self, scratch: str, hidden: str) -> None:
        """`hidden`: the laboratory's own directory, which the guest must not see."""
        # By its descriptor: its path leads elsewhere as soon as /tmp is covered.
        self._scratch_file = os.open(scratch, os.O_PATH | os.O_CLOEXEC)
        self._scratch = f"/proc/self/fd/{self._scratch_file}"
        self._made = 0
        self.shared: list[str] = []
        mounts = {each.path: each.kind for each in parse_mounts(Path("/proc/self/mountinfo").read_text())}
        self._mounts = {path: kind for path, kind in mounts.items() if path != "/" and not _is_within(path, hidden)}
        # Opened before anything is covered.
        self._files = {path: file for path in self._mounts if (file := _opened(path)) is not None}

    def copy_everything(self) -> None:
        """Each directory below / that is one, and what is mounted further down."""
        for entry in sorted(os.scandir("/"), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and entry.name not in NOT_COPIED:
                self._copy(entry.path)
        for file in (*self._files.values(), self._scratch_file):
            os.close(file)

    def _copy(self, path: str) -> None:
        below = [each for each in self._files if each != path and _is_within(each, path)]
        if self._mounts.get(path) in KERNEL_FILE_SYSTEMS:
            return
        try:
            self._overlay(path, path)
        except OSError as error:
            # Where an unprivileged user may not look behind a mount further down, its neighbours are copied.
            if below and self._made < OVERLAYS_MAX:
                self._copy_entries(path)
            elif os.access(path, os.W_OK):  # what nothing can be written to needs no copy
                self.shared.append(f"{path} ({reason(error)})")
            return
        for place in sorted(below):
            self._restore(place)

    def _copy_entries(self, path: str) -> None:
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and not entry.is_symlink():
                self._copy(entry.path)

    def _restore(self, path: str) -> None:
        """What is mounted below a place that has just been covered."""
        source = f"/proc/self/fd/{self._files[path]}"
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)
        try:
            if is_directory and self._mounts[path] not in KERNEL_FILE_SYSTEMS:
                self._overlay(source, path)
                return
        except OSError as error:
            self.shared.append(f"{path} ({reason(error)})")
        try:
            mount(source, path, None, MS_BIND | MS_REC)
        except OSError as error:
            self.shared.append(f"{path} ({reason(error)}: not there)")

    def _overlay(self, lower: str, path: str) -> None:
        if self._made >= OVERLAYS_MAX:
            raise OSError(0, "too many mounts")
        place = Path(self._scratch, str(self._made))
        upper, work = place / "upper", place / "work"
        for directory in (upper, work):
            directory.mkdir(parents=True)
        self._made += 1
        status = os.stat(lower)
        os.chown(upper, *_owner(status))
        upper.chmod(stat.S_IMODE(status.st_mode))
        mount("colo-guest", path, "overlay", 0, f"lowerdir={_escaped(lower)},upperdir={upper},workdir={work}")


def _owner(status: os.stat_result) -> tuple[int, int]:
    """Who is to own the copy: an owner that a user namespace does not know becomes its root."""
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    is_mapped = Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]
    return (status.st_uid, status.st_gid) if is_mapped or status.st_uid != overflow else (0, 0)


def _escaped(path: str) -> str:
    return "".join(f"\\{each}" if each in ":,\\" else each for each in path)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def reason(error: OSError) -> str:
    """The kernel's word alone."""
    return os.strerror(error.errno) if error.errno else str(error.strerror)


def _opened(path: str) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is covered, or not for us
        return None


def furnish(scratch: str) -> list[str]:
    """Make this mount namespace the guest's. Returns what it shares with the machine, a sentence each."""
    hidden = str(Path(scratch).parent)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("colo-guest", scratch, "tmpfs", 0, "mode=0755")
    copier = Copier(scratch, hidden)
    copier.copy_everything()
    notes = [f"both guests share {', '.join(copier.shared)} with this machine"] if copier.shared else []
    for path, mode in (("/run", "0755"), ("/dev/shm", "1777")):  # noqa: S108 - the guest's own
        try:
            mount("colo-guest", path, "tmpfs", 0, f"mode={mode}")
        except OSError as error:
            notes.append(f"both guests share {path} with this machine ({reason(error)})")
    for path, permissions in ((OWN_DIRECTORY, 0o755), ("/run/lock", 0o1777)):
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path).chmod(permissions)
    try:
        mount("proc", "/proc", "proc", 0)
    except OSError as error:
        notes.append(f"the guests see this machine's /proc, which lacks their own process ids ({reason(error)})")
    return notes


def run_as_first(job: RoomJob, report: int) -> int:
    """Process 1 of the guest: furnish, start the server, take in orphans. Returns the server's exit code."""
    die_with_parent()
    outside = int(os.readlink("/proc/self"))
    notes = furnish(job.scratch)
    socket.sethostname(HOSTNAME)
    os.write(report, msgspec.json.encode(RoomReport(first=outside, notes=notes)))
    os.close(report)
    try:
        server = subprocess.Popen(job.words, cwd=OWN_DIRECTORY, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{job.words[0]}: {error.strerror}", flush=True)
        return EXIT_NOT_STARTED
    code = 0
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == server.pid:
            code = os.waitstatus_to_exitcode(status)


def main() -> None:
    """Make the namespaces, be their process 1 in a child, and end as it does."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RoomJob)
    report = os.open(job.report, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
    except OSError as error:
        raise SystemExit(f"the guest could not get its own namespaces ({reason(error)})") from error
    child = os.fork()
    if child == 0:
        code = EXIT_NOT_STARTED
        try:
            code = run_as_first(job, report)
        except (OSError, LabError) as error:
            print(f"the guest's environment could not be made: {error}", flush=True)
        finally:
            os._exit(code if code >= 0 else 128 - code)
    os.close(report)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
