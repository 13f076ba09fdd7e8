"""Directories that must be there and can be written: for sockets, for the record."""

import grp
import os
import pwd
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import msgspec

from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.errors import ConfigError
from pycolo.link.hello import Role

RECORD_NAME: Final = "node.json"
"""The record in the directory `state`, see `pycolo.vm.statefile`."""

_VOLATILE: Final = (Path("/run"), Path("/var/run"), Path("/dev/shm"))  # noqa: S108 - named, not used


class Recorded(msgspec.Struct, frozen=True):
    """What a check needs of the record."""

    role: Role
    term: int = 0
    pid: int = 0
    """Of this host's QEMU, as the node last knew it; 0: none."""


def read_record(directory: Path) -> Recorded | None:
    """None if there is none yet. Raises `ConfigError` for one that cannot be read."""
    path = directory / RECORD_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recorded)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            str(path), "a node's record (remove it only if the other node is down)", str(error)
        ) from error


def place_items(config: PairConfig, *, is_running: bool) -> Iterator[Item]:
    """Every directory once, whatever it is for."""
    sockets = [config.control.socket.parent]
    if config.guest is None:  # otherwise the node makes the folder, see `vm.domainfolder`
        sockets[:0] = [config.qemu.directory, config.qemu.qmp.parent]
        sockets += [config.qemu.yank.parent] if config.qemu.yank is not None else []
    for directory in dict.fromkeys(sockets):
        yield _guarded("sockets", partial(_sockets_item, directory, is_running=is_running))
    control = config.control.socket
    if os.path.lexists(control) and not control.is_socket():
        yield refused("control.socket", f"{control} is not a socket: remove it, or choose another path")
    yield _guarded("state", partial(_state_item, config.state))
    if config.control.group is not None:
        yield _group_item(config.control.group)


def _guarded(name: str, look: Callable[[], Item]) -> Item:
    """What this user may not even look at."""
    try:
        return look()
    except OSError as error:
        return refused(name, f"{error.filename}: {error.strerror}, as {user_name()}: run the check as the node's user")


def _sockets_item(directory: Path, *, is_running: bool) -> Item:
    name = "sockets"
    if directory.is_dir():
        if os.access(directory, os.W_OK | os.X_OK):
            return ok(name, f"{directory} can be written")
        return refused(name, f"{directory} cannot be written by {user_name()}: change its owner or mode")
    if directory.exists():
        return refused(name, f"{directory} is not a directory: remove it")
    if not is_running and _is_volatile(directory):
        return warning(name, f"{directory} does not exist: the unit colo@.service makes it, else do so beforehand")
    return refused(name, f"{directory} does not exist: mkdir -p {directory}")


def _state_item(directory: Path) -> Item:
    name = "state"
    try:
        record = read_record(directory)
    except ConfigError as error:
        return refused(name, str(error))
    if directory.exists():
        try:
            with TemporaryFile(dir=directory) as file:
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return refused(name, f"{directory} cannot be written by {user_name()}: {error.strerror}")
    else:
        above = next(parent for parent in directory.parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            return refused(name, f"{directory} cannot be made by {user_name()} in {above}")
    if _is_volatile(directory):
        return warning(name, f"{directory} is lost when this host restarts: choose a directory on disk")
    said = f"{record.role}, term {record.term}" if record is not None else "no record yet"
    return ok(name, f"{directory} can be written; {said}")


def _group_item(group: str) -> Item:
    name = "control.group"
    try:
        grp.getgrnam(group)
    except KeyError:
        return refused(name, f"there is no group {group}: groupadd --system {group}")
    return ok(name, group)


def _is_volatile(directory: Path) -> bool:
    return any(directory.is_relative_to(volatile) for volatile in _VOLATILE)


def user_name() -> str:
    """Of this process."""
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"
