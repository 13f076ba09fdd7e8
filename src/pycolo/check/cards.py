"""The cards of the file and their taps on this host: where each is, what would stand in its way, what may be done."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from pycolo.check.commandline import has_netdev, tap_of
from pycolo.check.guest import CONNECT_S, command_line
from pycolo.check.moment import Moment
from pycolo.check.places import read_record
from pycolo.check.table import Item, Level, ok, refused, warning
from pycolo.config import CardOptions, PairConfig
from pycolo.domain.host import pid_of_domain
from pycolo.errors import ConfigError, ConnectError, PycoloError
from pycolo.hostnet import looking
from pycolo.hostnet.facts import BridgePlace, Place, SwitchPlace
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.survey import find_place, place_of_card, survey
from pycolo.hostnet.taps import taps_of_process
from pycolo.hostnet.wire import node_tap_name
from pycolo.transport.occupied import owner_of_path

_PROC: Final = Path("/proc")
_TUN: Final = Path("/dev/net/tun")

# linux/capability.h
_NET_ADMIN: Final = 12
_NET_RAW: Final = 13
_SYS_PTRACE: Final = 19

_OF_QEMU: Final = frozenset({"-netdev", "-nic", "-device", "-machine", "-qmp", "-mon"})

_NEEDED: Final = {_NET_ADMIN: "CAP_NET_ADMIN", _NET_RAW: "CAP_NET_RAW"}


class Qemu(NamedTuple):
    """This host's QEMU, or the command that starts one; `pid` 0: none runs."""

    pid: int
    uid: int
    words: list[str]


def find_qemu(config: PairConfig, moment: Moment) -> Qemu:
    """By the node's record; its socket is asked only where no node runs, for it serves one client at a time."""
    pid = _noted_pid(config) if config.guest is None else pid_of_domain(config.guest.domain)
    if not pid and config.guest is None and not moment.is_running:
        with suppress(OSError):
            pid = owner_of_path(config.qemu.qmp, CONNECT_S)[0]
    words = command_line(pid)
    return Qemu(pid, uid_of(pid), words) if _is_of_qemu(words) else Qemu(0, os.geteuid(), list(config.qemu.command))


def _is_of_qemu(words: list[str]) -> bool:
    """A relay may listen at the monitor's socket in QEMU's place: its words say nothing about cards."""
    return not _OF_QEMU.isdisjoint(words)


def _noted_pid(config: PairConfig) -> int:
    """0: none is noted, or the process is another one by now."""
    with suppress(ConfigError):
        record = read_record(config.state)
        if record is not None and any(str(config.qemu.qmp) in word for word in command_line(record.pid)):
            return record.pid
    return 0


def card_items(config: PairConfig, moment: Moment, bridges: Mapping[str, str]) -> Iterator[Item]:
    """One for each card; what the node may do on this host; a QEMU that it may not look into. Blocks.

    `bridges`: netdev → bridge, by this host's definition of a domain: the place of a card that names none.
    """
    if not config.card:
        return
    qemu = find_qemu(config, moment)
    for number, given in enumerate(config.card):
        name = f"card {given.netdev}"
        card = replace(given, bridge=given.bridge or bridges.get(given.netdev))
        if config.guest is not None and card.bridge is None and not qemu.pid:
            yield ok(name, "its place is the bridge that the primary's domain names, when the guest is protected")
            continue
        is_named = not qemu.words or has_netdev(qemu.words, card.netdev)
        if not is_named and not qemu.pid:
            yield refused(name, f"qemu.command has no netdev {card.netdev}: correct card.netdev, or the command line")
            continue
        try:
            items = _card_items(name, config, card, number, qemu)
            # QEMU itself says whether it has been given that netdev later; if not, a tap that is well is no comfort.
            yield from (item for item in items if is_named or item.level is not Level.OK)
        except PycoloError as error:
            yield refused(name, str(error))
    yield from rights_items(moment.pid if moment.pid is not None else os.getpid(), qemu, is_node=moment.is_running)


def _card_items(name: str, config: PairConfig, card: CardOptions, number: int, qemu: Qemu) -> Iterator[Item]:
    own = node_tap_name(config.pair, number)
    tap = card.tap or _tap(config, card, number, qemu)
    with Netlink() as netlink:
        link = looking.find_link(netlink, own)
        place = find_place(netlink, link) if link is not None else None
        if link is not None and place is not None:
            yield ok(name, f"{own} is in {_shown(place)}, in the place of {tap or 'its tap'}")
            return
        if tap is None or looking.find_link(netlink, tap) is None:
            yield _absent(netlink, name, card, f"card[{number}]", tap, qemu)
            return
    found = survey(card, number, tap)
    place = found.place or found.named
    where = f"in {_shown(place)}" if found.place else f"in no bridge; {_shown(place)} is to be its place"
    kind = ", vnet headers" if found.tap.has_vnet else ""
    queues = ", several queues" if found.tap.is_multiqueue else ""
    yield ok(name, f"{tap}, MTU {found.tap.mtu}{kind}{queues}, {where}")
    for line in found.warnings:
        yield warning(name, line)
    if not found.tap.is_up:
        yield warning(name, f"{tap} is down, so no frame passes it: ip link set {tap} up")


