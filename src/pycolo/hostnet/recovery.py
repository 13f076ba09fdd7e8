"""Puts the guests' taps back that a dead node has left: `colo network restore`."""

from collections.abc import Callable
from pathlib import Path

from pycolo.errors import ConnectError, PycoloError, StateError
from pycolo.hostnet import looking
from pycolo.hostnet.execution import carry_out
from pycolo.hostnet.journal import PATTERN, Journal, Record, here
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.wire import steps_home


def restore(state: Path, say: Callable[[str], None]) -> list[PycoloError]:
    """Every card with a record in `state`; `say` is told of each step that was done. Returns what went wrong.

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
                _restore(journal, say)
            except PycoloError as error:
                errors.append(error)
    finally:
        for journal in journals:
            journal.unlock()
    return errors


def _restore(journal: Journal, say: Callable[[str], None]) -> None:
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
    with Netlink() as netlink:
        _put_back(netlink, record, say)
    journal.remove()


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
