"""Private namespaces: make them, enter them, leave nothing behind.

Strategy: the laboratory runs in a forked child that has its own mount and network namespace (and, when its
user is not root, its own user namespace in which that user is root). Network namespaces are named by bind
mounts on a tmpfs that only this child's mount namespace knows. When the child dies, however it dies, the
kernel takes the mounts, the namespaces, the interfaces and the TLS keys away with it; every process of the
laboratory asks the kernel to be killed with its parent. What is left in the worst case is one empty
directory.

The calls are made through ctypes: `os.unshare` and `os.setns` are new in Python 3.12.
"""

import ctypes
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from pycolo.errors import PycoloError
from pycolo_lab import refusals
from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption, Warden, die_of, signals_held
from pycolo_lab.terminal import give_back

CLONE_NEWNS: Final = 0x00020000  # linux/sched.h, like the three below
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
MS_BIND: Final = 4096  # linux/mount.h, like the two below
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

DIRECTORY_CHARACTERS_MAX: Final = 80
"""A unix socket's path has 107 characters at most; the longest name in the directory needs a third of the
rest."""

ROOM_BYTES: Final = 256 << 20
"""Of the directory of a run, unless it needs more: logs, results, small disks."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def unshare(flags: int) -> None:
    """Move this process into new namespaces of those kinds; of PIDs, its children."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2). Raises OSError with the target in its words."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel for that signal to this process when the thread that made it ends, however that ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def bind_mount(source: Path, target: Path) -> None:
    """Show `source` at `target` too, with everything mounted below it; gone with this mount namespace."""
    mount(str(source), str(target), None, MS_BIND | MS_REC)


class Namespace:
    """A network namespace with a name in the file system, so that a node can be told where to attach."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    @classmethod
    def create(cls, directory: Path, name: str) -> Self:
        """Make a new, empty namespace, named `directory`/`name`."""
        path = directory / name
        path.touch(mode=0o600)
        with _returning():
            unshare(CLONE_NEWNET)
            mount("/proc/thread-self/ns/net", str(path), None, MS_BIND)
        return cls(name, path)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run the block inside: sockets opened and processes started in it belong to the namespace for
        good."""
        with _returning():
            self.enter()
            yield

    def enter(self) -> None:
        """Move the calling thread inside, for good."""
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(file, CLONE_NEWNET), f"setns {self.name}")
        finally:
            os.close(file)

    def delete(self) -> None:
        """Take the name away; the namespace goes with its last process."""
        _libc.umount2(os.fsencode(self.path), MNT_DETACH)
        self.path.unlink(missing_ok=True)


