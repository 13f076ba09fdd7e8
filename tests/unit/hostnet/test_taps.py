"""The TAP devices that a process has open, also as descriptors that it was given."""

import os
from pathlib import Path

import pytest

from pycolo.errors import ConnectError
from pycolo.hostnet.taps import taps_of_process
from support.taphost import TapHost, inside


@pytest.mark.namespaces
@pytest.mark.tun
def test_this_process_has_these_taps(tmp_path: Path) -> None:
    host = TapHost(tmp_path)
    try:
        with inside(host.namespace.path):
            host.add_tap("tap7")
            host.add_tap("tap3")
            again = os.dup(host.taps["tap7"])
            try:
                assert [name for name in taps_of_process(os.getpid()) if name in host.taps] == ["tap7", "tap3"]
            finally:
                os.close(again)
    finally:
        host.close()


def test_a_process_without_any_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "42" / "fdinfo"
    folder.mkdir(parents=True)
    (folder / "0").write_text("pos:\t0\nflags:\t0100002\n")
    assert taps_of_process(42, tmp_path) == []
    with pytest.raises(ConnectError, match=r"process 43: .* cannot be read: No such file"):
        taps_of_process(43, tmp_path)
