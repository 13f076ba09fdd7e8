"""Pages of another process, read from outside: this process's own will do."""

import ctypes
import mmap
import os
import random
import subprocess
import sys

import pytest

from pycolo.vm.memorysample import PAGE_BYTES, PAGES_MAX, PAGES_MIN, MemorySample, choose, open_sample, ram_blocks

MIB = 1 << 20
MAPS = """\
55d0c0000000-55d0c1000000 r-xp 00000000 08:01 1234 /usr/bin/qemu-system-x86_64
55d0c2000000-55d0c9000000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0080002000 rw-p 00000000 00:00 0
7f0090000000-7f00d0000000 rwxp 00000000 00:00 0
7f00e0000000-7f00f0000000 r--s 00000000 08:01 99 /var/lib/image
7f0100000000-7f0140000000 rw-s 00000000 00:01 77 /memfd:memory-backend-memfd (deleted)
"""


def test_the_guest_s_memory_is_in_the_largest_mappings():
    assert ram_blocks(MAPS, 0x80002000) == [(0x7F0000000000, 0x80002000)]
    assert (
        ram_blocks(MAPS, 2048 * MIB + 512 * MIB)
        == [
            (0x7F0000000000, 0x80002000),
            (0x7F0090000000, 0x40000000),
        ]
        or ram_blocks(MAPS, 2048 * MIB + 512 * MIB)[1][1] == 0x40000000
    )
    assert ram_blocks(MAPS, 64 << 30) == []
    assert ram_blocks(MAPS, 0) == []
    assert ram_blocks("", MIB) == []


@pytest.mark.parametrize("mebibytes", [1, 64, 2048, 1 << 16])
def test_pages_are_spread_over_all_blocks(mebibytes):
    blocks = [(1 << 40, mebibytes * MIB), (1 << 44, mebibytes * MIB)]
    places = choose(blocks, random.Random(7))
    assert min(PAGES_MIN, 2 * mebibytes * MIB // PAGE_BYTES) <= len(places) <= PAGES_MAX
    assert len(set(places)) == len(places)
    assert all(place % PAGE_BYTES == 0 for place in places)
    assert all(any(start <= place < start + size for start, size in blocks) for place in places)
    first = sum(place < 1 << 44 for place in places)
    assert 0.3 < first / len(places) < 0.7


def test_what_has_changed_is_estimated():
    with mmap.mmap(-1, 64 * MIB) as memory:
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        places = [start + at for at in range(0, 64 * MIB, MIB)]
        sample = MemorySample(os.open("/proc/self/mem", os.O_RDONLY), places, MIB)
        sample.take()
        assert sample.changed() == (0, 0)
        for at in range(0, 16 * MIB, PAGE_BYTES):
            memory[at + 99] = 1
        assert sample.changed() == (16 * MIB, 16)
        sample.take()
        assert sample.changed() == (0, 0)
        sample.close()


def test_a_process_that_has_ended_is_an_error_not_a_change():
    child = subprocess.Popen(
        [sys.executable, "-c", "import mmap; m = mmap.mmap(-1, 64 << 20); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    sample = open_sample(child.pid, 64 * MIB)
    assert sample is not None
    sample.take()
    child.kill()
    child.communicate()
    with pytest.raises(OSError, match=r"ended|No such|Input"):
        sample.changed()
    sample.close()
    sample.close()
    assert open_sample(child.pid, 64 * MIB) is None
    assert open_sample(os.getpid(), 1 << 50) is None, "no such mapping"
