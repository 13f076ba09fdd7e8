"""The arguments for a QEMU that users start themselves: what cannot be added to one that runs."""

from pycolo.config import PairConfig
from pycolo.link.hello import Role


def qemu_arguments(config: PairConfig, role: Role) -> list[str]:
    """QMP sockets, and -incoming for a secondary."""
    return qmp_arguments(config) + (["-incoming", "defer"] if role is Role.SECONDARY else [])


def qmp_arguments(config: PairConfig) -> list[str]:
    """The QMP sockets. The second one is for yank: a command that hangs blocks the first."""
    paths = [path for path in (config.qemu.qmp, config.qemu.yank) if path is not None]
    return [word for path in paths for word in ("-qmp", _option(f"unix:{path}", server="on", wait="off"))]


def _option(first: str, **properties: str | bool) -> str:
    """An option in QEMU's syntax, with commas doubled."""
    parts = [first, *(f"{name}={'on' if value is True else value}" for name, value in properties.items())]
    return ",".join(part.replace(",", ",,") for part in parts)
