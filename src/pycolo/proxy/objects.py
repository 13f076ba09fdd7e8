"""The objects and netdevs of a command line, as data: every property read and checked, nothing opened.

=================  ================================================================================================
colo-compare       primary_in, secondary_in, outdev, notify_dev, iothread, vnet_hdr_support, compare_timeout,
                   expired_scan_cycle, max_queue_size; ours: ack_policy=commit|immediate,
                   on_divergence=hold|report|reset (without notify_dev), passthrough.N.…, mask.N.…
filter-rewriter    client_in, guest_out, guest_in, client_out (ours, between chardevs) or netdev, queue, status,
                   insert, position; vnet_hdr_support; ours: notify_dev
filter-mirror      netdev, outdev, queue, status, insert, position, vnet_hdr_support
filter-redirector  netdev, indev, outdev, queue, status, insert, position, vnet_hdr_support
filter-dump        netdev, file, maxlen, queue, status, insert, position
iothread           accepted: each object has a thread of its own anyway
=================  ================================================================================================
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from pycolo.proxy import exemptions
from pycolo.proxy.compare import CompareOptions
from pycolo.proxy.qemuopts import Group, OptionError, Properties

COMPARE: Final = "colo-compare"
REWRITER: Final = "filter-rewriter"
MIRROR: Final = "filter-mirror"
REDIRECTOR: Final = "filter-redirector"
DUMP: Final = "filter-dump"
IOTHREAD: Final = "iothread"
OBJECT_KINDS: Final = (COMPARE, REWRITER, MIRROR, REDIRECTOR, DUMP, IOTHREAD)

DUMP_BYTES_MAX: Final = 65_536
"""filter-dump's default maxlen: bytes kept per frame."""

_POLICIES: Final = {policy.name.lower(): policy for policy in DivergencePolicy if policy.name != "CHECKPOINT"}
_MILLISECONDS_MAX: Final = 3_600_000
_BETWEEN_CHARDEVS: Final = ("client_in", "guest_out", "guest_in", "client_out")
_ON_NETDEV: Final = ("netdev", "queue", "status", "insert", "position")
_IFNAME_BYTES_MAX: Final = 15
_REFUSED_OF_TAP: Final = {
    "fd": "descriptors cannot be inherited; give ifname=",
    "fds": "descriptors cannot be inherited; give ifname=",
    "vhost": "the frames must pass through this process; leave it out",
    "vhostfd": "the frames must pass through this process; leave it out",
    "vhostfds": "the frames must pass through this process; leave it out",
    "vhostforce": "the frames must pass through this process; leave it out",
    "helper": "helpers are not run; create the device first and give ifname=",
    "br": "bridges are not joined; add the device to the bridge yourself",
    "queues": "a device has one queue here; leave it out",
}


class Direction(Enum):
    """Direction of a netdev's frames, in QEMU's words: `TX` from the device to the guest, `RX` from the guest."""

    TX = "tx"
    RX = "rx"


class CompareSpec(msgspec.Struct, frozen=True):
    """One colo-compare; `chardevs`: property → id."""

    id: str
    chardevs: dict[str, str]
    options: CompareOptions


class RewriterSpec(msgspec.Struct, frozen=True):
    """One filter-rewriter between four chardevs; `chardevs`: property → id."""

    id: str
    chardevs: dict[str, str]
    has_vnet: bool


class FilterSpec(msgspec.Struct, frozen=True):
    """One filter of a netdev. `chardevs`: property → id; `file` and `bytes_max` belong to filter-dump."""

    id: str
    kind: str
    netdev: str
    directions: tuple[Direction, ...]
    is_on: bool
    chardevs: dict[str, str]
    has_vnet: bool
    position: str = "tail"
    is_behind: bool = True
    file: str = ""
    bytes_max: int = DUMP_BYTES_MAX


class NetdevSpec(msgspec.Struct, frozen=True):
    """One `-netdev tap`. `vnet_hdr` None: not given; then as its filters have it."""

    id: str
    ifname: str
    vnet_hdr: bool | None


ObjectSpec = CompareSpec | RewriterSpec | FilterSpec


def read_compare(group: Group, notes: list[str]) -> CompareSpec:
    """Read a colo-compare. Raises `OptionError`, as do the functions below."""
    roles = ("primary_in", "secondary_in", "outdev")
    numbers = ("compare_timeout", "expired_scan_cycle", "max_queue_size")
    known = ("id", *roles, "notify_dev", "iothread", "vnet_hdr_support", *numbers, "ack_policy", "on_divergence")
    group, rules = exemptions.divide(group)
    properties = Properties(group, known)
    name = properties.identifier()
    chardevs = {role: properties.required(role) for role in roles}
    notify_dev = properties.text("notify_dev")
    if notify_dev is not None:
        chardevs["notify_dev"] = notify_dev
        if properties.has("on_divergence"):
            raise OptionError(
                properties.where, "on_divergence excludes notify_dev: a difference then requests a checkpoint"
            )
    if not properties.has("iothread"):
        notes.append(f"{name}: no iothread, which QEMU requires; colo proxy gives it a thread of its own")
    options = CompareOptions(
        has_vnet=properties.switch("vnet_hdr_support", False),
        compare_timeout_ms=properties.number("compare_timeout", limits.COMPARE_TIMEOUT_MS, 1, _MILLISECONDS_MAX),
        scan_cycle_ms=properties.number("expired_scan_cycle", limits.EXPIRED_SCAN_CYCLE_MS, 1, _MILLISECONDS_MAX),
        queue_packets_max=properties.number(
            "max_queue_size", limits.QUEUE_PACKETS_MAX, 1, limits.HELD_PACKETS_MAX // 2
        ),
        commits_input=properties.choice("ack_policy", "commit", ("commit", "immediate")) == "commit",
        on_divergence=_POLICIES[properties.choice("on_divergence", "hold", tuple(_POLICIES))],
        bypass=exemptions.flows(rules[exemptions.PASSTHROUGH]),
        masks=exemptions.masks(rules[exemptions.MASK]),
    )
    return CompareSpec(name, chardevs, options)


