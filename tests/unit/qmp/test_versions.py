"""A version has been tried, or it is refused with the versions that have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.qmp.versions import (
    BROKEN,
    DEADLOCKS_UNDER_TCG,
    STALE_CODE_UNDER_TCG,
    TESTED,
    colo_capabilities,
    is_broken,
    why_unknown,
)

NUMBER = st.integers(0, 99)


@given(major=NUMBER, minor=NUMBER, micro=NUMBER)
def test_a_release_that_was_not_tried_is_unknown(major, minor, micro):
    why = why_unknown((major, minor, micro))
    assert (why is None) == ((major, minor) in TESTED and micro >= BROKEN.get((major, minor), 0))
    assert why is None or f"QEMU {major}.{minor}.{micro} " in why


@pytest.mark.parametrize("release", sorted(TESTED))
def test_the_last_number_does_not_matter(release):
    assert why_unknown((*release, 99)) is None


def test_what_was_seen_was_seen_with_a_version_that_was_tried():
    assert DEADLOCKS_UNDER_TCG | STALE_CODE_UNDER_TCG == TESTED, "under software emulation each needs the library"


@pytest.mark.parametrize(
    ("version", "expected"),
    [((10, 0, 6), True), ((10, 0, 7), False), ((10, 1, 2), True), ((10, 1, 3), False), ((7, 2, 0), False)],
)
def test_versions_that_do_not_enter_colo_are_named_with_the_one_that_does(version, expected):
    assert is_broken(version) is expected
    if expected:
        assert f"use {version[0]}.{version[1]}.{BROKEN[version[:2]]} or newer" in why_unknown(version)


@pytest.mark.parametrize(("version", "expected"), [((7, 2, 22), False), ((10, 0, 13), False), ((11, 1, 3), True)])
def test_the_return_path_is_on_where_it_is_required_and_off_where_it_is_fatal(version, expected):
    assert colo_capabilities(version) == {"events": True, "x-colo": True, "return-path": expected}
