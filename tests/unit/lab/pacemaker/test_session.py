"""Which faults a run plays."""

import pytest

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.pacemaker.rounds import FAULTS
from pycolo_lab.pacemaker.session import PacemakerLabOptions, choose, run_pacemaker_lab


@pytest.mark.parametrize("votes", [2, 3])
def test_without_a_name_all_that_there_are_for_so_many_votes(votes):
    assert choose((), votes) == [fault for fault in FAULTS if fault.votes in (0, votes)]
    assert any(fault.votes == votes for fault in choose((), votes))


def test_faults_come_in_the_order_of_their_names_and_as_often():
    assert [fault.name for fault in choose(("move", "standby", "move"), 2)] == ["move", "standby", "move"]


@pytest.mark.parametrize(("name", "text"), [("moved", "one of qemu-killed"), ("host-cut-off", "needs --votes 3")])
def test_a_fault_that_cannot_be_played_is_refused(name, text):
    with pytest.raises(LabError, match=text):
        choose((name,), 2)


def test_another_user_than_root_is_told_so_before_anything_is_looked_for(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"^the Pacemaker laboratory needs root of the machine: .*; run it as root$"):
        run_pacemaker_lab(PacemakerLabOptions(), Interruption())
