"""How the user names a port, a source and destination of frames.

::

    tap:NAME[,netns=PATH][,vnet_hdr=on|off]                 a TAP device, created or attached to
    packet:IFNAME[,netns=PATH][,vnet_hdr=on|off]            AF_PACKET on an interface that belongs to the guest or LAN
    unix:PATH[,server=on][,reconnect-ms=N][,vnet_hdr=on]    QEMU's stream framing on a unix socket
    tcp:HOST:PORT[,server=on][,reconnect-ms=N][,vnet_hdr=on]        … and on TCP ([ADDRESS]:PORT for IPv6)

`vnet_hdr` defaults to on for devices (GSO frames are ten times as fast) and to off for streams, as in QEMU.
"""

import os
from difflib import get_close_matches
from enum import Enum
from typing import Final

import msgspec

from pycolo.errors import ConfigError

RECONNECT_MS: Final = 500
"""Pause between two attempts to connect a stream; QEMU users write reconnect=1 (seconds)."""


class PortKind(Enum):
    """The kind of a port."""

    TAP = "tap"
    PACKET = "packet"
    UNIX = "unix"
    TCP = "tcp"

    @property
    def is_device(self) -> bool:
        """A device reads one frame at a time; a stream reads bytes."""
        return self in (PortKind.TAP, PortKind.PACKET)


class PortSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One parsed port. `target` is a device name, a path or HOST:PORT."""

    text: str
    kind: PortKind
    target: str
    vnet_hdr: bool
    netns: str | None = None
    server: bool = False
    reconnect_ms: int = RECONNECT_MS


_DEVICE_KEYS: Final = ("netns", "vnet_hdr")
_STREAM_KEYS: Final = ("server", "reconnect-ms", "vnet_hdr")
_SWITCHES: Final = ("server", "vnet_hdr")
"""Keys that mean "on" without a value."""

_UNIX_PATH_BYTES_MAX: Final = 107
"""sockaddr_un has 108 bytes, the last one a 0."""


def parse_port(text: str, option: str) -> PortSpec:
    """Parse `text`, the value of `option`. Raises `ConfigError`: one line that says what is wrong."""
    head, *properties = text.split(",")
    name, colon, target = head.partition(":")
    try:
        kind = PortKind(name)
    except ValueError:
        raise ConfigError(option, "tap:NAME, packet:IFNAME, unix:PATH or tcp:HOST:PORT", text) from None
    if not colon or not target:
        raise ConfigError(option, f"{name}:SOMETHING", text)
    if kind is PortKind.TCP:
        host, _, port = target.rpartition(":")
        if not host.strip("[]") or not _is_number(port) or not 0 < int(port) < 65536:
            raise ConfigError(option, "tcp:HOST:PORT", text)
    if kind is PortKind.UNIX and len(os.fsencode(target)) > _UNIX_PATH_BYTES_MAX:
        raise ConfigError(option, f"a path of at most {_UNIX_PATH_BYTES_MAX} bytes", target)
    if kind.is_device and len(target.encode()) > 15:
        raise ConfigError(option, "an interface name of at most 15 bytes", target)
    found = _properties(properties, _DEVICE_KEYS if kind.is_device else _STREAM_KEYS, option)
    return PortSpec(
        text=text,
        kind=kind,
        target=target,
        vnet_hdr=_switch(found.get("vnet_hdr", "on" if kind.is_device else "off"), f"{option} vnet_hdr"),
        netns=found.get("netns"),
        server=_switch(found.get("server", "off"), f"{option} server"),
        reconnect_ms=_milliseconds(found.get("reconnect-ms", str(RECONNECT_MS)), f"{option} reconnect-ms"),
    )


def _properties(properties: list[str], known: tuple[str, ...], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in properties:
        key, equals, value = item.partition("=")
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise ConfigError(option, f"one of {', '.join(known)}{hint}", key)
        if key in found:
            raise ConfigError(option, f"{key} once", item)
        if not value and (equals or key not in _SWITCHES):
            raise ConfigError(option, f"{key}=VALUE", item)
        found[key] = value or "on"
    return found


def _switch(text: str, where: str) -> bool:
    if text not in ("on", "off"):
        raise ConfigError(where, "on or off", text)
    return text == "on"


def _milliseconds(text: str, where: str) -> int:
    if not _is_number(text) or not 1 <= int(text) <= 3_600_000:
        raise ConfigError(where, "milliseconds from 1 to 3600000", text)
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
