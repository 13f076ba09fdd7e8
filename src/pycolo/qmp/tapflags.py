"""What the kernel says of a TAP device that another program has opened."""

from pathlib import Path
from typing import Final

_FLAGS: Final = "/sys/class/net/{}/tun_flags"
_IFF_VNET_HDR: Final = 0x4000
"""linux/if_tun.h."""


def tap_has_vnet(name: str, flags: str = _FLAGS) -> bool | None:
    """Whether each of its frames has a vnet header; None: no such device in this network namespace."""
    try:
        return bool(int(Path(flags.format(name)).read_text(encoding="ascii"), 16) & _IFF_VNET_HDR)
    except (OSError, ValueError):
        return None
