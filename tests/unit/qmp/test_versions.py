"""A version has been tried, or it is refused with the versions that have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.qmp.versions import DEADLOCKS_UNDER_TCG, LOSES_RAM_UNDER_TCG, TESTED, why_unknown

NUMBER = st.integers(0, 99)


@given(major=NUMBER, minor=NUMBER, micro=NUMBER)
def test_a_release_that_was_not_tried_is_unknown(major, minor, micro):
    why = why_unknown((major, minor, micro))
    assert (why is None) == ((major, minor) in TESTED)
    assert why is None or f"QEMU {major}.{minor}.{micro} " in why


@pytest.mark.parametrize("release", sorted(TESTED))
def test_the_last_number_does_not_matter(release):
    assert why_unknown((*release, 99)) is None


def test_what_was_seen_was_seen_with_a_version_that_was_tried():
    assert DEADLOCKS_UNDER_TCG | LOSES_RAM_UNDER_TCG <= TESTED