@contextmanager
def _returning() -> Iterator[None]:
    """Whatever namespace the block moves this thread into, come back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            _check(_libc.setns(home, CLONE_NEWNET), "setns back")
        finally:
            os.close(home)


def run_isolated(body: Callable[[Path], int], interruption: Interruption, room_bytes: int = ROOM_BYTES) -> int:
    """Run `body(directory)` in a child with namespaces of its own, and return its exit code.

    `directory` is empty, private, in memory, has room for so much, and is gone afterwards. A signal is passed on to the
    child, where `interruption` records it; a second one kills the child, and then this process. A `PycoloError` of the
    body becomes one line on standard error and the exit code that it names.
    """
    interruption.look()
    root = tempfile.gettempdir()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    with signals_held() as let_in:
        directory = tempfile.mkdtemp(
            prefix="colo-lab-",
            dir=root if len(root) < DIRECTORY_CHARACTERS_MAX else "/tmp",  # noqa: S108 - mkdtemp's
        )
        child = os.fork()
        if child == 0:
            interruption.watch_under_warden()
            let_in()
            _be_the_child(parent, directory, body, room_bytes)
        warden = Warden(child, kills=True)
        warden.watch()
    try:
        code = warden.wait()
    finally:
        # Empty: what was in it was on the child's own tmpfs.
        os.rmdir(directory)
    if warden.second is not None:
        _end_by_second(warden.second)
    warden.leave()
    return _as_shell_sees(code)


def run_with_own_pids(body: Callable[[int], int], interruption: Interruption) -> int:
    """Run `body(pid)` in a child that is process 1 of a PID namespace, and return its exit code.

    For the body of `run_isolated`: every process in the namespace, however it was started and whatever its parent is,
    dies with the child. `pid` is the child's process id as seen outside.
    """
    try:
        unshare(CLONE_NEWPID)
    except OSError as error:
        raise refusals.refused_pids("unshare(pid)", error) from error
    sys.stdout.flush()
    sys.stderr.flush()
    theirs, ours = os.pipe()
    with signals_held() as let_in:
        child = os.fork()
        if child == 0:
            os.close(ours)
            interruption.watch_under_warden()
            let_in()
            _end_with(lambda: _as_first_process(theirs, body))
        warden = Warden(child, kills=False)
        warden.watch()
    os.close(theirs)
    return _as_shell_sees(warden.wait())


def _as_first_process(parent: int, body: Callable[[int], int]) -> int:
    """`parent`: a pipe that ends with it."""
    die_with_parent()
    if select.select([parent], [], [], 0)[0]:
        return 1
    pid_outside = int(os.readlink("/proc/self"))
    try:
        mount("proc", "/proc", "proc", 0)
    except OSError as error:
        raise refusals.refused_pids("mount -t proc /proc", error) from error
    return body(pid_outside)


def _be_the_child(parent: int, directory: str, body: Callable[[Path], int], room_bytes: int) -> None:
    """Never returns."""

    def isolated() -> int:
        _enter_private_namespaces(directory, room_bytes)
        die_with_parent()
        return body(Path(directory)) if os.getppid() == parent else 1

    _end_with(isolated)


def _end_with(body: Callable[[], int]) -> None:
    """Never returns: this process ends with the body's exit code."""
    code = 1
    try:
        code = body()
        sys.stdout.flush()
    except PycoloError as error:
        code = error.exit_code
        print(f"colo: {error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, PycoloError):  # standard output cannot be written
            code = code or 1
        os._exit(code)


def _as_shell_sees(code: int) -> int:
    if code < 0:
        give_back()
        print(f"colo: the laboratory was killed by {signal.Signals(-code).name}", file=sys.stderr)
        return 128 - code
    return code


def _end_by_second(number: int) -> None:
    """Never returns. The child was killed in the middle of whatever it did."""
    give_back()
    print(f"colo: killed by a second {signal.Signals(number).name}", file=sys.stderr, flush=True)
    die_of(number)


def _enter_private_namespaces(directory: str, room_bytes: int) -> None:
    refusals.require_proc()
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0 or not _unshare_as_root():
            unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
            _map_to_root(uid, gid)
    except OSError as error:
        call = error.filename or "unshare(user, mount, net)"
        raise refusals.refused_namespaces(call, error) from error
    try:
        # Whatever is mounted from here on is not seen outside.
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    except OSError as error:
        raise refusals.refused_private_root(error) from error
    try:
        mount("colo-lab", directory, "tmpfs", 0, f"mode=0700,size={room_bytes}")
    except OSError as error:
        raise refusals.refused_mount(f"mount -t tmpfs {directory}", error) from error


def _unshare_as_root() -> bool:
    """Root in a container may lack the capability; then a user namespace is worth a try."""
    try:
        unshare(CLONE_NEWNS | CLONE_NEWNET)
    except PermissionError:
        return False
    return True


def _map_to_root(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text)


def require_root(what: str, why: str) -> None:
    """Raise `LabError` for another user, and for root of a user namespace only."""
    if os.geteuid() != 0 or not is_machine_root():
        raise LabError(f"{what} needs root of the machine: {why}; run it as root")


def is_machine_root() -> bool:
    """Whether root here is root of the machine, and not only of a user namespace."""
    return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]