def read_rewriter(group: Group) -> RewriterSpec | FilterSpec:
    """Read a filter-rewriter: between four chardevs, or on a netdev as QEMU's."""
    known = ("id", *_BETWEEN_CHARDEVS, *_ON_NETDEV, "vnet_hdr_support", "notify_dev")
    properties = Properties(group, known)
    if properties.has("netdev"):
        for role in _BETWEEN_CHARDEVS:
            if properties.has(role):
                raise OptionError(properties.where, f"netdev and {role} exclude each other: choose one wiring")
        return _read_filter(properties, REWRITER, _optional(properties, ("notify_dev",)))
    for key in _ON_NETDEV:
        if properties.has(key):
            raise OptionError(properties.where, f"property '{key}' belongs to a filter with netdev=")
    name = properties.identifier()
    if not any(properties.has(role) for role in _BETWEEN_CHARDEVS):
        raise OptionError(properties.where, f"give netdev=, or {', '.join(_BETWEEN_CHARDEVS)}")
    chardevs = {role: properties.required(role) for role in _BETWEEN_CHARDEVS}
    chardevs |= _optional(properties, ("notify_dev",))
    return RewriterSpec(name, chardevs, properties.switch("vnet_hdr_support", False))


def read_mirror(group: Group) -> FilterSpec:
    """Read a filter-mirror."""
    properties = Properties(group, ("id", *_ON_NETDEV, "outdev", "vnet_hdr_support"))
    properties.required("netdev")
    return _read_filter(properties, MIRROR, {"outdev": properties.required("outdev")})


def read_redirector(group: Group) -> FilterSpec:
    """Read a filter-redirector."""
    properties = Properties(group, ("id", *_ON_NETDEV, "indev", "outdev", "vnet_hdr_support"))
    properties.required("netdev")
    chardevs = _optional(properties, ("indev", "outdev"))
    if not chardevs:
        raise OptionError(properties.where, "give indev=, outdev= or both")
    return _read_filter(properties, REDIRECTOR, chardevs)


def read_dump(group: Group) -> FilterSpec:
    """Read a filter-dump."""
    properties = Properties(group, ("id", *_ON_NETDEV, "file", "maxlen"))
    properties.required("netdev")
    found = _read_filter(properties, DUMP, {})
    return FilterSpec(
        found.id, DUMP, found.netdev, found.directions, found.is_on, {}, False, found.position, found.is_behind,
        properties.required("file"), properties.number("maxlen", DUMP_BYTES_MAX, 1, 1 << 30),
    )  # fmt: skip


def _optional(properties: Properties, roles: Iterable[str]) -> dict[str, str]:
    return {role: value for role in roles if (value := properties.text(role)) is not None}


def _read_filter(properties: Properties, kind: str, chardevs: dict[str, str]) -> FilterSpec:
    queue = properties.choice("queue", "all", ("all", "rx", "tx"))
    position = properties.text("position") or "tail"
    if position not in ("head", "tail") and not position.startswith("id="):
        raise OptionError(properties.where, f"property 'position' must be head, tail or id=FILTER, not '{position}'")
    has_vnet = kind != DUMP and properties.switch("vnet_hdr_support", False)
    return FilterSpec(
        id=properties.identifier(),
        kind=kind,
        netdev=properties.required("netdev"),
        directions=tuple(Direction) if queue == "all" else (Direction(queue),),
        is_on=properties.choice("status", "on", ("on", "off")) == "on",
        chardevs=chardevs,
        has_vnet=has_vnet,
        position=position,
        is_behind=properties.choice("insert", "behind", ("before", "behind")) == "behind",
    )


def read_iothread(group: Group) -> str:
    """Read an iothread. Returns its id."""
    return Properties(group, ("id", "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")).identifier()


def read_netdev(group: Group, notes: list[str]) -> NetdevSpec:
    """Read a -netdev."""
    if group.head != "tap":
        raise OptionError(
            group.where, "only -netdev tap is known; a filter-rewriter may also stand between chardevs (client_in=…)"
        )
    properties = Properties(group, ("id", "ifname", "vnet_hdr", "script", "downscript", "sndbuf"), _REFUSED_OF_TAP)
    name = properties.identifier()
    for key in ("script", "downscript"):
        if properties.text(key) != "no":
            notes.append(f"netdev '{name}': no {key} is run; bring the device up yourself")
    if properties.has("sndbuf"):
        notes.append(f"netdev '{name}': sndbuf has no effect, the device's own limit applies")
    ifname = properties.required("ifname")
    if len(ifname.encode("utf-8", "surrogateescape")) > _IFNAME_BYTES_MAX or "/" in ifname:
        raise OptionError(properties.where, f"ifname '{ifname}' is not an interface name of at most 15 bytes")
    vnet_hdr = properties.switch("vnet_hdr", True) if properties.has("vnet_hdr") else None
    return NetdevSpec(name, ifname, vnet_hdr)
