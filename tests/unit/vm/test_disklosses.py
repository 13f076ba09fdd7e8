"""What has ended a protection is told once, with its name."""

from pycolo.vm.disklosses import LOSSES_MAX, DiskLosses, Loss


def shown(losses: DiskLosses) -> list[tuple[str, str]]:
    return [(entry["reason"], entry["why"]) for entry in losses.status()]


def test_the_first_of_a_protection_is_the_cause() -> None:
    losses = DiskLosses()
    losses.begin()
    losses.note(Loss.OWN_DISK, "no space")
    losses.note(Loss.COPY_CUT, "follows from it")
    assert shown(losses) == [("own-disk", "no space")]
    losses.begin()
    assert shown(losses) == [("own-disk", "no space")], "past, and still told"
    losses.note(Loss.COPY_CUT, "another")
    assert shown(losses)[-1] == ("copy-cut", "another")


def test_only_the_last_ones_are_kept() -> None:
    losses = DiskLosses()
    for number in range(LOSSES_MAX + 3):
        losses.begin()
        losses.note(Loss.COPY_BEHIND, str(number))
    assert [why for _, why in shown(losses)] == [str(number) for number in range(3, LOSSES_MAX + 3)]
    assert all(entry["state"] == "lost" and entry["at"].endswith("Z") for entry in losses.status())
