"""What a run of shapes says at its end."""

import pytest

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.qemu import image
from pycolo_lab.qemu.programs import Programs
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


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(image, "cache_directory", lambda: tmp_path / "file" / "lab")
    monkeypatch.setattr(image, "is_image_there", lambda: False)
    programs = Programs(Interruption())
    monkeypatch.setattr(programs, "require", lambda names: None)
    with pytest.raises(
        LabError, match=rf"^{tmp_path}/file/lab cannot be created: [^\n]*; run it as root, or elsewhere$"
    ):
        image.ensure_image(programs)
