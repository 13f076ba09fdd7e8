"""Whether a guest's processors sleep."""

from pycolo.core import Sleepers


def test_processors_sleep_when_the_kernel_counts_no_time(tmp_path):
    account = tmp_path / "schedstat"
    account.write_text("1000 2000 3\n")
    with account.open() as file:
        sleepers = Sleepers([file.fileno()])
        assert not sleepers.are_asleep(10_000), "nothing to compare with"
        assert not sleepers.are_asleep(10_500), "too early"
        assert sleepers.are_asleep(11_000)
        account.write_text("901000 2000 4\n")
        assert not sleepers.are_asleep(12_000), "it ran"
        account.write_text("901000 902000 5\n")
        assert not sleepers.are_asleep(13_000), "it wanted to run"
        assert not sleepers.are_asleep(30_000), "too long ago"
    assert not Sleepers([]).are_asleep(1)
