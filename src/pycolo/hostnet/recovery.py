"""Puts the guests' taps back that a dead node has left: `colo network restore`."""

from collections.abc import Callable
from pathlib import Path

from pycolo.errors import ConnectError, PycoloError, StateError
from pycolo.hostnet import looking
from pycolo.hostnet.execution import carry_out
from pycolo.hostnet.facts import BridgePlace
from pycolo.hostnet.journal import PATTERN, Journal, Record, here
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.wire import steps_home

Tell = Callable[[int, str, str], None]
"""`tell(card, tap, bridge)`: libvirt is to move the tap there, and to believe it there. Raises `PycoloError`."""


def restore(state: Path, say: Callable[[str], None], tell: Tell | None = None) -> list[PycoloError]:
    """Every card with a record in `state`; `say` is told of each step that was done. Returns what went wrong.

    `tell`: for the guests of libvirt, which has been told where the node has put their taps; None: it cannot be.

    Raises `StateError` while a node holds one of them: nothing was changed then.
    """
    journals = [Journal(path) for path in sorted(state.glob(PATTERN))]
    errors: list[PycoloError] = []
    try:
        for journal in journals:
            journal.lock()
        if not journals:
            say(f"{state}: no card to put back")
        for journal in journals:
            try:
                _restore(journal, say, tell)
            except PycoloError as error:
                errors.append(error)
    finally:
        for journal in journals:
            journal.unlock()
    return errors


def _restore(journal: Journal, say: Callable[[str], None], tell: Tell | None) -> None:
    record = journal.read()
    if record is None:
        return
    boot, namespace = here()
    if record.boot != boot:
        say(f"{record.home.tap}: the host was started anew since: nothing to put back")
        journal.remove()
        return
    if record.namespace != namespace:
        raise StateError(
            str(journal.path), "of another network namespace", "of this one: run the command there, or remove the file"
        )
    untold = _tell_libvirt(record, journal.number, tell)
    with Netlink() as netlink:
        _put_back(netlink, record, say)
    if untold is not None:
        raise untold
    journal.remove()


def _tell_libvirt(record: Record, number: int, tell: Tell | None) -> ConnectError | None:
    """Before the tap is put back: until then no frame passes it. Returns why libvirt does not know of it."""
    if record.private is None or not isinstance(record.place, BridgePlace) or not _is_there(record):
        return None
    tap = record.home.tap
    text = f"{tap}: libvirt believes it in {record.private} still, and puts it there whenever libvirtd starts: "
    if tell is None:
        return ConnectError(f"{text}name the node by its FILE, which names the domain")
    try:
        tell(number, tap, record.place.bridge)
    except PycoloError as error:
        return ConnectError(f"{text}repeat this when libvirt answers ({error})")
    return None


def _is_there(record: Record) -> bool:
    with Netlink() as netlink:
        link = looking.find_link(netlink, record.home.tap)
    return link is not None and link.index == record.home.index


def _put_back(netlink: Netlink, record: Record, say: Callable[[str], None]) -> None:
    tap = record.home.tap
    link = looking.find_link(netlink, tap)
    if link is None:
        say(f"{tap}: gone: nothing to put back")
    elif link.index != record.home.index:
        say(f"{tap}: made anew since the node moved it: left as it is")
    for step in steps_home(netlink, record):
        try:
            carry_out(netlink, step)
        except ConnectError as error:
            raise ConnectError(f"{tap}: {error}") from error
        say(step.name)
    if link is not None and link.index == record.home.index:
        say(f"{tap}: in {record.place.where}" if record.place else f"{tap}: in no bridge, as before")
