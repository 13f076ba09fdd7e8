"""What may be tried at which moment."""

from pycolo.check import Moment
from pycolo.link.hello import Role


def test_only_a_secondary_that_cannot_take_over_runs_retire():
    assert Moment(Role.SECONDARY).why_not_retire == ""
    assert Moment(Role.SECONDARY, 12).why_not_retire == ""
    assert "take over" in Moment(Role.SECONDARY, 12, may_take_over=True).why_not_retire
    assert "serves" in Moment(Role.PRIMARY).why_not_retire
    assert "serves" in Moment(Role.PRIMARY, 12).why_not_retire


def test_a_process_without_a_number_runs_all_the_same():
    assert not Moment(Role.PRIMARY).is_running
    assert Moment(Role.PRIMARY, 0).is_running
