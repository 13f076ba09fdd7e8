"""What a run of shapes says at its end."""

from pycolo_lab.qemu.shapes import Formation
from pycolo_lab.qemu.shapesession import verdict


def test_what_was_lost_and_what_failed_is_counted():
    found = [
        Formation(checkpoints=2, compare_ms=10, pauses_ms=[4.0, 6.0]),
        Formation(checkpoints=2, stale_pages=3, compare_ms=30, pauses_ms=[5.0]),
        Formation(error="QEMU secondary has ended", compare_ms=20),
    ]
    assert [one.holds for one in found] == [True, False, False]
    said = verdict(found)
    assert said.startswith("3 formations: 1 lost memory, 1 failed; 20 ms")
    assert said.endswith("pause 5.0 ms")


def test_a_run_without_a_checkpoint_has_no_pause():
    assert "pause" not in verdict([Formation(error="no")])
