"""The wiring of a guest's netdev to its node, and the command lines of people who start QEMU themselves.

::

      tap ──tx──► colo-f-lan-in ──► colo-lan-in ──► node ──► colo-guest-out ──► colo-f-guest-out ──► guest
      tap ◄──rx── colo-f-lan-out ◄── colo-lan-out ◄── node ◄── colo-guest-in ◄── colo-f-guest-in ◄── guest

QEMU passes `tx` frames through the filters in list order and `rx` frames in reverse, and a redirector hands what it
injects to the *next* filter. So in either direction the one that takes frames out comes before the one that puts them
in; otherwise what the node injects would come back to it.
"""

from pathlib import Path
from typing import Final, Literal, NamedTuple

from pycolo.config import PairConfig
from pycolo.link.hello import Role


class Chardev(NamedTuple):
    """A unix socket on which QEMU listens; `socket` is its name in the configuration's `qemu.directory`."""

    id: str
    socket: str

    def path(self, directory: Path) -> Path:
        """Where the socket is."""
        return directory / self.socket


class Filter(NamedTuple):
    """A filter-redirector on the netdev: takes frames of `queue` to `outdev`, or puts frames from `indev` there."""

    id: str
    queue: Literal["tx", "rx"]
    indev: str | None = None
    outdev: str | None = None

    def properties(self, netdev: str) -> dict[str, str]:
        """As `object-add` takes them, without `qom-type`."""
        ends = {"indev": self.indev, "outdev": self.outdev}
        return {
            "id": self.id,
            "netdev": netdev,
            "queue": self.queue,
            **{name: chardev for name, chardev in ends.items() if chardev is not None},
        }


CHARDEVS: Final = (
    Chardev("colo-lan-in", "lan-in.sock"),
    Chardev("colo-lan-out", "lan-out.sock"),
    Chardev("colo-guest-in", "guest-in.sock"),
    Chardev("colo-guest-out", "guest-out.sock"),
)

FILTERS: Final = (
    Filter("colo-f-lan-in", "tx", outdev="colo-lan-in"),
    Filter("colo-f-guest-out", "tx", indev="colo-guest-out"),
    Filter("colo-f-lan-out", "rx", indev="colo-lan-out"),
    Filter("colo-f-guest-in", "rx", outdev="colo-guest-in"),
)
"""In list order: the order on a command line, and of `object-add`."""

FILTER_TYPE: Final = "filter-redirector"


def qemu_arguments(config: PairConfig, role: Role) -> list[str]:
    """What to add to a QEMU command line so that `colo node` finds everything there."""
    arguments = start_arguments(config, role)
    for chardev in CHARDEVS:
        path = chardev.path(config.qemu.directory)
        arguments += ["-chardev", _option("socket", id=chardev.id, path=str(path), server="on", wait="off")]
    for one in FILTERS:
        arguments += ["-object", _option(FILTER_TYPE, **one.properties(config.qemu.netdev))]
    return arguments


def start_arguments(config: PairConfig, role: Role) -> list[str]:
    """What a QEMU needs at its start, since it cannot be added later: QMP sockets, and a secondary its -incoming."""
    return qmp_arguments(config) + (["-incoming", "defer"] if role is Role.SECONDARY else [])


def qmp_arguments(config: PairConfig) -> list[str]:
    """The QMP sockets: the second one is for yank, since a command that hangs blocks the first."""
    paths = [path for path in (config.qemu.qmp, config.qemu.yank) if path is not None]
    return [word for path in paths for word in ("-qmp", _option(f"unix:{path}", server="on", wait="off"))]


def _option(first: str, **properties: str) -> str:
    """QEMU's option syntax: a comma in a value is written twice."""
    parts = [first, *(f"{name}={value}" for name, value in properties.items())]
    return ",".join(part.replace(",", ",,") for part in parts)
