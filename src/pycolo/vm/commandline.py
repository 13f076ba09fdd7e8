"""The wiring of a guest's netdev to its node, and the arguments for a QEMU that users start themselves.

::

      tap ──tx──► colo-f-lan-in ──► colo-lan-in ──► node ──► colo-guest-out ──► colo-f-guest-out ──► guest
      tap ◄──rx── colo-f-lan-out ◄── colo-lan-out ◄── node ◄── colo-guest-in ◄── colo-f-guest-in ◄── guest

QEMU passes `tx` frames through the filters in list order and `rx` frames in reverse order. A redirector hands injected
frames to the *next* filter. In each direction the filter that takes frames out must therefore come before the one that
injects them; otherwise the node would receive its own frames.

With `vnet_hdr_support` QEMU says with each frame how long the vnet header is with which it begins: 0 for e1000 or a tap
without vnet_hdr, 10 or 12 for virtio-net on a tap as QEMU opens it by default.
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
    """A filter-redirector on the netdev: moves frames from `queue` to `outdev`, or from `indev` to `queue`."""

    id: str
    queue: Literal["tx", "rx"]
    indev: str | None = None
    outdev: str | None = None

    def properties(self, netdev: str) -> dict[str, str | bool]:
        """As `object-add` takes them, without `qom-type`."""
        ends = {"indev": self.indev, "outdev": self.outdev}
        return {
            "id": self.id,
            "netdev": netdev,
            "queue": self.queue,
            VNET: True,
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
"""In list order, which is the order on the command line and of `object-add`."""

FILTER_TYPE: Final = "filter-redirector"

VNET: Final = "vnet_hdr_support"
"""A filter's property: the length of the vnet header comes with each frame."""


def qemu_arguments(config: PairConfig, role: Role) -> list[str]:
    """All arguments that `colo node` needs on a QEMU command line."""
    arguments = start_arguments(config, role)
    if config.card:  # the node stands beside QEMU
        return arguments
    for chardev in CHARDEVS:
        path = chardev.path(config.qemu.directory)
        arguments += ["-chardev", _option("socket", id=chardev.id, path=str(path), server="on", wait="off")]
    for one in FILTERS:
        arguments += ["-object", _option(FILTER_TYPE, **one.properties(config.qemu.netdev))]
    return arguments


def start_arguments(config: PairConfig, role: Role) -> list[str]:
    """The arguments that cannot be added later: QMP sockets, and -incoming for a secondary."""
    return qmp_arguments(config) + (["-incoming", "defer"] if role is Role.SECONDARY else [])


def qmp_arguments(config: PairConfig) -> list[str]:
    """The QMP sockets. The second one is for yank: a command that hangs blocks the first."""
    paths = [path for path in (config.qemu.qmp, config.qemu.yank) if path is not None]
    return [word for path in paths for word in ("-qmp", _option(f"unix:{path}", server="on", wait="off"))]


def _option(first: str, **properties: str | bool) -> str:
    """An option in QEMU's syntax, with commas doubled."""
    parts = [first, *(f"{name}={'on' if value is True else value}" for name, value in properties.items())]
    return ",".join(part.replace(",", ",,") for part in parts)
