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
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Self

from pycolo.errors import PycoloError
from pycolo.lab.errors import LabError
from pycolo.lab.terminal import give_back

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

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def _unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")


def die_with_parent() -> None:
    """Ask the kernel to SIGKILL this process when the thread that made it ends, however that ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def bind_mount(source: Path, target: Path) -> None:
    """Show `source` at `target` too, with everything mounted below it; gone with this mount namespace."""
    _mount(str(source), str(target), None, MS_BIND | MS_REC)


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
            _unshare(CLONE_NEWNET)
            _mount("/proc/thread-self/ns/net", str(path), None, MS_BIND)
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


def run_isolated(body: Callable[[Path], int]) -> int:
    """Run `body(directory)` in a child with namespaces of its own, and return its exit code.

    `directory` is empty, private and gone afterwards. SIGINT, SIGTERM and SIGHUP are passed on to the child,
    which takes itself down. A `PycoloError` of the body becomes one line on standard error and exit code 1.
    """
    root = tempfile.gettempdir()
    directory = tempfile.mkdtemp(
        prefix="colo-lab-",
        dir=root if len(root) < DIRECTORY_CHARACTERS_MAX else "/tmp",  # noqa: S108 - mkdtemp's
    )
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _be_the_child(parent, directory, body)
    try:
        return _wait_for(child)
    finally:
        # Empty: what was in it was on the child's own tmpfs.
        os.rmdir(directory)


def run_with_own_pids(body: Callable[[int], int]) -> int:
    """Run `body(pid)` in a child that is process 1 of a PID namespace, and return its exit code.

    For the body of `run_isolated`: whatever runs in the namespace, however it was started and whoever its parent is,
    dies with the child. `pid` is the child's process id as seen outside. Process 1 gets only the signals that it
    handles; the body installs its own handlers.
    """
    try:
        _unshare(CLONE_NEWPID)
    except OSError as error:
        raise LabError(
            f"the laboratory needs a PID namespace and got none ({error.strerror}): run it as root"
        ) from error
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _end_with(lambda: _as_first_process(body))
    return _wait_for(child)


def _as_first_process(body: Callable[[int], int]) -> int:
    die_with_parent()
    pid_outside = int(os.readlink("/proc/self"))
    _mount("proc", "/proc", "proc", 0)
    return body(pid_outside)


def _be_the_child(parent: int, directory: str, body: Callable[[Path], int]) -> None:
    """Never returns."""

    def isolated() -> int:
        _enter_private_namespaces(directory)
        die_with_parent()
        return body(Path(directory)) if os.getppid() == parent else 1

    _end_with(isolated)


def _end_with(body: Callable[[], int]) -> None:
    """Never returns: this process ends with the body's exit code."""
    code = 1
    try:
        code = body()
    except PycoloError as error:
        print(f"colo: {error}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read our output is gone; so is the reason to go on.
        os._exit(1)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            code = code or 1
        os._exit(code)


def _wait_for(child: int) -> int:
    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in watched}
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        give_back()
        print(f"colo: the demo was killed by {signal.Signals(-code).name}", file=sys.stderr)
        return 128 - code
    return code


def _enter_private_namespaces(directory: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0 or not _unshare_as_root():
            _unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
            _map_to_root(uid, gid)
        # Whatever is mounted from here on is not seen outside.
        _mount("none", "/", None, MS_REC | MS_PRIVATE)
        _mount("colo-lab", directory, "tmpfs", 0, "mode=0700,size=256m")
    except OSError as error:
        raise LabError(
            f"the demo needs network namespaces and got none ({error.strerror}): run it as root, or allow "
            f"user namespaces (sysctl user.max_user_namespaces; where AppArmor restricts them, "
            f"kernel.apparmor_restrict_unprivileged_userns=0; in a container, --privileged)"
        ) from error


def _unshare_as_root() -> bool:
    """Root in a container may lack the capability; then a user namespace is worth a try."""
    try:
        _unshare(CLONE_NEWNS | CLONE_NEWNET)
    except PermissionError:
        return False
    return True


def _map_to_root(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text)


def is_machine_root() -> bool:
    """Whether root here is root of the machine, and not only of a user namespace."""
    return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]
