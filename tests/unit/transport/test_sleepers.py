"""Whether a guest's processors sleep."""

import os

import pytest

from pycolo.core import Sleepers


@pytest.fixture
def files(tmp_path):
    account, state = tmp_path / "schedstat", tmp_path / "stat"
    account.write_text("1000 2000 3\n")
    state.write_text("12 (CPU (0)/TCG) S 1 12\n")
    fds = [os.open(path, os.O_RDONLY) for path in (account, state)]
    yield account, state, fds
    for fd in fds:
        os.close(fd)


def test_processors_sleep_when_the_kernel_counts_no_time(files):
    account, _, fds = files
    sleepers = Sleepers(fds)
    assert not sleepers.are_asleep(10_000), "nothing to compare with"
    assert not sleepers.are_asleep(10_500), "too early"
    assert sleepers.are_asleep(11_000)
    account.write_text("901000 2000 4\n")
    assert not sleepers.are_asleep(12_000), "it ran"
    account.write_text("901000 902000 5\n")
    assert not sleepers.are_asleep(13_000), "it wanted to run"
    assert not sleepers.are_asleep(30_000), "too long ago"


@pytest.mark.parametrize("shown", ["12 (CPU (0)/TCG) R 1 12", "12 (CPU 0/TCG) D 1", "", "12 S 1", "12 (x)"])
def test_one_that_waits_for_a_processor_is_awake_whatever_its_account_says(files, shown):
    _, state, fds = files
    sleepers = Sleepers(fds)
    sleepers.are_asleep(10_000)
    state.write_text(f"{shown}\n")
    assert not sleepers.are_asleep(11_000)


def test_without_processors_nothing_sleeps():
    assert not Sleepers([]).are_asleep(1)
