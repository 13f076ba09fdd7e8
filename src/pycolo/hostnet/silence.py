"""A device that only the node's packet socket uses: the host's stack, a bridge and Open vSwitch neither hear it nor
send on it.

A clsact qdisc with a filter for each direction that drops everything. A packet socket is given a frame before the
ingress filter, and with PACKET_QDISC_BYPASS it sends past the egress filter. Unlike nftables' rules these are not
flushed when a host's firewall is loaded again. The filter is one BPF program without a map: kernels have cls_bpf more
often than matchall with gact. Its first instruction says whose it is.
"""

import struct
from typing import Final

from pycolo.hostnet.netlink import CREATE, Message, Netlink, attribute, attributes, nested, number, text, u32

# linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h
_NEWQDISC: Final = 36
_DELQDISC: Final = 37
_GETQDISC: Final = 38
_NEWTFILTER: Final = 44
_GETTFILTER: Final = 46
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_OPS_LEN: Final = 4
_TCA_BPF_OPS: Final = 5
_TCA_BPF_FLAGS: Final = 8
_DIRECT_ACTION: Final = 1
_CLSACT: Final = 0xFFFFFFF1
_CLSACT_HANDLE: Final = 0xFFFF0000
_INGRESS: Final = 0xFFFFFFF2
_EGRESS: Final = 0xFFFFFFF3
_ETH_P_ALL: Final = 0x0300
"""In network byte order."""

_PRIORITY: Final = 1 << 16
_TC: Final = struct.Struct("=BxxxiIII")
_INSTRUCTION: Final = struct.Struct("=HBBI")
_MARK: Final = 0x434F4C4F
_OPS: Final = _INSTRUCTION.pack(0x00, 0, 0, _MARK) + _INSTRUCTION.pack(0x06, 0, 0, 2)
"""Load the mark; return TC_ACT_SHOT."""

_ENOENT: Final = 2
_EINVAL: Final = 22
USUAL_QDISCS: Final = ("noqueue", "noop", "pfifo_fast", "fq_codel", "mq", "fq", "pfifo", "sfq")
"""Those that a kernel gives a device by itself: nothing is lost with them."""


def silence(index: int, name: str) -> list[Message]:
    """Both filters; changes nothing where they are."""
    what = f"{name}: tc filters that drop everything (sch_ingress and cls_bpf)"
    qdisc = _TC.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + text(_TCA_KIND, "clsact")
    options = (
        attribute(_TCA_BPF_OPS_LEN, struct.pack("=H", len(_OPS) // _INSTRUCTION.size)),
        attribute(_TCA_BPF_OPS, _OPS),
        u32(_TCA_BPF_FLAGS, _DIRECT_ACTION),
    )
    body = text(_TCA_KIND, "bpf") + nested(_TCA_OPTIONS, options)
    filters = [
        Message(_NEWTFILTER, CREATE, _TC.pack(0, index, 1, parent, _PRIORITY | _ETH_P_ALL) + body, what)
        for parent in (_INGRESS, _EGRESS)
    ]
    return [Message(_NEWQDISC, CREATE, qdisc, what), *filters]


def unsilence(index: int, name: str) -> Message:
    """Both filters gone; changes nothing where there is no clsact qdisc."""
    qdisc = _TC.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + text(_TCA_KIND, "clsact")
    return Message(_DELQDISC, 0, qdisc, f"{name}: tc qdisc del clsact", (_ENOENT, _EINVAL))


def is_silenced(netlink: Netlink, index: int) -> bool:
    """Whether both of our filters are there."""
    return all(_has_filter(netlink, index, parent) for parent in (_INGRESS, _EGRESS))


def _has_filter(netlink: Netlink, index: int, parent: int) -> bool:
    for body in netlink.dump(_GETTFILTER, _TC.pack(0, index, 0, parent, 0), (_ENOENT, _EINVAL)):
        options = attributes(attributes(body[_TC.size :]).get(_TCA_OPTIONS, b""))
        if options.get(_TCA_BPF_OPS) == _OPS:
            return True
    return False


def qdiscs(netlink: Netlink, index: int) -> tuple[str, ...]:
    """Kinds of the qdiscs of a device beside those that a kernel gives it by itself."""
    found = []
    for body in netlink.dump(_GETQDISC, _TC.pack(0, index, 0, 0, 0)):
        if number(body[4:8]) == index:
            kind = attributes(body[_TC.size :]).get(_TCA_KIND, b"").rstrip(b"\0").decode()
            if kind not in USUAL_QDISCS:
                found.append(kind)
    return tuple(sorted(found))