def _tap(config: PairConfig, card: CardOptions, number: int, qemu: Qemu) -> str | None:
    """As QEMU's command line names it; else by the order in which QEMU has opened its taps."""
    named = tap_of(qemu.words, card.netdev)
    if named is not None or not qemu.pid:
        return named
    with suppress(ConnectError):
        taps = taps_of_process(qemu.pid)
        if len(taps) == len(config.card):
            return taps[number]
    return None


def _absent(netlink: Netlink, name: str, card: CardOptions, where: str, tap: str | None, qemu: Qemu) -> Item:
    """A tap that QEMU makes, or that is opened for it, shows when QEMU runs: its place must be there before."""
    if qemu.pid and tap is not None:
        return refused(name, f"there is no interface {tap} here: give card.tap, or run the check in QEMU's namespace")
    if card.bridge is None:
        text = "its tap is not there yet, and the file names no place for it: give card.bridge"
        return warning(name, text)
    shown = _shown(place_of_card(netlink, card, where))
    return ok(name, f"{tap or 'its tap'} is made when QEMU starts; {shown} is to be its place")


def _shown(place: Place | None) -> str:
    if isinstance(place, SwitchPlace):
        tag = place.port.get("tag")
        return f"{place.where}{f', VLAN {tag}' if isinstance(tag, int) else ''}"
    if isinstance(place, BridgePlace):
        vlans = [vlan for vlan in place.vlans or () if (vlan.vid, vlan.is_pvid) != (1, True)]
        numbers = ", ".join(f"{vlan.vid}{' untagged' if vlan.is_untagged else ''}" for vlan in vlans)
        return f"{place.where}{f', VLAN {numbers}' if vlans else ''}"
    return "no bridge"


# ── what may be done ────────────────────────────────────────────────────────────────────────────────────────


def rights_items(pid: int, qemu: Qemu, *, is_node: bool, proc: Path = _PROC, tun: Path = _TUN) -> Iterator[Item]:
    """Of the process `pid`: the node's, or this check's where none runs."""
    name = "permissions"
    held = capabilities(pid, proc)
    whose = "the node" if is_node else "this check"
    missing = [text for bit, text in _NEEDED.items() if held is not None and not held >> bit & 1]
    if missing:
        text = f"{whose} has no {' and no '.join(missing)}, without which it moves no tap and reads none: "
        text += "run it as root, or by the unit colo@.service, which grants both"
        yield refused(name, text) if is_node else warning(name, text)
    elif not os.access(tun, os.R_OK | os.W_OK):
        yield refused(name, f"{tun} cannot be opened: modprobe tun, or let the node's user read and write it")
    else:
        yield ok(name, f"{whose} has CAP_NET_ADMIN and CAP_NET_RAW, and {tun} can be opened")
    if qemu.pid and held is not None and not held >> _SYS_PTRACE & 1 and _is_beyond(qemu, pid, held, proc):
        yield warning(
            name,
            f"QEMU (process {qemu.pid}, user {qemu.uid}) has another user or more rights than {whose}, which has no "
            "CAP_SYS_PTRACE: it sees neither how fast the guest's memory changes, nor vhost, nor what was preloaded; "
            "let the node start QEMU, or `systemctl edit colo@` add that capability",
        )


def _is_beyond(qemu: Qemu, pid: int, held: int, proc: Path) -> bool:
    """Whether the kernel lets the process `pid` look into QEMU's with CAP_SYS_PTRACE only, see ptrace(2)."""
    permitted = capabilities(qemu.pid, proc, "CapPrm")
    return qemu.uid != uid_of(pid, proc) or permitted is None or bool(permitted & ~held)


def capabilities(pid: int, proc: Path = _PROC, kind: str = "CapEff") -> int | None:
    """A bit each; None: they cannot be read."""
    found = _status(pid, proc).get(kind)
    try:
        return None if found is None else int(found, 16)
    except ValueError:
        return None


def uid_of(pid: int, proc: Path = _PROC) -> int:
    """The effective one; -1: unknown."""
    words = _status(pid, proc).get("Uid", "").split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else -1


def _status(pid: int, proc: Path) -> dict[str, str]:
    try:
        lines = (proc / str(pid) / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}
