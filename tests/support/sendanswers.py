"""A process in which send(2) and sendmmsg(2) are those of sendanswers.c: compiled, and named in LD_PRELOAD.

What `FrameFd.write_batch` then does is compared with a model of it, for many lists of answers.
"""

import ctypes
import errno
import random
import struct

from pycolo.core import FrameFd
from support.segments import batch, unbatch

KEPT = (errno.EAGAIN, errno.ENOBUFS)
REFUSED = (errno.ENETDOWN, errno.EMSGSIZE, errno.EINVAL, errno.EPERM)
IN_ONE_CALL = 64
LISTS = 2000


def modelled(frames: list[bytes], answers: list[int]) -> tuple[list[list[bytes]], list[bytes], int, int]:
    """What is left to write after each call, all that was sent, how many were dropped, and the last refusal."""
    left, sent, remains = list(frames), [], []
    dropped = last_errno = 0
    answers = list(answers)
    while True:
        while left:
            offered = [octets for octets in left if octets][:IN_ONE_CALL]
            if not offered:
                left = []
                break
            answer = answers.pop(0) if answers else len(offered)
            if -answer in KEPT:
                break
            taken = min(answer, len(offered)) if answer > 0 else 0
            if answer < 0 and -answer != errno.EINTR:
                dropped, last_errno, taken = dropped + 1, -answer, 1
            else:
                sent += offered[:taken]
            while taken:
                taken -= bool(left.pop(0))
        remains.append([octets for octets in left if octets])
        if not left:
            return remains, sent, dropped, last_errno


def main() -> None:
    """Raises AssertionError with the list where both differ."""
    library = ctypes.CDLL(None)
    library.end_of_notes.restype = ctypes.c_long
    chosen = random.Random(10)
    for number in range(LISTS):
        has_vnet = bool(number & 1)
        sizes = [chosen.choice([0, 1, 60, 1514]) for _ in range(chosen.choice([0, 1, 2, 30, 63, 64, 65, 150]))]
        frames = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
        # A call that takes nothing of several does not exist, so there is no 0.
        kinds = [*(-n for n in (*KEPT, *REFUSED, errno.EINTR)), 1, 2, 5, 63, 64, 1000]
        answers = [chosen.choice(kinds) for _ in range(chosen.randrange(20))]
        notes = ctypes.create_string_buffer(1 << 20)
        listed = (ctypes.c_int * len(answers))(*answers)
        library.begin(listed, len(answers), notes)
        fd = FrameFd(99, 10 if has_vnet else 0, is_socket=True)
        octets = batch(frames, 10 if has_vnet else None)
        pos, remains = 0, []
        while True:
            pos = fd.write_batch(octets, pos, len(octets))
            left = unbatch(bytes(octets[pos:]), has_vnet=has_vnet, keeps_vnet=True)
            remains.append([found for found in left if found])
            if pos == len(octets):
                break
        sent, raw = [], notes.raw[: library.end_of_notes()]
        while raw:
            (length,) = struct.unpack_from("I", raw)
            sent.append(raw[4 : 4 + length])
            raw = raw[4 + length :]
        expected = modelled(frames, answers)
        assert (remains, sent, fd.dropped, fd.last_errno) == expected, (number, sizes, answers)
        assert fd.frames_out == len(sent)


if __name__ == "__main__":
    main()
