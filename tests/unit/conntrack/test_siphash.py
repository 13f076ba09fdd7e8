"""The tables' hash is SipHash-1-3: CPython's own implementation, and one published vector, say the same."""

import os
import random
import subprocess
import sys

from pycolo.core import SipHash13

COUNTING = bytes(range(16))
ORACLE = "import sys\nfor line in sys.stdin: print(hash(bytes.fromhex(line)) % 2**64)"


def test_the_published_vector():
    """Of no bytes under the key 00 01 … 0f, as in the tests of other implementations of SipHash-1-3."""
    assert SipHash13.of(b"", COUNTING).to_bytes(8, "little").hex() == "dcc40f055801acab"


def test_it_is_the_hash_that_python_uses():
    """With PYTHONHASHSEED=0 the key of Python's hash of bytes is zero."""
    dice = random.Random(1)
    given = [dice.randbytes(length) for length in range(1, 80)]
    done = subprocess.run(
        [sys.executable, "-c", ORACLE],
        input="".join(f"{octets.hex()}\n" for octets in given),
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [SipHash13.of(octets, bytes(16)) for octets in given] == [int(line) for line in done.stdout.split()]


def test_another_key_gives_another_hash():
    keys = [bytes(16), COUNTING, bytes(15) + b"\1", b"\1" + bytes(15)]
    assert len({SipHash13.of(b"10.0.0.1:80", key) for key in keys}) == len(keys)
