"""The script that is QEMU with the library preloaded."""

import subprocess

from pycolo.vm.preload import PROGRAM, wrapper


def test_the_wrapper_preloads_the_library_and_hands_every_word_on(tmp_path):
    qemu = tmp_path / "qemu"
    qemu.write_text('#!/bin/sh\necho "$LD_PRELOAD"\nfor word; do echo "$word"; done\n')
    qemu.chmod(0o755)
    script = tmp_path / "wrapper"
    library = tmp_path / "a library's.so"  # which is not there: the loader says so and goes on
    script.write_text(wrapper(library).replace(PROGRAM, str(qemu)))
    done = subprocess.run(
        ["sh", script, "-name", "two words", ""], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [str(library), "-name", "two words", ""]
