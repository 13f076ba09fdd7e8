"""The record of a card: read as written, whole or not at all, and held by one process."""

from pathlib import Path

import pytest

from pycolo.errors import ConfigError, ConnectError, StateError
from pycolo.hostnet import journal as journals
from pycolo.hostnet.facts import Address, BridgePlace, Home, SwitchPlace, Vlan
from pycolo.hostnet.journal import Journal, Record, here

VLANS = (Vlan(10, is_pvid=True, is_untagged=True), Vlan(20))
BRIDGE = BridgePlace("br0", {"cost": 7}, VLANS, (Address("52:54:00:00:00:01", 10, 64),), ("00",))
SWITCH = SwitchPlace("ovs0", {"tag": 10, "trunks": ["set", [1, 2]]}, {"ofport_request": 3})


def record(place: BridgePlace | SwitchPlace | None) -> Record:
    home = Home(tap="tap0", index=3, queue=1000, has_ipv6=None, place=place)
    boot, namespace = here()
    return Record(pair="vm1", node="colo-vm1", mac="fe:0", home=home, place=place, boot=boot, namespace=namespace)


@pytest.mark.parametrize("place", [BRIDGE, SWITCH, None])
def test_a_record_is_read_as_written(tmp_path: Path, place: BridgePlace | SwitchPlace | None) -> None:
    journal = Journal(tmp_path / "state" / "card-0.json")
    journal.lock()
    assert journal.read() is None
    journal.write(record(place))
    assert journal.read() == record(place)
    journal.remove()
    journal.remove()
    assert journal.read() is None
    journal.unlock()


def test_a_damaged_record_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "card-0.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="put the tap back by hand and remove the file"):
        Journal(path).read()


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "card-0.json")
    journal.write(record(BRIDGE))

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journals.os, "fsync", full)
    with pytest.raises(ConnectError, match="cannot be written: No space left"):
        journal.write(record(SWITCH))
    assert journal.read() == record(BRIDGE)


def test_the_lock_has_one_holder(tmp_path: Path) -> None:
    one, two = Journal(tmp_path / "card-0.json"), Journal(tmp_path / "card-0.json")
    one.lock()
    one.lock()
    with pytest.raises(StateError, match="held by a node that runs"):
        two.lock()
    one.unlock()
    two.lock()
    two.unlock()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectError, match="File exists"):
        Journal(tmp_path / "file" / "card-0.json").lock()
